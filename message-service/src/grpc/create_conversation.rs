//! `CreateConversation`: creates a conversation with its first members, once per request id, and once per pair if DIRECT.

use std::collections::HashSet;

use parlance::message::v1;
use service_kit::{
    bounds::{self, OutOfBounds},
    failure::Failure,
    fields::Fields,
};
use tonic::Request;
use uuid::Uuid;

use super::{
    access, authorise,
    context::Context,
    convert, decode,
    status::{self, Subject},
};
use crate::{
    actor::Actor,
    domain::{
        conversation::{Kind, NewConversation},
        hash,
        ids::{ConversationId, UserId},
        refusal::Refusal,
        rpc::Rpc,
    },
};

pub(super) async fn answer(
    context: &Context,
    request: Request<v1::CreateConversationRequest>,
) -> Result<v1::Conversation, Failure> {
    let (new, is_repeatable) = decode(request.get_ref(), Uuid::now_v7())?;
    let actor =
        authorise::actor(context, Rpc::CreateConversation, request.extensions(), new.creator_id.clone()).await?;

    // The users named need not be active any more if the conversation exists already.
    if let Some(conversation_id) = find_created_before(context, &actor, &new).await? {
        return show(context, &actor, &conversation_id).await;
    }
    context.directory.check_active(&new.member_ids, actor.deadline()).await?;

    let (chosen_id, request_id) = (new.conversation_id.clone(), new.request_id.clone());
    let created = context.writers.create(&actor, new).await;
    let (outcome, conversation_id) = created.map_err(|error| status::of_write(error, &chosen_id, is_repeatable))?;
    Subject { request_id: &request_id, ..Subject::new(&chosen_id, &actor) }.check(outcome)?;
    let shown = show(context, &actor, &conversation_id).await;
    // It is created: a client that is asked to retry would create another.
    if is_repeatable { shown } else { shown.map_err(status::of_unseen_creation) }
}

/// Returns the conversation as it is now, if the actor may still see it.
async fn show(context: &Context, actor: &Actor, conversation_id: &ConversationId) -> Result<v1::Conversation, Failure> {
    let (conversation, _) = access::reader(context, actor, conversation_id).await?;
    Ok(convert::conversation(&conversation))
}

/// Finds what the same request created before, or the conversation that this pair has already. A concurrent creation is
/// noticed where it is stored.
async fn find_created_before(
    context: &Context,
    actor: &Actor,
    new: &NewConversation,
) -> Result<Option<ConversationId>, Failure> {
    match context.store.find_creation(actor, &new.request_id).await? {
        Some((_, hash)) if hash != new.request_hash => {
            Err(Refusal::RequestIdReused { request_id: new.request_id.clone() }.into())
        }
        Some((conversation_id, _)) => Ok(Some(conversation_id)),
        // A request id of the caller's has yet to be stored with its conversation.
        None if new.kind == Kind::Direct && bounds::request_id(&new.request_id).is_err() => {
            let existing = context.store.view_conversation(actor, &new.conversation_id).await?;
            Ok(existing.map(|(conversation, _)| conversation.conversation_id))
        }
        None => Ok(None),
    }
}

/// Reads the request. `fresh` is used for each id that the request does not set. Returns also whether repeating the call
/// creates nothing twice.
pub(super) fn decode(request: &v1::CreateConversationRequest, fresh: Uuid) -> Result<(NewConversation, bool), Failure> {
    let mut fields = Fields::default();
    let kind = decode::kind(&mut fields, request.kind);
    let creator_id = fields.parse("creator_id", &request.creator_id, UserId::parse);
    let member_ids = decode::user_ids(&mut fields, "member_ids", &request.member_ids);
    let request_id = decode::request_id(&mut fields, &request.request_id);
    let chosen_id = fields.optional("conversation_id", &request.conversation_id, ConversationId::parse_chosen);
    let title = fields.parse("title", &request.title, title);
    if request.kind == v1::ConversationKind::Direct as i32 {
        check_direct(&mut fields, request);
    }
    let (kind, creator_id, mut member_ids, request_id, chosen_id, title) =
        fields.finish((kind, creator_id, member_ids, request_id, chosen_id, title))?;
    member_ids.retain(|id| *id != creator_id);

    let is_repeatable = request_id.is_some() || kind == Kind::Direct || chosen_id.is_some();
    let conversation_id = match (kind, member_ids.first()) {
        (Kind::Direct, Some(other)) => hash::direct_conversation_id([&creator_id, other]),
        _ => chosen_id.unwrap_or_else(|| ConversationId::from_uuid(fresh)),
    };
    let mut sorted: Vec<&UserId> = member_ids.iter().collect();
    sorted.sort_unstable();
    let request_hash = hash::of_conversation(&request.conversation_id, kind, &title, &sorted);
    let request_id = request_id.unwrap_or_else(|| own_request_id(kind, &conversation_id, fresh));
    let new = NewConversation { conversation_id, kind, title, creator_id, member_ids, request_id, request_hash };
    Ok((new, is_repeatable))
}

