//! The content of a request, as far as a repeat with the same `request_id` must agree with it.

/// A hash of the content of a request, stored beside its `request_id`.
pub(crate) type RequestHash = [u8; 16];
