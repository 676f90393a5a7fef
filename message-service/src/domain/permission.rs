//! The one table of what each role may do. `may_v1` in SQL decides at commit; tests compare it with this table, and this
//! table with `docs/ROLES.md`.

/// An act that takes a role in the conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verb {
    Read,
    SendMessage,
    EditOwnMessage,
    DeleteOwnMessage,
    /// The message is another member's.
    DeleteMessage,
    UpdateConversation,
    /// The target is the role granted.
    AddMember,
    /// The target is the role of the member removed. Leaving takes no role.
    RemoveMember,
    UpdateRole,
}

#[cfg(test)]
pub(crate) use self::table::may;

#[cfg(test)]
mod table {
    use super::Verb;
    use crate::domain::conversation::Role;

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

        /// Returns the words of `docs/ROLES.md`; `{role}` is the target.
        fn words(self) -> &'static str {
            match self {
                Self::Read => "Read messages and the log",
                Self::SendMessage => "Send a message",
                Self::EditOwnMessage => "Edit one's own message",
                Self::DeleteOwnMessage => "Delete one's own message",
                Self::DeleteMessage => "Delete another member's message",
                Self::UpdateConversation => "Change the title and other details of the conversation",
                Self::AddMember => "Add a user as {role}",
                Self::RemoveMember => "Remove a member whose role is {role}",
                Self::UpdateRole => "Change the role of a member whose role is {role}",
            }
        }

        /// Reports whether what it acts on has a role.
        fn has_target(self) -> bool {
            matches!(self, Self::AddMember | Self::RemoveMember | Self::UpdateRole)
        }
    }

    /// Reports whether a member of this role may do this. `target` is the role granted, or that of the member acted on.
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

    fn row(verb: Verb, target: Option<Role>) -> String {
        let role = target.map(|role| format!("{role:?}").to_lowercase()).unwrap_or_default();
        let may = |actor| if may(actor, verb, target) { "yes" } else { "no" };
        let words = verb.words().replace("{role}", &role);
        format!("| {words} | {} | {} | {} |\n", may(Role::Owner), may(Role::Admin), may(Role::Member))
    }

    #[test]
    fn the_documented_table_is_this_one() {
        let mut table = "| To | Owner | Admin | Member |\n|---|---|---|---|\n".to_owned();
        for verb in Verb::ALL {
            let targets = if verb.has_target() { Role::ALL.map(Some).to_vec() } else { vec![None] };
            table.extend(targets.into_iter().map(|target| row(verb, target)));
        }
        let documented = include_str!("../../../docs/ROLES.md");
        assert!(documented.contains(&table), "docs/ROLES.md lacks this table:\n{table}");
    }
}
