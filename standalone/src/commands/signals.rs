//! SIGINT and SIGTERM, as a queue: the first asks for an orderly end, a second one is impatient.

use nix::sys::signal::Signal;
use tokio::signal::unix::{self, SignalKind};

/// Signals that arrived since this was made. While it exists neither of them ends the process.
pub(super) struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
}

impl Signals {
    /// Begins to listen. Errors: the system refused to install a handler.
    pub(super) fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            interrupt: unix::signal(SignalKind::interrupt())?,
            terminate: unix::signal(SignalKind::terminate())?,
        })
    }

    /// Waits for the next signal. Cancel-safe.
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::SIGINT,
            _ = self.terminate.recv() => Signal::SIGTERM,
        }
    }
}
