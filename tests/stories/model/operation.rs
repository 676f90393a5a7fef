//! The operations, over a universe small enough for collisions: users are numbers below [`USERS`], of whom the last is
//! deactivated; conversations are numbers below [`CONVERSATIONS`], of which the last is the DIRECT one of users 0 and
//! 1, which exists from the beginning.

use proptest::prelude::*;

/// The number of users.
pub(super) const USERS: usize = 5;
/// The deactivated user.
pub(super) const DEACTIVATED: usize = 4;
/// The highest number of conversations.
pub(super) const CONVERSATIONS: usize = 4;
/// The DIRECT conversation.
pub(super) const DIRECT: usize = 3;

/// The number of details of a conversation: title, description, avatar, attributes.
pub(super) const DETAILS: usize = 4;

/// One call. Roles and kinds are the numbers of the wire. An update sets one detail; 0 empties it.
#[derive(Debug, Clone)]
pub(super) enum Operation {
    Create { conversation: usize, kind: i32, creator: usize, members: Vec<usize> },
    Send { conversation: usize, sender: usize, text: u8, request: Option<u8>, reply_to: i64 },
    Edit { conversation: usize, actor: usize, sequence: i64, text: u8 },
    Delete { conversation: usize, actor: usize, sequence: i64 },
    Add { conversation: usize, actor: usize, users: Vec<usize>, role: i32 },
    Remove { conversation: usize, actor: usize, user: usize },
    Role { conversation: usize, actor: usize, user: usize, role: i32 },
    Update { conversation: usize, actor: usize, detail: usize, value: u8 },
    Mark { conversation: usize, actor: usize, sequence: i64 },
}

impl Operation {
    /// Any operation, sends most often.
    pub(super) fn any() -> impl Strategy<Value = Self> {
        let conversation = || 0..CONVERSATIONS;
        // The deactivated user rarely.
        let user = || prop_oneof![20 => 0..DEACTIVATED, 1 => Just(DEACTIVATED)];
        let users = || prop::collection::vec(user(), 1..4);
        let reply_to = prop_oneof![4 => Just(0i64), 1 => 1..20i64];
        let request = prop::option::of(0..6u8);
        prop_oneof![
            3 => (0..DIRECT, 2..=3i32, user(), users()).prop_map(|(conversation, kind, creator, members)| {
                Self::Create { conversation, kind, creator, members }
            }),
            10 => (conversation(), user(), 0..3u8, request, reply_to).prop_map(
                |(conversation, sender, text, request, reply_to)| {
                    Self::Send { conversation, sender, text, request, reply_to }
                }
            ),
            5 => (conversation(), user(), 1..30i64, 0..3u8).prop_map(|(conversation, actor, sequence, text)| {
                Self::Edit { conversation, actor, sequence, text }
            }),
            3 => (conversation(), user(), 1..30i64)
                .prop_map(|(conversation, actor, sequence)| Self::Delete { conversation, actor, sequence }),
            5 => (conversation(), user(), users(), 1..=3i32).prop_map(|(conversation, actor, users, role)| {
                Self::Add { conversation, actor, users, role }
            }),
            2 => (conversation(), user(), 3..=3i32)
                .prop_map(|(conversation, actor, role)| Self::Add { conversation, actor, users: vec![actor], role }),
            3 => (conversation(), user(), user())
                .prop_map(|(conversation, actor, user)| Self::Remove { conversation, actor, user }),
            3 => (conversation(), user(), user(), 1..=3i32).prop_map(|(conversation, actor, user, role)| {
                Self::Role { conversation, actor, user, role }
            }),
            2 => (conversation(), user(), 0..DETAILS, 0..3u8).prop_map(|(conversation, actor, detail, value)| {
                Self::Update { conversation, actor, detail, value }
            }),
            3 => (conversation(), user(), 0..40i64)
                .prop_map(|(conversation, actor, sequence)| Self::Mark { conversation, actor, sequence }),
        ]
    }
}
