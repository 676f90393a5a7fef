//! Large and compressed messages take turns before they are decoded: what they cost in processor time is many times what a
//! client pays to send them.

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::time_share::TimeShare;

/// A message up to this size, not compressed, is decoded at once.
pub(super) const SMALL_BYTES: usize = 32 * 1024;

/// The time to decode and handle a byte, about.
const NANOS_PER_BYTE: u64 = 20;

/// Returns true for a message that takes a turn, by its prefix and its length.
pub(super) fn is_large(prefix: &[u8], length: usize) -> bool {
    let is_compressed = prefix.first().is_some_and(|flag| *flag != 0);
    is_compressed || length > SMALL_BYTES
}

/// Waits for the turn of a large message.
pub(super) fn turn(work: &TimeShare, length: usize) -> BoxFuture<'static, ()> {
    let (work, time) = (work.clone(), Duration::from_nanos(length as u64 * NANOS_PER_BYTE));
    Box::pin(async move { work.turn(time).await })
}
