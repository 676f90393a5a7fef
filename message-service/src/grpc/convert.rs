//! From the domain to the wire. Names are each side's own: `created_at` here, `create_time` there.

use parlance::message::v1::{self, event::Kind as ProtoKind};
use prost::Message as _;
use prost_types::Timestamp;
use time::OffsetDateTime;
use tonic::Status;

use crate::domain::{
    conversation::{Conversation, Kind, Member, Role, etag},
    ephemeral::{Ephemeral, EphemeralKind},
    event::{Event, EventKind, MemberChange},
    message::Message,
};

pub(super) fn conversation_to_proto(conversation: &Conversation) -> v1::Conversation {
    v1::Conversation {
        conversation_id: conversation.conversation_id.to_string(),
        kind: kind_to_proto(conversation.kind).into(),
        title: conversation.title.clone(),
        creator_id: conversation.creator_id.to_string(),
        create_time: Some(timestamp(conversation.created_at)),
        update_time: Some(timestamp(conversation.updated_at)),
        last_sequence: conversation.last_sequence,
        message_count: conversation.message_count,
        last_message_time: conversation.last_message_at.map(timestamp),
        etag: etag(conversation.version),
    }
}

pub(super) fn member_to_proto(member: &Member) -> v1::Member {
    v1::Member {
        conversation_id: member.conversation_id.to_string(),
        user_id: member.user_id.to_string(),
        role: role_to_proto(member.role).into(),
        join_time: Some(timestamp(member.joined_at)),
        last_read_sequence: member.last_read_sequence,
        unread_count: member.unread_count,
    }
}

pub(super) fn message_to_proto(message: Message) -> v1::Message {
    v1::Message {
        conversation_id: message.conversation_id.to_string(),
        sequence: message.sequence,
        ordinal: message.ordinal,
        sender_id: message.sender_id.to_string(),
        request_id: message.request_id,
        text: message.text,
        attributes: message.attributes,
        reply_to_sequence: message.reply_to_sequence,
        create_time: Some(timestamp(message.created_at)),
        edit_time: message.edited_at.map(timestamp),
        delete_time: message.deleted_at.map(timestamp),
        change_sequence: message.change_sequence,
    }
}

/// An entry of the log, as lists and streams show it.
pub(super) fn event_to_proto(event: &Event) -> v1::Event {
    let kind = match &event.kind {
        EventKind::MessageSent(message) => ProtoKind::MessageSent(message_to_proto(message.clone())),
        EventKind::MessageEdited(message) => ProtoKind::MessageEdited(message_to_proto(message.clone())),
        EventKind::MessageDeleted(message) => ProtoKind::MessageDeleted(message_to_proto(message.clone())),
        EventKind::MemberJoined(change) => ProtoKind::MemberJoined(change_to_proto(change)),
        EventKind::MemberLeft(change) => ProtoKind::MemberLeft(change_to_proto(change)),
        EventKind::MemberUpdated(change) => ProtoKind::MemberUpdated(change_to_proto(change)),
        // What the change itself says; counts and the like are those of the conversation, not of the entry.
        EventKind::ConversationUpdated { title, version } => ProtoKind::ConversationUpdated(v1::Conversation {
            conversation_id: event.conversation_id.to_string(),
            title: title.clone(),
            update_time: Some(timestamp(event.created_at)),
            etag: etag(*version),
            ..v1::Conversation::default()
        }),
    };
    v1::Event {
        conversation_id: event.conversation_id.to_string(),
        sequence: event.sequence,
        event_time: Some(timestamp(event.created_at)),
        actor_id: event.actor_id.to_string(),
        kind: Some(kind),
    }
}

/// What is live only has no sequence.
pub(super) fn ephemeral_to_proto(ephemeral: &Ephemeral) -> v1::Event {
    let user_id = ephemeral.user_id.to_string();
    let kind = match ephemeral.kind {
        EphemeralKind::ReadMarker { last_read_sequence } => {
            ProtoKind::ReadMarker(v1::ReadMarker { user_id, last_read_sequence })
        }
        EphemeralKind::Typing => ProtoKind::Typing(v1::Typing { user_id }),
    };
    v1::Event {
        conversation_id: ephemeral.conversation_id.to_string(),
        actor_id: ephemeral.user_id.to_string(),
        kind: Some(kind),
        ..v1::Event::default()
    }
}

/// A status as an item of a stream carries it: what would have been in the trailers.
pub(super) fn status_to_proto(status: &Status) -> tonic_types::pb::Status {
    // A status of ours carries this message in its details; one of a layer need not.
    let told = tonic_types::pb::Status::decode(status.details()).ok().filter(|_| !status.details().is_empty());
    told.unwrap_or_else(|| tonic_types::pb::Status {
        code: status.code() as i32,
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}

fn change_to_proto(change: &MemberChange) -> v1::MemberChange {
    v1::MemberChange {
        user_id: change.user_id.to_string(),
        role: role_to_proto(change.role).into(),
        join_time: Some(timestamp(change.joined_at)),
    }
}

fn kind_to_proto(kind: Kind) -> v1::ConversationKind {
    match kind {
        Kind::Direct => v1::ConversationKind::Direct,
        Kind::Group => v1::ConversationKind::Group,
        Kind::Channel => v1::ConversationKind::Channel,
    }
}

fn role_to_proto(role: Role) -> v1::MemberRole {
    match role {
        Role::Owner => v1::MemberRole::Owner,
        Role::Admin => v1::MemberRole::Admin,
        Role::Member => v1::MemberRole::Member,
    }
}

pub(super) fn timestamp(moment: OffsetDateTime) -> Timestamp {
    // `time` counts the nanoseconds of the second upwards from it, also before 1970, like protobuf.
    Timestamp { seconds: moment.unix_timestamp(), nanos: moment.nanosecond() as i32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_and_roles_have_the_same_numbers_everywhere() {
        for kind in [Kind::Direct, Kind::Group, Kind::Channel] {
            assert_eq!(Kind::from_number(kind_to_proto(kind) as i32), Some(kind));
        }
        for role in [Role::Owner, Role::Admin, Role::Member] {
            assert_eq!(Role::from_number(role_to_proto(role) as i32), Some(role));
        }
    }

    #[test]
    fn times_keep_their_fractions_on_both_sides_of_1970() {
        let moment = |micros: i64| OffsetDateTime::UNIX_EPOCH + time::Duration::microseconds(micros);
        let parts = |micros: i64| (timestamp(moment(micros)).seconds, timestamp(moment(micros)).nanos);
        assert_eq!(parts(1_500_000), (1, 500_000_000));
        assert_eq!(parts(-1_500_000), (-2, 500_000_000));
    }
}
