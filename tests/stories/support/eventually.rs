//! Waiting for an effect: polls until it appears, and panics with the last result if it never does.

use std::{
    fmt::Display,
    future::Future,
    time::{Duration, Instant},
};

/// Longer than any step takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Polls until the result is `Ok`, and returns its value.
///
/// # Panics
/// After `deadline`, with the last answer.
pub async fn eventually<T, E, F>(deadline: Duration, mut ask: impl FnMut() -> F) -> T
where
    E: Display,
    F: Future<Output = Result<T, E>>,
{
    let began = Instant::now();
    loop {
        match ask().await {
            Ok(value) => return value,
            Err(seen) if began.elapsed() > deadline => panic!("not within {deadline:?}; last seen: {seen}"),
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}
