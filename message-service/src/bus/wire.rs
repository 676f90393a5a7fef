//! Hints as bytes. Replicas of several versions hear each other: unknown fields are passed over, and what makes no sense is
//! nothing at all.

use bytes::Bytes;
use prost::Message;

use super::{Entries, Hint, ReplicaId};
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
    #[prost(fixed64, tag = "1")]
    from: u64,
    #[prost(bool, tag = "2")]
    look: bool,
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
    /// 0 = typing.
    #[prost(int64, tag = "3")]
    last_read_sequence: i64,
    #[prost(bool, tag = "4")]
    to_others: bool,
}

/// Several encodings, each of at most about `max_bytes`. An entry that is larger is left out with all that come after it in
/// its conversation, and the others are told to look.
pub(crate) fn encode(from: ReplicaId, hint: Hint, max_bytes: usize) -> Vec<Bytes> {
    let mut packing =
        Packing { from, max_bytes, full: Vec::new(), part: WireHint { from, ..WireHint::default() }, bytes: 0 };
    packing.part.look = hint.look;
    for Entries { conversation_id, frames } in hint.entries {
        let overhead = conversation_id.len() + OVERHEAD_BYTES;
        let mut is_begun = false;
        for frame in frames {
            let bytes = frame.bytes.len() + OVERHEAD_BYTES;
            if bytes + overhead > max_bytes {
                packing.part.look = true;
                break;
            }
            is_begun &= packing.make_room(bytes + if is_begun { 0 } else { overhead });
            if !is_begun {
                let conversation_id = conversation_id.to_string();
                let (first_sequence, frames) = (frame.sequence.get(), Vec::new());
                packing.part.entries.push(WireEntries { conversation_id, first_sequence, frames });
                is_begun = true;
            }
            if let Some(entries) = packing.part.entries.last_mut() {
                entries.frames.push(frame.bytes);
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
        packing.make_room(wire.encoded_len() + OVERHEAD_BYTES);
        packing.part.ephemerals.push(wire);
    }
    packing.full.push(packing.part);
    packing.full.into_iter().map(|part| part.encode_to_vec().into()).collect()
}

/// Tags and lengths, generously.
const OVERHEAD_BYTES: usize = 32;

struct Packing {
    from: ReplicaId,
    max_bytes: usize,
    full: Vec<WireHint>,
    part: WireHint,
    bytes: usize,
}

impl Packing {
    /// Makes room for this much; false if that took a new part.
    fn make_room(&mut self, bytes: usize) -> bool {
        let fits = self.bytes + bytes <= self.max_bytes || self.bytes == 0;
        if !fits {
            let next = WireHint { from: self.from, ..WireHint::default() };
            self.full.push(std::mem::replace(&mut self.part, next));
            self.bytes = 0;
        }
        self.bytes += bytes;
        fits
    }
}

/// What another replica has told; `None` for what is one's own or makes no sense.
pub(crate) fn decode(own: ReplicaId, bytes: &[u8]) -> Option<Hint> {
    let wire = WireHint::decode(bytes).ok().filter(|wire| wire.from != own)?;
    let entries = wire.entries.into_iter().map(decode_entries).collect::<Option<Vec<_>>>()?;
    let ephemerals = wire.ephemerals.into_iter().map(decode_ephemeral).collect::<Option<Vec<_>>>()?;
    Some(Hint { look: wire.look, entries, ephemerals })
}

fn decode_entries(wire: WireEntries) -> Option<Entries> {
    let in_bounds = !wire.frames.is_empty() && wire.frames.len() <= MAX_ENTRIES;
    let last = wire.first_sequence.checked_add(wire.frames.len() as i64 - 1)?;
    if !in_bounds {
        return None;
    }
    let entry =
        |(number, bytes)| Some(EncodedEntry { sequence: Sequence::new(number)?, bytes, ends_membership_of: None });
    let frames = (wire.first_sequence..=last).zip(wire.frames).map(entry).collect::<Option<_>>()?;
    Some(Entries { conversation_id: ConversationId::parse(&wire.conversation_id).ok()?, frames })
}

fn decode_ephemeral(wire: WireEphemeral) -> Option<Ephemeral> {
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
    use proptest::prelude::*;

    use super::*;

    fn frames() -> impl Strategy<Value = Vec<EncodedEntry>> {
        (1..1_000i64, prop::collection::vec(0..400usize, 1..20)).prop_map(|(first, sizes)| {
            let frame = |(number, size)| EncodedEntry {
                sequence: Sequence::new(number).unwrap(),
                bytes: Bytes::from(vec![7; size]),
                ends_membership_of: None,
            };
            (first..).zip(sizes).map(frame).collect()
        })
    }

    proptest! {
        /// Whatever fits is heard as it was told, in order, in parts that keep to their size; what does not makes others look.
        #[test]
        fn what_is_told_is_heard(
            conversations in prop::collection::vec(frames(), 0..6),
            typists in 0..40usize,
            look in any::<bool>(),
            max_bytes in 300..2_000usize,
        ) {
            let ids = (0..).map(|n: usize| ConversationId::from(format!("c{n}").as_str()));
            let entries: Vec<Entries> =
                ids.zip(&conversations).map(|(conversation_id, frames)| Entries { conversation_id, frames: frames.clone() }).collect();
            let ephemerals: Vec<Ephemeral> = (0..typists).map(|n| Ephemeral {
                conversation_id: "c".into(),
                user_id: format!("u{n}").as_str().into(),
                kind: if n % 2 == 0 { EphemeralKind::Typing } else { EphemeralKind::ReadMarker { last_read_sequence: Position::new(n as i64).unwrap() } },
                to_others: n % 3 == 0,
            }).collect();
            let hint = Hint { look, entries: entries.clone(), ephemerals: ephemerals.clone() };
            let (mut heard_look, mut heard_ephemerals) = (false, Vec::new());
            let mut heard: std::collections::HashMap<ConversationId, Vec<(Sequence, Bytes)>> = std::collections::HashMap::new();
            for part in encode(1, hint, max_bytes) {
                prop_assert!(part.len() <= max_bytes + 64, "{} of {max_bytes}", part.len());
                prop_assert!(decode(1, &part).is_none());
                let hint = decode(2, &part).unwrap();
                heard_look |= hint.look;
                heard_ephemerals.extend(hint.ephemerals);
                for entries in hint.entries {
                    let frames = entries.frames.into_iter().map(|frame| (frame.sequence, frame.bytes));
                    heard.entry(entries.conversation_id).or_default().extend(frames);
                }
            }
            prop_assert_eq!(heard_ephemerals, ephemerals);
            let mut is_cut = false;
            for told in &entries {
                let told_frames: Vec<_> = told.frames.iter().map(|frame| (frame.sequence, frame.bytes.clone())).collect();
                let heard = heard.remove(&told.conversation_id).unwrap_or_default();
                prop_assert!(told_frames.starts_with(&heard));
                is_cut |= heard.len() < told_frames.len();
            }
            prop_assert_eq!(heard_look, look || is_cut);
        }

        #[test]
        fn nonsense_is_nothing(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let Some(hint) = decode(0, &bytes) {
                for entries in hint.entries {
                    prop_assert!(entries.frames.windows(2).all(|pair| Position::from(pair[0].sequence).next() == pair[1].sequence));
                }
            }
        }
    }
}
