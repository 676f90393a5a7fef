//! `UpdateConversation`: changes the title.

use parlance::message::v1;
use service_kit::{
    bounds,
    failure::{Failure, Violations},
};
use tonic::Request;

use super::{access, authorise, change, convert, decode, service::Context, status::Subject};
use crate::{
    domain::{
        conversation::{Id, version_of},
        refusal::Refusal,
    },
    storage::append::ChangeKind,
};

/// The version that an etag names which is none of ours. Versions begin at 1, so it is never the current one.
const NO_VERSION: i64 = 0;

struct Asked {
    conversation_id: Id,
    actor_id: Id,
    /// `None`: nothing is to be changed.
    title: Option<String>,
    expected_version: Option<i64>,
}

pub(super) async fn answer(
    context: &Context,
    request: Request<v1::UpdateConversationRequest>,
) -> Result<v1::Conversation, Failure> {
    let Asked { conversation_id, actor_id, title, expected_version } = decode(request.get_ref())?;
    let deadline = authorise::actor(context, request.extensions(), &actor_id).await?;

    if let Some(title) = title {
        let kind = ChangeKind::UpdateTitle { title, expected_version };
        change::apply(context, kind, &Subject::new(&conversation_id, &actor_id), deadline).await?;
        // Shown even to who has left in between: it was the actor's own change.
        let view = context.store.view_conversation(&conversation_id, &actor_id).await?;
        let (conversation, _) = view.ok_or(Refusal::ConversationNotFound { conversation_id })?;
        return Ok(convert::conversation_to_proto(&conversation));
    }
    let (conversation, _) = access::member(context, &conversation_id, &actor_id).await?;
    if expected_version.is_some_and(|version| version != conversation.version) {
        return Err(Refusal::EtagMismatch.into());
    }
    Ok(convert::conversation_to_proto(&conversation))
}

fn decode(request: &v1::UpdateConversationRequest) -> Result<Asked, Failure> {
    let mut violations = Violations::default();
    let absent = v1::Conversation::default();
    let given = request.conversation.as_ref().unwrap_or(&absent);
    let conversation_id =
        decode::conversation_id(&mut violations, "conversation.conversation_id", &given.conversation_id);
    let actor_id = decode::user_id(&mut violations, "actor_id", &request.actor_id);
    violations.check("conversation.etag", bounds::no_nul(&given.etag));
    let mask = decode::mask(&mut violations, request.update_mask.as_ref(), ["title"]);
    // Without a mask a title that is set is meant; with one an empty title is, too.
    let is_meant = mask.map_or(!given.title.is_empty(), |[title]| title);
    if is_meant {
        violations.check("conversation.title", bounds::title(&given.title));
    }
    violations.into_result()?;
    Ok(Asked {
        conversation_id,
        actor_id,
        title: is_meant.then(|| given.title.clone()),
        expected_version: (!given.etag.is_empty()).then(|| version_of(&given.etag).unwrap_or(NO_VERSION)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_title_is_meant_only_when_the_mask_says_so() {
        let asked = |title: &str, paths: Option<&[&str]>, etag: &str| {
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
            .map(|asked| (asked.title, asked.expected_version))
        };
        assert_eq!(asked("", None, "").unwrap(), (None, None));
        assert_eq!(asked("t", None, "\"7\"").unwrap(), (Some("t".to_owned()), Some(7)));
        assert_eq!(asked("", Some(&["title"]), "").unwrap().0, Some(String::new()));
        assert_eq!(asked("", Some(&["*"]), "none of ours").unwrap(), (Some(String::new()), Some(NO_VERSION)));
        assert!(asked("t", Some(&["kind"]), "").is_err());
    }
}
