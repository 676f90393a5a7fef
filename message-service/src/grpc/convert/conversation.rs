//! Conversations.

use parlance::message::v1;

use super::timestamp;
use crate::domain::{
    change::conversation::ConversationChange,
    conversation::{Conversation, Kind, etag},
    event::Event,
};

pub(in crate::grpc) fn conversation(conversation: &Conversation) -> v1::Conversation {
    v1::Conversation {
        conversation_id: conversation.conversation_id.to_string(),
        kind: kind(conversation.kind).into(),
        title: conversation.title.clone(),
        creator_id: conversation.creator_id.to_string(),
        create_time: Some(timestamp(conversation.created_at)),
        update_time: Some(timestamp(conversation.updated_at)),
        last_sequence: conversation.last_sequence.get(),
        message_count: conversation.message_count,
        last_message_time: conversation.last_message_at.map(timestamp),
        etag: etag(conversation.version),
        description: conversation.description.clone(),
        avatar_url: conversation.avatar_url.clone(),
        attributes: conversation.attributes.clone(),
    }
}

/// Returns the fields that the change itself set. Counts and the like belong to the conversation, not to the entry.
pub(super) fn change(event: &Event, change: &ConversationChange) -> v1::Conversation {
    v1::Conversation {
        conversation_id: event.conversation_id.to_string(),
        title: change.title.clone(),
        update_time: Some(timestamp(event.created_at)),
        etag: etag(change.version),
        description: change.description.clone(),
        avatar_url: change.avatar_url.clone(),
        attributes: change.attributes.clone(),
        ..v1::Conversation::default()
    }
}

fn kind(kind: Kind) -> v1::ConversationKind {
    match kind {
        Kind::Direct => v1::ConversationKind::Direct,
        Kind::Group => v1::ConversationKind::Group,
        Kind::Channel => v1::ConversationKind::Channel,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_the_same_numbers_everywhere() {
        for one in [Kind::Direct, Kind::Group, Kind::Channel] {
            assert_eq!(Kind::from_number(kind(one) as i32), Some(one));
        }
    }
}
