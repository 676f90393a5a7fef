//! Reads and handles the frames of a session. Reading continues whatever their results are; frames beyond the limits are
//! refused.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use parlance::message::v1::{ChatCursors, ChatRequest, chat_request::Frame};
use service_kit::{
    auth::Caller,
    failure::{Failure, Reason},
    time_share::TimeShare,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::{Extensions, Status, Streaming};

use super::{
    super::{context::Context, refusals::Refusals, send_message},
    frame,
    opening::{Opening, Partial, session_not_open, session_open, session_opening},
    order::{Order, Place},
    renewal::Renewal,
    reply::Reply,
    side_requests::SideRequests,
};
use crate::{
    actor::Actor,
    directory::DirectoryError,
    domain::{ids::UserId, message::NewMessage, rpc::Rpc},
    log::writer::QueuePermit,
};

/// The most unanswered frames, including those whose replies the client has not received.
const MAX_UNANSWERED: usize = 256;

/// The time in which the client must open the session, with all cursors.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// The timeout of one frame.
const FRAME_TIMEOUT: Duration = Duration::from_secs(10);

/// The retry delay after which some frames should be answered.
const OVERLOAD_DELAY: Duration = Duration::from_millis(100);

/// A message that waits until its sender is known to be active.
struct WaitingSend {
    frame_id: u64,
    new: NewMessage,
    place: Place,
    is_repeatable: bool,
    queue_permit: QueuePermit,
    permit: OwnedSemaphorePermit,
}

/// The answer to a send, and its place if it was refused.
type Storing = BoxFuture<'static, (Reply, Option<(Place, Failure)>)>;

/// The session of one client.
pub(super) struct Session {
    context: Context,
    extensions: Extensions,
    requests: Streaming<ChatRequest>,
    replies: mpsc::UnboundedSender<Reply>,
    stop_reading: CancellationToken,
    unanswered: Arc<Semaphore>,
    refusals: Refusals,
    open_by: tokio::time::Instant,
    /// Set by the frame `open`.
    actor_id: Option<UserId>,
    /// Set once the session is open.
    actor: Option<Actor>,
    /// The frame `open`, while cursors are missing.
    partial: Option<Partial>,
    opening: Option<Opening>,
    sends: VecDeque<WaitingSend>,
    /// The running check that the sender of the waiting messages is active.
    admission: Option<BoxFuture<'static, Result<Actor, DirectoryError>>>,
    side_requests: SideRequests,
    /// The messages that are being stored.
    stores: FuturesUnordered<Storing>,
    order: Order,
    /// The client sends no more frames, or the session reads no more.
    is_read: bool,
    renewal: Renewal,
    /// The status with which the session ends once it is idle.
    end: Option<Status>,
}

impl Session {
    pub(super) fn new(
        context: &Context,
        extensions: Extensions,
        requests: Streaming<ChatRequest>,
        replies: mpsc::UnboundedSender<Reply>,
        stop_reading: CancellationToken,
    ) -> Self {
        Self {
            context: context.clone(),
            refusals: Refusals::new(&context.refusals, TimeShare::of(&extensions)),
            extensions,
            requests,
            replies,
            stop_reading,
            unanswered: Arc::new(Semaphore::new(MAX_UNANSWERED)),
            open_by: tokio::time::Instant::now() + OPEN_TIMEOUT,
            actor_id: None,
            actor: None,
            partial: None,
            opening: None,
            sends: VecDeque::new(),
            admission: None,
            side_requests: SideRequests::default(),
            stores: FuturesUnordered::new(),
            order: Order::default(),
            is_read: false,
            renewal: Renewal::default(),
            end: None,
        }
    }

    /// Runs until the client sends no more frames and all are answered, or until the session fails.
    pub(super) async fn run(mut self) {
        let end = self.run_until_end().await.err().or(self.end);
        // A disconnected client receives nothing.
        let _ = self.replies.send(Reply::End(end));
    }

    async fn run_until_end(&mut self) -> Result<(), Status> {
        loop {
            self.admit();
            if let Some(actor) = &self.actor {
                self.side_requests.start(&self.context, actor, FRAME_TIMEOUT);
            }
            if self.is_read && self.partial.take().is_some() {
                self.refuse_waiting();
            }
            if self.is_read && self.is_idle() {
                return Ok(());
            }
            tokio::select! {
                frame = self.requests.message(), if !self.is_read => match frame {
                    Ok(Some(frame)) => self.handle(frame).await,
                    Ok(None) => self.is_read = true,
                    Err(status) => self.end_with(status),
                },
                () = self.stop_reading.cancelled(), if !self.is_read => self.is_read = true,
                () = tokio::time::sleep_until(self.open_by), if self.awaits_open() && !self.is_read => {
                    return Err(session_not_open(self.partial.is_some()).into());
                }
                (frame_id, opened) = running(&mut self.opening) => {
                    self.opening = None;
                    let (actor, begun, open_stream) = opened?;
                    self.actor = Some(actor);
                    self.reply(Reply::Opened(frame::opened(frame_id), begun.map(Box::new), open_stream));
                }
                admitted = running(&mut self.admission) => {
                    self.admission = None;
                    self.admitted(admitted);
                }
                reply = running(&mut self.renewal.running) => {
                    self.renewal.running = None;
                    self.reply(reply);
                }
                reply = running(&mut self.side_requests.running) => {
                    self.side_requests.running = None;
                    self.reply(reply);
                }
                Some(stored) = self.stores.next(), if !self.stores.is_empty() => self.stored(stored),
            }
        }
    }

    /// Returns true until the client has sent all that opens the session.
    fn awaits_open(&self) -> bool {
        self.actor_id.is_none() || self.partial.is_some()
    }

    /// Returns true if no frame is being handled.
    fn is_idle(&self) -> bool {
        self.opening.is_none()
            && self.sends.is_empty()
            && self.admission.is_none()
            && self.side_requests.is_idle()
            && self.renewal.running.is_none()
            && self.stores.is_empty()
    }

    fn reply(&self, reply: Reply) {
        // If the client has disconnected, this session ends, too.
        let _ = self.replies.send(reply);
    }

    /// Ends the session with a status, once the frames that were read are answered.
    fn end_with(&mut self, status: Status) {
        self.is_read = true;
        self.end.get_or_insert(status);
    }

    /// Handles a frame, or refuses it.
    async fn handle(&mut self, request: ChatRequest) {
        let frame_id = request.frame_id;
        if let Err(failure) = self.accept(frame_id, request.frame) {
            self.refuse(frame_id, failure).await;
        }
    }

    async fn refuse(&mut self, frame_id: u64, failure: Failure) {
        let bytes = frame::nack(frame_id, failure);
        match self.refusals.room_for(bytes.len()).await {
            Ok(waiting) => self.reply(Reply::Refusal { bytes, _waiting: waiting }),
            Err(failure) => self.end_with(failure.into()),
        }
        // However many sessions send only what is refused, others have their turns in between.
        tokio::task::yield_now().await;
    }

    fn accept(&mut self, frame_id: u64, frame: Option<Frame>) -> Result<(), Failure> {
        let frame = match frame {
            None => return Err(frame::empty()),
            Some(Frame::Open(_)) if self.partial.is_some() => return Err(session_opening()),
            Some(Frame::Open(_)) if self.actor_id.is_some() => return Err(session_open()),
            Some(Frame::Open(mut open)) => {
                Caller::of(&self.extensions).name_actor(&mut open.actor_id)?;
                self.open(Partial::new(frame_id, frame::open(&open)?, &self.context.named_cursors)?);
                return Ok(());
            }
            Some(Frame::Cursors(part)) => return self.accept_cursors(&part),
            Some(frame) => frame,
        };
        let Some(actor_id) = self.actor_id.clone() else { return Err(session_not_open(false)) };
        match frame {
            Frame::Open(_) | Frame::Cursors(_) => return Err(session_open()),
            Frame::Authenticate(request) => self.renew(frame_id, request.token)?,
            Frame::Send(request) => {
                let (new, is_repeatable) = frame::send(request, &actor_id)?;
                self.accept_send(frame_id, new, is_repeatable)?;
            }
            Frame::MarkRead(request) => {
                let permit = self.permit()?;
                let request = frame::mark_read(&request, &actor_id)?;
                self.side_requests.push(frame_id, request, permit);
            }
            Frame::Typing(request) => {
                let permit = self.permit()?;
                let request = frame::typing(&request, &actor_id)?;
                self.side_requests.push(frame_id, request, permit);
            }
        }
        Ok(())
    }

    fn accept_send(&mut self, frame_id: u64, new: NewMessage, is_repeatable: bool) -> Result<(), Failure> {
        let place = self.order.place(&new, is_repeatable);
        let permits = self.order.check(&place, Instant::now()).and_then(|()| {
            let permit = self.permit()?;
            Ok((permit, send_message::reserve(&self.context, &new)?))
        });
        let (permit, queue_permit) =
            permits.inspect_err(|failure| self.order.refused(&place, failure, Instant::now()))?;
        self.sends.push_back(WaitingSend { frame_id, new, place, is_repeatable, queue_permit, permit });
        Ok(())
    }

    /// Begins to go on with another token.
    fn renew(&mut self, frame_id: u64, token: String) -> Result<(), Failure> {
        let Some(actor) = self.actor.clone() else { return Err(session_not_open(self.partial.is_some())) };
        let permit = self.permit()?;
        let deadline = Instant::now() + FRAME_TIMEOUT;
        self.renewal.begin(frame_id, &self.context, actor, token, permit, deadline)
    }

    /// Takes a share of the unanswered frames.
    fn permit(&self) -> Result<OwnedSemaphorePermit, Failure> {
        self.unanswered.clone().try_acquire_owned().map_err(|_| too_many())
    }

    /// Opens the session, unless cursors are missing.
    fn open(&mut self, partial: Partial) {
        self.actor_id = Some(partial.actor_id().clone());
        if partial.is_complete() {
            self.partial = None;
            self.opening = Some(partial.open(&self.context, &self.extensions));
        } else {
            self.partial = Some(partial);
        }
    }

    /// Adds cursors to the frame `open`.
    fn accept_cursors(&mut self, part: &ChatCursors) -> Result<(), Failure> {
        let is_open = self.actor_id.is_some();
        let Some(mut partial) = self.partial.take() else {
            return Err(if is_open { session_open() } else { session_not_open(false) });
        };
        let added = partial.add(part);
        self.open(partial);
        added
    }

    /// Starts a check that the sender of the waiting messages is active, unless one is running.
    fn admit(&mut self) {
        let Some(actor) = &self.actor else { return };
        if self.admission.is_none() && !self.sends.is_empty() {
            let (directory, actor) = (self.context.directory.clone(), actor.clone());
            self.admission = Some(Box::pin(async move {
                actor.recheck(&directory, Rpc::SendMessage, Instant::now() + FRAME_TIMEOUT).await
            }));
        }
    }

    /// Stores all waiting messages in order, or none of them, so that no message overtakes one that is sent again.
    fn admitted(&mut self, admitted: Result<Actor, DirectoryError>) {
        match admitted {
            Ok(actor) => self.store_all(&actor.with_deadline(Instant::now() + FRAME_TIMEOUT)),
            Err(error) => {
                let is_refused = matches!(error, DirectoryError::Refused(_));
                let failure = Failure::from(error);
                self.refuse_sends(&failure);
                if is_refused {
                    self.end_with(failure.into());
                }
            }
        }
    }

    fn store_all(&mut self, actor: &Actor) {
        // Those that were refused meanwhile are known before any later send is stored.
        while let Some(Some(stored)) = self.stores.next().now_or_never() {
            self.stored(stored);
        }
        for WaitingSend { frame_id, new, place, is_repeatable, queue_permit, permit } in std::mem::take(&mut self.sends)
        {
            if let Err(failure) = self.order.check(&place, Instant::now()) {
                self.refuse_send(frame_id, &place, &failure, permit);
                continue;
            }
            let storing = send_message::store(&self.context, actor, new, is_repeatable, queue_permit);
            self.stores.push(Box::pin(async move {
                let (bytes, refused) = match storing.await {
                    Ok(stored) => (frame::stored(frame_id, &stored), None),
                    Err(failure) => (frame::nack(frame_id, failure.clone()), Some((place, failure))),
                };
                (Reply::Item { bytes, _permit: permit }, refused)
            }));
        }
    }

    /// Refuses the frames that wait for a session that cannot be opened any more, as its last cursors are missing.
    fn refuse_waiting(&mut self) {
        let is_drained = self.stop_reading.is_cancelled();
        let failure = if is_drained { Failure::draining() } else { session_not_open(true) };
        self.refuse_sends(&failure);
        for reply in self.side_requests.refuse(&failure) {
            self.reply(reply);
        }
    }

    fn refuse_sends(&mut self, failure: &Failure) {
        for WaitingSend { frame_id, place, permit, .. } in std::mem::take(&mut self.sends) {
            self.refuse_send(frame_id, &place, failure, permit);
        }
    }

    fn refuse_send(&mut self, frame_id: u64, place: &Place, failure: &Failure, permit: OwnedSemaphorePermit) {
        self.order.refused(place, failure, Instant::now());
        self.reply(Reply::Item { bytes: frame::nack(frame_id, failure.clone()), _permit: permit });
    }

    fn stored(&mut self, (reply, refused): (Reply, Option<(Place, Failure)>)) {
        if let Some((place, failure)) = refused {
            self.order.refused(&place, &failure, Instant::now());
        }
        self.reply(reply);
    }
}

fn too_many() -> Failure {
    let text = "too many unanswered frames in this session; this one was not handled";
    Failure::of(Reason::Overloaded, text)
        .quota("session", format!("at most {MAX_UNANSWERED} unanswered frames"))
        .retry_after(OVERLOAD_DELAY)
}

/// Waits for a future, or forever if there is none.
async fn running<T>(future: &mut Option<BoxFuture<'static, T>>) -> T {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
