//! TLS of a server: the handshake, the certificate and the authorities of clients, which are read again when their files
//! change.
//!
//! [`TlsArgs`] are the settings; [`Tls`] is what they become, with the files read.

mod args;
mod handshake;
mod load;
mod reload;

use std::{
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use rustls::ServerConfig;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

pub use self::args::{Endpoint, TlsArgs};
pub(super) use self::handshake::Secured;
use self::load::Loaded;
pub use super::peer::{ClientRoles, NamedRole, NotANamedRole};
use crate::sync::lock;

/// Handshakes that are worked on at a time. Others wait, so that those that have begun end in time.
const MAX_HANDSHAKES: usize = 256;

/// The files and rules of TLS on a server.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The certificate and its chain.
    pub certificate: PathBuf,
    /// The key of the certificate.
    pub key: PathBuf,
    /// The oldest version that is spoken.
    pub min_version: MinVersion,
    /// Whose client certificates are taken; `None`: no client is asked for one.
    pub clients: Option<Clients>,
    /// The interval at which the files are read again.
    pub reload_interval: Duration,
}

/// The rules for client certificates.
#[derive(Debug, Clone)]
pub struct Clients {
    /// The certificates of the authorities that issue them.
    pub authorities: PathBuf,
    /// Lists of those that were revoked.
    pub revocation_lists: Option<PathBuf>,
    /// Whether a client needs one.
    pub auth: ClientAuth,
    /// The roles that they give.
    pub roles: ClientRoles,
}

/// The oldest version of TLS that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum MinVersion {
    /// TLS 1.2: of its cipher suites, those with forward secrecy and authenticated encryption.
    #[default]
    #[value(name = "1.2")]
    Tls12,
    /// TLS 1.3.
    #[value(name = "1.3")]
    Tls13,
}

/// Whether a client needs a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ClientAuth {
    /// Without one, a client has no role by certificate. A bad one ends the handshake all the same.
    Optional,
    /// Without a good one, the handshake ends.
    #[default]
    Required,
}

/// TLS of one server, its files read. Clones share it.
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    settings: Settings,
    handshakes: Semaphore,
    current: Mutex<Arc<Current>>,
    loaded: tokio::sync::Mutex<Loaded>,
}

/// What a new handshake uses.
struct Current {
    config: Arc<ServerConfig>,
    /// Cancelled when the authorities or the lists of revoked certificates change.
    withdrawn: CancellationToken,
}

impl Tls {
    /// Reads the files. Blocks.
    ///
    /// # Errors
    /// A sentence for each file that cannot be used.
    pub fn load(settings: Settings) -> Result<Self, Vec<String>> {
        let (loaded, current) = Loaded::new(&settings)?;
        Ok(Self(Arc::new(Shared {
            settings,
            handshakes: Semaphore::new(MAX_HANDSHAKES),
            current: Mutex::new(Arc::new(current)),
            loaded: tokio::sync::Mutex::new(loaded),
        })))
    }

    fn current(&self) -> Arc<Current> {
        Arc::clone(&lock(&self.0.current))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Tls").field("settings", &self.0.settings).finish_non_exhaustive()
    }
}
