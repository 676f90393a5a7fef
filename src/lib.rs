//! The wire contract of Parlance as a crate: the generated messages, clients and servers of `proto/`, and the descriptor
//! set that both services serve by reflection. Contains no logic; the fields are documented in the protos.

/// Declares the module of a package of `proto/`.
macro_rules! generated {
    ($(#[$doc:meta])* $name:ident = $package:tt) => {
        $(#[$doc])*
        #[allow(
            missing_docs,
            clippy::all,
            clippy::allow_attributes_without_reason,
            clippy::pedantic,
            reason = "generated; the documentation is in the proto"
        )]
        pub mod $name {
            tonic::include_proto!($package);
        }
    };
}

generated! {
    /// The original contract: `/UserService/GetUser`, without a package.
    original = "_"
}

/// Accounts.
pub mod user {
    generated! {
        /// Version 1.
        v1 = "parlance.user.v1"
    }
}

/// Conversations, messages and their streams.
pub mod message {
    generated! {
        /// Version 1.
        v1 = "parlance.message.v1"
    }
}

/// The reasons of errors.
pub mod error {
    generated! {
        /// Version 1.
        v1 = "parlance.error.v1"
    }
}

/// All files of the contract and their imports as one encoded `google.protobuf.FileDescriptorSet`.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
