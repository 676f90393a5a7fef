//! The side of a session that reads frames and has them done. It goes on reading whatever becomes of them: what is too much
//! is answered so.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use parlance::{
    error::v1::ErrorReason,
    message::v1::{ChatRequest, chat_request::Frame},
};
use service_kit::failure::Failure;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Extensions, Status, Streaming};

use super::{
    super::{authorise, context::Context, mark_read, send_message, send_typing, status::reason, subscribe},
    Reply,
    frame::{self, Open, SideRequest},
};
use crate::{
    actor::Actor,
    directory::{DirectoryError, OpenStream},
    domain::{ids::UserId, message::NewMessage, rpc::Rpc},
    log::{subscription::Subscription, writer::QueuePermit},
};

/// The most frames that are not answered: those whose answers the client has not taken, too.
const MAX_UNANSWERED: usize = 256;

/// The most refusals that the client has not taken. Who takes none of its answers is read no further.
const MAX_REFUSALS: usize = 1024;

/// A frame waits no longer for what it needs.
const LIMIT: Duration = Duration::from_secs(10);

/// When some of what is unanswered should be answered.
const OVERLOAD_DELAY: Duration = Duration::from_millis(100);

/// A message that waits until its sender is known to be active.
struct WaitingSend {
    frame_id: u64,
    new: NewMessage,
    is_repeatable: bool,
    room: QueuePermit,
    permit: OwnedSemaphorePermit,
}

struct WaitingAside {
    frame_id: u64,
    aside: SideRequest,
    permit: OwnedSemaphorePermit,
}

type Opening = BoxFuture<'static, (u64, Result<(Actor, Option<Subscription>, OpenStream), Failure>)>;

/// Reads frames of one client.
pub(super) struct Session {
    context: Context,
    extensions: Extensions,
    requests: Streaming<ChatRequest>,
    replies: mpsc::UnboundedSender<Reply>,
    winding_up: CancellationToken,
    unanswered: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    /// Set by the frame `open`.
    actor_id: Option<UserId>,
    /// Set once the session is open.
    actor: Option<Actor>,
    opening: Option<Opening>,
    sends: VecDeque<WaitingSend>,
    /// The question whether the sender of all that waits is active.
    admission: Option<BoxFuture<'static, Result<Actor, DirectoryError>>>,
    asides: VecDeque<WaitingAside>,
    aside: Option<BoxFuture<'static, Reply>>,
    answering: FuturesUnordered<BoxFuture<'static, Reply>>,
    /// The client has sent all that it has to send.
    is_read: bool,
}

impl Session {
    pub(super) fn new(
        context: &Context,
        extensions: Extensions,
        requests: Streaming<ChatRequest>,
        replies: mpsc::UnboundedSender<Reply>,
        winding_up: CancellationToken,
    ) -> Self {
        Self {
            context: context.clone(),
            extensions,
            requests,
            replies,
            winding_up,
            unanswered: Arc::new(Semaphore::new(MAX_UNANSWERED)),
            refusals: Arc::new(Semaphore::new(MAX_REFUSALS)),
            actor_id: None,
            actor: None,
            opening: None,
            sends: VecDeque::new(),
            admission: None,
            asides: VecDeque::new(),
            aside: None,
            answering: FuturesUnordered::new(),
            is_read: false,
        }
    }

    /// Goes on until the client has nothing more to send and all is answered, or the session cannot go on.
    pub(super) async fn run(mut self) {
        let end = self.go_on().await.err();
        // Nobody takes it where the client is gone.
        let _ = self.replies.send(Reply::End(end));
    }

    async fn go_on(&mut self) -> Result<(), Status> {
        loop {
            self.admit();
            self.begin_aside();
            if self.is_read && self.is_idle() {
                return Ok(());
            }
            tokio::select! {
                frame = self.requests.message(), if !self.is_read => match frame? {
                    Some(frame) => self.take(frame).await,
                    None => self.is_read = true,
                },
                () = self.winding_up.cancelled(), if !self.is_read => self.is_read = true,
                (frame_id, opened) = asked(&mut self.opening) => {
                    self.opening = None;
                    let (actor, subscription, open_stream) = opened?;
                    self.actor = Some(actor);
                    self.reply(Reply::Opened(frame::opened(frame_id), subscription.map(Box::new), open_stream));
                }
                admitted = asked(&mut self.admission) => {
                    self.admission = None;
                    self.admitted(admitted)?;
                }
                reply = asked(&mut self.aside) => {
                    self.aside = None;
                    self.reply(reply);
                }
                Some(reply) = self.answering.next(), if !self.answering.is_empty() => self.reply(reply),
            }
        }
    }

    /// Nothing is being done.
    fn is_idle(&self) -> bool {
        self.opening.is_none()
            && self.sends.is_empty()
            && self.admission.is_none()
            && self.asides.is_empty()
            && self.aside.is_none()
            && self.answering.is_empty()
    }

    fn reply(&self, reply: Reply) {
        // Nobody takes it where the client is gone, and then this ends, too.
        let _ = self.replies.send(reply);
    }

    /// A frame has come in.
    async fn take(&mut self, request: ChatRequest) {
        let frame_id = request.frame_id;
        if let Err(failure) = self.accept(frame_id, request.frame) {
            self.refuse(frame_id, failure).await;
        }
    }

    async fn refuse(&mut self, frame_id: u64, failure: Failure) {
        if let Ok(permit) = self.refusals.clone().acquire_owned().await {
            self.reply(Reply::Item { bytes: frame::nack(frame_id, failure), _permit: permit });
        }
    }

