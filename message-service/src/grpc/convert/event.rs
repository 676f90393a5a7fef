//! Entries of the log, as lists and streams show them.

use parlance::message::v1::{self, event::Kind};

use super::{conversation, member, message::message, timestamp};
use crate::domain::event::{Event, EventKind};

pub(in crate::grpc) fn event(event: &Event) -> v1::Event {
    let kind = match &event.kind {
        EventKind::MessageSent(sent) => Kind::MessageSent(message(sent.clone())),
        EventKind::MessageEdited(edited) => Kind::MessageEdited(message(edited.clone())),
        EventKind::MessageDeleted(deleted) => Kind::MessageDeleted(message(deleted.clone())),
        EventKind::MemberJoined(joined) => Kind::MemberJoined(member::change(joined)),
        EventKind::MemberLeft(left) => Kind::MemberLeft(member::change(left)),
        EventKind::MemberUpdated(updated) => Kind::MemberUpdated(member::change(updated)),
        EventKind::ConversationUpdated(updated) => Kind::ConversationUpdated(conversation::change(event, updated)),
    };
    v1::Event {
        conversation_id: event.conversation_id.to_string(),
        sequence: event.sequence.get(),
        event_time: Some(timestamp(event.created_at)),
        actor_id: event.actor_id.to_string(),
        kind: Some(kind),
    }
}
