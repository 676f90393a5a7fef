//! Opens a session, once its client has sent all cursors.

use futures_util::future::BoxFuture;
use parlance::message::v1::ChatCursors;
use service_kit::failure::{Failure, Reason};
use tonic::Extensions;

use super::{
    super::{
        authorise,
        context::Context,
        named_cursors::{Named, NamedCursors},
        outgoing::Begun,
        subscribe,
    },
    frame::Open,
};
use crate::{
    actor::Actor,
    directory::OpenStream,
    domain::{ids::UserId, rpc::Rpc},
};

/// The id of the frame `open`, and its result.
pub(super) type Opening = BoxFuture<'static, (u64, Result<(Actor, Option<Begun>, OpenStream), Failure>)>;

/// The frame `open`, with the cursors so far.
pub(super) struct Partial {
    frame_id: u64,
    open: Open,
    named: Named,
}

impl Partial {
    /// Begins with a frame, whose cursors count from here on.
    ///
    /// # Errors
    /// `OVERLOADED`: the client may send the frame again.
    pub(super) fn new(frame_id: u64, open: Open, all: &NamedCursors) -> Result<Self, Failure> {
        let cursors = open.subscribe.as_ref().map_or(0, subscribe::Params::cursors);
        Ok(Self { frame_id, named: all.take(&open.actor_id, cursors)?, open })
    }

    pub(super) fn actor_id(&self) -> &UserId {
        &self.open.actor_id
    }

    pub(super) fn is_complete(&self) -> bool {
        !self.open.is_partial
    }

    /// Adds a part of the cursors.
    ///
    /// # Errors
    /// None of the part was added.
    pub(super) fn add(&mut self, part: &ChatCursors) -> Result<(), Failure> {
        if let Some(params) = &mut self.open.subscribe {
            self.named.grow_to(params.cursors() + part.cursors.len())?;
            params.extend(&part.cursors)?;
        }
        self.open.is_partial = part.more_cursors;
        Ok(())
    }

    pub(super) fn open(self, context: &Context, extensions: &Extensions) -> Opening {
        let Self { frame_id, open: Open { actor_id, subscribe, .. }, named } = self;
        let (context, extensions) = (context.clone(), extensions.clone());
        Box::pin(async move {
            let begin = async {
                let actor = authorise::actor(&context, Rpc::Chat, &extensions, actor_id).await?;
                let begun = match subscribe {
                    Some(params) => Some(subscribe::begin(&context, &actor, params, Some(named)).await?),
                    None => None,
                };
                let open_stream = context.directory.open_stream(actor.user_id(), actor.tenure().clone());
                Ok((actor, begun, open_stream))
            };
            (frame_id, begin.await)
        })
    }
}

const INCOMPLETE: &str = "the cursors are not complete: send the remaining frames of cursors first";

pub(super) fn session_open() -> Failure {
    open_already("the session is already open, and is unchanged")
}

/// The refusal of a second `open` while cursors of the first are missing.
pub(super) fn session_opening() -> Failure {
    open_already(INCOMPLETE)
}

fn open_already(text: &str) -> Failure {
    Failure::of(Reason::SessionOpen, text).precondition("session", "the session must not be open yet")
}

/// The refusal of a session, or of a frame, before `open` and all of its cursors. `is_partial` if only cursors are missing.
pub(super) fn session_not_open(is_partial: bool) -> Failure {
    let text = if is_partial { INCOMPLETE } else { "the session is not open: the first frame must be open" };
    Failure::of(Reason::SessionNotOpen, text).precondition("session", "the session must be open")
}
