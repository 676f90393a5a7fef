//! `Chat`: the items of Subscribe, and frames in the other direction, each with a reply.
//!
//! The two sides do not wait for each other: a job reads and handles frames (`session.rs`), and the stream to the client
//! merges its replies with the items of the subscription. A client that disconnects drops the stream, which ends the job.

mod frame;
#[cfg(feature = "fuzzing")]
pub(super) mod fuzzing;
mod opening;
mod order;
mod renewal;
mod reply;
mod session;
mod side_request;
mod side_requests;

use bytes::Bytes;
use futures_util::stream;
use parlance::message::v1::ChatRequest;
use service_kit::{failure::Failure, server::note_cause, time_share::TimeShare};
use tokio::sync::mpsc;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Status, Streaming};

use self::{reply::Reply, session::Session};
use super::{
    context::Context,
    frames::Frames,
    outgoing::{Ends, Outgoing},
};

pub(super) fn answer(context: &Context, request: Request<Streaming<ChatRequest>>) -> Frames {
    let (_, extensions, requests) = request.into_parts();
    let (outgoing, work) = (Outgoing::new(Ends::of(&extensions)), TimeShare::of(&extensions));
    let (sender, replies) = mpsc::unbounded_channel();
    let (disconnected, stop_reading) = (CancellationToken::new(), CancellationToken::new());
    let session = Session::new(context, extensions, requests, sender, stop_reading.clone());
    let job = disconnected.clone().run_until_cancelled_owned(work.metered(session.run()));
    // Not awaited: its result is its last reply.
    drop(context.lifecycle.spawn_job("chat", job));
    let stream = ChatStream {
        replies,
        outgoing: Some(outgoing),
        stop_reading,
        last_status: None,
        has_ended: false,
        _disconnected: disconnected.drop_guard(),
    };
    Box::pin(stream::unfold(stream, |mut stream| async move {
        let item = stream.next().await?;
        Some((item, stream))
    }))
}

/// The stream to the client.
struct ChatStream {
    replies: mpsc::UnboundedReceiver<Reply>,
    /// `None` after its end.
    outgoing: Option<Outgoing>,
    /// Makes the session read no more frames, and end after the last reply.
    stop_reading: CancellationToken,
    /// The status that ends the stream after the session.
    last_status: Option<Status>,
    has_ended: bool,
    /// Ends the session when the client disconnects.
    _disconnected: DropGuard,
}

impl ChatStream {
    async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        while !self.has_ended {
            let next_item = async {
                match &mut self.outgoing {
                    Some(outgoing) => outgoing.next().await,
                    None => std::future::pending().await,
                }
            };
            // Neither side waits for the end of the other.
            tokio::select! {
                reply = self.replies.recv() => match reply {
                    Some(Reply::Item { bytes, .. } | Reply::Refusal { bytes, .. }) => return Some(Ok(bytes)),
                    Some(Reply::Opened(bytes, begun, open_stream)) => {
                        if let Some(outgoing) = &mut self.outgoing {
                            outgoing.begin(begun.map(|begun| *begun), open_stream);
                        }
                        return Some(Ok(bytes));
                    }
                    Some(Reply::End(status)) => {
                        self.has_ended = true;
                        return status.or(self.last_status.take()).map(|status| {
                            note_cause(&status);
                            Err(status)
                        });
                    }
                    None => {
                        self.has_ended = true;
                        return Some(Err(Failure::internal("the session has panicked").into()));
                    }
                },
                item = next_item => match item {
                    Some(Ok(bytes)) => return Some(Ok(bytes)),
                    // Frames that were read still get their replies.
                    Some(Err(status)) => {
                        self.last_status = Some(status);
                        self.outgoing = None;
                        self.stop_reading.cancel();
                    }
                    None => self.outgoing = None,
                },
            }
        }
        None
    }
}
