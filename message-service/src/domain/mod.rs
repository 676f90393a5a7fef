//! Values and rules of conversations and messages. No I/O, no async, no proto types, no SQL.

pub(crate) mod conversation;
pub(crate) mod ephemeral;
pub(crate) mod event;
pub(crate) mod hash;
pub(crate) mod message;
pub(crate) mod refusal;
