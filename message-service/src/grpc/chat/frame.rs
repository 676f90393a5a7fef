//! One frame of a client, read; and what it is answered with, encoded.

use bytes::Bytes;
use parlance::message::v1::{self, chat_response::Item};
use prost::Message;
use service_kit::failure::{Failure, Violations};
use tonic::Status;
use uuid::Uuid;

use super::super::{
    convert::{status_to_proto, timestamp},
    decode, send_message, subscribe,
};
use crate::{domain::conversation::Id, storage::append::Send};

/// What opens a session.
pub(super) struct Open {
    pub(super) actor_id: Id,
    /// `None` for a session that only sends.
    pub(super) subscribe: Option<subscribe::Asked>,
}

/// Something that is done one at a time, beside what is sent.
pub(super) enum Aside {
    MarkRead { conversation_id: Id, sequence: i64 },
    Typing { conversation_id: Id },
}

pub(super) fn open(open: &v1::ChatOpen) -> Result<Open, Failure> {
    let mut violations = Violations::default();
    let asked = subscribe::decode(&mut violations, &open.actor_id, &open.cursors, open.start);
    if open.send_only && !open.cursors.is_empty() {
        violations.add("cursors", "must be absent with send_only");
    }
    violations.into_result()?;
    Ok(Open { actor_id: asked.actor_id().clone(), subscribe: (!open.send_only).then_some(asked) })
}

/// A message of this actor's, and whether sending it again stores nothing twice.
pub(super) fn send(mut request: v1::SendMessageRequest, actor_id: &Id) -> Result<(Send, bool), Failure> {
    check_actor("sender_id", &request.sender_id, actor_id)?;
    if request.sender_id.is_empty() {
        request.sender_id = actor_id.to_string();
    }
    send_message::decode(request, Uuid::now_v7())
}

pub(super) fn mark_read(request: &v1::MarkReadRequest, actor_id: &Id) -> Result<Aside, Failure> {
    check_actor("actor_id", &request.actor_id, actor_id)?;
    let mut violations = Violations::default();
    let conversation_id = decode::conversation_id(&mut violations, "conversation_id", &request.conversation_id);
    let sequence = decode::position(&mut violations, "sequence", request.sequence);
    violations.into_result().map(|()| Aside::MarkRead { conversation_id, sequence })
}

pub(super) fn typing(request: &v1::SendTypingRequest, actor_id: &Id) -> Result<Aside, Failure> {
    check_actor("actor_id", &request.actor_id, actor_id)?;
    let mut violations = Violations::default();
    let conversation_id = decode::conversation_id(&mut violations, "conversation_id", &request.conversation_id);
    violations.into_result().map(|()| Aside::Typing { conversation_id })
}

/// A frame that holds nothing, or something that this binary does not know.
pub(super) fn empty() -> Failure {
    let mut violations = Violations::default();
    violations.add("frame", "must be open, send, mark_read or typing");
    violations.into_result().err().unwrap_or_else(|| Failure::internal("a violation is no violation"))
}

fn check_actor(field: &str, named: &str, actor_id: &Id) -> Result<(), Failure> {
    let mut violations = Violations::default();
    if !named.is_empty() && *named != **actor_id {
        violations.add(field, "must be absent, or the user who opened the session");
    }
    violations.into_result()
}

pub(super) fn opened(frame_id: u64) -> Bytes {
    encode(Item::Opened(v1::Opened { frame_id }))
}

/// A message is stored.
pub(super) fn stored(frame_id: u64, stored: &send_message::Stored) -> Bytes {
    encode(Item::Ack(v1::Ack {
        frame_id,
        conversation_id: stored.new.conversation_id.to_string(),
        request_id: stored.new.request_id.clone(),
        sequence: stored.sent.sequence,
        create_time: Some(timestamp(stored.created_at())),
        duplicate: stored.before.is_some(),
    }))
}

/// Something else is done.
pub(super) fn done(frame_id: u64, conversation_id: &Id, sequence: i64) -> Bytes {
    let conversation_id = conversation_id.to_string();
    encode(Item::Ack(v1::Ack { frame_id, conversation_id, sequence, ..v1::Ack::default() }))
}

/// A frame is not done.
pub(super) fn nack(frame_id: u64, failure: Failure) -> Bytes {
    let status = Status::from(failure);
    encode(Item::Nack(v1::Nack { frame_id, status: Some(status_to_proto(&status)) }))
}

fn encode(item: Item) -> Bytes {
    v1::ChatResponse { item: Some(item) }.encode_to_vec().into()
}
