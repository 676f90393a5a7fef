//! gRPC-Web as a browser speaks it: one request over HTTP/1.1, on a new connection. Shows details that a client library
//! would hide, such as the server's own response to a deadline.

use std::{collections::HashMap, fmt::Write, net::SocketAddr};

use prost::Message;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tonic::Status;

use super::PATIENCE;

/// A parsed response.
#[derive(Debug)]
pub struct WebAnswer {
    /// The HTTP status.
    pub http_status: u16,
    /// Header names in lower case.
    pub headers: HashMap<String, String>,
    messages: Vec<Vec<u8>>,
    trailers: HashMap<String, String>,
}

/// A connection with a request sent.
pub struct WebCall {
    connection: TcpStream,
    received: Vec<u8>,
}

impl WebCall {
    /// Calls a method with one message.
    pub async fn begin(address: SocketAddr, path: &str, headers: &[(&str, &str)], request: &impl Message) -> Self {
        let body = request.encode_to_vec();
        let mut framed = vec![0];
        framed.extend((body.len() as u32).to_be_bytes());
        framed.extend(body);
        let headers = [&[("content-type", "application/grpc-web+proto")], headers].concat();
        Self::request(address, "POST", path, &headers, &framed).await
    }

    /// Sends any request.
    pub async fn request(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let length = body.len();
        let own_host = address.to_string();
        let host = headers.iter().find(|(name, _)| *name == "host").map_or(&*own_host, |(_, host)| host);
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
        for (name, value) in headers.iter().filter(|(name, _)| *name != "host") {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        write!(head, "content-length: {length}\r\n\r\n").unwrap();
        let mut connection = TcpStream::connect(address).await.unwrap();
        connection.write_all(&[head.as_bytes(), body].concat()).await.unwrap();
        Self { connection, received: Vec::new() }
    }

    /// Reads until the server ends the response.
    pub async fn answer(mut self) -> WebAnswer {
        let reading = self.connection.read_to_end(&mut self.received);
        tokio::time::timeout(PATIENCE, reading).await.expect("an end of the answer").unwrap();
        parse(&self.received)
    }

    /// Reads until this many messages have arrived, and disconnects.
    pub async fn first_messages(mut self, count: usize) -> WebAnswer {
        let reading = async {
            loop {
                if self.received.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
                    let answer = parse(&self.received);
                    if answer.messages.len() >= count {
                        return answer;
                    }
                }
                assert_ne!(self.connection.read_buf(&mut self.received).await.unwrap(), 0, "ended too early");
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("messages in time")
    }
}

impl WebAnswer {
    /// Returns the messages.
    pub fn messages<M: Message + Default>(&self) -> Vec<M> {
        self.messages.iter().map(|bytes| M::decode(&**bytes).unwrap()).collect()
    }

    /// Returns the status, from the trailers or, without a body, from the head.
    pub fn status(&self) -> Status {
        let fields = if self.trailers.contains_key("grpc-status") { &self.trailers } else { &self.headers };
        let mut map = tonic::metadata::MetadataMap::new().into_headers();
        for (name, value) in fields.iter().filter(|(name, _)| name.starts_with("grpc-")) {
            map.insert(name.parse::<tonic::codegen::http::HeaderName>().unwrap(), value.parse().unwrap());
        }
        Status::from_header_map(&map).expect("a status")
    }
}

fn parse(received: &[u8]) -> WebAnswer {
    let end = received.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
    let head = std::str::from_utf8(&received[..end]).unwrap();
    let (first, rest) = head.split_once("\r\n").unwrap_or((head, ""));
    let http_status = first.split(' ').nth(1).unwrap().parse().unwrap();
    let headers = fields(rest);
    let chunked = headers.get("transfer-encoding").is_some_and(|encoding| encoding == "chunked");
    let raw = &received[end + 4..];
    let body = if chunked { unchunk(raw) } else { raw.to_vec() };
    let (mut messages, mut trailers, mut at) = (Vec::new(), HashMap::new(), 0);
    while let Some(prefix) = body.get(at..at + 5) {
        let length = u32::from_be_bytes(prefix[1..5].try_into().unwrap()) as usize;
        let Some(frame) = body.get(at + 5..at + 5 + length) else { break };
        if prefix[0] & 0x80 == 0 {
            messages.push(frame.to_vec());
        } else {
            trailers = fields(std::str::from_utf8(frame).unwrap());
        }
        at += 5 + length;
    }
    WebAnswer { http_status, headers, messages, trailers }
}

fn fields(text: &str) -> HashMap<String, String> {
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines.map(|(name, value)| (name.trim().to_lowercase(), value.trim().to_owned())).collect()
}

/// Returns the complete chunks of a body that may be incomplete.
fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|bytes| bytes == b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&rest[..end]).unwrap(), 16).unwrap();
        let Some(chunk) = rest.get(end + 2..end + 2 + length) else { break };
        body.extend(chunk);
        let Some(next) = rest.get(end + 2 + length + 2..) else { break };
        rest = next;
    }
    body
}
