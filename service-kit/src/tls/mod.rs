//! TLS: the one crypto provider, the files of certificates and keys, and the side of a client. The side of a server is in
//! [`crate::server::tls`].

pub(crate) mod certificate;
pub mod client;
pub(crate) mod files;

use std::sync::{Arc, LazyLock};

use rustls::crypto::{CryptoProvider, aws_lc_rs};

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

/// Returns the crypto provider of the process. It is passed on explicitly: rustls's process-wide default panics where it was
/// not installed.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}