fn title(text: &str) -> Result<String, OutOfBounds> {
    bounds::title(text).map(|()| text.to_owned())
}

/// Returns the request id of a call that brings none. It is the same for all calls about one pair, so that looking up a
/// DIRECT conversation by creating it again leaves nothing behind, and begins as no id of a caller can.
fn own_request_id(kind: Kind, conversation_id: &ConversationId, fresh: Uuid) -> String {
    match kind {
        Kind::Direct => format!("\u{7f}{conversation_id}"),
        Kind::Group | Kind::Channel => fresh.to_string(),
    }
}

/// Checks that a DIRECT conversation is described by its pair alone.
fn check_direct(fields: &mut Fields, request: &v1::CreateConversationRequest) {
    let id = "must be absent for DIRECT, whose id the service makes";
    decode::demand(fields, request.conversation_id.is_empty(), "conversation_id", id);
    decode::demand(fields, request.title.is_empty(), "title", "must be absent for DIRECT");
    let others: HashSet<&str> = request.member_ids.iter().map(String::as_str).collect();
    let others = others.into_iter().filter(|id| *id != request.creator_id).count();
    decode::demand(fields, others == 1, "member_ids", "must name exactly one other user for DIRECT");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(kind: v1::ConversationKind, members: &[&str]) -> v1::CreateConversationRequest {
        v1::CreateConversationRequest {
            kind: kind.into(),
            creator_id: "ada".to_owned(),
            member_ids: members.iter().map(|id| (*id).to_owned()).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn direct_names_exactly_one_other_user_however_often() {
        let decode = |members: &[&str]| decode(&request(v1::ConversationKind::Direct, members), Uuid::nil());
        let (new, is_repeatable) = decode(&["bob", "ada", "bob"]).unwrap();
        assert_eq!(new.member_ids, ["bob".into()]);
        assert_eq!(new.conversation_id, hash::direct_conversation_id([&"bob".into(), &"ada".into()]));
        assert!(is_repeatable);
        assert!(bounds::request_id(&new.request_id).is_err());
        for members in [&[][..], &["ada"], &["bob", "eve"]] {
            assert!(decode(members).is_err(), "{members:?}");
        }
        let named = v1::CreateConversationRequest {
            conversation_id: "x".to_owned(),
            title: "t".to_owned(),
            ..request(v1::ConversationKind::Direct, &["bob"])
        };
        assert!(super::decode(&named, Uuid::nil()).is_err());
    }

    #[test]
    fn the_same_members_in_another_order_are_the_same_request() {
        let hash = |members: &[&str]| {
            decode(&request(v1::ConversationKind::Group, members), Uuid::nil()).unwrap().0.request_hash
        };
        assert_eq!(hash(&["bob", "eve"]), hash(&["eve", "ada", "bob", "eve"]));
        assert_ne!(hash(&["bob", "eve"]), hash(&["bob"]));
    }

    #[test]
    fn only_a_request_that_can_be_recognised_may_be_repeated() {
        let is_repeatable = |conversation_id: &str, request_id: &str| {
            let (conversation_id, request_id) = (conversation_id.to_owned(), request_id.to_owned());
            let base = request(v1::ConversationKind::Group, &[]);
            decode(&v1::CreateConversationRequest { conversation_id, request_id, ..base }, Uuid::nil()).unwrap().1
        };
        assert!(!is_repeatable("", ""));
        assert!(is_repeatable("general", "") && is_repeatable("", "r"));
    }
}
