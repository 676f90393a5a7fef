//! The rule of each RPC: the demands on its caller, as one table. A method without a row fails a test that walks the
//! descriptor set.

/// An RPC of this service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rpc {
    CreateUser,
    GetUser,
    BatchGetUsers,
    ListUsers,
    UpdateUser,
    DeactivateUser,
    ReactivateUser,
    DeleteUser,
    WatchUsers,
    /// `GetUser` of the unpackaged `UserService`.
    OriginalGetUser,
}

/// The demands on the caller of an RPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// None: users are visible to every caller, as message-service needs for each sender. Such an RPC writes nothing.
    Anyone,
    /// The caller acts for the user whose account it is.
    OwnAccount,
    /// The caller is one of the operator's own systems: the RPC manages accounts.
    Operator,
}

impl Rpc {
    /// Returns the rule.
    pub(crate) const fn rule(self) -> Rule {
        match self {
            Self::GetUser | Self::BatchGetUsers | Self::OriginalGetUser => Rule::Anyone,
            Self::UpdateUser => Rule::OwnAccount,
            Self::CreateUser
            | Self::ListUsers
            | Self::DeactivateUser
            | Self::ReactivateUser
            | Self::DeleteUser
            | Self::WatchUsers => Rule::Operator,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    const ALL: [Rpc; 10] = [
        Rpc::CreateUser,
        Rpc::GetUser,
        Rpc::BatchGetUsers,
        Rpc::ListUsers,
        Rpc::UpdateUser,
        Rpc::DeactivateUser,
        Rpc::ReactivateUser,
        Rpc::DeleteUser,
        Rpc::WatchUsers,
        Rpc::OriginalGetUser,
    ];

    /// Returns the path of the method of an RPC.
    fn path(rpc: Rpc) -> String {
        match rpc {
            Rpc::OriginalGetUser => "UserService/GetUser".to_owned(),
            versioned => format!("parlance.user.v1.UserService/{versioned:?}"),
        }
    }

    #[test]
    fn every_method_of_both_contracts_has_a_rule() {
        let set = FileDescriptorSet::decode(parlance::FILE_DESCRIPTOR_SET).unwrap();
        let mut methods = BTreeSet::new();
        for file in set.file.iter().filter(|file| ["", "parlance.user.v1"].contains(&file.package())) {
            for service in &file.service {
                let name = [file.package(), service.name()].join(".");
                let name = name.trim_start_matches('.');
                methods.extend(service.method.iter().map(|method| format!("{name}/{}", method.name())));
            }
        }
        assert_eq!(methods, ALL.map(path).into());
    }
}
