//! The calls of one connection over HTTP/1.1, which come one after the other: its socket asks between them how long a
//! head takes.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
};

/// The calls of one connection. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Turns(Arc<State>);

#[derive(Debug, Default)]
struct State {
    greeted: AtomicBool,
    begun: AtomicUsize,
    running: AtomicUsize,
}

/// A running call, until it is dropped with its response.
#[derive(Debug)]
pub(super) struct Turn(Turns);

impl Turns {
    /// Records that the handshake is complete: the preface of HTTP/2 or the head of the first request.
    pub(super) fn greet(&self) {
        self.0.greeted.store(true, Relaxed);
    }

    /// True when the handshake is complete.
    pub(super) fn is_greeted(&self) -> bool {
        self.0.greeted.load(Relaxed)
    }

    /// Begins a call.
    pub(super) fn begin(&self) -> Turn {
        self.greet();
        self.0.begun.fetch_add(1, Relaxed);
        self.0.running.fetch_add(1, Relaxed);
        Turn(self.clone())
    }

    /// Returns the number of calls that have begun.
    pub(super) fn begun(&self) -> usize {
        self.0.begun.load(Relaxed)
    }

    /// True while a call is running.
    pub(super) fn is_in_call(&self) -> bool {
        self.0.running.load(Relaxed) > 0
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.0.running.fetch_sub(1, Relaxed);
    }
}
