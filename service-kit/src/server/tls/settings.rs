//! The files and rules of TLS, as values.

use std::{path::PathBuf, time::Duration};

use crate::server::peer::ClientRoles;

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
