//! `SendMessage`: stores a message, once per request id. The answer means committed.

use std::{future::Future, time::Instant};

use parlance::message::v1;
use service_kit::failure::{Failure, Violations};
use time::OffsetDateTime;
use tonic::Request;
use uuid::Uuid;

use super::{
    authorise, convert, decode,
    service::Context,
    status::{self, Subject},
};
use crate::{
    domain::{hash, message::Message},
    log::writer::Room,
    storage::append::{Outcome, Send, Sent},
};

pub(super) async fn answer(
    context: &Context,
    request: Request<v1::SendMessageRequest>,
) -> Result<v1::SendMessageResponse, Failure> {
    let (_, extensions, request) = request.into_parts();
    let (new, is_repeatable) = decode(request, Uuid::now_v7())?;
    let deadline = authorise::actor(context, &extensions, &new.sender_id).await?;

    let room = reserve(context, &new)?;
    let Stored { new, sent, before } = store(context, new, is_repeatable, room, deadline).await?;
    let duplicate = before.is_some();
    let message = convert::message_to_proto(before.unwrap_or_else(|| new.to_message(&sent)));
    Ok(v1::SendMessageResponse { message: Some(message), duplicate })
}

/// A message that is stored.
pub(super) struct Stored {
    pub(super) new: Send,
    pub(super) sent: Sent,
    /// What it is by now, if the same request had stored it before.
    pub(super) before: Option<Message>,
}

impl Stored {
    /// When it was stored.
    pub(super) fn created_at(&self) -> OffsetDateTime {
        self.before.as_ref().map_or(self.sent.created_at, |message| message.created_at)
    }
}

/// Keeps room among what waits to be stored.
pub(super) fn reserve(context: &Context, new: &Send) -> Result<Room, Failure> {
    context.writers.reserve(new).map_err(|error| status::of_write(error, &new.conversation_id, true))
}

/// Stores a message of a sender who is known to be active. It has its place in the order of its conversation when this
/// returns, whenever its end is waited for.
pub(super) fn store(
    context: &Context,
    new: Send,
    is_repeatable: bool,
    room: Room,
    deadline: Instant,
) -> impl Future<Output = Result<Stored, Failure>> + core::marker::Send + use<> {
    let storing = context.writers.send(new.clone(), room, deadline);
    let store = context.store.clone();
    async move {
        let sent = storing.await.map_err(|error| status::of_write(error, &new.conversation_id, is_repeatable))?;
        let subject = Subject::new(&new.conversation_id, &new.sender_id);
        Subject { sequence: new.reply_to_sequence, request_id: &new.request_id, ..subject }.check(sent.outcome)?;
        if sent.outcome == Outcome::Done {
            return Ok(Stored { new, sent, before: None });
        }
        // Stored before, and perhaps edited or deleted since.
        let message = store.find_message(&new.conversation_id, sent.sequence).await?;
        let gone = || Failure::internal(format!("message {} of {} is not there", sent.sequence, new.conversation_id));
        let before = Some(message.ok_or_else(gone)?);
        Ok(Stored { new, sent, before })
    }
}

/// Gives also whether sending it again stores nothing twice: without an id of the client's a repeat cannot be told from
/// another message, and `fresh` becomes its id.
pub(super) fn decode(request: v1::SendMessageRequest, fresh: Uuid) -> Result<(Send, bool), Failure> {
    let mut violations = Violations::default();
    let conversation_id = decode::conversation_id(&mut violations, "conversation_id", &request.conversation_id);
    let sender_id = decode::user_id(&mut violations, "sender_id", &request.sender_id);
    let text = decode::text(&mut violations, request.text);
    let attributes = decode::attributes(&mut violations, request.attributes);
    let reply_to_sequence = decode::position(&mut violations, "reply_to_sequence", request.reply_to_sequence);
    let request_id = decode::request_id(&mut violations, &request.request_id);
    let is_repeatable = request_id.is_some();
    let request_id = request_id.unwrap_or_else(|| fresh.to_string());
    violations.into_result()?;
    let request_hash = hash::of_message(&text, &attributes, reply_to_sequence);
    let send = Send { conversation_id, sender_id, request_id, request_hash, text, attributes, reply_to_sequence };
    Ok((send, is_repeatable))
}

#[cfg(test)]
mod tests {
    use tonic::Status;
    use tonic_types::StatusExt;

    use super::*;

    #[test]
    fn every_violation_is_told_at_once() {
        let request = v1::SendMessageRequest {
            conversation_id: "no spaces".to_owned(),
            sender_id: "~service".to_owned(),
            text: "\u{2003}".to_owned(),
            attributes: [("k".to_owned(), "\0".to_owned())].into(),
            reply_to_sequence: -1,
            request_id: "é".to_owned(),
        };
        let status = Status::from(decode(request, Uuid::nil()).unwrap_err());
        let fields: Vec<String> =
            status.get_details_bad_request().unwrap().field_violations.into_iter().map(|one| one.field).collect();
        let all = ["conversation_id", "sender_id", "text", "attributes", "reply_to_sequence", "request_id"];
        assert_eq!(fields, all);
    }

    #[test]
    fn a_message_without_a_request_id_gets_one() {
        let request = |request_id: &str| v1::SendMessageRequest {
            conversation_id: "c".to_owned(),
            sender_id: "ada".to_owned(),
            text: "hi".to_owned(),
            request_id: request_id.to_owned(),
            ..Default::default()
        };
        let (made, is_repeatable) = decode(request(""), Uuid::nil()).unwrap();
        assert!(!is_repeatable);
        let (given, is_repeatable) = decode(request("mine"), Uuid::nil()).unwrap();
        assert!(is_repeatable);
        assert_eq!((made.request_id, given.request_id.as_str()), (Uuid::nil().to_string(), "mine"));
        assert_eq!(made.request_hash, given.request_hash);
    }
}
