//! Decodes the frames of a client, and encodes the replies.

use bytes::Bytes;
use parlance::message::v1::{self, chat_response::Item};
use prost::Message;
use service_kit::{failure::Failure, fields::Fields};
use tonic::Status;
use uuid::Uuid;

use super::{
    super::{
        convert::{self, timestamp},
        decode, send_message, subscribe,
    },
    side_request::SideRequest,
};
use crate::domain::{
    ids::{ConversationId, UserId},
    message::NewMessage,
    sequence::Position,
};

/// The request that opens a session.
pub(super) struct Open {
    pub(super) actor_id: UserId,
    /// `None` for a session that only sends.
    pub(super) subscribe: Option<subscribe::Params>,
    /// More cursors follow.
    pub(super) is_partial: bool,
}

pub(super) fn open(open: &v1::ChatOpen) -> Result<Open, Failure> {
    let mut fields = Fields::default();
    let actor_id = decode::actor_id(&mut fields, &open.actor_id);
    let params = subscribe::decode(&mut fields, &open.cursors, open.start, &open.epoch);
    let has_cursors = open.send_only && !open.cursors.is_empty();
    decode::demand(&mut fields, !has_cursors, "cursors", "must be absent with send_only");
    let has_more = open.send_only && open.more_cursors;
    decode::demand(&mut fields, !has_more, "more_cursors", "must be false with send_only");
    let (actor_id, params) = fields.finish((actor_id, params))?;
    Ok(Open { actor_id, subscribe: (!open.send_only).then_some(params), is_partial: open.more_cursors })
}

/// Reads a message of the session's actor. Returns also whether sending it again stores nothing twice.
pub(super) fn send(mut request: v1::SendMessageRequest, actor_id: &UserId) -> Result<(NewMessage, bool), Failure> {
    check_actor("sender_id", &request.sender_id, actor_id)?;
    if request.sender_id.is_empty() {
        request.sender_id = actor_id.to_string();
    }
    send_message::decode(request, Uuid::now_v7())
}

pub(super) fn mark_read(request: &v1::MarkReadRequest, actor_id: &UserId) -> Result<SideRequest, Failure> {
    check_actor("actor_id", &request.actor_id, actor_id)?;
    let mut fields = Fields::default();
    let conversation_id = decode::conversation_id(&mut fields, &request.conversation_id);
    let up_to = decode::position(&mut fields, "sequence", request.sequence);
    let (conversation_id, up_to) = fields.finish((conversation_id, up_to))?;
    Ok(SideRequest::MarkRead { conversation_id, up_to })
}

pub(super) fn typing(request: &v1::SendTypingRequest, actor_id: &UserId) -> Result<SideRequest, Failure> {
    check_actor("actor_id", &request.actor_id, actor_id)?;
    let mut fields = Fields::default();
    let conversation_id = decode::conversation_id(&mut fields, &request.conversation_id);
    Ok(SideRequest::Typing { conversation_id: fields.finish(conversation_id)? })
}

/// Returns the failure of a frame that is empty or of a kind that this binary does not know.
pub(super) fn empty() -> Failure {
    Failure::invalid_field("frame", "must be open, cursors, send, mark_read, typing or authenticate")
}

fn check_actor(field: &str, named: &str, actor_id: &UserId) -> Result<(), Failure> {
    if named.is_empty() || *named == **actor_id {
        return Ok(());
    }
    Err(Failure::invalid_field(field, "must be absent, or the user who opened the session"))
}

pub(super) fn opened(frame_id: u64) -> Bytes {
    encode(Item::Opened(v1::Opened { frame_id }))
}

/// Encodes the ack of a stored message.
pub(super) fn stored(frame_id: u64, stored: &send_message::Stored) -> Bytes {
    let message = &stored.message;
    encode(Item::Ack(v1::Ack {
        frame_id,
        conversation_id: message.conversation_id.to_string(),
        request_id: message.request_id.clone(),
        sequence: message.sequence.get(),
        create_time: Some(timestamp(message.created_at)),
        duplicate: stored.duplicate,
    }))
}

/// Encodes the ack of a side request. `position` is the read mark after a request that moves it.
pub(super) fn done(frame_id: u64, conversation_id: &ConversationId, position: Option<Position>) -> Bytes {
    let (conversation_id, sequence) = (conversation_id.to_string(), position.map_or(0, Position::get));
    encode(Item::Ack(v1::Ack { frame_id, conversation_id, sequence, ..v1::Ack::default() }))
}

/// Encodes the ack of a frame that is about no conversation.
pub(super) fn renewed(frame_id: u64) -> Bytes {
    encode(Item::Ack(v1::Ack { frame_id, ..v1::Ack::default() }))
}

/// Encodes the nack of a frame.
pub(super) fn nack(frame_id: u64, failure: Failure) -> Bytes {
    let status = Status::from(failure);
    encode(Item::Nack(v1::Nack { frame_id, status: Some(convert::status(&status)) }))
}

fn encode(item: Item) -> Bytes {
    v1::ChatResponse { item: Some(item) }.encode_to_vec().into()
}
