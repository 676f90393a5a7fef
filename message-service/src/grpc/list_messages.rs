//! `ListMessages`: lists messages as they are now, in either direction.

use parlance::message::v1;
use service_kit::{failure::Failure, fields::Fields};
use tonic::Request;

use super::{access, authorise, context::Context, convert, decode};
use crate::{
    domain::{
        ids::{ConversationId, UserId},
        rpc::Rpc,
    },
    storage::messages::MessageRange,
};

pub(super) struct Params {
    pub(super) conversation_id: ConversationId,
    pub(super) actor_id: UserId,
    pub(super) page_size: i64,
    pub(super) range: MessageRange,
}

pub(super) async fn answer(
    context: &Context,
    request: Request<v1::ListMessagesRequest>,
) -> Result<v1::ListMessagesResponse, Failure> {
    let params = decode(request.get_ref())?;
    let actor = authorise::actor(context, Rpc::ListMessages, request.extensions(), params.actor_id.clone()).await?;

    let (tokens, bound) = (context.page_tokens()?, params.bound());
    let bound: Vec<&str> = bound.iter().map(String::as_str).collect();
    let last_key = tokens.open(&bound, &request.get_ref().page_token)?;
    let mut range = after_key(params.range, last_key.as_deref())?;
    let (conversation, _) = access::reader(context, &actor, &params.conversation_id).await?;
    // Messages sent after the head was read wait for the next call, so that `last_sequence` covers all that is listed.
    range.before_sequence = range.before_sequence.min(conversation.last_sequence.next().get());

    let page = context.store.list_messages(&actor, &params.conversation_id, range, params.page_size).await?;
    let next = page.items.last().filter(|_| page.has_more);
    let next_page_token = next.map(|message| tokens.seal(&bound, &message.sequence.get().to_be_bytes()));
    Ok(v1::ListMessagesResponse {
        messages: page.items.into_iter().map(convert::message).collect(),
        next_page_token: next_page_token.unwrap_or_default(),
        oldest_sequence: conversation.oldest_sequence.get(),
        last_sequence: conversation.last_sequence.get(),
    })
}

pub(super) fn decode(request: &v1::ListMessagesRequest) -> Result<Params, Failure> {
    let mut fields = Fields::default();
    let conversation_id = decode::conversation_id(&mut fields, &request.conversation_id);
    let actor_id = decode::actor_id(&mut fields, &request.actor_id);
    let page_size = fields.page_size(request.page_size);
    let after = decode::position(&mut fields, "after_sequence", request.after_sequence.unwrap_or(0));
    let before = decode::position(&mut fields, "before_sequence", request.before_sequence.unwrap_or(i64::MAX));
    let order = v1::MessageOrder::try_from(request.order);
    let order = fields.check("order", order.map_err(|_| "must be NEWEST_FIRST or OLDEST_FIRST"));
    let (conversation_id, actor_id, page_size, after, before, order) =
        fields.finish((conversation_id, actor_id, page_size, after, before, order))?;
    let range = MessageRange {
        after_sequence: after.get(),
        before_sequence: before.get(),
        newest_first: order != v1::MessageOrder::OldestFirst,
    };
    Ok(Params { conversation_id, actor_id, page_size, range })
}

impl Params {
    /// Returns what a page token is bound to: everything but the size of the page.
    fn bound(&self) -> [String; 6] {
        [
            "ListMessages".to_owned(),
            self.conversation_id.to_string(),
            self.actor_id.to_string(),
            self.range.after_sequence.to_string(),
            self.range.before_sequence.to_string(),
            if self.range.newest_first { "newest" } else { "oldest" }.to_owned(),
        ]
    }
}

/// Returns the part of the range after the last message of the previous page.
fn after_key(range: MessageRange, last_key: Option<&[u8]>) -> Result<MessageRange, Failure> {
    let Some(last_key) = last_key else {
        return Ok(range);
    };
    // Sealed by this service, so it is a sequence.
    let last = last_key.try_into().map(i64::from_be_bytes).map_err(Failure::internal)?;
    Ok(if range.newest_first {
        MessageRange { before_sequence: range.before_sequence.min(last), ..range }
    } else {
        MessageRange { after_sequence: range.after_sequence.max(last), ..range }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_continues_after_the_last_one_and_keeps_the_bounds() {
        let range = |newest_first| MessageRange { after_sequence: 10, before_sequence: 90, newest_first };
        let bounds = |newest_first, key: i64| {
            let range = after_key(range(newest_first), Some(&key.to_be_bytes())).unwrap();
            (range.after_sequence, range.before_sequence)
        };
        assert_eq!(bounds(true, 50), (10, 50));
        assert_eq!(bounds(false, 50), (50, 90));
        assert!(after_key(range(true), Some(b"short")).is_err());
    }

    #[test]
    fn the_default_order_is_newest_first() {
        let read = |order: i32, after_sequence| {
            decode(&v1::ListMessagesRequest {
                conversation_id: "c".to_owned(),
                actor_id: "ada".to_owned(),
                order,
                after_sequence,
                ..Default::default()
            })
        };
        let bound = |order| read(order, None).unwrap().bound();
        assert_eq!(bound(0), bound(1));
        assert_ne!(bound(0), bound(2));
        assert!(read(3, None).is_err() && read(0, Some(-1)).is_err());
    }
}
