//! Conversations and their members.

use service_kit::bounds::{OutOfBounds, no_nul};
use time::OffsetDateTime;

use super::{
    attributes::Attributes,
    ids::{ConversationId, UserId},
    request::RequestHash,
    sequence::{Position, Sequence},
};

/// The kind of a conversation. The numbers are those of the wire and of storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Direct = 1,
    Group = 2,
    Channel = 3,
}

impl Kind {
    /// Returns `None` for a number that is no kind.
    pub(crate) fn from_number(number: i32) -> Option<Self> {
        match number {
            1 => Some(Self::Direct),
            2 => Some(Self::Group),
            3 => Some(Self::Channel),
            _ => None,
        }
    }
}

/// The role of a member (see `permission.rs`). The numbers are those of the wire and of storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Owner = 1,
    Admin = 2,
    Member = 3,
}

impl Role {
    /// All roles, the highest first.
    pub(crate) const ALL: [Self; 3] = [Self::Owner, Self::Admin, Self::Member];

    /// Returns `None` for a number that is no role.
    pub(crate) fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|role| *role as i32 == number)
    }
}

/// A conversation as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::struct_field_names, reason = "an id has one name everywhere")]
pub(crate) struct Conversation {
    pub(crate) conversation_id: ConversationId,
    pub(crate) kind: Kind,
    pub(crate) title: String,
    pub(crate) description: String,
    /// Empty if there is none.
    pub(crate) avatar_url: String,
    pub(crate) attributes: Attributes,
    pub(crate) creator_id: UserId,
    /// Grows with each change of title, description, avatar or attributes; the etag contains it.
    pub(crate) version: i64,
    /// The first entry that is kept.
    pub(crate) oldest_sequence: Sequence,
    pub(crate) last_sequence: Position,
    pub(crate) message_count: i64,
    pub(crate) last_message_at: Option<OffsetDateTime>,
    pub(crate) created_at: OffsetDateTime,
    pub(crate) updated_at: OffsetDateTime,
}

/// The membership of one user in one conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) conversation_id: ConversationId,
    pub(crate) user_id: UserId,
    pub(crate) role: Role,
    /// The entry by which the member last joined.
    pub(crate) join_sequence: Sequence,
    pub(crate) joined_at: OffsetDateTime,
    pub(crate) last_read_sequence: Position,
    /// Messages sent after the read mark; 0 or more.
    pub(crate) unread_count: i64,
}

/// A conversation to create. `member_ids` are the other members, each once, without the creator.
#[derive(Debug, Clone)]
pub(crate) struct NewConversation {
    pub(crate) conversation_id: ConversationId,
    pub(crate) kind: Kind,
    pub(crate) title: String,
    pub(crate) creator_id: UserId,
    pub(crate) member_ids: Vec<UserId>,
    pub(crate) request_id: String,
    pub(crate) request_hash: RequestHash,
}

/// The longest description, in code points.
const MAX_DESCRIPTION_CHARS: usize = 1_024;

/// The longest URL of an avatar, in bytes.
const MAX_AVATAR_URL_BYTES: usize = 2_048;

/// Checks a description: at most 1,024 code points, no U+0000.
pub(crate) fn check_description(text: &str) -> Result<(), OutOfBounds> {
    if text.chars().nth(MAX_DESCRIPTION_CHARS).is_some() {
        return Err(OutOfBounds("must be at most 1024 code points"));
    }
    no_nul(text)
}

/// Checks the URL of an avatar: empty, or http or https with a host, at most 2,048 bytes, no white space or control
/// characters.
pub(crate) fn check_avatar_url(url: &str) -> Result<(), OutOfBounds> {
    if url.len() > MAX_AVATAR_URL_BYTES {
        return Err(OutOfBounds("must be at most 2048 bytes"));
    }
    if url.is_empty() {
        return Ok(());
    }
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let is_web = ["http", "https"].iter().any(|known| known.eq_ignore_ascii_case(scheme));
    if !is_web || rest.is_empty() || rest.starts_with(['/', '?', '#']) {
        return Err(OutOfBounds("must be empty or a URL that begins with http:// or https:// and a host"));
    }
    if url.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(OutOfBounds("must not hold white space or control characters"));
    }
    Ok(())
}

/// Returns the etag of a version: opaque to callers, quoted as AIP-154 demands.
pub(crate) fn etag(version: i64) -> String {
    format!("\"{version}\"")
}

/// Returns the version that an etag names, or `None` if it has another form: then it is not the current one.
pub(crate) fn version_of(etag: &str) -> Option<i64> {
    etag.strip_prefix('"')?.strip_suffix('"')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_held_to_their_bounds() {
        assert!(check_description("").is_ok());
        assert!(check_description(&"😀".repeat(1_024)).is_ok());
        assert!(check_description(&"x".repeat(1_025)).is_err());
        assert!(check_description("a\0").is_err());
    }

    #[test]
    fn avatars_are_web_addresses() {
        let long = |bytes: usize| format!("https://example.com/{}", "x".repeat(bytes - 20));
        for url in
            ["", "http://example.com", "HTTPS://example.com/a.png?size=2#x", "https://[::1]:8080/ü", &long(2_048)]
        {
            assert!(check_avatar_url(url).is_ok(), "{url}");
        }
        for url in [
            "example.com",
            "//example.com",
            "ftp://example.com",
            "javascript:alert(1)",
            "data:image/png;base64,AA",
            "https://",
            "https:///a",
            "http://?q",
            "https://a b",
            "https://a\n",
            "https://a\0",
            " https://a",
            &long(2_049),
        ] {
            assert!(check_avatar_url(url).is_err(), "{url}");
        }
    }
}
