//! Peers that send nothing, or read nothing.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use service_kit::server::Settings;
use tonic::Request;

use crate::{
    raw::{self, DATA, INITIAL_WINDOW_SIZE, Peer, RST_STREAM, WINDOW_UPDATE},
    subject::{FLOW, UNARY},
    support::{await_a_place, eventually, flow, settings, start, within},
    web,
};

fn impatient() -> Settings {
    let brief = Duration::from_millis(300);
    Settings {
        handshake_timeout: Duration::from_millis(500),
        stall_timeout: brief,
        response_timeout: brief,
        ..settings()
    }
}

#[tokio::test]
async fn a_peer_that_sends_nothing_is_closed() {
    let server = start(impatient()).await;
    raw::closed_after_sending(server.tcp().await, b"").await;
    server.assert_lives().await;
}

#[tokio::test]
async fn a_peer_that_stops_within_the_preface_is_closed() {
    let server = start(impatient()).await;
    raw::closed_after_sending(server.tcp().await, &raw::PREFACE[..10]).await;
    server.assert_lives().await;
}

#[tokio::test]
async fn a_peer_that_stops_within_an_http1_head_is_closed() {
    let server = start(impatient()).await;
    raw::closed_after_sending(server.tcp().await, b"POST /").await;
    raw::closed_after_sending(server.tcp().await, b"POST /subject.v1.Subject/Unary HTTP/1.1\r\nHost: loc").await;
    server.assert_lives().await;
}

#[tokio::test]
async fn an_idle_http1_connection_is_kept_for_longer_than_a_head_may_take() {
    let server = start(impatient()).await;
    let mut tcp = server.tcp().await;
    web::call_on(&mut tcp, "hello").await.unwrap();
    // Opened now and silent: when it is closed, the time of a head has passed.
    raw::closed_after_sending(server.tcp().await, b"").await;
    web::call_on(&mut tcp, "hello").await.unwrap();
}

#[tokio::test]
async fn a_later_http1_head_must_be_complete_in_time_as_the_first() {
    let server = start(impatient()).await;
    let mut tcp = server.tcp().await;
    web::call_on(&mut tcp, "hello").await.unwrap();
    raw::closed_after_sending(tcp, b"POST /subject.v1.Subject/Unary HTTP/1.1\r\nHost: loc").await;
}

#[tokio::test]
async fn a_peer_that_completes_the_handshake_in_time_stays() {
    let server = start(impatient()).await;
    let channel = server.channel().await;
    let mut ticks = flow(&channel, Request::new("tick".to_owned())).await.unwrap();
    // Far longer than handshake and stall may take: this peer does both.
    for _ in 0..40 {
        within(ticks.message()).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn an_unread_stream_is_reset_and_its_neighbours_continue() {
    let server = start(impatient()).await;
    // The peer has no window for anything beyond the first 1,000 bytes of each stream.
    let mut peer = Peer::greet(server.tcp().await, &[(INITIAL_WINDOW_SIZE, 1_000)]).await;
    peer.call(1, FLOW, "flood").await.unwrap();
    let cut = peer.next_of(RST_STREAM).await.expect("a reset, not a close");
    assert_eq!(cut.stream, 1);

    // The memory held for it: the send buffer, a chunk of tonic and a frame of the body.
    let produced = server.subject.made.load(SeqCst) * 8 * 1024;
    assert!(produced <= 64 * 1024 + 64 * 1024, "{produced} bytes produced for a peer that reads nothing");
    eventually(|| server.subject.hanging.load(SeqCst), |open| *open == 0).await;

    // The connection still works.
    peer.call(3, UNARY, "hello").await.unwrap();
    let answer = peer.next_of(DATA).await.unwrap();
    assert_eq!((answer.stream, &answer.payload), (3, &raw::message("you said hello")));
}

#[tokio::test]
async fn a_large_unread_unary_response_is_reset() {
    let server = start(impatient()).await;
    let mut peer = Peer::greet(server.tcp().await, &[(INITIAL_WINDOW_SIZE, 1_000)]).await;
    peer.call(1, UNARY, "large").await.unwrap();
    assert_eq!(peer.next_of(RST_STREAM).await.expect("a reset, not a close").stream, 1);
}

#[tokio::test]
async fn a_response_whose_peer_has_no_window_at_all_is_reset() {
    for (path, text) in [(UNARY, "hello"), (FLOW, "flood")] {
        let server = start(impatient()).await;
        let mut peer = Peer::greet(server.tcp().await, &[(INITIAL_WINDOW_SIZE, 0)]).await;
        peer.call(1, path, text).await.unwrap();
        assert_eq!(peer.next_of(RST_STREAM).await.expect("a reset, not a close").stream, 1);
    }
}

#[tokio::test]
async fn the_response_of_a_unary_call_waits_for_less_long_than_a_stream() {
    let server = start(Settings { stall_timeout: Duration::from_mins(5), ..impatient() }).await;
    let mut peer = Peer::greet(server.tcp().await, &[(INITIAL_WINDOW_SIZE, 1_000)]).await;
    peer.call(1, FLOW, "flood").await.unwrap();
    peer.call(3, UNARY, "large").await.unwrap();
    assert_eq!(peer.next_of(RST_STREAM).await.expect("a reset, not a close").stream, 3);
}

#[tokio::test]
async fn a_stream_that_is_read_slowly_is_not_reset() {
    let server = start(Settings { stall_timeout: Duration::from_secs(1), ..settings() }).await;
    let mut peer = Peer::greet(server.tcp().await, &[(INITIAL_WINDOW_SIZE, 16_384)]).await;
    peer.call(1, FLOW, "flood").await.unwrap();
    // Longer in total than the stall timeout, with pauses well below it.
    for _ in 0..15 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        peer.send(WINDOW_UPDATE, 0, 0, &16_384_u32.to_be_bytes()).await.unwrap();
        peer.send(WINDOW_UPDATE, 0, 1, &16_384_u32.to_be_bytes()).await.unwrap();
        assert!(peer.next_of(DATA).await.is_some());
    }
    assert_eq!(server.subject.hanging.load(SeqCst), 1);
}

#[tokio::test]
async fn a_connection_whose_socket_is_not_read_is_dropped() {
    let server = start(Settings { max_connections: 1, ..impatient() }).await;
    // Window for everything, but the socket is never read: the kernel's buffers fill up.
    let mut peer = Peer::greet(server.tcp().await, &[(INITIAL_WINDOW_SIZE, 0x7fff_ffff)]).await;
    peer.send(WINDOW_UPDATE, 0, 0, &0x7fff_0000_u32.to_be_bytes()).await.unwrap();
    peer.call(1, FLOW, "flood").await.unwrap();
    eventually(|| server.subject.hanging.load(SeqCst), |open| *open == 1).await;
    eventually(|| server.subject.hanging.load(SeqCst), |open| *open == 0).await;
    // Its place, the only one, is free again although it has neither read nor closed.
    await_a_place(&server).await;
    assert!(!peer.read_to_end().await.is_empty());
}
