//! Epochs of the log.

use std::{fmt, sync::Arc};

use service_kit::bounds::OutOfBounds;

/// The longest name in a request.
const MAX_BYTES: usize = 64;

/// The name of a log that was never set back. A restored backup and a promoted standby begin another epoch, in which
/// sequences may be given out again that an earlier one had given out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Epoch(Arc<str>);

impl Epoch {
    /// Takes a name from storage.
    pub(crate) fn from_storage(name: &str) -> Self {
        Self(name.into())
    }

    /// Accepts a name from a request: at most 64 bytes; `None` if it is empty. It need not be one that exists.
    pub(crate) fn parse(text: &str) -> Result<Option<Self>, OutOfBounds> {
        match text.len() {
            0 => Ok(None),
            1..=MAX_BYTES if !text.contains('\0') => Ok(Some(Self(text.into()))),
            _ => Err(OutOfBounds("must be the epoch of an earlier stream, or empty")),
        }
    }

    /// Returns the name.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
