//! HTTP/2 by hand, for what no proper client would do.

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::PATIENCE;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// A parameter of SETTINGS: the window of each stream.
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;

#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// One connection after its preface, which sends nothing on its own.
pub(crate) struct Peer {
    tcp: TcpStream,
}

impl Peer {
    /// Sends the preface and these settings, as pairs of identifier and value.
    pub(crate) async fn greet(mut tcp: TcpStream, settings: &[(u16, u32)]) -> Self {
        let payload: Vec<u8> =
            settings.iter().flat_map(|(id, value)| id.to_be_bytes().into_iter().chain(value.to_be_bytes())).collect();
        tcp.write_all(PREFACE).await.unwrap();
        let mut peer = Self { tcp };
        peer.send(SETTINGS, 0, 0, &payload).await.unwrap();
        peer
    }

    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> std::io::Result<()> {
        self.tcp.write_all(&encode(kind, flags, stream, payload)).await
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.tcp.write_all(bytes).await
    }

    /// Opens a stream with a gRPC call of one message.
    pub(crate) async fn call(&mut self, stream: u32, path: &str, text: &str) -> std::io::Result<()> {
        self.send(HEADERS, END_HEADERS, stream, &request_headers(path, &[])).await?;
        self.send(DATA, END_STREAM, stream, &message(text)).await
    }

    /// The next frame; none when the server closed the connection, orderly or not.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let reading = async {
            let mut head = [0; 9];
            self.tcp.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let mut payload = vec![0; length];
            self.tcp.read_exact(&mut payload).await.ok()?;
            Some(Frame { kind: head[3], flags: head[4], stream, payload })
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("the server neither speaks nor closes")
    }

    /// Reads up to the first frame of this kind; none when the connection ends before.
    pub(crate) async fn next_of(&mut self, kind: u8) -> Option<Frame> {
        loop {
            let frame = self.next().await?;
            if frame.kind == kind {
                return Some(frame);
            }
        }
    }

    /// Reads until the server closes.
    pub(crate) async fn read_to_end(&mut self) -> Vec<Frame> {
        let mut frames = Vec::new();
        while let Some(frame) = self.next().await {
            frames.push(frame);
        }
        frames
    }
}

pub(crate) fn encode(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// A length-prefixed `StringValue`.
pub(crate) fn message(text: &str) -> Vec<u8> {
    let encoded = prost::Message::encode_to_vec(&text.to_owned());
    let mut message = vec![0];
    message.extend_from_slice(&u32::try_from(encoded.len()).unwrap().to_be_bytes());
    message.extend_from_slice(&encoded);
    message
}

/// The header block of a gRPC request, every header a literal without indexing.
pub(crate) fn request_headers(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let usual = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    usual.iter().chain(more).flat_map(|(name, value)| header(name, value)).collect()
}

pub(crate) fn header(name: &str, value: &str) -> Vec<u8> {
    let mut encoded = vec![0];
    for text in [name, value] {
        length(&mut encoded, text.len());
        encoded.extend_from_slice(text.as_bytes());
    }
    encoded
}

/// An integer of HPACK with a prefix of seven bits.
fn length(encoded: &mut Vec<u8>, length: usize) {
    if length < 127 {
        encoded.push(u8::try_from(length).unwrap());
        return;
    }
    encoded.push(127);
    let mut rest = length - 127;
    while rest >= 128 {
        encoded.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    encoded.push(u8::try_from(rest).unwrap());
}

/// Sends these bytes and no more, and returns the time until the server closes the connection.
pub(crate) async fn closed_after_sending(mut tcp: TcpStream, bytes: &[u8]) -> Duration {
    let started = std::time::Instant::now();
    tcp.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let reading = tcp.read_to_end(&mut answer);
    // With bytes unread, the close is a reset, which counts as well.
    let _ = tokio::time::timeout(PATIENCE, reading).await.expect("the server holds a silent connection");
    started.elapsed()
}
