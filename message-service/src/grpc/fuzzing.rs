//! The entry point of the fuzz target of requests.

use parlance::message::v1;
use service_kit::{
    fields::Fields,
    fuzzing::{is_id, is_own_id, is_request_id, is_text, request as decoded},
};
use uuid::Uuid;

pub use super::chat::fuzzing::frames;
use super::{
    add_members, create_conversation, decode, delete_message, edit_message, get_conversation, get_message,
    list_conversations, list_events, list_members, list_messages, mark_read, remove_member, send_message, send_typing,
    stream_messages, subscribe, update_conversation, update_member,
};
use crate::domain::{
    attributes::Attributes,
    change::conversation::UpdateConversation,
    conversation::{Kind, NewConversation},
    message::NewMessage,
    sequence::Sequence,
};

/// Decodes a request: the first byte of the input chooses the RPC.
///
/// # Panics
/// If a request is accepted that breaks the contract.
pub fn request(input: &[u8]) {
    let Some((rpc, bytes)) = input.split_first() else { return };
    match rpc % 19 {
        0 => send(bytes),
        1 => create(bytes),
        2 => update(bytes),
        3 => add(bytes),
        4 => remove(bytes),
        5 => change_role(bytes),
        6 => edit(bytes),
        7 => mark(bytes),
        rpc => read(rpc, bytes),
    }
}

fn send(bytes: &[u8]) {
    let read = |request: v1::SendMessageRequest| send_message::decode(request, Uuid::nil());
    if let Some((request, (new, is_repeatable))) = decoded(bytes, read) {
        let NewMessage { conversation_id, sender_id, request_id, text, attributes, .. } = &new;
        assert!(is_id(conversation_id) && is_own_id(sender_id) && is_request_id(request_id));
        assert!(is_message_text(text) && are_attributes(attributes) && new.bytes() <= 16_384 + 4_096);
        assert_eq!(new.reply_to_sequence.map_or(0, Sequence::get), request.reply_to_sequence);
        assert_eq!(is_repeatable, !request.request_id.is_empty());
    }
}

fn create(bytes: &[u8]) {
    let read = |request: v1::CreateConversationRequest| create_conversation::decode(&request, Uuid::nil());
    if let Some((_, (new, is_repeatable))) = decoded(bytes, read) {
        let NewConversation { conversation_id, kind, title, creator_id, member_ids, .. } = &new;
        assert_eq!(conversation_id.starts_with('~'), *kind == Kind::Direct);
        assert!(is_id(conversation_id) && is_own_id(creator_id) && is_text(title, 256));
        assert!(member_ids.len() <= 1_000 && member_ids.iter().all(|id| is_own_id(id) && id != creator_id));
        assert!(*kind != Kind::Direct || (member_ids.len() == 1 && title.is_empty() && is_repeatable));
    }
}

fn update(bytes: &[u8]) {
    let read = |request: v1::UpdateConversationRequest| update_conversation::decode(request);
    if let Some((request, params)) = decoded(bytes, read) {
        let UpdateConversation { title, description, avatar_url, attributes, .. } = params.update;
        assert!(title.is_none_or(|text| is_text(&text, 256)) && description.is_none_or(|text| is_text(&text, 1_024)));
        assert!(avatar_url.is_none_or(|url| url.is_empty() || is_web_address(&url)));
        assert!(attributes.is_none_or(|attributes| are_attributes(&attributes)));
        assert!(is_id(&params.conversation_id) && is_own_id(&params.actor_id));
        assert_eq!(*params.conversation_id, *request.conversation.unwrap_or_default().conversation_id);
    }
}

fn add(bytes: &[u8]) {
    if let Some((request, params)) = decoded(bytes, |request: v1::AddMembersRequest| add_members::decode(&request)) {
        assert!((1..=request.user_ids.len().min(1_000)).contains(&params.user_ids.len()));
        assert!(params.user_ids.iter().all(|id| is_own_id(id)));
        assert!(request.role == 0 || request.role == params.role as i32);
    }
}

fn remove(bytes: &[u8]) {
    if let Some((_, params)) = decoded(bytes, |request: v1::RemoveMemberRequest| remove_member::decode(&request)) {
        assert!(is_id(&params.conversation_id) && is_own_id(&params.removed) && is_own_id(&params.actor_id));
    }
}

