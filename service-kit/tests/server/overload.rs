//! Peers that exceed a limit.

use std::{sync::atomic::Ordering::SeqCst, time::Duration};

use service_kit::server::Settings;
use tonic::{Code, Request};
use tonic_types::StatusExt;

use crate::{
    raw::{self, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, INITIAL_WINDOW_SIZE, Peer, RST_STREAM, WINDOW_UPDATE},
    subject::{FLOW, UNARY},
    support::{await_a_place, eventually, flow, reason, settings, start, unary, within},
};

#[tokio::test]
async fn a_connection_beyond_the_limit_is_closed_at_once_and_a_released_place_is_reused() {
    let server = start(Settings { max_connections: 2, ..settings() }).await;
    let (first, _second) = (Peer::greet(server.tcp().await, &[]).await, Peer::greet(server.tcp().await, &[]).await);
    let mut kept = first;
    assert!(kept.next().await.is_some());
    raw::closed_after_sending(server.tcp().await, b"").await;
    drop(kept);
    await_a_place(&server).await;
}

#[tokio::test]
async fn each_address_has_its_own_limit() {
    let server = start(Settings { max_connections_per_address: Some(1), ..settings() }).await;
    let mut first = Peer::greet(server.tcp().await, &[]).await;
    assert!(first.next().await.is_some());
    raw::closed_after_sending(server.tcp().await, b"").await;
}

#[tokio::test]
async fn rapid_resets_end_in_goaway() {
    let server = start(Settings { max_concurrent_streams: 100, ..settings() }).await;
    let mut peer = Peer::greet(server.tcp().await, &[]).await;
    let storm: Vec<u8> = (0..2_000_u32)
        .flat_map(|n| {
            let stream = 2 * n + 1;
            let open = raw::encode(HEADERS, END_HEADERS, stream, &raw::request_headers(UNARY, &[]));
            open.into_iter().chain(raw::encode(RST_STREAM, 0, stream, &8_u32.to_be_bytes()))
        })
        .collect();
    // The server may close before it has read everything.
    let _ = peer.send_bytes(&storm).await;
    let frames = peer.read_to_end().await;
    // When the connection is closed with bytes unread, the GOAWAY may be lost.
    assert!(frames.len() < 100 && frames.last().is_none_or(|frame| frame.kind == GOAWAY), "{frames:?}");
    eventually(|| server.subject.hanging.load(SeqCst), |open| *open == 0).await;
    server.assert_lives().await;
}

#[tokio::test]
async fn a_client_that_cancels_its_calls_all_at_once_keeps_its_connection() {
    let server = start(settings()).await;
    let mut peer = Peer::greet(server.tcp().await, &[]).await;
    let cancelled: Vec<u8> = (0..30_u32)
        .flat_map(|n| {
            let open = raw::encode(HEADERS, END_HEADERS, 2 * n + 1, &raw::request_headers(UNARY, &[]));
            open.into_iter().chain(raw::encode(RST_STREAM, 0, 2 * n + 1, &8_u32.to_be_bytes()))
        })
        .collect();
    peer.send_bytes(&cancelled).await.unwrap();
    peer.call(61, UNARY, "hello").await.unwrap();
    let answer = peer.next_of(DATA).await.expect("the connection lives");
    assert_eq!((answer.stream, &answer.payload), (61, &raw::message("you said hello")));
}

#[tokio::test]
async fn resets_that_the_peer_provokes_are_limited() {
    let server = start(Settings { max_local_error_resets: 20, ..settings() }).await;
    let mut peer = Peer::greet(server.tcp().await, &[]).await;
    let storm: Vec<u8> = (0..100_u32)
        .flat_map(|n| {
            let stream = 2 * n + 1;
            let open = raw::encode(HEADERS, END_HEADERS, stream, &raw::request_headers(UNARY, &[]));
            // A window beyond 2^31 - 1 is an error of the stream, which the server must reset.
            open.into_iter().chain(raw::encode(WINDOW_UPDATE, 0, stream, &0x7fff_ffff_u32.to_be_bytes()))
        })
        .collect();
    let _ = peer.send_bytes(&storm).await;
    let frames = peer.read_to_end().await;
    let resets = frames.iter().filter(|frame| frame.kind == RST_STREAM).count();
    assert!(resets <= 21, "{resets} resets");
    // When the connection is closed with bytes unread, the GOAWAY may be lost.
    let enhance_your_calm = 11;
    let goaway = frames.iter().find(|frame| frame.kind == GOAWAY);
    assert!(goaway.is_none_or(|frame| frame.payload[7] == enhance_your_calm), "{goaway:?}");
    eprintln!("{resets} resets, then {goaway:?}");
    server.assert_lives().await;
}

