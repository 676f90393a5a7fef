//! `EditMessage`: changes the text or the attributes of the actor's own message.

use parlance::message::v1;
use service_kit::{failure::Failure, fields::Fields};
use tonic::Request;

use super::{authorise, change, context::Context, convert, decode, status::Subject};
use crate::domain::{
    attributes::{Attributes, check_attributes},
    change::{ChangeKind, message::EditMessage},
    ids::{ConversationId, UserId},
    message::check_text,
    refusal::Refusal,
    rpc::Rpc,
    sequence::Sequence,
};

pub(super) struct Params {
    pub(super) conversation_id: ConversationId,
    pub(super) sequence: Sequence,
    pub(super) actor_id: UserId,
    /// `None`: stays as it is.
    pub(super) text: Option<String>,
    /// `None`: stay as they are.
    pub(super) attributes: Option<Attributes>,
}

pub(super) async fn answer(
    context: &Context,
    request: Request<v1::EditMessageRequest>,
) -> Result<v1::Message, Failure> {
    let (_, extensions, request) = request.into_parts();
    let Params { conversation_id, sequence, actor_id, text, attributes } = decode(request)?;
    let actor = authorise::actor(context, Rpc::EditMessage, &extensions, actor_id).await?;

    let kind = ChangeKind::EditMessage(EditMessage { sequence, text, attributes });
    let subject = Subject { sequence: Some(sequence), ..Subject::new(&conversation_id, &actor) };
    change::apply(context, &actor, kind, &subject).await?;

    let message = context.store.find_message(&actor, &conversation_id, sequence).await?;
    Ok(convert::message(message.ok_or(Refusal::MessageNotFound { conversation_id, sequence })?))
}

pub(super) fn decode(request: v1::EditMessageRequest) -> Result<Params, Failure> {
    let mut fields = Fields::default();
    let conversation_id = decode::conversation_id(&mut fields, &request.conversation_id);
    let sequence = decode::sequence(&mut fields, request.sequence);
    let actor_id = decode::actor_id(&mut fields, &request.actor_id);
    let [text, attributes] =
        fields.update_mask(request.update_mask.as_ref(), ["text", "attributes"]).unwrap_or([true, false]);
    // A field that is not to be changed is not checked either.
    let text = fields.check_if(text, "text", || check_text(&request.text).map(|()| request.text));
    let attributes = fields
        .check_if(attributes, "attributes", || check_attributes(&request.attributes).map(|()| request.attributes));
    let (conversation_id, sequence, actor_id, text, attributes) =
        fields.finish((conversation_id, sequence, actor_id, text, attributes))?;
    Ok(Params { conversation_id, sequence, actor_id, text, attributes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_mask_names_is_changed() {
        let read = |text: &str, paths: &[&str]| {
            let paths = paths.iter().map(|path| (*path).to_owned()).collect();
            decode(v1::EditMessageRequest {
                conversation_id: "c".to_owned(),
                sequence: 1,
                actor_id: "ada".to_owned(),
                text: text.to_owned(),
                attributes: Attributes::new(),
                update_mask: Some(prost_types::FieldMask { paths }),
            })
            .map(|params| (params.text, params.attributes))
        };
        let (text, none) = (Some("hi".to_owned()), Some(Attributes::new()));
        assert_eq!(read("hi", &[]).unwrap(), (text.clone(), None));
        assert_eq!(read("hi", &["text"]).unwrap(), (text.clone(), None));
        assert_eq!(read("", &["attributes"]).unwrap(), (None, none.clone()));
        assert_eq!(read("hi", &["*"]).unwrap(), (text, none));
        assert!(read("", &[]).is_err() && read("hi", &["sender_id"]).is_err());
    }
}
