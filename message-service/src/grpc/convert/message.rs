//! Messages.

use parlance::message::v1;

use super::timestamp;
use crate::domain::{message::Message, sequence::Sequence};

pub(in crate::grpc) fn message(message: Message) -> v1::Message {
    v1::Message {
        conversation_id: message.conversation_id.to_string(),
        sequence: message.sequence.get(),
        ordinal: message.ordinal,
        sender_id: message.sender_id.to_string(),
        request_id: message.request_id,
        text: message.text,
        attributes: message.attributes,
        reply_to_sequence: message.reply_to_sequence.map_or(0, Sequence::get),
        create_time: Some(timestamp(message.created_at)),
        edit_time: message.edited_at.map(timestamp),
        delete_time: message.deleted_at.map(timestamp),
        change_sequence: message.change_sequence.get(),
    }
}
