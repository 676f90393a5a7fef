//! The encoding of hints. Replicas of different versions understand each other: unknown fields are ignored, and a hint that
//! cannot be decoded is dropped.

use bytes::Bytes;
use prost::Message;

use super::hint::{ConversationEntries, Hint};
use crate::domain::{
    encoded::EncodedEntry,
    ephemeral::{Ephemeral, EphemeralKind},
    ids::{ConversationId, UserId},
    sequence::{Position, Sequence},
};

/// The most entries of one conversation in one hint.
const MAX_ENTRIES: usize = 4_096;

#[derive(Clone, PartialEq, Message)]
struct WireHint {
    // 1 was the sender, which the seal knows.
    #[prost(bool, tag = "2")]
    poll: bool,
    #[prost(message, repeated, tag = "3")]
    entries: Vec<WireEntries>,
    #[prost(message, repeated, tag = "4")]
    ephemerals: Vec<WireEphemeral>,
}

#[derive(Clone, PartialEq, Message)]
struct WireEntries {
    #[prost(string, tag = "1")]
    conversation_id: String,
    #[prost(int64, tag = "2")]
    first_sequence: i64,
    #[prost(bytes = "bytes", repeated, tag = "3")]
    frames: Vec<Bytes>,
}

#[derive(Clone, PartialEq, Message)]
struct WireEphemeral {
    #[prost(string, tag = "1")]
    conversation_id: String,
    #[prost(string, tag = "2")]
    user_id: String,
    /// 0 for typing.
    #[prost(int64, tag = "3")]
    last_read_sequence: i64,
    #[prost(bool, tag = "4")]
    to_others: bool,
}

/// Encodes a hint in parts of at most about `max_bytes`. A larger entry is left out, with all later ones of its
/// conversation, and replaced by a poll.
pub(crate) fn encode(hint: Hint, max_bytes: usize) -> Vec<Bytes> {
    let mut packer = Packer { max_bytes, full: Vec::new(), part: WireHint::default(), bytes: 0 };
    packer.part.poll = hint.poll;
    for ConversationEntries { conversation_id, entries } in hint.entries {
        let overhead = conversation_id.len() + OVERHEAD_BYTES;
        let mut is_started = false;
        for entry in entries {
            let bytes = entry.bytes.len() + OVERHEAD_BYTES;
            if bytes + overhead > max_bytes {
                packer.part.poll = true;
                break;
            }
            is_started &= packer.reserve(bytes + if is_started { 0 } else { overhead });
            if !is_started {
                let conversation_id = conversation_id.to_string();
                let (first_sequence, frames) = (entry.sequence.get(), Vec::new());
                packer.part.entries.push(WireEntries { conversation_id, first_sequence, frames });
                is_started = true;
            }
            if let Some(entries) = packer.part.entries.last_mut() {
                entries.frames.push(entry.bytes);
            }
        }
    }
    for ephemeral in hint.ephemerals {
        let last_read_sequence = match ephemeral.kind {
            EphemeralKind::ReadMarker { last_read_sequence } => last_read_sequence.get(),
            EphemeralKind::Typing => 0,
        };
        let wire = WireEphemeral {
            conversation_id: ephemeral.conversation_id.to_string(),
            user_id: ephemeral.user_id.to_string(),
            last_read_sequence,
            to_others: ephemeral.to_others,
        };
        packer.reserve(wire.encoded_len() + OVERHEAD_BYTES);
        packer.part.ephemerals.push(wire);
    }
    packer.full.push(packer.part);
    packer.full.into_iter().map(|part| part.encode_to_vec().into()).collect()
}

/// Tags and lengths, generously.
const OVERHEAD_BYTES: usize = 32;

struct Packer {
    max_bytes: usize,
    full: Vec<WireHint>,
    part: WireHint,
    bytes: usize,
}

impl Packer {
    /// Counts this many bytes. Returns false if they need a new part, which it starts.
    fn reserve(&mut self, bytes: usize) -> bool {
        let fits = self.bytes + bytes <= self.max_bytes || self.bytes == 0;
        if !fits {
            self.full.push(std::mem::take(&mut self.part));
            self.bytes = 0;
        }
        self.bytes += bytes;
        fits
    }
}

/// Decodes a hint. Returns `None` for one that makes no sense.
pub(crate) fn decode(bytes: &[u8]) -> Option<Hint> {
    let wire = WireHint::decode(bytes).ok()?;
    let entries = wire.entries.into_iter().map(decode_entries).collect::<Option<Vec<_>>>()?;
    let ephemerals = wire.ephemerals.iter().map(decode_ephemeral).collect::<Option<Vec<_>>>()?;
    Some(Hint { poll: wire.poll, entries, ephemerals })
}

