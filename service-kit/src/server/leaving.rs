//! The signal that the connection of a call is closing.

use tokio_util::sync::CancellationToken;

/// Signals that the connection of a call is closing gracefully, for age or because the process closes. It is in the
/// extensions of every request: a stream that is still open ends then, and asks its client to reconnect.
#[derive(Debug, Clone)]
pub struct Leaving(CancellationToken);

impl Leaving {
    /// Creates the signal of a connection, which closes with the process or [earlier](Self::begin).
    pub(super) fn within(closing: &CancellationToken) -> Self {
        Self(closing.child_token())
    }

    /// Signals that the connection closes now.
    pub(super) fn begin(&self) {
        self.0.cancel();
    }

    /// Returns the signal for a request. Outside of a server, as in tests of a bare handler, it never comes.
    pub fn of(extensions: &http::Extensions) -> CancellationToken {
        extensions.get::<Self>().map_or_else(CancellationToken::new, |leaving| leaving.0.clone())
    }
}
