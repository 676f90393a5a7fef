//! Conversions between wire types and domain types, one file per noun.

pub(super) mod etag;
mod time;
pub(super) mod user;