#[tokio::test]
async fn an_oversized_header_list_reaches_no_handler() {
    let server = start(settings()).await;
    let mut peer = Peer::greet(server.tcp().await, &[]).await;
    let long = "v".repeat(15_000);
    let block = raw::request_headers(UNARY, &[("x-a", &long), ("x-b", &long)]);
    let (first, rest) = block.split_at(16_000);
    peer.send(HEADERS, END_STREAM, 1, first).await.unwrap();
    let continuation = 9;
    peer.send(continuation, END_HEADERS, 1, rest).await.unwrap();
    // h2 may answer with 431, a reset or a GOAWAY, but no handler runs.
    let answered = loop {
        match peer.next().await {
            Some(frame) if frame.kind == DATA => break true,
            Some(frame) if frame.kind == GOAWAY || frame.flags & END_STREAM != 0 && frame.stream == 1 => break false,
            Some(_) => {}
            None => break false,
        }
    };
    assert!(!answered);
    server.assert_lives().await;
}

#[tokio::test]
async fn an_oversized_message_is_refused_before_it_is_read() {
    let server = start(settings()).await;
    let refusal = within(unary(&server.channel().await, "x".repeat(1024 * 1024 + 1))).await.unwrap_err();
    assert_eq!((refusal.code(), reason(&refusal)), (Code::ResourceExhausted, "REQUEST_TOO_LARGE".to_owned()));
    server.assert_lives().await;
}

#[tokio::test]
async fn calls_beyond_the_limit_are_refused_with_advice_and_streams_and_health_are_not_counted() {
    let server = start(Settings { max_unary_calls: 1, ..settings() }).await;
    let channel = server.channel().await;
    let hanging = tokio::spawn({
        let channel = channel.clone();
        async move { unary(&channel, "hang").await }
    });
    eventually(|| server.subject.hanging.load(SeqCst), |hanging| *hanging == 1).await;

    let refusal = within(unary(&channel, "hello")).await.unwrap_err();
    assert_eq!((refusal.code(), reason(&refusal)), (Code::ResourceExhausted, "OVERLOADED".to_owned()));
    assert!(refusal.get_details_retry_info().is_some());
    let mut stream = flow(&channel, Request::new("quiet".to_owned())).await.unwrap();
    assert_eq!(within(stream.message()).await.unwrap().as_deref(), Some("first"));
    crate::life::check(&channel, "liveness").await.unwrap();

    // The caller cancels: its handler ends, its place is free.
    hanging.abort();
    eventually(|| server.subject.hanging.load(SeqCst), |hanging| *hanging == 0).await;
    server.assert_lives().await;
}

#[tokio::test]
async fn requests_half_sent_take_no_place() {
    let server = start(Settings { max_unary_calls: 4, ..settings() }).await;
    let mut peer = Peer::greet(server.tcp().await, &[]).await;
    for n in 0..8 {
        let headers = raw::request_headers(UNARY, &[("grpc-timeout", "99999999H")]);
        peer.send(HEADERS, END_HEADERS, 2 * n + 1, &headers).await.unwrap();
        // Some have begun their message.
        if n % 2 == 0 {
            peer.send(DATA, 0, 2 * n + 1, &raw::message("hello")[..7]).await.unwrap();
        }
    }
    // Answered after the server has read all of these.
    peer.call(17, UNARY, "hello").await.unwrap();
    assert_eq!(peer.next_of(DATA).await.unwrap().payload, raw::message("you said hello"));
    server.assert_lives().await;
}

