//! `SendMessage`: stores a message, once per request id. The response means that it is committed.

use std::future::Future;

use parlance::message::v1;
use service_kit::{failure::Failure, fields::Fields};
use tonic::Request;
use uuid::Uuid;

use super::{
    authorise,
    context::Context,
    convert, decode,
    status::{self, Subject},
};
use crate::{
    actor::Actor,
    domain::{
        hash,
        ids::UserId,
        message::{Message, NewMessage},
        rpc::Rpc,
    },
    log::writer::QueuePermit,
};

pub(super) async fn answer(
    context: &Context,
    request: Request<v1::SendMessageRequest>,
) -> Result<v1::SendMessageResponse, Failure> {
    let (_, extensions, request) = request.into_parts();
    let (new, is_repeatable) = decode(request, Uuid::now_v7())?;
    let actor = authorise::actor(context, Rpc::SendMessage, &extensions, new.sender_id.clone()).await?;

    let permit = reserve(context, &new)?;
    let Stored { message, duplicate } = store(context, &actor, new, is_repeatable, permit).await?;
    Ok(v1::SendMessageResponse { message: Some(convert::message(message)), duplicate })
}

/// A message that is stored, as it is now.
pub(super) struct Stored {
    pub(super) message: Message,
    /// An earlier request with the same id had stored it, and it may have been edited or deleted since.
    pub(super) duplicate: bool,
}

/// Reserves a place in the write queue.
pub(super) fn reserve(context: &Context, new: &NewMessage) -> Result<QueuePermit, Failure> {
    context.writers.reserve(new).map_err(|error| status::of_write(error, &new.conversation_id, true))
}

/// Stores a message. Its place in the order of its conversation is fixed when this returns, before the future is polled.
pub(super) fn store(
    context: &Context,
    actor: &Actor,
    new: NewMessage,
    is_repeatable: bool,
    permit: QueuePermit,
) -> impl Future<Output = Result<Stored, Failure>> + Send + use<> {
    let storing = context.writers.send(actor, new.clone(), permit);
    let (store, actor) = (context.store.clone(), actor.clone());
    async move {
        let sent = storing.await.map_err(|error| status::of_write(error, &new.conversation_id, is_repeatable))?;
        let subject = Subject::new(&new.conversation_id, &actor);
        Subject { sequence: new.reply_to_sequence, request_id: &new.request_id, ..subject }.check(sent.outcome)?;
        if let Some(stored) = sent.stored_now() {
            return Ok(Stored { message: new.into_message(stored), duplicate: false });
        }
        let missing = || Failure::internal(format!("a message of {} is stored but missing", new.conversation_id));
        let sequence = sent.stored.ok_or_else(missing)?.sequence;
        let found = store.find_message(&actor, &new.conversation_id, sequence).await;
        // Without a request id of the client, only an earlier run of this very call can have stored it.
        let found = found.map_err(|error| match Failure::from(error) {
            failure if is_repeatable => failure,
            failure => status::of_unseen_creation(failure),
        });
        Ok(Stored { message: found?.ok_or_else(missing)?, duplicate: is_repeatable })
    }
}

/// Reads the request. Returns also whether sending it again stores nothing twice: without a request id of the client a
/// repeat looks like another message, and `fresh` becomes its id.
pub(super) fn decode(request: v1::SendMessageRequest, fresh: Uuid) -> Result<(NewMessage, bool), Failure> {
    let mut fields = Fields::default();
    let conversation_id = decode::conversation_id(&mut fields, &request.conversation_id);
    let sender_id = fields.parse("sender_id", &request.sender_id, UserId::parse);
    let text = decode::text(&mut fields, request.text);
    let attributes = decode::attributes(&mut fields, request.attributes);
    let reply_to = decode::optional_sequence(&mut fields, "reply_to_sequence", request.reply_to_sequence);
    let request_id = decode::request_id(&mut fields, &request.request_id);
    let (conversation_id, sender_id, text, attributes, reply_to_sequence, request_id) =
        fields.finish((conversation_id, sender_id, text, attributes, reply_to, request_id))?;
    let is_repeatable = request_id.is_some();
    let request_id = request_id.unwrap_or_else(|| fresh.to_string());
    let request_hash = hash::of_message(&text, &attributes, reply_to_sequence);
    let new = NewMessage { conversation_id, sender_id, request_id, request_hash, text, attributes, reply_to_sequence };
    Ok((new, is_repeatable))
}

#[cfg(test)]
mod tests {
    use tonic::Status;
    use tonic_types::StatusExt;

    use super::*;

    #[test]
    fn every_violation_is_reported_at_once() {
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
        let (generated, is_repeatable) = decode(request(""), Uuid::nil()).unwrap();
        assert!(!is_repeatable);
        let (own, is_repeatable) = decode(request("mine"), Uuid::nil()).unwrap();
        assert!(is_repeatable);
        assert_eq!((generated.request_id, own.request_id.as_str()), (Uuid::nil().to_string(), "mine"));
        assert_eq!(generated.request_hash, own.request_hash);
    }
}
