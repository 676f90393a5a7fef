//! Hashes that outlive a process: of the content of a request, for comparing repeats of its `request_id`, and the id of a
//! DIRECT conversation.
//!
//! Both are stored or part of ids, so their input never changes.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use super::{
    attributes::Attributes,
    conversation::Kind,
    ids::{ConversationId, UserId},
    request::RequestHash,
    sequence::Sequence,
};

/// Hashes the content of a message: text, attributes, reply.
pub(crate) fn of_message(text: &str, attributes: &Attributes, reply_to_sequence: Option<Sequence>) -> RequestHash {
    let mut hasher = Hasher::new("message");
    hasher.part(text.as_bytes()).part(&reply_to_sequence.map_or(0, Sequence::get).to_be_bytes());
    for (key, value) in attributes {
        hasher.part(key.as_bytes()).part(value.as_bytes());
    }
    hasher.finish()
}

/// Hashes the content of a conversation: the id chosen by the caller, kind, title, members (sorted, each once, without the
/// creator).
pub(crate) fn of_conversation(chosen_id: &str, kind: Kind, title: &str, sorted_members: &[&UserId]) -> RequestHash {
    let mut hasher = Hasher::new("conversation");
    hasher.part(chosen_id.as_bytes()).part(&[kind as u8]).part(title.as_bytes());
    for member in sorted_members {
        hasher.part(member.as_bytes());
    }
    hasher.finish()
}

/// Returns the id of the one DIRECT conversation of two users, the same in both orders: 45 characters, beginning with `~d`.
pub(crate) fn direct_conversation_id(mut pair: [&UserId; 2]) -> ConversationId {
    pair.sort_unstable();
    let [first, second] = pair;
    let mut hasher = Hasher::new("direct");
    hasher.part(first.as_bytes()).part(second.as_bytes());
    ConversationId::of_direct(format!("~d{}", URL_SAFE_NO_PAD.encode(hasher.0.finalize())))
}

struct Hasher(Sha256);

impl Hasher {
    fn new(domain: &str) -> Self {
        let mut hasher = Self(Sha256::new());
        hasher.part(domain.as_bytes());
        hasher
    }

    /// Adds a part, its length first, so that no two lists of parts hash the same bytes.
    fn part(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
        self
    }

    fn finish(self) -> RequestHash {
        let mut hash = RequestHash::default();
        hash.copy_from_slice(&self.0.finalize()[..16]);
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direct(one: &str, other: &str) -> ConversationId {
        direct_conversation_id([&one.into(), &other.into()])
    }

    #[test]
    fn stored_hashes_never_change() {
        let attributes = Attributes::from([("k".to_owned(), "v".to_owned())]);
        assert_eq!(
            u128::from_be_bytes(of_message("hi", &attributes, Sequence::new(7))),
            0x62c4_fc97_65f0_7db3_c1aa_68d8_2cae_5c87
        );
        for (one, other) in [("bob", "alice"), ("alice", "bob")] {
            assert_eq!(direct(one, other).as_str(), "~dbYTbgWwmaogeD56llN3YTvk8J47iWksLxgx3Oi4A1hY");
        }
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let none = Attributes::new();
        let one = Attributes::from([("ab".to_owned(), "c".to_owned())]);
        let other = Attributes::from([("a".to_owned(), "bc".to_owned())]);
        assert_ne!(of_message("t", &one, None), of_message("t", &other, None));
        assert_ne!(of_message("t", &none, Sequence::new(1)), of_message("t", &none, None));
        assert_ne!(direct("ab", "c"), direct("a", "bc"));
    }
}
