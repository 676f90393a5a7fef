//! TLS of a server: the handshake, the certificate and the authorities of clients, which are read again when their files
//! change.
//!
//! [`TlsArgs`] are the settings; [`Tls`] is what they become, with the files read.

mod args;
mod handshake;
mod load;
mod reload;
mod settings;

use std::{
    fmt,
    sync::{Arc, Mutex},
};

use tokio::sync::Semaphore;

pub use self::args::{Endpoint, TlsArgs};
pub(super) use self::handshake::Secured;
use self::load::{Current, Loaded};
pub use self::settings::{ClientAuth, Clients, MinVersion, Settings};
pub use super::peer::{ClientRoles, NamedRole, NotANamedRole};
use crate::sync::lock;

/// Handshakes that are worked on at a time. Others wait, so that those that have begun end in time.
const MAX_HANDSHAKES: usize = 256;

/// TLS of one server, its files read. Clones share it.
#[derive(Clone)]
pub struct Tls(Arc<Shared>);

struct Shared {
    settings: Settings,
    handshakes: Semaphore,
    current: Mutex<Arc<Current>>,
    loaded: tokio::sync::Mutex<Loaded>,
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