fn decode_entries(wire: WireEntries) -> Option<ConversationEntries> {
    let in_bounds = !wire.frames.is_empty() && wire.frames.len() <= MAX_ENTRIES;
    let last = wire.first_sequence.checked_add(wire.frames.len() as i64 - 1)?;
    if !in_bounds {
        return None;
    }
    let entry =
        |(number, bytes)| Some(EncodedEntry { sequence: Sequence::new(number)?, bytes, ends_membership_of: None });
    let entries = (wire.first_sequence..=last).zip(wire.frames).map(entry).collect::<Option<_>>()?;
    Some(ConversationEntries { conversation_id: ConversationId::parse(&wire.conversation_id).ok()?, entries })
}

fn decode_ephemeral(wire: &WireEphemeral) -> Option<Ephemeral> {
    let kind = match wire.last_read_sequence {
        0 => EphemeralKind::Typing,
        read => EphemeralKind::ReadMarker { last_read_sequence: Position::new(read)? },
    };
    let conversation_id = ConversationId::parse(&wire.conversation_id).ok()?;
    let user_id = UserId::parse(&wire.user_id).ok()?;
    Some(Ephemeral { conversation_id, user_id, kind, to_others: wire.to_others })
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn entries() -> impl Strategy<Value = Vec<EncodedEntry>> {
        (1..1_000i64, prop::collection::vec(0..400usize, 1..20)).prop_map(|(first, sizes)| {
            let entry = |(number, size)| EncodedEntry {
                sequence: Sequence::new(number).unwrap(),
                bytes: Bytes::from(vec![7; size]),
                ends_membership_of: None,
            };
            (first..).zip(sizes).map(entry).collect()
        })
    }

    proptest! {
        /// All that fits is received as it was sent, in order, in parts of bounded size; the rest becomes a poll.
        #[test]
        fn hints_are_received_as_they_were_sent(
            conversations in prop::collection::vec(entries(), 0..6),
            typists in 0..40usize,
            poll in any::<bool>(),
            max_bytes in 300..2_000usize,
        ) {
            let ids = (0..).map(|n: usize| ConversationId::from(format!("c{n}").as_str()));
            let sent: Vec<ConversationEntries> = ids
                .zip(conversations)
                .map(|(conversation_id, entries)| ConversationEntries { conversation_id, entries })
                .collect();
            let ephemerals: Vec<Ephemeral> = (0..typists).map(|n| Ephemeral {
                conversation_id: "c".into(),
                user_id: format!("u{n}").as_str().into(),
                kind: match n % 2 {
                    0 => EphemeralKind::Typing,
                    _ => EphemeralKind::ReadMarker { last_read_sequence: Position::new(n as i64).unwrap() },
                },
                to_others: n % 3 == 0,
            }).collect();
            let hint = Hint { poll, entries: sent.clone(), ephemerals: ephemerals.clone() };
            let (mut received_poll, mut received_ephemerals) = (false, Vec::new());
            let mut received: HashMap<ConversationId, Vec<(Sequence, Bytes)>> = HashMap::new();
            for part in encode(hint, max_bytes) {
                prop_assert!(part.len() <= max_bytes + 64, "{} of {max_bytes}", part.len());
                let hint = decode(&part).unwrap();
                received_poll |= hint.poll;
                received_ephemerals.extend(hint.ephemerals);
                for run in hint.entries {
                    let entries = run.entries.into_iter().map(|entry| (entry.sequence, entry.bytes));
                    received.entry(run.conversation_id).or_default().extend(entries);
                }
            }
            prop_assert_eq!(received_ephemerals, ephemerals);
            let mut is_cut = false;
            for run in &sent {
                let sent: Vec<_> = run.entries.iter().map(|entry| (entry.sequence, entry.bytes.clone())).collect();
                let received = received.remove(&run.conversation_id).unwrap_or_default();
                prop_assert!(sent.starts_with(&received));
                is_cut |= received.len() < sent.len();
            }
            prop_assert_eq!(received_poll, poll || is_cut);
        }

        #[test]
        fn decoding_arbitrary_bytes_yields_consecutive_entries_or_nothing(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(hint) = decode(&bytes) {
                for run in hint.entries {
                    let follows = |pair: &[EncodedEntry]| Position::from(pair[0].sequence).next() == pair[1].sequence;
                    prop_assert!(run.entries.windows(2).all(follows));
                }
            }
        }
    }
}