#[tokio::test]
async fn one_connection_takes_a_share_of_the_places() {
    let server = start(Settings { max_unary_calls: 8, ..settings() }).await;
    let greedy = server.channel().await;
    let calls: Vec<_> = (0..2)
        .map(|_| {
            let channel = greedy.clone();
            tokio::spawn(async move { unary(&channel, "hang").await })
        })
        .collect();
    eventually(|| server.subject.hanging.load(SeqCst), |hanging| *hanging == 2).await;
    let refusal = within(unary(&greedy, "hello")).await.unwrap_err();
    assert_eq!((refusal.code(), reason(&refusal)), (Code::ResourceExhausted, "OVERLOADED".to_owned()));
    server.assert_lives().await;
    calls.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn messages_half_sent_on_streams_hold_no_more_than_a_budget() {
    let (minute, budget) = (Duration::from_mins(1), 40_000);
    let limits =
        Settings { max_request_bytes_held: budget, request_timeout: minute, default_deadline: minute, ..settings() };
    let server = start(limits).await;
    let mut peer = Peer::greet(server.tcp().await, &[]).await;
    let prefix = [&[0][..], &200_000_u32.to_be_bytes()].concat();
    for stream in [1, 3] {
        peer.send(HEADERS, END_HEADERS, stream, &raw::request_headers(FLOW, &[])).await.unwrap();
        peer.send(DATA, 0, stream, &prefix).await.unwrap();
        // Within the windows of the beginning.
        for length in [16 * 1024, 8_000] {
            peer.send(DATA, 0, stream, &vec![7; length]).await.unwrap();
        }
    }
    // The second is refused; the first waits for the rest of its message.
    let refusal = peer.next_of(HEADERS).await.expect("the connection lives");
    assert_eq!((refusal.stream, refusal.flags & END_STREAM), (3, END_STREAM));
    server.assert_lives().await;
}

#[tokio::test]
async fn responses_that_are_not_taken_hold_no_more_than_a_quota() {
    // Not enough for two.
    let held = 600_000;
    let server = start(Settings { max_response_bytes_held: held, ..settings() }).await;
    let mut peer = Peer::greet(server.tcp().await, &[(INITIAL_WINDOW_SIZE, 0)]).await;
    for stream in [1, 3] {
        peer.call(stream, UNARY, "large").await.unwrap();
    }
    let refused = loop {
        let headers = peer.next_of(HEADERS).await.expect("the connection lives");
        if headers.flags & END_STREAM != 0 {
            break headers.stream;
        }
    };
    assert!([1, 3].contains(&refused));
    server.assert_lives().await;
    // A peer that goes away takes nothing along.
    drop(peer);
    let channel = server.channel().await;
    within(async { while unary(&channel, "large").await.is_err() {} }).await;
}

#[tokio::test]
async fn a_message_that_has_begun_on_a_stream_must_arrive_in_time() {
    let minute = Duration::from_mins(1);
    let limits = Settings { request_timeout: Duration::from_millis(200), default_deadline: minute, ..settings() };
    let server = start(limits).await;
    let mut peer = Peer::greet(server.tcp().await, &[]).await;
    peer.send(HEADERS, END_HEADERS, 1, &raw::request_headers(FLOW, &[])).await.unwrap();
    peer.send(DATA, 0, 1, &raw::message("hello")[..7]).await.unwrap();
    let refusal = peer.next_of(HEADERS).await.expect("the connection lives");
    assert_eq!((refusal.stream, refusal.flags & END_STREAM), (1, END_STREAM));
}

#[tokio::test]
async fn open_streams_are_limited_and_a_released_place_is_reused() {
    // A connection has a quarter of them.
    let server = start(Settings { max_streams: 8, ..settings() }).await;
    let channel = server.channel().await;
    let open = async || within(flow(&channel, Request::new("quiet".to_owned()))).await;
    let (first, _second) = (open().await.unwrap(), open().await.unwrap());
    let refusal = open().await.map(drop).unwrap_err();
    assert_eq!((refusal.code(), reason(&refusal)), (Code::ResourceExhausted, "OVERLOADED".to_owned()));
    unary(&channel, "hello").await.unwrap();
    drop(first);
    within(async { while open().await.is_err() {} }).await;
}

#[tokio::test]
async fn the_settings_frame_limits_the_streams_of_a_connection() {
    let server = start(settings()).await;
    let mut peer = Peer::greet(server.tcp().await, &[]).await;
    let greeting = peer.next_of(raw::SETTINGS).await.unwrap();
    let values: Vec<(u16, u32)> = greeting
        .payload
        .chunks(6)
        .map(|pair| (u16::from_be_bytes([pair[0], pair[1]]), u32::from_be_bytes([pair[2], pair[3], pair[4], pair[5]])))
        .collect();
    let (max_concurrent_streams, max_header_list_size) = (3, 6);
    assert!(values.contains(&(max_concurrent_streams, 1_024)), "{values:?}");
    assert!(values.contains(&(max_header_list_size, 16 * 1024)), "{values:?}");
}

#[tokio::test]
async fn many_unread_small_frames_do_not_end_a_connection() {
    let server = start(Settings { default_deadline: Duration::from_mins(1), ..settings() }).await;
    let mut peer = Peer::greet(server.tcp().await, &[]).await;
    peer.call(1, FLOW, "quiet").await.unwrap();
    // A request whose message arrives in 4,000 pieces of 32 bytes.
    peer.send(HEADERS, END_HEADERS, 3, &raw::request_headers(UNARY, &[])).await.unwrap();
    let text = "y".repeat(4_000 * 32);
    let message = raw::message(&text);
    for piece in message.chunks(32) {
        peer.send(DATA, 0, 3, piece).await.unwrap();
    }
    peer.send(DATA, END_STREAM, 3, &[]).await.unwrap();
    let answered = loop {
        let frame = peer.next().await.expect("the connection stays open");
        assert_ne!(frame.kind, GOAWAY);
        if frame.kind == DATA && frame.stream == 3 {
            break frame;
        }
    };
    assert!(!answered.payload.is_empty());
}
