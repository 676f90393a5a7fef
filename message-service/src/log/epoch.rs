//! The current epoch of the log, as this process knows it.

use tokio_util::sync::CancellationToken;

use crate::domain::epoch::Epoch;

/// An epoch that streams belong to. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct OpenEpoch {
    /// `None` until the database was asked.
    name: Option<Epoch>,
    ended: CancellationToken,
}

impl OpenEpoch {
    pub(super) fn new(name: Epoch) -> Self {
        Self { name: Some(name), ended: CancellationToken::new() }
    }

    /// Returns the name, if it is known.
    pub(crate) fn name(&self) -> Option<&Epoch> {
        self.name.as_ref()
    }

    /// Returns true once the database has entered another epoch.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Waits until the database has entered another epoch.
    pub(crate) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Ends the epoch, and with it its streams.
    pub(super) fn end(self, next: &Epoch) {
        if let Some(name) = &self.name {
            tracing::warn!(
                epoch = %next,
                before = %name,
                "the database is another server or a restored one: what it does not have is lost, and streams start again"
            );
        }
        self.ended.cancel();
    }
}
