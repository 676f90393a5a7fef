//! Log entries as the bytes that streams carry: each entry is encoded once and shared by all its subscribers.

use bytes::Bytes;

use super::{ephemeral::Ephemeral, event::Event, ids::UserId, sequence::Sequence};

/// The memory that an entry takes in addition to its bytes.
const OVERHEAD_BYTES: usize = 96;

/// One entry, encoded once as an item of a stream.
#[derive(Debug, Clone)]
pub(crate) struct EncodedEntry {
    pub(crate) sequence: Sequence,
    pub(crate) bytes: Bytes,
    /// The user whose membership this entry ends; it is the last entry of that user's own streams.
    pub(crate) ends_membership_of: Option<UserId>,
}

impl EncodedEntry {
    /// Returns the memory that it takes, in bytes.
    pub(crate) fn cost(&self) -> usize {
        self.bytes.len() + OVERHEAD_BYTES
    }
}

/// Encodes entries and ephemerals as items of streams. Passed in by `grpc/`, since only that module knows the wire format.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Encode {
    pub(crate) entry: fn(&Event) -> Bytes,
    pub(crate) ephemeral: fn(&Ephemeral) -> Bytes,
}

impl Encode {
    /// Encodes an entry.
    pub(crate) fn entry(&self, event: &Event) -> EncodedEntry {
        let ends_membership_of = event.kind.ends_membership_of().cloned();
        EncodedEntry { sequence: event.sequence, bytes: (self.entry)(event), ends_membership_of }
    }
}
