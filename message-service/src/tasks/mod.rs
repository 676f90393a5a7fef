//! Jobs in the background, one file each. They know storage and the life cycle, never gRPC.

pub(crate) mod trim_outbox;
