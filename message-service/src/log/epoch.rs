//! The current epoch of the log, as this process knows it.

use tokio::sync::watch;

use crate::domain::epoch::Epoch;

/// The epoch that the live logs are of.
#[derive(Debug)]
pub(super) struct CurrentEpoch {
    /// `None` until the database was asked. Dropped at the end, which ends all [`OpenEpoch`]s.
    name: watch::Sender<Option<Epoch>>,
}

/// The epoch of one stream: it ends when the log may have been set back, and gets another name when it certainly was not.
#[derive(Debug)]
pub(crate) struct OpenEpoch {
    /// The name that the stream has received.
    name: Option<Epoch>,
    latest: watch::Receiver<Option<Epoch>>,
}

impl CurrentEpoch {
    pub(super) fn new(name: Option<Epoch>) -> Self {
        Self { name: watch::Sender::new(name) }
    }

    /// Returns the name, if it is known.
    pub(super) fn name(&self) -> Option<Epoch> {
        self.name.borrow().clone()
    }

    /// Returns true if this is the name.
    pub(super) fn is(&self, name: Option<&Epoch>) -> bool {
        self.name.borrow().as_ref() == name
    }

    /// Opens it for a stream.
    pub(super) fn open(&self) -> OpenEpoch {
        let mut latest = self.name.subscribe();
        let name = latest.borrow_and_update().clone();
        OpenEpoch { name, latest }
    }

    /// Goes on under another name.
    pub(super) fn rename(&self, name: Epoch) {
        tracing::info!(epoch = %name, "the database has started again: nothing that was delivered here is lost");
        self.name.send_replace(Some(name));
    }

    /// Ends the epoch, and with it its streams.
    pub(super) fn end(self, next: &Epoch) {
        if let Some(name) = self.name() {
            tracing::warn!(
                epoch = %next,
                before = %name,
                "the database is another server or was set back: what it does not have is lost, and streams start again"
            );
        }
    }
}

impl Default for CurrentEpoch {
    fn default() -> Self {
        Self::new(None)
    }
}

impl OpenEpoch {
    /// Returns the name that the stream has received, if it is known.
    pub(super) fn name(&self) -> Option<&Epoch> {
        self.name.as_ref()
    }

    /// Returns the name by now.
    pub(super) fn latest_name(&self) -> Option<Epoch> {
        self.latest.borrow().clone()
    }

    /// Returns true once the log may have been set back.
    pub(super) fn has_ended(&self) -> bool {
        self.latest.has_changed().is_err()
    }

    /// Returns true while the stream has not received the latest name.
    pub(super) fn is_renamed(&self) -> bool {
        self.latest.has_changed().unwrap_or(false)
    }

    /// Takes over the latest name, for the stream to receive.
    pub(super) fn take_name(&mut self) {
        self.name.clone_from(&self.latest.borrow_and_update());
    }

    /// Waits until it has ended or has another name. May be dropped at any time.
    pub(super) async fn changed(&self) {
        // A clone, because the name counts as received once it is seen.
        let _ = self.latest.clone().changed().await;
    }
}
