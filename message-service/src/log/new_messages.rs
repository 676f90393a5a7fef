//! Moves heads to ones that another replica has committed, with the new messages in between: those of all conversations are
//! read by one statement, so that subscribers need not read a page for each.

use service_kit::causes::causes;

use super::live::LiveLogs;
use crate::{
    domain::{ids::ConversationId, sequence::Position},
    storage::{Store, new_messages::Gap},
};

/// The most messages of one conversation that are read. Subscribers read more as pages.
const MAX_OF_EACH: i64 = 64;

/// The most messages that are read together, and about the most bytes of them.
const MAX_MESSAGES: i64 = 1_000;
const MAX_BYTES: i64 = 1024 * 1024;

/// Moves these heads. A change of a message empties the ring, so only messages are read; subscribers read everything else, and
/// whatever cannot be read here, as pages.
pub(super) async fn advance(store: &Store, live: &LiveLogs, heads: &[(ConversationId, Position)]) {
    let gaps = take_gaps(live, heads);
    if gaps.is_empty() {
        return;
    }
    match store.read_new_messages(&gaps, MAX_OF_EACH, MAX_BYTES).await {
        Ok(found) => {
            for (gap, events) in gaps.iter().zip(found) {
                let entries = events.iter().map(|event| live.encode(event)).collect();
                live.append_from_replica(&gap.conversation_id, entries);
            }
        }
        Err(error) => {
            tracing::debug!(cause = causes(&error), "new messages cannot be read together");
        }
    }
    for gap in &gaps {
        live.advance_head_of(&gap.conversation_id, gap.until);
    }
}

/// Moves the heads whose messages are not to be read, and returns the gaps before the others.
fn take_gaps(live: &LiveLogs, heads: &[(ConversationId, Position)]) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let mut room = MAX_MESSAGES;
    for (id, head) in heads {
        let known = live.head_of(id).filter(|known| known < head);
        let gap = known.map(|after| Gap { conversation_id: id.clone(), after, until: *head });
        match gap.filter(|gap| gap.len() <= MAX_OF_EACH.min(room)) {
            Some(gap) => {
                room -= gap.len();
                gaps.push(gap);
            }
            None => live.advance_head_of(id, *head),
        }
    }
    gaps
}
