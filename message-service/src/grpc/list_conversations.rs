//! `ListConversations`: lists the actor's inbox, newest activity first, with unread counts and a preview.

use parlance::message::v1::{self, list_conversations_response::Item};
use service_kit::{failure::Failure, fields::Fields};
use time::OffsetDateTime;
use tonic::Request;

use super::{authorise, context::Context, convert, decode};
use crate::{
    domain::{
        ids::{ConversationId, UserId},
        rpc::Rpc,
    },
    storage::conversations::InboxItem,
};

pub(super) async fn answer(
    context: &Context,
    request: Request<v1::ListConversationsRequest>,
) -> Result<v1::ListConversationsResponse, Failure> {
    let (actor_id, page_size) = decode(request.get_ref())?;
    let actor = authorise::actor(context, Rpc::ListConversations, request.extensions(), actor_id).await?;

    let (tokens, bound) = (context.page_tokens()?, ["ListConversations", actor.user_id().as_str()]);
    let last_key = tokens.open(&bound, &request.get_ref().page_token)?;
    let after = last_key.as_deref().map(read_key).transpose()?;

    let (store, reader) = (context.store.clone(), actor.clone());
    let read = async move { Ok(store.list_inbox(&reader, after, page_size).await?) };
    let page = context.inbox.read(actor.user_id(), Box::pin(read)).await?;
    let next = page.items.last().filter(|_| page.has_more);
    let next_page_token =
        next.map(|item| tokens.seal(&bound, &key(item.active_at, &item.conversation.conversation_id)));
    Ok(v1::ListConversationsResponse {
        items: page.items.into_iter().map(item_to_proto).collect(),
        next_page_token: next_page_token.unwrap_or_default(),
    })
}

pub(super) fn decode(request: &v1::ListConversationsRequest) -> Result<(UserId, i64), Failure> {
    let mut fields = Fields::default();
    let actor_id = decode::actor_id(&mut fields, &request.actor_id);
    let page_size = fields.page_size(request.page_size);
    fields.finish((actor_id, page_size))
}

fn item_to_proto(item: InboxItem) -> Item {
    Item {
        conversation: Some(convert::conversation(&item.conversation)),
        membership: Some(convert::member(&item.membership)),
        last_message: item.last_message.map(convert::message),
    }
}

/// The database keeps microseconds.
pub(super) fn key(active_at: OffsetDateTime, conversation_id: &ConversationId) -> Vec<u8> {
    let micros = (active_at.unix_timestamp_nanos() / 1_000) as i64;
    [&micros.to_be_bytes(), conversation_id.as_bytes()].concat()
}

pub(super) fn read_key(key: &[u8]) -> Result<(OffsetDateTime, ConversationId), Failure> {
    let parts = key.split_first_chunk().and_then(|(micros, conversation_id)| {
        let nanos = i128::from(i64::from_be_bytes(*micros)) * 1_000;
        let active_at = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?;
        Some((active_at, ConversationId::parse(std::str::from_utf8(conversation_id).ok()?).ok()?))
    });
    // Sealed by this service, so `key` made it.
    parts.ok_or_else(|| Failure::internal("a valid page token holds no key of the inbox"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_written() {
        let active_at = OffsetDateTime::UNIX_EPOCH + time::Duration::microseconds(1_795_000_000_123_456);
        assert_eq!(read_key(&key(active_at, &"general".into())).unwrap(), (active_at, "general".into()));
        assert!(read_key(b"short").is_err());
    }
}
