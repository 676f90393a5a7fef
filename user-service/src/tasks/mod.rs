//! Background tasks that no call waits for.

pub(crate) mod trim_outbox;
