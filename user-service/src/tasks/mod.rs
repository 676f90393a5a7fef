//! Jobs in the background that no call waits for.

pub(crate) mod trim_outbox;
