//! Entries of the log, as lists and streams show them.

use parlance::message::v1::{self, event::Kind};

use super::{member::change, message::message, timestamp};
use crate::domain::{
    conversation::etag,
    event::{Event, EventKind},
};

pub(in crate::grpc) fn event(event: &Event) -> v1::Event {
    let kind = match &event.kind {
        EventKind::MessageSent(sent) => Kind::MessageSent(message(sent.clone())),
        EventKind::MessageEdited(edited) => Kind::MessageEdited(message(edited.clone())),
        EventKind::MessageDeleted(deleted) => Kind::MessageDeleted(message(deleted.clone())),
        EventKind::MemberJoined(joined) => Kind::MemberJoined(change(joined)),
        EventKind::MemberLeft(left) => Kind::MemberLeft(change(left)),
        EventKind::MemberUpdated(updated) => Kind::MemberUpdated(change(updated)),
        // Only the fields that the change itself set; counts and the like belong to the conversation, not to the entry.
        EventKind::ConversationUpdated { title, version } => Kind::ConversationUpdated(v1::Conversation {
            conversation_id: event.conversation_id.to_string(),
            title: title.clone(),
            update_time: Some(timestamp(event.created_at)),
            etag: etag(*version),
            ..v1::Conversation::default()
        }),
    };
    v1::Event {
        conversation_id: event.conversation_id.to_string(),
        sequence: event.sequence.get(),
        event_time: Some(timestamp(event.created_at)),
        actor_id: event.actor_id.to_string(),
        kind: Some(kind),
    }
}
