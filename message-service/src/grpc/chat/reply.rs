//! The messages from the session to the stream.

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tonic::Status;

use super::super::{outgoing::Begun, refusals::Waiting};
use crate::directory::OpenStream;

/// A message from the session to the stream. The permits bound those that wait.
pub(super) enum Reply {
    Item {
        bytes: Bytes,
        _permit: OwnedSemaphorePermit,
    },
    /// The refusal of a frame that was not handled.
    Refusal {
        bytes: Bytes,
        _waiting: Waiting,
    },
    /// The session is open: the items of its subscription start here.
    Opened(Bytes, Option<Box<Begun>>, OpenStream),
    /// The session has ended.
    End(Option<Status>),
}
