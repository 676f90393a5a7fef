//! The rule of each RPC: what kind of caller it is for, as one table. A method without a row fails a test that walks the
//! descriptor set.

use service_kit::auth::Rule;

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
    RevokeTokens,
    CreateToken,
    /// `GetUser` of the unpackaged `UserService`.
    OriginalGetUser,
}

impl Rpc {
    /// All RPCs.
    pub(crate) const ALL: [Self; 12] = [
        Self::CreateUser,
        Self::GetUser,
        Self::BatchGetUsers,
        Self::ListUsers,
        Self::UpdateUser,
        Self::DeactivateUser,
        Self::ReactivateUser,
        Self::DeleteUser,
        Self::WatchUsers,
        Self::RevokeTokens,
        Self::CreateToken,
        Self::OriginalGetUser,
    ];

    /// Returns the path of the method.
    pub(crate) const fn path(self) -> &'static str {
        match self {
            Self::CreateUser => "/parlance.user.v1.UserService/CreateUser",
            Self::GetUser => "/parlance.user.v1.UserService/GetUser",
            Self::BatchGetUsers => "/parlance.user.v1.UserService/BatchGetUsers",
            Self::ListUsers => "/parlance.user.v1.UserService/ListUsers",
            Self::UpdateUser => "/parlance.user.v1.UserService/UpdateUser",
            Self::DeactivateUser => "/parlance.user.v1.UserService/DeactivateUser",
            Self::ReactivateUser => "/parlance.user.v1.UserService/ReactivateUser",
            Self::DeleteUser => "/parlance.user.v1.UserService/DeleteUser",
            Self::WatchUsers => "/parlance.user.v1.UserService/WatchUsers",
            Self::RevokeTokens => "/parlance.user.v1.UserService/RevokeTokens",
            Self::CreateToken => "/parlance.user.v1.UserService/CreateToken",
            Self::OriginalGetUser => "/UserService/GetUser",
        }
    }

    /// Returns the rule.
    pub(crate) const fn rule(self) -> Rule {
        match self {
            // Names must be shown somewhere.
            Self::GetUser | Self::BatchGetUsers | Self::OriginalGetUser => Rule::AnyCaller,
            Self::UpdateUser | Self::RevokeTokens => Rule::Account,
            Self::CreateUser
            | Self::ListUsers
            | Self::DeactivateUser
            | Self::ReactivateUser
            | Self::DeleteUser
            | Self::CreateToken => Rule::Manager,
            Self::WatchUsers => Rule::Directory,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use prost::Message;
    use prost_types::FileDescriptorSet;

    use super::*;

    #[test]
    fn every_method_of_both_contracts_has_a_rule() {
        let set = FileDescriptorSet::decode(parlance::FILE_DESCRIPTOR_SET).unwrap();
        let mut methods = BTreeSet::new();
        for file in set.file.iter().filter(|file| ["", "parlance.user.v1"].contains(&file.package())) {
            for service in &file.service {
                let name = [file.package(), service.name()].join(".");
                let name = name.trim_start_matches('.');
                methods.extend(service.method.iter().map(|method| format!("/{name}/{}", method.name())));
            }
        }
        assert_eq!(methods, Rpc::ALL.map(|rpc| rpc.path().to_owned()).into());
    }
}
