//! `Chat`: what Subscribe gives, and frames in the other direction, each answered.
//!
//! Two sides that do not wait for each other: a job reads frames and has them done (`session.rs`), and the stream to the
//! client takes its replies and what the subscription tells. A client that goes away drops the stream, which ends the job.

mod frame;
mod session;

use bytes::Bytes;
use futures_util::stream;
use parlance::message::v1::ChatRequest;
use service_kit::{
    failure::Failure,
    server::{Leaving, note_cause},
};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::{Request, Status, Streaming};

use self::session::Session;
use super::{context::Context, outgoing::Outgoing, streams::Frames};
use crate::{directory::OpenStream, log::subscription::Subscription};

/// What the session has to say. What waits to be taken is bounded by the permits that it holds.
enum Reply {
    Item {
        bytes: Bytes,
        _permit: OwnedSemaphorePermit,
    },
    /// The session is open; what it subscribes to is told from here on.
    Opened(Bytes, Option<Box<Subscription>>, OpenStream),
    /// Nothing more comes of the session.
    End(Option<Status>),
}

pub(super) fn answer(context: &Context, request: Request<Streaming<ChatRequest>>) -> Frames {
    let (_, extensions, requests) = request.into_parts();
    let outgoing = Outgoing::new(Leaving::of(&extensions));
    let (replies, taken) = mpsc::unbounded_channel();
    let (gone, winding_up) = (CancellationToken::new(), CancellationToken::new());
    let session = Session::new(context, extensions, requests, replies, winding_up.clone());
    let job = gone.clone().run_until_cancelled_owned(session.run());
    // Nobody waits for it: what it has to say, it says.
    drop(context.lifecycle.spawn_job("chat", job));
    let replies =
        Replies { taken, outgoing: Some(outgoing), winding_up, last: None, is_past: false, _gone: gone.drop_guard() };
    Box::pin(stream::unfold(replies, |mut replies| async move {
        let item = replies.next().await?;
        Some((item, replies))
    }))
}

/// The side of the client.
struct Replies {
    taken: mpsc::UnboundedReceiver<Reply>,
    /// `None` once it has ended.
    outgoing: Option<Outgoing>,
    /// Tells the session to take no more frames and to end when what it took is answered.
    winding_up: CancellationToken,
    /// How the stream ends once the session has.
    last: Option<Status>,
    is_past: bool,
    /// Ends the session when the client goes away.
    _gone: DropGuard,
}

impl Replies {
    async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        while !self.is_past {
            let told = async {
                match &mut self.outgoing {
                    Some(outgoing) => outgoing.next().await,
                    None => std::future::pending().await,
                }
            };
            // Neither side waits for the other to be done.
            tokio::select! {
                reply = self.taken.recv() => match reply {
                    Some(Reply::Item { bytes, .. }) => return Some(Ok(bytes)),
                    Some(Reply::Opened(bytes, subscription, open_stream)) => {
                        if let Some(outgoing) = &mut self.outgoing {
                            outgoing.begin(subscription.map(|subscription| *subscription), open_stream);
                        }
                        return Some(Ok(bytes));
                    }
                    Some(Reply::End(status)) => {
                        self.is_past = true;
                        return status.or(self.last.take()).map(|status| {
                            note_cause(&status);
                            Err(status)
                        });
                    }
                    None => {
                        self.is_past = true;
                        return Some(Err(Failure::internal("the session has panicked").into()));
                    }
                },
                item = told => match item {
                    Some(Ok(bytes)) => return Some(Ok(bytes)),
                    // What was taken is still answered.
                    Some(Err(status)) => {
                        self.last = Some(status);
                        self.outgoing = None;
                        self.winding_up.cancel();
                    }
                    None => self.outgoing = None,
                },
            }
        }
        None
    }
}
