//! Shares of processor time for work that is expensive for what it costs its client: pieces of it take turns, and after each
//! the next waits for several times as long as that one took.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::{Instant, sleep_until};

use crate::sync::lock;

/// Time that may be used in advance. Timers are no finer than a millisecond.
const TOLERANCE: Duration = Duration::from_millis(5);

/// A poll up to this long is not counted: everything has such polls, and most of the time of a longer one is work.
const SHORT: Duration = Duration::from_millis(1);

/// The most that long polls add to the wait for the next turn: where a processor has other work, a poll takes long for no fault
/// of its own.
const MAX_DEBT: Duration = Duration::from_millis(100);

/// A share of processor time. Clones share it.
#[derive(Debug, Clone)]
pub struct TimeShare {
    /// The narrowest first.
    levels: Arc<[Level]>,
}

#[derive(Debug, Clone)]
struct Level {
    line: Arc<tokio::sync::Mutex<()>>,
    /// The moment at which the work so far is within the share.
    paid: Arc<Mutex<Instant>>,
    processors: f64,
}

impl TimeShare {
    /// Creates a share of so many processors, such as 0.5.
    #[must_use]
    pub fn new(processors: f64) -> Self {
        Self { levels: Arc::new([Level::new(processors)]) }
    }

    /// Returns a share within this one, of one of so many equal parts. Those that use the whole up together take turns.
    #[must_use]
    pub fn part(&self, parts: usize) -> Self {
        let mut levels = vec![Level::new(self.levels[0].processors / parts as f64)];
        levels.extend_from_slice(&self.levels);
        Self { levels: levels.into() }
    }

    /// Returns the share of a request's connection. Outside of a server, as in tests of a bare handler, it is one processor.
    pub fn of(extensions: &http::Extensions) -> Self {
        extensions.get().cloned().unwrap_or_else(|| Self::new(1.0))
    }

    /// Waits for the turn of work that will take about this long. Work that is given up before its turn counts nowhere.
    pub async fn turn(&self, work: Duration) {
        let mut turns = Vec::with_capacity(self.levels.len());
        for level in &*self.levels {
            // Only the first in the line of a part stands in the line of the whole.
            turns.push(level.line.lock().await);
            level.until_paid().await;
        }
        let now = Instant::now();
        for level in &*self.levels {
            let mut paid = lock(&level.paid);
            *paid = now.max(*paid) + work.div_f64(level.processors);
        }
    }

    /// Counts work that was done in a poll.
    fn count(&self, work: Duration) {
        let now = Instant::now();
        for level in &*self.levels {
            let mut paid = lock(&level.paid);
            let due = now.max(*paid) + work.div_f64(level.processors);
            *paid = due.min(now + MAX_DEBT).max(*paid);
        }
    }

    /// Counts each long poll of a future.
    pub fn metered<F: Future>(&self, inner: F) -> Metered<F> {
        Metered { inner, share: self.clone() }
    }
}

impl Level {
    fn new(processors: f64) -> Self {
        Self { line: Arc::default(), paid: Arc::new(Mutex::new(Instant::now())), processors }
    }

    async fn until_paid(&self) {
        loop {
            let paid = *lock(&self.paid);
            if paid <= Instant::now() + TOLERANCE {
                return;
            }
            sleep_until(paid - TOLERANCE).await;
        }
    }
}

pin_project! {
    /// A future whose long polls count.
    #[derive(Debug)]
    pub struct Metered<F> {
        #[pin]
        inner: F,
        share: TimeShare,
    }
}

impl<F: Future> Future for Metered<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let (this, began) = (self.project(), Instant::now());
        let polled = this.inner.poll(cx);
        let long = began.elapsed().saturating_sub(SHORT);
        if !long.is_zero() {
            this.share.count(long);
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const WORK: Duration = Duration::from_millis(10);

    #[tokio::test(start_paused = true)]
    async fn one_share_waits_for_what_it_has_used_and_another_does_not() {
        let whole = TimeShare::new(1.0);
        let (busy, other) = (whole.part(4), whole.part(4));
        let began = Instant::now();
        busy.turn(WORK).await;
        assert!(busy.turn(WORK).now_or_never().is_none());
        other.turn(WORK).await;
        assert!(began.elapsed() < WORK * 2);
        for _ in 1..10 {
            busy.turn(WORK).await;
        }
        let waited = began.elapsed() + TOLERANCE;
        assert!((WORK * 4 * 9..WORK * 4 * 10).contains(&waited), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn many_shares_have_the_whole_together_and_the_same_part_of_it() {
        let whole = TimeShare::new(0.5);
        let parts: Vec<_> = (0..4).map(|_| whole.part(1)).collect();
        let end = Instant::now() + Duration::from_secs(4);
        let turns = futures_util::future::join_all(parts.iter().map(|part| async move {
            let mut turns = 0;
            while Instant::now() < end {
                part.turn(WORK).await;
                turns += 1;
            }
            turns
        }))
        .await;
        assert!(turns.iter().all(|turns| (45..=55).contains(turns)), "{turns:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_poll_counts_and_a_short_one_does_not() {
        let share = TimeShare::new(0.01);
        let poll = |time: Duration| share.metered(async move { tokio::time::advance(time).now_or_never() });
        for _ in 0..100 {
            poll(SHORT).await;
        }
        assert!(share.turn(Duration::ZERO).now_or_never().is_some());
        poll(WORK).await;
        assert!(share.turn(Duration::ZERO).now_or_never().is_none());
        let began = Instant::now();
        share.turn(Duration::ZERO).await;
        assert!(began.elapsed() <= MAX_DEBT);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_is_given_up_uses_nothing() {
        let share = TimeShare::new(0.01);
        share.turn(WORK).await;
        for _ in 0..100 {
            assert!(share.turn(WORK).now_or_never().is_none());
        }
        let began = Instant::now();
        share.turn(WORK).await;
        assert!(began.elapsed() <= WORK * 100);
    }
}
