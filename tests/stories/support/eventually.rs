//! Waiting for an effect: ask until it is there, and say what was seen when it never came.

use std::{
    fmt::Display,
    future::Future,
    time::{Duration, Instant},
};

/// Longer than anything here takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Asks again and again until the answer is `Ok`, which it gives back.
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
