//! `UpdateConversation`: changes the title, description, avatar or attributes.

use parlance::message::v1;
use service_kit::{bounds, failure::Failure, fields::Fields};
use tonic::Request;

use super::{access, authorise, change, context::Context, convert, decode, status::Subject};
use crate::domain::{
    attributes::check_attributes,
    change::{ChangeKind, conversation::UpdateConversation},
    conversation::{check_avatar_url, check_description, version_of},
    ids::{ConversationId, UserId},
    refusal::Refusal,
    rpc::Rpc,
};

/// The version of an etag that the service never made. Versions begin at 1, so it is never the current one.
const NO_VERSION: i64 = 0;

pub(super) struct Params {
    pub(super) conversation_id: ConversationId,
    pub(super) actor_id: UserId,
    pub(super) update: UpdateConversation,
}

pub(super) async fn answer(
    context: &Context,
    request: Request<v1::UpdateConversationRequest>,
) -> Result<v1::Conversation, Failure> {
    let (_, extensions, request) = request.into_parts();
    let Params { conversation_id, actor_id, update } = decode(request)?;
    let actor = authorise::actor(context, Rpc::UpdateConversation, &extensions, actor_id).await?;

    if update.is_empty() {
        let (conversation, _) = access::member(context, &actor, &conversation_id).await?;
        if update.expected_version.is_some_and(|version| version != conversation.version) {
            return Err(Refusal::EtagMismatch.into());
        }
        return Ok(convert::conversation(&conversation));
    }
    let kind = ChangeKind::UpdateConversation(update);
    change::apply(context, &actor, kind, &Subject::new(&conversation_id, &actor)).await?;
    // Shown even to an actor that has left in between: it was the actor's own change.
    let view = context.store.view_conversation(&actor, &conversation_id).await?;
    let (conversation, _) = view.ok_or(Refusal::ConversationNotFound { conversation_id })?;
    Ok(convert::conversation(&conversation))
}

pub(super) fn decode(request: v1::UpdateConversationRequest) -> Result<Params, Failure> {
    let mut fields = Fields::default();
    let conversation = request.conversation.unwrap_or_default();
    let conversation_id =
        fields.parse("conversation.conversation_id", &conversation.conversation_id, ConversationId::parse);
    let actor_id = decode::actor_id(&mut fields, &request.actor_id);
    let etag = fields.optional("conversation.etag", &conversation.etag, |etag| {
        bounds::no_nul(etag).map(|()| version_of(etag).unwrap_or(NO_VERSION))
    });
    // Without a mask the fields that are set are changed; with one, empty fields are, too.
    let [title, description, avatar_url, attributes] = fields
        .update_mask(request.update_mask.as_ref(), ["title", "description", "avatar_url", "attributes"])
        .unwrap_or_else(|| {
            let are_empty = [
                conversation.title.is_empty(),
                conversation.description.is_empty(),
                conversation.avatar_url.is_empty(),
            ];
            let [title, description, avatar_url] = are_empty.map(|is_empty| !is_empty);
            [title, description, avatar_url, !conversation.attributes.is_empty()]
        });
    let title = fields
        .check_if(title, "conversation.title", || bounds::title(&conversation.title).map(|()| conversation.title));
    let description = fields.check_if(description, "conversation.description", || {
        check_description(&conversation.description).map(|()| conversation.description)
    });
    let avatar_url = fields.check_if(avatar_url, "conversation.avatar_url", || {
        check_avatar_url(&conversation.avatar_url).map(|()| conversation.avatar_url)
    });
    let attributes = fields.check_if(attributes, "conversation.attributes", || {
        check_attributes(&conversation.attributes).map(|()| conversation.attributes)
    });
    let (conversation_id, actor_id, expected_version, title, description, avatar_url, attributes) =
        fields.finish((conversation_id, actor_id, etag, title, description, avatar_url, attributes))?;
    let update = UpdateConversation { title, description, avatar_url, attributes, expected_version };
    Ok(Params { conversation_id, actor_id, update })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::attributes::Attributes;

    fn read(conversation: v1::Conversation, paths: Option<&[&str]>) -> Result<UpdateConversation, Failure> {
        let paths = paths.map(|paths| paths.iter().map(|path| (*path).to_owned()).collect());
        let request = v1::UpdateConversationRequest {
            conversation: Some(v1::Conversation { conversation_id: "c".to_owned(), ..conversation }),
            update_mask: paths.map(|paths| prost_types::FieldMask { paths }),
            actor_id: "ada".to_owned(),
        };
        decode(request).map(|params| params.update)
    }

    fn titled(title: &str, etag: &str) -> v1::Conversation {
        v1::Conversation { title: title.to_owned(), etag: etag.to_owned(), ..Default::default() }
    }

    const NOTHING: UpdateConversation = UpdateConversation {
        title: None,
        description: None,
        avatar_url: None,
        attributes: None,
        expected_version: None,
    };

    #[test]
    fn an_empty_field_is_changed_only_if_the_mask_names_it() {
        let (text, empty) = (Some("t".to_owned()), Some(String::new()));
        assert_eq!(read(titled("", ""), None).unwrap(), NOTHING);
        let update = UpdateConversation { title: text, expected_version: Some(7), ..NOTHING };
        assert_eq!(read(titled("t", "\"7\""), None).unwrap(), update);
        let update = UpdateConversation { title: empty.clone(), ..NOTHING };
        assert_eq!(read(titled("", ""), Some(&["title"])).unwrap(), update);
        let update = UpdateConversation {
            title: empty.clone(),
            description: empty.clone(),
            avatar_url: empty,
            attributes: Some(Attributes::new()),
            expected_version: Some(NO_VERSION),
        };
        assert_eq!(read(titled("", "none of ours"), Some(&["*"])).unwrap(), update);
        assert!(read(titled("t", ""), Some(&["kind"])).is_err());
    }

    #[test]
    fn only_what_the_mask_names_is_checked() {
        let wrong = v1::Conversation {
            description: "x".repeat(1_025),
            avatar_url: "nowhere".to_owned(),
            attributes: Attributes::from([(String::new(), String::new())]),
            ..titled("t", "")
        };
        assert!(read(wrong.clone(), Some(&["title"])).unwrap().title.is_some());
        let refused = format!("{:?}", read(wrong, None).unwrap_err());
        for field in ["conversation.description", "conversation.avatar_url", "conversation.attributes"] {
            assert!(refused.contains(field), "{refused}");
        }
    }
}
