//! `StreamMessages`: one conversation's log, from a position to for ever.

use std::{time::Duration, vec::IntoIter};

use bytes::Bytes;
use futures_util::stream;
use parlance::message::v1::StreamMessagesRequest;
use service_kit::{
    failure::{Failure, Violations},
    server::{Leaving, note_cause},
};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};

use super::{access, authorise, decode, frames, service::Context, streams::Frames};
use crate::{
    domain::{
        conversation::{Id, Kind},
        refusal::Refusal,
    },
    log::{cursor::Cursor, live::Frame},
    storage::Error,
};

/// Silence is broken after this long, at least; jittered up to half as much again.
const HEARTBEAT: Duration = Duration::from_secs(18);

/// A page that could not be read is read again after this long, at least; jittered up to twice as long.
const RETRY: Duration = Duration::from_millis(250);

/// A client sent away comes back after a jittered time up to this.
const COME_BACK: Duration = Duration::from_secs(1);

struct Asked {
    conversation_id: Id,
    actor_id: Id,
    after_sequence: Option<i64>,
}

pub(super) async fn answer(context: &Context, request: Request<StreamMessagesRequest>) -> Result<Frames, Failure> {
    let Asked { conversation_id, actor_id, after_sequence } = decode(request.get_ref())?;
    authorise::actor(context, request.extensions(), &actor_id).await?;

    // Registered first, then read: what is committed in between moves the head that is followed.
    let mut cursor = Cursor::register(&context.live, &context.pages, &conversation_id);
    let (conversation, member) = access::reader(context, &conversation_id, &actor_id).await?;
    let last_sequence = conversation.last_sequence;
    let asked = after_sequence.unwrap_or(last_sequence);
    if asked > last_sequence {
        return Err(Refusal::SequenceAhead { conversation_id, sequence: asked, last_sequence }.into());
    }
    let oldest_sequence = conversation.oldest_sequence;
    let position = asked.max(oldest_sequence - 1);
    cursor.begin(position, last_sequence);

    let subscriber = Subscriber {
        cursor,
        notice: (position > asked).then(|| frames::truncated(&conversation_id, oldest_sequence)),
        conversation_id,
        user_id: actor_id,
        join_sequence: member.filter(|_| conversation.kind != Kind::Channel).map(|member| member.join_sequence),
        taken: Vec::new().into_iter(),
        catch_up_to: Some(last_sequence),
        heartbeat_at: next_heartbeat(),
        leaving: Leaving::of(request.extensions()),
        end: End::NotYet,
    };
    Ok(subscriber.into_stream())
}

fn decode(request: &StreamMessagesRequest) -> Result<Asked, Failure> {
    let mut violations = Violations::default();
    let conversation_id = decode::conversation_id(&mut violations, "conversation_id", &request.conversation_id);
    let actor_id = decode::user_id(&mut violations, "actor_id", &request.actor_id);
    let position = |after| decode::position(&mut violations, "after_sequence", after);
    let after_sequence = request.after_sequence.map(position);
    violations.into_result().map(|()| Asked { conversation_id, actor_id, after_sequence })
}

/// One client's stream. It holds what was taken from the log last and not yet sent, and nothing else.
struct Subscriber {
    cursor: Cursor,
    conversation_id: Id,
    user_id: Id,
    /// The entry by which the user joined: leaving after it ends the stream. `None` where reading takes no membership.
    join_sequence: Option<i64>,
    /// Told first, if there is anything to tell.
    notice: Option<Bytes>,
    taken: IntoIter<Frame>,
    /// The head that makes it caught up; `None` once that is told.
    catch_up_to: Option<i64>,
    heartbeat_at: Instant,
    /// The connection is being sent away.
    leaving: CancellationToken,
    end: End,
}

/// How far a stream is from its end.
enum End {
    NotYet,
    With(Status),
    Past,
}

#[derive(Debug, PartialEq, Eq)]
enum Waited {
    Enough,
    /// A heartbeat is due.
    TooLong,
}

impl Subscriber {
    fn into_stream(self) -> Frames {
        Box::pin(stream::unfold(self, |mut subscriber| async move {
            let item = subscriber.next().await?;
            Some((item, subscriber))
        }))
    }

    async fn next(&mut self) -> Option<Result<Bytes, Status>> {
        loop {
            match std::mem::replace(&mut self.end, End::Past) {
                End::NotYet => self.end = End::NotYet,
                End::With(status) => {
                    note_cause(&status);
                    return Some(Err(status));
                }
                End::Past => return None,
            }
            if self.leaving.is_cancelled() {
                return Some(Ok(self.drain()));
            }
            if let Some(item) = self.ready() {
                self.heartbeat_at = next_heartbeat();
                return Some(Ok(item));
            }
            let taken = tokio::select! {
                biased;
                () = self.leaving.cancelled() => continue,
                taken = self.cursor.take() => taken,
                // Reading may take long; nothing is lost by beginning anew.
                () = sleep_until(self.heartbeat_at) => return Some(Ok(self.heartbeat())),
            };
            let waited = match taken {
                Ok(frames) if frames.is_empty() => self.wait(self.cursor.moved()).await,
                Ok(frames) => {
                    self.taken = frames.into_iter();
                    continue;
                }
                Err(error @ (Error::Corrupt(_) | Error::Driver(_) | Error::Data(_) | Error::Conflict { .. })) => {
                    self.end = End::With(Failure::from(error).into());
                    continue;
                }
                // The database comes back; the position is where it was.
                Err(error) => {
                    tracing::debug!(cause = &error as &dyn std::error::Error, "a stream waits for the database");
                    self.wait(sleep(RETRY.mul_f64(1.0 + fastrand::f64()))).await
                }
            };
            if waited == Waited::TooLong {
                return Some(Ok(self.heartbeat()));
            }
        }
    }

    /// What can be told at once.
    fn ready(&mut self) -> Option<Bytes> {
        if let Some(notice) = self.notice.take() {
            return Some(notice);
        }
        if let Some(frame) = self.taken.next() {
            let joined = self.join_sequence.is_some_and(|joined| frame.sequence > joined);
            if joined && frame.left.as_ref() == Some(&self.user_id) {
                let refusal = Refusal::NotAMember {
                    conversation_id: self.conversation_id.clone(),
                    user_id: self.user_id.clone(),
                };
                self.end = End::With(Failure::from(refusal).into());
            }
            return Some(frame.bytes);
        }
        let reached = self.catch_up_to.is_some_and(|head| self.cursor.position() >= head);
        reached.then(|| {
            self.catch_up_to = None;
            frames::caught_up(&self.conversation_id, self.cursor.position())
        })
    }

    /// Waits for something to do.
    async fn wait(&self, something: impl Future<Output = ()>) -> Waited {
        tokio::select! {
            () = something => Waited::Enough,
            () = self.leaving.cancelled() => Waited::Enough,
            () = sleep_until(self.heartbeat_at) => Waited::TooLong,
        }
    }

    fn heartbeat(&mut self) -> Bytes {
        self.heartbeat_at = next_heartbeat();
        frames::heartbeat()
    }

    fn drain(&mut self) -> Bytes {
        let delay = COME_BACK.mul_f64(fastrand::f64());
        self.end = End::With(Failure::from(Refusal::Draining).retry_after(delay).into());
        frames::draining(delay)
    }
}

fn next_heartbeat() -> Instant {
    Instant::now() + HEARTBEAT.mul_f64(1.0 + fastrand::f64() / 2.0)
}
