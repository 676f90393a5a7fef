//! The wire contract of Parlance as a crate: the generated messages, clients and servers of `proto/`, and the descriptor
//! set that both services serve by reflection. Contains no logic; the fields are documented in the protos.

/// The original contract: `/UserService/GetUser`, without a package.
#[allow(
    missing_docs,
    clippy::all,
    clippy::allow_attributes_without_reason,
    clippy::pedantic,
    reason = "generated; the documentation is in the proto"
)]
pub mod original {
    tonic::include_proto!("_");
}

/// Accounts.
pub mod user {
    /// Version 1.
    #[allow(
        missing_docs,
        clippy::all,
        clippy::allow_attributes_without_reason,
        clippy::pedantic,
        reason = "generated; the documentation is in the proto"
    )]
    pub mod v1 {
        tonic::include_proto!("parlance.user.v1");
    }
}

/// Conversations, messages and their streams.
pub mod message {
    /// Version 1.
    #[allow(
        missing_docs,
        clippy::all,
        clippy::allow_attributes_without_reason,
        clippy::pedantic,
        reason = "generated; the documentation is in the proto"
    )]
    pub mod v1 {
        tonic::include_proto!("parlance.message.v1");
    }
}

/// The reasons of errors.
pub mod error {
    /// Version 1.
    #[allow(
        missing_docs,
        clippy::all,
        clippy::allow_attributes_without_reason,
        clippy::pedantic,
        reason = "generated; the documentation is in the proto"
    )]
    pub mod v1 {
        tonic::include_proto!("parlance.error.v1");
    }
}

/// All files of the contract and their imports as one encoded `google.protobuf.FileDescriptorSet`.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
