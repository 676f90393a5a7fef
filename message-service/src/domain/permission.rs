//! The one table of what each role may do. `may_v1` in SQL, which decides at commit, is held to it by a story, and so is
//! `docs/ROLES.md`.

#[cfg(test)]
use super::conversation::Role;

/// An act that takes a role in the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Read,
    SendMessage,
    EditOwnMessage,
    DeleteOwnMessage,
    /// Another member's.
    DeleteMessage,
    UpdateConversation,
    /// The target is the role granted.
    AddMember,
    /// The target is the role of the member removed. Leaving takes no role.
    RemoveMember,
    UpdateRole,
}

#[cfg(test)]
impl Verb {
    /// All verbs, in the order of the table.
    pub(crate) const ALL: [Self; 9] = [
        Self::Read,
        Self::SendMessage,
        Self::EditOwnMessage,
        Self::DeleteOwnMessage,
        Self::DeleteMessage,
        Self::UpdateConversation,
        Self::AddMember,
        Self::RemoveMember,
        Self::UpdateRole,
    ];

    /// Returns the name of the verb in SQL.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::SendMessage => "send_message",
            Self::EditOwnMessage => "edit_own_message",
            Self::DeleteOwnMessage => "delete_own_message",
            Self::DeleteMessage => "delete_message",
            Self::UpdateConversation => "update_conversation",
            Self::AddMember => "add_member",
            Self::RemoveMember => "remove_member",
            Self::UpdateRole => "update_role",
        }
    }
}

/// Tells whether a member of this role may do this. `target` is the role granted or acted upon, where there is one.
#[cfg(test)]
pub(crate) fn may(actor: Role, verb: Verb, target: Option<Role>) -> bool {
    match verb {
        Verb::Read | Verb::SendMessage | Verb::EditOwnMessage | Verb::DeleteOwnMessage => true,
        Verb::DeleteMessage | Verb::UpdateConversation => matches!(actor, Role::Owner | Role::Admin),
        Verb::AddMember | Verb::RemoveMember => {
            actor == Role::Owner || (actor == Role::Admin && target == Some(Role::Member))
        }
        Verb::UpdateRole => actor == Role::Owner,
    }
}
