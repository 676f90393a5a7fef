//! The rule of each RPC: the demands on its actor, as one table. A method without a row fails a test that walks the
//! descriptor set.

use super::permission::Verb;

/// An RPC of this service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rpc {
    CreateConversation,
    GetConversation,
    ListConversations,
    UpdateConversation,
    AddMembers,
    RemoveMember,
    UpdateMember,
    ListMembers,
    MarkRead,
    SendMessage,
    GetMessage,
    ListMessages,
    ListEvents,
    EditMessage,
    DeleteMessage,
    StreamMessages,
    Subscribe,
    SendTyping,
    Chat,
}

/// The demands on the actor of an RPC, who must be active in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// No others: the call is about the actor's own data.
    Active,
    /// A member, or any active user if the conversation is a CHANNEL.
    Reader,
    /// A member.
    Member,
    /// A member whose role allows one of these, checked at commit.
    May(&'static [Verb]),
}

impl Rpc {
    /// Returns the rule.
    pub(crate) const fn rule(self) -> Rule {
        match self {
            // A session takes the rules of its frames.
            Self::CreateConversation | Self::ListConversations | Self::Subscribe | Self::Chat => Rule::Active,
            Self::GetConversation | Self::GetMessage | Self::ListMessages | Self::ListEvents | Self::StreamMessages => {
                Rule::Reader
            }
            Self::ListMembers | Self::MarkRead | Self::SendTyping => Rule::Member,
            Self::UpdateConversation => Rule::May(&[Verb::UpdateConversation]),
            Self::AddMembers => Rule::May(&[Verb::AddMember]),
            Self::RemoveMember => Rule::May(&[Verb::RemoveMember]),
            Self::UpdateMember => Rule::May(&[Verb::UpdateRole]),
            Self::SendMessage => Rule::May(&[Verb::SendMessage]),
            Self::EditMessage => Rule::May(&[Verb::EditOwnMessage]),
            Self::DeleteMessage => Rule::May(&[Verb::DeleteOwnMessage, Verb::DeleteMessage]),
        }
    }

    /// Reports whether a user who is no member may see a CHANNEL by this RPC.
    pub(crate) const fn is_open_to_readers(self) -> bool {
        !matches!(self.rule(), Rule::Member | Rule::May(_))
    }

    /// Reports whether this RPC does what takes this verb.
    pub(crate) fn demands(self, verb: Verb) -> bool {
        self.rule().verbs().contains(&verb)
    }
}

impl Rule {
    /// Returns the verbs of which a member's role must allow one.
    const fn verbs(self) -> &'static [Verb] {
        match self {
            Self::Active => &[],
            Self::Reader | Self::Member => &[Verb::Read],
            Self::May(verbs) => verbs,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    const ALL: [Rpc; 19] = [
        Rpc::CreateConversation,
        Rpc::GetConversation,
        Rpc::ListConversations,
        Rpc::UpdateConversation,
        Rpc::AddMembers,
        Rpc::RemoveMember,
        Rpc::UpdateMember,
        Rpc::ListMembers,
        Rpc::MarkRead,
        Rpc::SendMessage,
        Rpc::GetMessage,
        Rpc::ListMessages,
        Rpc::ListEvents,
        Rpc::EditMessage,
        Rpc::DeleteMessage,
        Rpc::StreamMessages,
        Rpc::Subscribe,
        Rpc::SendTyping,
        Rpc::Chat,
    ];

    #[test]
    fn every_method_of_the_contract_has_a_rule() {
        let set = FileDescriptorSet::decode(parlance::FILE_DESCRIPTOR_SET).unwrap();
        let files = set.file.iter().filter(|file| file.package() == "parlance.message.v1");
        let methods: BTreeSet<String> = files
            .flat_map(|file| &file.service)
            .flat_map(|service| &service.method)
            .map(|method| method.name().to_owned())
            .collect();
        let ruled: BTreeSet<String> = ALL.iter().map(|rpc| format!("{rpc:?}")).collect();
        assert_eq!(methods, ruled);
    }

    #[test]
    fn every_verb_is_demanded_by_some_rpc() {
        for verb in Verb::ALL {
            let demanded = ALL.iter().any(|rpc| rpc.demands(verb));
            assert!(demanded, "{verb:?}");
        }
    }
}
