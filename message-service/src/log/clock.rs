//! The clock of the log: the only file of `log/` that reads the time.

use std::time::Instant;
#[cfg(test)]
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// A source of the current time: the system's clock, or one that a test sets.
#[derive(Debug, Clone)]
pub(crate) enum Clock {
    System,
    #[cfg(test)]
    Manual(Arc<Mutex<Instant>>),
}

impl Clock {
    /// Returns the current time.
    pub(crate) fn now(&self) -> Instant {
        match self {
            Self::System => Instant::now(),
            #[cfg(test)]
            Self::Manual(now) => *now.lock().unwrap(),
        }
    }

    /// Returns a clock that stands still until a test moves it.
    #[cfg(test)]
    pub(super) fn manual() -> Self {
        Self::Manual(Arc::new(Mutex::new(Instant::now())))
    }

    /// Moves a clock of a test forward.
    #[cfg(test)]
    pub(super) fn advance(&self, by: Duration) {
        if let Self::Manual(now) = self {
            *now.lock().unwrap() += by;
        }
    }
}
