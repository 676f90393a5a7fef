//! The memory that a target takes for an input.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Decoded messages are larger than their bytes, at most by this factor: an empty text takes two bytes on the wire, and 24 and
/// its place in a growing list in memory.
const FACTOR: usize = 64;

/// What is allocated whatever the input: a refusal with all its details, a runtime, the state of a session.
const BASE_BYTES: usize = 64 * 1024;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// Counts what the system's allocator hands out.
pub(crate) struct Counted;

// SAFETY: every call is passed on unchanged.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        PEAK.fetch_max(NOW.fetch_add(layout.size(), Relaxed) + layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Runs a target, which must not take more memory at a time than its input justifies.
pub(crate) fn bounded(input: &[u8], run: fn(&[u8])) {
    let before = NOW.load(Relaxed);
    PEAK.store(before, Relaxed);
    run(input);
    let bytes = PEAK.load(Relaxed) - before;
    assert!(bytes <= BASE_BYTES + FACTOR * input.len(), "{bytes} bytes for an input of {}", input.len());
}
