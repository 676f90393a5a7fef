//! Background jobs, a file per job. They use storage and the life cycle, never gRPC.

pub(crate) mod trim_outbox;
