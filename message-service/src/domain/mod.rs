//! Values and rules of conversations and messages. No I/O, no async, no proto types, no SQL.

pub(crate) mod attributes;
pub(crate) mod change;
pub(crate) mod coalesced;
pub(crate) mod conversation;
pub(crate) mod encoded;
pub(crate) mod ephemeral;
pub(crate) mod epoch;
pub(crate) mod event;
pub(crate) mod hash;
pub(crate) mod ids;
pub(crate) mod message;
pub(crate) mod permission;
pub(crate) mod refusal;
pub(crate) mod request;
pub(crate) mod rpc;
pub(crate) mod sequence;
