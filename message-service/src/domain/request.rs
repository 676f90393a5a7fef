//! The content of a request that a repeat with the same `request_id` must equal.

/// A hash of the content of a request, stored beside its `request_id`.
pub(crate) type RequestHash = [u8; 16];
