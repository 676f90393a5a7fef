//! `ListMessages`: pages of messages as they are now, in either direction.

use parlance::message::v1;
use service_kit::failure::{Failure, Violations};
use tonic::Request;

use super::{access, authorise, convert, decode, service::Context};
use crate::{domain::conversation::Id, storage::messages::MessageRange};

struct Asked {
    conversation_id: Id,
    actor_id: Id,
    page_size: i64,
    range: MessageRange,
}

pub(super) async fn answer(
    context: &Context,
    request: Request<v1::ListMessagesRequest>,
) -> Result<v1::ListMessagesResponse, Failure> {
    let asked = decode(request.get_ref())?;
    authorise::actor(context, request.extensions(), &asked.actor_id).await?;

    let (tokens, bound) = (context.page_tokens()?, asked.bound());
    let bound: Vec<&str> = bound.iter().map(String::as_str).collect();
    let last_key = tokens.open(&bound, &request.get_ref().page_token)?;
    let mut range = after_key(asked.range, last_key.as_deref())?;
    let (conversation, _) = access::reader(context, &asked.conversation_id, &asked.actor_id).await?;
    // What is sent after the head was read waits for the next call: `last_sequence` never lies behind what is shown.
    range.before_sequence = range.before_sequence.min(conversation.last_sequence + 1);

    let page = context.store.list_messages(&asked.conversation_id, range, asked.page_size).await?;
    let next = page.items.last().filter(|_| page.has_more);
    let next_page_token = next.map(|message| tokens.seal(&bound, &message.sequence.to_be_bytes()));
    Ok(v1::ListMessagesResponse {
        messages: page.items.into_iter().map(convert::message_to_proto).collect(),
        next_page_token: next_page_token.unwrap_or_default(),
        oldest_sequence: conversation.oldest_sequence,
        last_sequence: conversation.last_sequence,
    })
}

fn decode(request: &v1::ListMessagesRequest) -> Result<Asked, Failure> {
    let mut violations = Violations::default();
    let conversation_id = decode::conversation_id(&mut violations, "conversation_id", &request.conversation_id);
    let actor_id = decode::user_id(&mut violations, "actor_id", &request.actor_id);
    let page_size = decode::page_size(&mut violations, request.page_size);
    let after_sequence = request.after_sequence.unwrap_or(0);
    let before_sequence = request.before_sequence.unwrap_or(i64::MAX);
    decode::position(&mut violations, "after_sequence", after_sequence);
    decode::position(&mut violations, "before_sequence", before_sequence);
    let order = v1::MessageOrder::try_from(request.order);
    if order.is_err() {
        violations.add("order", "must be NEWEST_FIRST or OLDEST_FIRST");
    }
    let newest_first = order != Ok(v1::MessageOrder::OldestFirst);
    violations.into_result()?;
    let range = MessageRange { after_sequence, before_sequence, newest_first };
    Ok(Asked { conversation_id, actor_id, page_size, range })
}

impl Asked {
    /// What a page token is bound to: all but the size of the page.
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

/// The part of the range behind the last message of the page before.
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
    fn a_page_goes_on_behind_the_last_one_and_keeps_the_bounds() {
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
    fn an_order_left_out_is_newest_first() {
        let asked = |order: i32, after_sequence| {
            decode(&v1::ListMessagesRequest {
                conversation_id: "c".to_owned(),
                actor_id: "ada".to_owned(),
                order,
                after_sequence,
                ..Default::default()
            })
        };
        let bound = |order| asked(order, None).unwrap().bound();
        assert_eq!(bound(0), bound(1));
        assert_ne!(bound(0), bound(2));
        assert!(asked(3, None).is_err() && asked(0, Some(-1)).is_err());
    }
}
