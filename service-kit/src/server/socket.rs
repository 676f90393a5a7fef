//! The stream of one connection, in two layers. [`Wire`], next to TCP, fails when nothing can be written. [`Socket`], next
//! to HTTP, watches the handshake and the heads of HTTP/1.1, and fails when a head takes too long. TLS is between them.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::{settings::Settings, turns::Turns};

/// The first bytes of every HTTP/2 connection.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream that fails when its peer takes nothing for too long.
pub(super) struct Wire<S> {
    stream: S,
    stall_timeout: Duration,
    // Set while a write waits for the peer.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> Wire<S> {
    pub(super) fn new(stream: S, stall_timeout: Duration) -> Self {
        Self { stream, stall_timeout, stalled: None }
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let timeout = self.stall_timeout;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(timeout)));
        match stalled.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "peer takes nothing"))),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

pub(super) struct Socket<S> {
    stream: S,
    turns: Turns,
    // The rest of the preface; `None` when the peer has sent something else.
    preface: Option<&'static [u8]>,
    head_timeout: Duration,
    // Set while a head of HTTP/1.1 arrives, with the number of calls before it.
    head: Option<(usize, Pin<Box<Sleep>>)>,
}

impl<S> Socket<S> {
    pub(super) fn new(stream: S, settings: &Settings, turns: Turns) -> Self {
        Self { stream, turns, preface: Some(PREFACE), head_timeout: settings.handshake_timeout, head: None }
    }

    fn take_preface(&mut self, bytes: &[u8]) {
        let Some(left) = self.preface.filter(|left| !left.is_empty() && !bytes.is_empty()) else { return };
        let (got, rest) = left.split_at(left.len().min(bytes.len()));
        self.preface = bytes.starts_with(got).then_some(rest);
        if rest.is_empty() && self.preface.is_some() {
            self.turns.greet();
        }
    }

    /// Is ready when the head that is arriving has taken too long. A connection of HTTP/1.1 that sends no head is idle,
    /// which hyper bounds.
    fn poll_late_head(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<()> {
        if self.preface.is_some_and(<[u8]>::is_empty) {
            self.head = None;
            return Poll::Pending;
        }
        let (begun, is_in_call) = (self.turns.begun(), self.turns.is_in_call());
        if is_in_call || self.head.as_ref().is_some_and(|(before, _)| *before != begun) {
            self.head = None;
        }
        if self.head.is_none() && !is_in_call && !bytes.is_empty() {
            self.head = Some((begun, Box::pin(sleep(self.head_timeout))));
        }
        self.head.as_mut().map_or(Poll::Pending, |(_, due)| due.as_mut().poll(cx))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        let bytes = &buf.filled()[before..];
        self.take_preface(bytes);
        if self.poll_late_head(cx, bytes).is_ready() && read.is_pending() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the head of a request takes too long")));
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