fn change_role(bytes: &[u8]) {
    let read = |request: v1::UpdateMemberRequest| update_member::decode(&request);
    if let Some((request, params)) = decoded(bytes, read) {
        assert!(is_id(&params.conversation_id) && is_own_id(&params.actor_id) && is_own_id(&params.user_id));
        assert_eq!(params.role as i32, request.role);
    }
}

fn edit(bytes: &[u8]) {
    if let Some((request, params)) = decoded(bytes, |request: v1::EditMessageRequest| edit_message::decode(request)) {
        assert!(is_id(&params.conversation_id) && is_own_id(&params.actor_id));
        assert_eq!(params.sequence.get(), request.sequence);
        assert!(params.text.is_none_or(|text| is_message_text(&text)));
        assert!(params.attributes.is_none_or(|attributes| are_attributes(&attributes)));
    }
}

fn mark(bytes: &[u8]) {
    let read = |request: v1::MarkReadRequest| mark_read::decode(&request);
    if let Some((request, (conversation_id, actor_id, up_to))) = decoded(bytes, read) {
        assert!(is_id(&conversation_id) && is_own_id(&actor_id) && up_to.get() >= 0);
        assert_eq!(up_to.get(), request.sequence);
    }
}

/// Decodes a request that reads.
fn read(rpc: u8, bytes: &[u8]) {
    let is_page = |size: i64| (1..=1_000).contains(&size);
    match rpc {
        8 => drop(decoded(bytes, |request: v1::SendTypingRequest| send_typing::decode(&request))),
        9 => drop(decoded(bytes, |request: v1::DeleteMessageRequest| delete_message::decode(&request))),
        10 => drop(decoded(bytes, |request: v1::GetConversationRequest| get_conversation::decode(&request))),
        11 => {
            let read = |request: v1::ListConversationsRequest| list_conversations::decode(&request);
            assert!(decoded(bytes, read).is_none_or(|(_, (_, size))| is_page(size)));
        }
        12 => {
            let read = |request: v1::ListMembersRequest| list_members::decode(&request);
            assert!(decoded(bytes, read).is_none_or(|(_, (_, _, size))| is_page(size)));
        }
        13 => drop(decoded(bytes, |request: v1::GetMessageRequest| get_message::decode(&request))),
        14 => {
            let read = |request: v1::ListMessagesRequest| list_messages::decode(&request);
            if let Some((_, params)) = decoded(bytes, read) {
                assert!(is_page(params.page_size) && params.range.after_sequence >= 0);
                assert!(params.range.before_sequence >= 0);
            }
        }
        15 => {
            let read = |request: v1::ListEventsRequest| list_events::decode(&request);
            assert!(decoded(bytes, read).is_none_or(|(_, params)| is_page(params.page_size)));
        }
        16 => drop(decoded(bytes, |request: v1::StreamMessagesRequest| stream_messages::decode(&request))),
        17 => {
            // The key of a page of the inbox, which a token holds.
            let _ = list_conversations::read_key(bytes)
                .map(|(active_at, id)| assert_eq!(list_conversations::key(active_at, &id), bytes));
        }
        _ => {
            let read = |request: v1::SubscribeRequest| {
                let mut fields = Fields::default();
                let actor_id = decode::actor_id(&mut fields, &request.actor_id);
                let params = subscribe::decode(&mut fields, &request.cursors, request.start, &request.epoch);
                fields.finish((actor_id, params))
            };
            decoded(bytes, read);
        }
    }
}

fn is_message_text(text: &str) -> bool {
    (1..=16_384).contains(&text.len()) && !text.contains('\0') && !text.trim().is_empty()
}

fn are_attributes(attributes: &Attributes) -> bool {
    let bytes: usize = attributes.iter().map(|(key, value)| key.len() + value.len()).sum();
    let is_plain = |(key, value): (&String, &String)| {
        (1..=64).contains(&key.len()) && !key.contains('\0') && !value.contains('\0')
    };
    attributes.len() <= 16 && bytes <= 4_096 && attributes.iter().all(is_plain)
}

fn is_web_address(url: &str) -> bool {
    let scheme = url.split(':').next().unwrap_or_default().to_ascii_lowercase();
    url.len() <= 2_048
        && ["http", "https"].contains(&&*scheme)
        && !url.chars().any(|one| one.is_whitespace() || one.is_control())
}
