//! `UpdateConversation`: changes the title.

use parlance::message::v1;
use service_kit::{bounds, failure::Failure, fields::Fields};
use tonic::Request;

use super::{access, authorise, change, context::Context, convert, decode, status::Subject};
use crate::domain::{
    change::{ChangeKind, conversation::UpdateConversation},
    conversation::version_of,
    ids::{ConversationId, UserId},
    refusal::Refusal,
    rpc::Rpc,
};

/// The version of an etag that the service never made. Versions begin at 1, so it is never the current one.
const NO_VERSION: i64 = 0;

struct Params {
    conversation_id: ConversationId,
    actor_id: UserId,
    /// `None`: nothing is to be changed.
    title: Option<String>,
    expected_version: Option<i64>,
}

pub(super) async fn answer(
    context: &Context,
    request: Request<v1::UpdateConversationRequest>,
) -> Result<v1::Conversation, Failure> {
    let Params { conversation_id, actor_id, title, expected_version } = decode(request.get_ref())?;
    let actor = authorise::actor(context, Rpc::UpdateConversation, request.extensions(), actor_id).await?;

    if let Some(title) = title {
        let kind = ChangeKind::UpdateConversation(UpdateConversation { title, expected_version });
        change::apply(context, &actor, kind, &Subject::new(&conversation_id, &actor)).await?;
        // Shown even to an actor that has left in between: it was the actor's own change.
        let view = context.store.view_conversation(&actor, &conversation_id).await?;
        let (conversation, _) = view.ok_or(Refusal::ConversationNotFound { conversation_id })?;
        return Ok(convert::conversation(&conversation));
    }
    let (conversation, _) = access::member(context, &actor, &conversation_id).await?;
    if expected_version.is_some_and(|version| version != conversation.version) {
        return Err(Refusal::EtagMismatch.into());
    }
    Ok(convert::conversation(&conversation))
}

fn decode(request: &v1::UpdateConversationRequest) -> Result<Params, Failure> {
    let mut fields = Fields::default();
    let absent = v1::Conversation::default();
    let conversation = request.conversation.as_ref().unwrap_or(&absent);
    let conversation_id =
        fields.parse("conversation.conversation_id", &conversation.conversation_id, ConversationId::parse);
    let actor_id = decode::actor_id(&mut fields, &request.actor_id);
    let etag = fields.check("conversation.etag", bounds::no_nul(&conversation.etag));
    // Without a mask a title that is set is to be changed; with one an empty title is, too.
    let is_named = fields
        .update_mask(request.update_mask.as_ref(), ["title"])
        .map_or(!conversation.title.is_empty(), |[title]| title);
    let title = decode::if_named(&mut fields, is_named, "conversation.title", || {
        bounds::title(&conversation.title).map(|()| conversation.title.clone())
    });
    let (conversation_id, actor_id, (), title) = fields.finish((conversation_id, actor_id, etag, title))?;
    let etag = &conversation.etag;
    let expected_version = (!etag.is_empty()).then(|| version_of(etag).unwrap_or(NO_VERSION));
    Ok(Params { conversation_id, actor_id, title, expected_version })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_title_is_meant_only_when_the_mask_says_so() {
        let read = |title: &str, paths: Option<&[&str]>, etag: &str| {
            let conversation = v1::Conversation {
                conversation_id: "c".to_owned(),
                title: title.to_owned(),
                etag: etag.to_owned(),
                ..Default::default()
            };
            let paths = paths.map(|paths| paths.iter().map(|path| (*path).to_owned()).collect());
            decode(&v1::UpdateConversationRequest {
                conversation: Some(conversation),
                update_mask: paths.map(|paths| prost_types::FieldMask { paths }),
                actor_id: "ada".to_owned(),
            })
            .map(|params| (params.title, params.expected_version))
        };
        assert_eq!(read("", None, "").unwrap(), (None, None));
        assert_eq!(read("t", None, "\"7\"").unwrap(), (Some("t".to_owned()), Some(7)));
        assert_eq!(read("", Some(&["title"]), "").unwrap().0, Some(String::new()));
        assert_eq!(read("", Some(&["*"]), "none of ours").unwrap(), (Some(String::new()), Some(NO_VERSION)));
        assert!(read("t", Some(&["kind"]), "").is_err());
    }
}
