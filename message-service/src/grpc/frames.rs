//! Items of streams as bytes: entries of a log are encoded once and shared by everyone who follows, so a stream's codec
//! passes bytes through instead of encoding a message for each subscriber.
//!
//! The items that all streams have are the same fields of every stream's response, so one encoding serves them all.

use std::{marker::PhantomData, time::Duration};

use bytes::{BufMut, Bytes};
use parlance::message::v1::{
    CaughtUp, Closed, Draining, Heartbeat, StreamMessagesResponse, Truncated, stream_messages_response::Item,
};
use prost::Message;
use tonic::{
    Status,
    codec::{BufferSettings, Codec, EncodeBuf, Encoder},
};
use tonic_prost::ProstDecoder;

use super::convert;
use crate::domain::{
    ephemeral::Ephemeral,
    event::Event,
    ids::ConversationId,
    sequence::{Position, Sequence},
};

/// Each stream's own buffer at first; it grows when there is much to say.
const BUFFER_BYTES: usize = 512;

/// What is ready is gathered into one frame of the connection up to this size, since receivers suffer from many tiny ones.
const YIELD_BYTES: usize = 16 * 1024;

/// An entry of the log.
pub(super) fn event(event: &Event) -> Bytes {
    encode(Item::Event(convert::event(event)))
}

/// Something that is live only.
pub(super) fn ephemeral(ephemeral: &Ephemeral) -> Bytes {
    encode(Item::Event(convert::ephemeral(ephemeral)))
}

pub(super) fn caught_up(conversation_id: &ConversationId, position: Position) -> Bytes {
    encode(Item::CaughtUp(CaughtUp { conversation_id: conversation_id.to_string(), sequence: position.get() }))
}

/// All conversations that the stream began with are caught up.
pub(super) fn all_caught_up() -> Bytes {
    encode(Item::CaughtUp(CaughtUp::default()))
}

pub(super) fn heartbeat() -> Bytes {
    encode(Item::Heartbeat(Heartbeat {}))
}

pub(super) fn draining(retry_delay: Duration) -> Bytes {
    let retry_delay = prost_types::Duration::try_from(retry_delay).ok();
    encode(Item::Draining(Draining { retry_delay }))
}

pub(super) fn truncated(conversation_id: &ConversationId, oldest_sequence: Sequence) -> Bytes {
    let oldest_sequence = oldest_sequence.get();
    encode(Item::Truncated(Truncated { conversation_id: conversation_id.to_string(), oldest_sequence }))
}

pub(super) fn closed(conversation_id: &ConversationId, status: &Status) -> Bytes {
    encode(Item::Closed(Closed { conversation_id: conversation_id.to_string(), status: Some(convert::status(status)) }))
}

fn encode(item: Item) -> Bytes {
    StreamMessagesResponse { item: Some(item) }.encode_to_vec().into()
}

/// Takes requests as messages, gives items as bytes.
#[derive(Debug)]
pub(super) struct FrameCodec<Request>(PhantomData<fn() -> Request>);

impl<Request> Default for FrameCodec<Request> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<Request: Message + Default + Send + 'static> Codec for FrameCodec<Request> {
    type Encode = Bytes;
    type Decode = Request;
    type Encoder = FrameEncoder;
    type Decoder = ProstDecoder<Request>;

    fn encoder(&mut self) -> FrameEncoder {
        FrameEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(BufferSettings::new(BUFFER_BYTES, YIELD_BYTES))
    }
}

/// Puts items on the wire as they are.
#[derive(Debug)]
pub(super) struct FrameEncoder;

impl Encoder for FrameEncoder {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
    }
}
