//! The commands that [`Session`](crate::Session) handles send to the session's task.

use std::time::Instant;

use parlance::message::v1::{Ack, chat_request::Frame};
use tokio::sync::oneshot;

use crate::message::SendError;

/// Receives the answer to a frame.
pub(crate) type AnswerSender = oneshot::Sender<Result<Ack, SendError>>;

/// A frame to send, and the receiver of its answer.
pub(crate) struct Command {
    pub(crate) frame: Frame,
    pub(crate) answer: AnswerSender,
    pub(crate) deadline: Instant,
}
