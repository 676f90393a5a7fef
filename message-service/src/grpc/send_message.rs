//! `SendMessage`: stores a message, once per request id. The answer means committed.

use parlance::message::v1;
use service_kit::failure::{Failure, Violations};
use tonic::Request;
use uuid::Uuid;

use super::{
    authorise, convert, decode,
    service::Context,
    status::{self, Subject},
};
use crate::{
    domain::hash,
    storage::append::{Outcome, Send},
};

pub(super) async fn answer(
    context: &Context,
    request: Request<v1::SendMessageRequest>,
) -> Result<v1::SendMessageResponse, Failure> {
    let (_, extensions, request) = request.into_parts();
    // Without an id of the client's a repeat cannot be told from another message.
    let is_repeatable = !request.request_id.is_empty();
    let new = decode(request, Uuid::now_v7())?;
    let deadline = authorise::actor(context, &extensions, &new.sender_id).await?;

    let stored = context.writers.send(new.clone(), deadline).await;
    let sent = stored.map_err(|error| status::of_write(error, &new.conversation_id, is_repeatable))?;
    let subject = Subject::new(&new.conversation_id, &new.sender_id);
    Subject { sequence: new.reply_to_sequence, request_id: &new.request_id, ..subject }.check(sent.outcome)?;

    if sent.outcome == Outcome::Done {
        let message = convert::message_to_proto(new.to_message(&sent));
        return Ok(v1::SendMessageResponse { message: Some(message), duplicate: false });
    }
    // Stored before, and perhaps edited or deleted since.
    let message = context.store.find_message(&new.conversation_id, sent.sequence).await?;
    let gone = || Failure::internal(format!("message {} of {} is not there", sent.sequence, new.conversation_id));
    let message = convert::message_to_proto(message.ok_or_else(gone)?);
    Ok(v1::SendMessageResponse { message: Some(message), duplicate: true })
}

/// `fresh` becomes the request id of a message whose sender brings none.
fn decode(request: v1::SendMessageRequest, fresh: Uuid) -> Result<Send, Failure> {
    let mut violations = Violations::default();
    let conversation_id = decode::conversation_id(&mut violations, "conversation_id", &request.conversation_id);
    let sender_id = decode::user_id(&mut violations, "sender_id", &request.sender_id);
    let text = decode::text(&mut violations, request.text);
    let attributes = decode::attributes(&mut violations, request.attributes);
    let reply_to_sequence = decode::position(&mut violations, "reply_to_sequence", request.reply_to_sequence);
    let request_id = decode::request_id(&mut violations, &request.request_id).unwrap_or_else(|| fresh.to_string());
    violations.into_result()?;
    let request_hash = hash::of_message(&text, &attributes, reply_to_sequence);
    Ok(Send { conversation_id, sender_id, request_id, request_hash, text, attributes, reply_to_sequence })
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
        let (made, given) = (decode(request(""), Uuid::nil()).unwrap(), decode(request("mine"), Uuid::nil()).unwrap());
        assert_eq!((made.request_id, given.request_id.as_str()), (Uuid::nil().to_string(), "mine"));
        assert_eq!(made.request_hash, given.request_hash);
    }
}
