//! Encoded items of streams. Entries of a log are encoded once and shared by all subscribers, so the codec passes bytes
//! through instead of encoding a message for each of them.
//!
//! The common items have the same fields in the response of every stream, so one encoding serves all streams.

use std::{marker::PhantomData, pin::Pin, time::Duration};

use bytes::{BufMut, Bytes};
use futures_util::Stream;
use parlance::message::v1::{
    CaughtUp, Closed, Draining, Heartbeat, StreamMessagesResponse, TokenExpiring, Truncated,
    stream_messages_response::Item,
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
    epoch::Epoch,
    event::Event,
    ids::ConversationId,
    sequence::{Position, Sequence},
};

/// The initial buffer of each stream; it grows with larger items.
const BUFFER_BYTES: usize = 512;

/// Ready items are merged into one HTTP/2 frame up to this size, since many tiny frames are expensive for receivers.
const YIELD_BYTES: usize = 16 * 1024;

/// The encoded items of one stream.
pub(super) type Frames = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

/// Encodes an entry of the log.
pub(super) fn event(event: &Event) -> Bytes {
    encode(Item::Event(convert::event(event)))
}

/// Encodes an ephemeral.
pub(super) fn ephemeral(ephemeral: &Ephemeral) -> Bytes {
    encode(Item::Event(convert::ephemeral(ephemeral)))
}

pub(super) fn caught_up(conversation_id: &ConversationId, position: Position) -> Bytes {
    encode(Item::CaughtUp(CaughtUp { conversation_id: conversation_id.to_string(), sequence: position.get() }))
}

/// Encodes the item that all conversations of the start of the stream are caught up.
pub(super) fn all_caught_up() -> Bytes {
    encode(Item::CaughtUp(CaughtUp::default()))
}

pub(super) fn heartbeat(epoch: Option<&Epoch>) -> Bytes {
    encode(Item::Heartbeat(Heartbeat { epoch: epoch.map(Epoch::to_string).unwrap_or_default() }))
}

pub(super) fn draining(retry_delay: Duration) -> Bytes {
    let retry_delay = prost_types::Duration::try_from(retry_delay).ok();
    encode(Item::Draining(Draining { retry_delay }))
}

/// Encodes the notice that the token of the stream ends, at this second since 1970.
pub(super) fn token_expiring(at: i64) -> Bytes {
    encode(Item::TokenExpiring(TokenExpiring { expire_time: Some(prost_types::Timestamp { seconds: at, nanos: 0 }) }))
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

/// Decodes requests as messages, and encodes items as the bytes that they are.
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

/// Writes encoded items unchanged.
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
