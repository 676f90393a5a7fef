//! `EditMessage`: changes the text or the attributes of the actor's own message.

use parlance::message::v1;
use service_kit::failure::{Failure, Violations};
use tonic::Request;

use super::{authorise, change, convert, decode, service::Context, status::Subject};
use crate::{
    domain::{conversation::Id, message::Attributes, refusal::Refusal},
    storage::append::ChangeKind,
};

struct Asked {
    conversation_id: Id,
    sequence: i64,
    actor_id: Id,
    /// `None`: stays as it is.
    text: Option<String>,
    /// `None`: stay as they are.
    attributes: Option<Attributes>,
}

pub(super) async fn answer(
    context: &Context,
    request: Request<v1::EditMessageRequest>,
) -> Result<v1::Message, Failure> {
    let (_, extensions, request) = request.into_parts();
    let Asked { conversation_id, sequence, actor_id, text, attributes } = decode(request)?;
    let deadline = authorise::actor(context, &extensions, &actor_id).await?;

    let kind = ChangeKind::EditMessage { sequence, text, attributes };
    let subject = Subject { sequence, ..Subject::new(&conversation_id, &actor_id) };
    change::apply(context, kind, &subject, deadline).await?;

    let message = context.store.find_message(&conversation_id, sequence).await?;
    Ok(convert::message_to_proto(message.ok_or(Refusal::MessageNotFound { conversation_id, sequence })?))
}

fn decode(request: v1::EditMessageRequest) -> Result<Asked, Failure> {
    let mut violations = Violations::default();
    let conversation_id = decode::conversation_id(&mut violations, "conversation_id", &request.conversation_id);
    let sequence = decode::sequence(&mut violations, "sequence", request.sequence);
    let actor_id = decode::user_id(&mut violations, "actor_id", &request.actor_id);
    let mask = decode::mask(&mut violations, request.update_mask.as_ref(), ["text", "attributes"]);
    let [text, attributes] = mask.unwrap_or([true, false]);
    // What is not to be changed is not looked at.
    let text = text.then(|| decode::text(&mut violations, request.text));
    let attributes = attributes.then(|| decode::attributes(&mut violations, request.attributes));
    violations.into_result().map(|()| Asked { conversation_id, sequence, actor_id, text, attributes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_mask_names_is_changed() {
        let asked = |text: &str, paths: &[&str]| {
            let paths = paths.iter().map(|path| (*path).to_owned()).collect();
            decode(v1::EditMessageRequest {
                conversation_id: "c".to_owned(),
                sequence: 1,
                actor_id: "ada".to_owned(),
                text: text.to_owned(),
                attributes: Attributes::new(),
                update_mask: Some(prost_types::FieldMask { paths }),
            })
            .map(|asked| (asked.text, asked.attributes))
        };
        let (text, none) = (Some("hi".to_owned()), Some(Attributes::new()));
        assert_eq!(asked("hi", &[]).unwrap(), (text.clone(), None));
        assert_eq!(asked("hi", &["text"]).unwrap(), (text.clone(), None));
        assert_eq!(asked("", &["attributes"]).unwrap(), (None, none.clone()));
        assert_eq!(asked("hi", &["*"]).unwrap(), (text, none));
        assert!(asked("", &[]).is_err() && asked("hi", &["sender_id"]).is_err());
    }
}