    fn accept(&mut self, frame_id: u64, frame: Option<Frame>) -> Result<(), Failure> {
        let Some(frame) = frame else { return Err(frame::empty()) };
        if let Frame::Open(open) = &frame {
            if self.actor_id.is_some() {
                return Err(session_open());
            }
            let open = frame::open(open)?;
            self.open(frame_id, open);
            return Ok(());
        }
        let Some(actor_id) = self.actor_id.clone() else { return Err(session_not_open()) };
        let permit = self.unanswered.clone().try_acquire_owned().map_err(|_| too_many())?;
        match frame {
            Frame::Open(_) => return Err(session_open()),
            Frame::Send(request) => {
                let (new, is_repeatable) = frame::send(request, &actor_id)?;
                let room = send_message::reserve(&self.context, &new)?;
                self.sends.push_back(WaitingSend { frame_id, new, is_repeatable, room, permit });
            }
            Frame::MarkRead(request) => {
                let aside = frame::mark_read(&request, &actor_id)?;
                self.asides.push_back(WaitingAside { frame_id, aside, permit });
            }
            Frame::Typing(request) => {
                let aside = frame::typing(&request, &actor_id)?;
                self.asides.push_back(WaitingAside { frame_id, aside, permit });
            }
        }
        Ok(())
    }

    fn open(&mut self, frame_id: u64, open: Open) {
        let Open { actor_id, subscribe } = open;
        self.actor_id = Some(actor_id.clone());
        let (context, extensions) = (self.context.clone(), self.extensions.clone());
        self.opening = Some(Box::pin(async move {
            let begin = async {
                let actor = authorise::actor(&context, Rpc::Chat, &extensions, actor_id).await?;
                let subscription = match &subscribe {
                    Some(params) => Some(subscribe::begin(&context, &actor, params).await?),
                    None => None,
                };
                let open_stream = context.directory.open_stream(actor.user_id());
                Ok((actor, subscription, open_stream))
            };
            (frame_id, begin.await)
        }));
    }

    /// Asks whether the sender may send what waits, unless that is being asked.
    fn admit(&mut self) {
        let Some(actor) = &self.actor else { return };
        if self.admission.is_none() && !self.sends.is_empty() {
            let (directory, actor) = (self.context.directory.clone(), actor.clone());
            self.admission =
                Some(Box::pin(
                    async move { actor.recheck(&directory, Rpc::SendMessage, Instant::now() + LIMIT).await },
                ));
        }
    }

    /// Everything that waits is stored, in order; or all of it is not, so that nothing overtakes what comes again.
    fn admitted(&mut self, admitted: Result<Actor, DirectoryError>) -> Result<(), Failure> {
        match admitted {
            Ok(actor) => {
                let actor = actor.with_deadline(Instant::now() + LIMIT);
                for WaitingSend { frame_id, new, is_repeatable, room, permit } in self.sends.drain(..) {
                    let storing = send_message::store(&self.context, &actor, new, is_repeatable, room);
                    self.answering.push(Box::pin(async move {
                        let answer = match storing.await {
                            Ok(stored) => frame::stored(frame_id, &stored),
                            Err(failure) => frame::nack(frame_id, failure),
                        };
                        Reply::Item { bytes: answer, _permit: permit }
                    }));
                }
            }
            Err(DirectoryError::Refused(refusal)) => return Err(refusal.into()),
            Err(unavailable @ DirectoryError::Unavailable(_)) => {
                let failure = Failure::from(unavailable);
                for WaitingSend { frame_id, permit, .. } in std::mem::take(&mut self.sends) {
                    self.reply(Reply::Item { bytes: frame::nack(frame_id, failure.clone()), _permit: permit });
                }
            }
        }
        Ok(())
    }

    fn begin_aside(&mut self) {
        if self.aside.is_some() {
            return;
        }
        let Some(actor) = self.actor.clone() else { return };
        let Some(WaitingAside { frame_id, aside, permit }) = self.asides.pop_front() else { return };
        let context = self.context.clone();
        self.aside = Some(Box::pin(async move {
            let answer = match handle(&context, &actor, frame_id, aside).await {
                Ok(answer) => answer,
                Err(failure) => frame::nack(frame_id, failure),
            };
            Reply::Item { bytes: answer, _permit: permit }
        }));
    }
}

async fn handle(context: &Context, actor: &Actor, frame_id: u64, request: SideRequest) -> Result<Bytes, Failure> {
    let actor = actor.recheck(&context.directory, request.rpc(), Instant::now() + LIMIT).await?;
    match request {
        SideRequest::MarkRead { conversation_id, up_to } => {
            let member = mark_read::mark(context, &actor, &conversation_id, up_to).await?;
            Ok(frame::done(frame_id, &conversation_id, Some(member.last_read_sequence)))
        }
        SideRequest::Typing { conversation_id } => {
            send_typing::broadcast(context, &actor, &conversation_id).await?;
            Ok(frame::done(frame_id, &conversation_id, None))
        }
    }
}

fn session_open() -> Failure {
    let text = "the session is open, and stays as it is";
    Failure::new(Code::FailedPrecondition, reason(ErrorReason::SessionOpen), text)
}

fn session_not_open() -> Failure {
    let text = "the session is not open: the first frame must be open";
    Failure::new(Code::FailedPrecondition, reason(ErrorReason::SessionNotOpen), text)
}

fn too_many() -> Failure {
    let text = "too many frames of this session are not answered; this one was not done";
    Failure::new(Code::ResourceExhausted, reason(ErrorReason::Overloaded), text)
        .quota("session", format!("at most {MAX_UNANSWERED} frames that are not answered"))
        .retry_after(OVERLOAD_DELAY)
}

/// The answer to a question, if one is asked; else it never comes.
async fn asked<T>(question: &mut Option<BoxFuture<'static, T>>) -> T {
    match question {
        Some(question) => question.await,
        None => std::future::pending().await,
    }
}
