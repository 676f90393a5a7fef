//! Ends a response whose peer does not read it.
//!
//! hyper asks a response for its next frame only when the peer's window has room for the last one, so a response alone
//! cannot notice that the peer does not read. Here the body records by when a frame must be taken, and [`StreamExecutor`]
//! runs each HTTP/2 stream inside a guard that checks the record: a frame that stays the last one for too long, or a first
//! one that is not asked for, ends the stream, which resets it and frees what it had buffered. Bodies and guards meet
//! through a task-local.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::task::TaskTracker;
use tonic::{Status, body::Body};

use super::turns::Turn;
use crate::sync::lock;

/// The largest piece that is passed to hyper at once: hyper holds this much beyond the bound of a full send buffer.
const PIECE_BYTES: usize = 16 * 1024;

tokio::task_local! {
    static PROGRESS: Arc<Progress>;
}

/// The time by which the peer must have taken what hyper holds of a response; `None` while hyper waits for more of it.
#[derive(Debug, Default)]
struct Progress(Mutex<Option<Instant>>);

impl Progress {
    fn is_due(&self, at: Option<Instant>) {
        *lock(&self.0) = at;
    }

    fn due(&self) -> Option<Instant> {
        *lock(&self.0)
    }
}

/// A response body in small pieces, which notifies the guard of its stream when one is taken.
#[derive(Debug)]
pub(super) struct Paced {
    inner: Body,
    rest: Bytes,
    progress: Option<Arc<Progress>>,
    patience: Duration,
    _turn: Option<Turn>,
}

impl Paced {
    /// Wraps the body of a response, whose peer may take nothing for as long as `patience`; to be called while the stream that it
    /// belongs to is polled. Over HTTP/1.1 it holds the call's turn.
    pub(super) fn new(inner: Body, turn: Option<Turn>, patience: Duration) -> Self {
        let progress = PROGRESS.try_with(Arc::clone).ok();
        if let Some(progress) = &progress {
            // Without any window hyper does not even ask for the first frame.
            progress.is_due(Some(Instant::now() + patience));
        }
        Self { inner, rest: Bytes::new(), progress, patience, _turn: turn }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(frame) => return Poll::Ready(Some(Ok(frame))),
                },
                end => return Poll::Ready(end),
            }
        }
        let piece = self.rest.split_to(self.rest.len().min(PIECE_BYTES));
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl http_body::Body for Paced {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let piece = self.poll_piece(cx);
        if let Some(progress) = &self.progress {
            let handed_out = matches!(&piece, Poll::Ready(Some(Ok(frame))) if frame.is_data());
            progress.is_due(handed_out.then(|| Instant::now() + self.patience));
        }
        piece
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.rest.is_empty() { self.inner.size_hint() } else { SizeHint::default() }
    }
}

/// Runs hyper's stream futures inside guards.
#[derive(Debug, Clone)]
pub(super) struct StreamExecutor {
    pub(super) tasks: TaskTracker,
}

impl<F> Executor<F> for StreamExecutor
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.tasks.spawn(Guard { stream, progress: Arc::default(), alarm: None });
    }
}

pin_project! {
    /// One stream, and the alarm that rings when its last frame was handed out too long ago.
    struct Guard<F> {
        #[pin]
        stream: F,
        progress: Arc<Progress>,
        // Set only for streams that had to wait: most never do.
        alarm: Option<Pin<Box<Sleep>>>,
    }
}

impl<F: Future<Output = ()>> Future for Guard<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if PROGRESS.sync_scope(Arc::clone(this.progress), || this.stream.poll(cx)).is_ready() {
            return Poll::Ready(());
        }
        let Some(due) = this.progress.due() else {
            *this.alarm = None;
            return Poll::Pending;
        };
        let alarm = this.alarm.get_or_insert_with(|| Box::pin(sleep_until(due)));
        // A piece was taken since the alarm was set: the last one counts.
        if alarm.deadline() != due {
            alarm.as_mut().reset(due);
        }
        ready!(alarm.as_mut().poll(cx));
        tracing::info!("response cut: its peer takes nothing");
        Poll::Ready(())
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use http_body_util::{BodyExt, Full};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn a_large_frame_comes_in_pieces_and_whole() {
        let content = Bytes::from((0..100_000_u32).flat_map(u32::to_be_bytes).collect::<Vec<_>>());
        let mut paced = Paced::new(Body::new(Full::new(content.clone())), None, PATIENCE);
        let mut seen = Vec::new();
        while let Some(frame) = paced.frame().await {
            let data = frame.unwrap().into_data().unwrap();
            assert!(data.len() <= PIECE_BYTES);
            seen.extend_from_slice(&data);
        }
        assert_eq!(content, seen);
        assert!(paced.is_end_stream());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_whose_frame_is_not_taken_ends_and_one_that_waits_for_us_does_not() {
        let guard = |frames: usize| {
            let stream = async move {
                let mut paced = Paced::new(Body::new(Full::new(Bytes::from_static(b"frame"))), None, PATIENCE);
                for _ in 0..frames {
                    poll_fn(|cx| Pin::new(&mut paced).poll_frame(cx)).await;
                }
                std::future::pending::<()>().await;
            };
            Guard { stream, progress: Arc::default(), alarm: None }
        };
        let started = Instant::now();
        guard(1).await;
        assert_eq!(started.elapsed(), PATIENCE);
        // Polled again after the frame, as hyper does when there is room: then the response itself has nothing to send.
        assert!(tokio::time::timeout(Duration::from_hours(1), guard(2)).await.is_err());
    }
}
