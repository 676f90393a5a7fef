//! `CreateConversation`: makes a conversation with its first members, once per request id, and once per pair if DIRECT.

use parlance::message::v1;
use service_kit::{
    bounds,
    failure::{Failure, Violations},
};
use tonic::Request;
use uuid::Uuid;

use super::{
    access, authorise, convert, decode,
    service::Context,
    status::{self, Subject},
};
use crate::{
    domain::{
        conversation::{Id, Kind},
        hash,
        refusal::Refusal,
    },
    storage::conversations::NewConversation,
};

pub(super) async fn answer(
    context: &Context,
    request: Request<v1::CreateConversationRequest>,
) -> Result<v1::Conversation, Failure> {
    let (new, is_repeatable) = decode(request.get_ref(), Uuid::now_v7())?;
    let creator_id = new.creator_id.clone();
    let deadline = authorise::actor(context, request.extensions(), &creator_id).await?;

    // Who was named need not be active any more for what is there already.
    if let Some(conversation_id) = find_made_before(context, &new).await? {
        return show(context, &conversation_id, &creator_id).await;
    }
    context.directory.check_active(&new.member_ids, deadline).await?;

    let (given_id, request_id) = (new.conversation_id.clone(), new.request_id.clone());
    let created = context.writers.create(new, deadline).await;
    let (outcome, conversation_id) = created.map_err(|error| status::of_write(error, &given_id, is_repeatable))?;
    Subject { request_id: &request_id, ..Subject::new(&given_id, &creator_id) }.check(outcome)?;
    let shown = show(context, &conversation_id, &creator_id).await;
    // It is made: whoever is told to try again would make another.
    if is_repeatable { shown } else { shown.map_err(status::of_unseen_creation) }
}

/// As it is now, to whoever may still see it.
async fn show(context: &Context, conversation_id: &Id, creator_id: &Id) -> Result<v1::Conversation, Failure> {
    let (conversation, _) = access::reader(context, conversation_id, creator_id).await?;
    Ok(convert::conversation_to_proto(&conversation))
}

/// What the same request made before, or the conversation that this pair has already. Whoever makes it at the same time is
/// met again where it is stored.
async fn find_made_before(context: &Context, new: &NewConversation) -> Result<Option<Id>, Failure> {
    match context.store.find_creation(&new.creator_id, &new.request_id).await? {
        Some((_, hash)) if hash != new.request_hash => {
            Err(Refusal::RequestIdReused { request_id: new.request_id.clone() }.into())
        }
        Some((conversation_id, _)) => Ok(Some(conversation_id)),
        // A request id of the caller's is yet to be noted with what it is for.
        None if new.kind == Kind::Direct && bounds::request_id(&new.request_id).is_err() => {
            let there = context.store.view_conversation(&new.conversation_id, &new.creator_id).await?;
            Ok(there.map(|(conversation, _)| conversation.conversation_id))
        }
        None => Ok(None),
    }
}

/// `fresh` becomes the id of what the caller brings no id for. Gives also whether the same call again makes nothing twice.
fn decode(request: &v1::CreateConversationRequest, fresh: Uuid) -> Result<(NewConversation, bool), Failure> {
    let mut violations = Violations::default();
    let kind = decode::kind(&mut violations, request.kind);
    let creator_id = decode::user_id(&mut violations, "creator_id", &request.creator_id);
    let mut member_ids = decode::user_ids(&mut violations, "member_ids", &request.member_ids);
    member_ids.retain(|id| *id != creator_id);
    let request_id = decode::request_id(&mut violations, &request.request_id);
    if !request.conversation_id.is_empty() {
        violations.check("conversation_id", bounds::own_id(&request.conversation_id));
    }
    violations.check("title", bounds::title(&request.title));
    if kind == Some(Kind::Direct) {
        check_direct(&mut violations, request, &member_ids);
    }
    violations.into_result()?;
    let kind = kind.ok_or_else(|| Failure::internal("a field was refused without a word"))?;

    let conversation_id: Id = match (kind, request.conversation_id.as_str()) {
        (Kind::Direct, _) => {
            let other = member_ids.first().map_or("", |id| id);
            hash::direct_conversation_id(&creator_id, other).into()
        }
        (Kind::Group | Kind::Channel, "") => fresh.to_string().into(),
        (Kind::Group | Kind::Channel, given) => given.into(),
    };
    let mut sorted: Vec<&str> = member_ids.iter().map(|id| &**id).collect();
    sorted.sort_unstable();
    let request_hash = hash::of_conversation(&request.conversation_id, kind, &request.title, &sorted);
    let is_repeatable = request_id.is_some() || kind == Kind::Direct || !request.conversation_id.is_empty();
    let request_id = request_id.unwrap_or_else(|| own_request_id(kind, &conversation_id, fresh));
    let title = request.title.clone();
    let new = NewConversation { conversation_id, kind, title, creator_id, member_ids, request_id, request_hash };
    Ok((new, is_repeatable))
}

/// The request id of a call that brings none. One for all calls about the same pair, so that looking a DIRECT
/// conversation up by creating it again leaves nothing behind; begins as no id of a caller's can.
fn own_request_id(kind: Kind, conversation_id: &Id, fresh: Uuid) -> String {
    match kind {
        Kind::Direct => format!("\u{7f}{conversation_id}"),
        Kind::Group | Kind::Channel => fresh.to_string(),
    }
}

/// A pair is all there is to say about a DIRECT conversation.
fn check_direct(violations: &mut Violations, request: &v1::CreateConversationRequest, others: &[Id]) {
    if !request.conversation_id.is_empty() {
        violations.add("conversation_id", "must be absent for DIRECT, whose id the service makes");
    }
    if !request.title.is_empty() {
        violations.add("title", "must be absent for DIRECT");
    }
    if others.len() != 1 {
        violations.add("member_ids", "must name exactly one other user for DIRECT");
    }
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
    fn direct_is_exactly_one_other_however_often_it_is_named() {
        let decode = |members: &[&str]| decode(&request(v1::ConversationKind::Direct, members), Uuid::nil());
        let (new, is_repeatable) = decode(&["bob", "ada", "bob"]).unwrap();
        assert_eq!(new.member_ids, ["bob".into()]);
        assert_eq!(&*new.conversation_id, hash::direct_conversation_id("bob", "ada"));
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
    fn only_what_can_be_recognised_again_may_be_repeated() {
        let is_repeatable = |conversation_id: &str, request_id: &str| {
            let (conversation_id, request_id) = (conversation_id.to_owned(), request_id.to_owned());
            let asked = request(v1::ConversationKind::Group, &[]);
            decode(&v1::CreateConversationRequest { conversation_id, request_id, ..asked }, Uuid::nil()).unwrap().1
        };
        assert!(!is_repeatable("", ""));
        assert!(is_repeatable("general", "") && is_repeatable("", "r"));
    }
}
