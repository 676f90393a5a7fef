//! SIGINT, SIGTERM and SIGHUP as a queue: the first requests an orderly end, a second one an immediate end.

use nix::sys::signal::Signal;
use service_kit::lifecycle::Hangup;
use tokio::signal::unix::{self, SignalKind};

/// The signals received since its creation. While it exists, none of them ends the process.
pub(super) struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hangup: Hangup,
}

impl Signals {
    /// Installs the handlers. Errors: the system refused to install one.
    pub(super) fn listen() -> std::io::Result<Signals> {
        Ok(Signals {
            interrupt: unix::signal(SignalKind::interrupt())?,
            terminate: unix::signal(SignalKind::terminate())?,
            hangup: Hangup::listen()?,
        })
    }

    /// Waits for the next signal. Cancel-safe.
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::SIGINT,
            _ = self.terminate.recv() => Signal::SIGTERM,
            () = self.hangup.received() => Signal::SIGHUP,
        }
    }
}
