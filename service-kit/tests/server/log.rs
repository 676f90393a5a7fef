//! The log line of a call.

use std::{
    io,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use service_kit::{
    lifecycle::Lifecycle,
    server::{
        health::Health,
        readiness::{self, Probing},
    },
};
use tonic::Request;
use tracing_subscriber::fmt::MakeWriter;

use crate::{
    subject::UNARY,
    support::{eventually, flow, settings, start, unary_of, within},
};

/// Everything that was logged in this test binary. The lines of a test are those with its request ids.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn listen() -> Self {
        static LOG: OnceLock<Log> = OnceLock::new();
        let install = || {
            let log = Self::default();
            let lines = tracing_subscriber::fmt().json().with_max_level(tracing::Level::DEBUG);
            lines.with_writer(log.clone()).init();
            log
        };
        LOG.get_or_init(install).clone()
    }

    /// Returns the one line about the call with this id, which must have all of these words.
    async fn line_of(&self, id: &str, words: &[&str]) -> String {
        let marked = format!("\"request_id\":\"{id}\"");
        let found = || {
            let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
            let calls = text.lines().filter(|line| line.contains("rpc.grpc.status_code") && line.contains(&marked));
            calls.map(ToOwned::to_owned).collect::<Vec<_>>()
        };
        let lines = eventually(found, |lines| !lines.is_empty()).await;
        assert_eq!(lines.len(), 1, "{lines:?}");
        for word in words {
            assert!(lines[0].contains(word), "{word} in {}", lines[0]);
        }
        lines.into_iter().next().unwrap()
    }
}

impl Log {
    /// Counts the failed calls whose ids begin with `flood-`: those with a line, and those left out.
    fn count_flood(&self) -> (u64, u64) {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        lines.fold((0, 0), |(written, left_out), line| {
            let of_flood = line["span"]["request_id"].as_str().is_some_and(|id| id.starts_with("flood-"));
            let is_failure = of_flood && line["fields"]["message"] == "call failed";
            (written + u64::from(is_failure), left_out + line["fields"]["left_out"].as_u64().unwrap_or_default())
        })
    }
}

/// Returns a request with an id.
fn named(id: &str, text: &str) -> Request<String> {
    let mut request = Request::new(text.to_owned());
    request.metadata_mut().insert("x-request-id", id.parse().unwrap());
    request
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn a_failed_call_is_one_line_with_code_reason_cause_and_id() {
    let log = Log::listen();
    let server = start(settings()).await;
    let channel = server.channel().await;
    for (id, path, text, words) in [
        ("call-1", UNARY, "library error", &["ERROR", "\"INTERNAL\"", "row 7", "subject.v1.Subject", "Unary"][..]),
        ("call-2", UNARY, "refuse", &["INFO", "NOT_FOUND", "MESSAGE_NOT_FOUND", "duration_ms"]),
        ("call-3", UNARY, "panic", &["ERROR", "the handler broke on purpose"]),
        ("call-4", "/no.such.Service/Secret", "", &["INFO", "UNIMPLEMENTED", "unknown"]),
    ] {
        unary_of(&channel, path, named(id, text)).await.unwrap_err();
        let line = log.line_of(id, words).await;
        assert!(!line.contains("Secret"), "an unknown path is the caller's text: {line}");
    }
}

/// However many calls fail, a line was written for each, or it was counted as left out.
#[tokio::test]
async fn failed_calls_beyond_a_number_have_no_line_and_are_counted() {
    let log = Log::listen();
    let server = start(settings()).await;
    let channel = server.channel().await;
    let mut calls = 0;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    let (mut written, mut left_out) = (0, 0);
    while left_out == 0 || written + left_out < calls {
        assert!(tokio::time::Instant::now() < deadline, "{written} written and {left_out} left out of {calls}");
        // Bursts until lines were left out, then single calls until a line says how many.
        let more = if left_out == 0 { 400 } else { 1 };
        let failing = (calls..calls + more).map(|n| unary_of(&channel, UNARY, named(&format!("flood-{n}"), "refuse")));
        futures_util::future::join_all(failing).await.into_iter().for_each(|answer| drop(answer.unwrap_err()));
        calls += more;
        tokio::time::sleep(Duration::from_millis(100)).await;
        (written, left_out) = log.count_flood();
    }
    assert_eq!(written + left_out, calls);
}

#[tokio::test]
async fn a_failed_stream_is_one_line_with_the_recorded_cause() {
    let log = Log::listen();
    let server = start(settings()).await;
    let channel = server.channel().await;
    for (id, text, cause) in [("flow-1", "fail", "row 8 is broken"), ("flow-2", "panic", "the stream broke on purpose")]
    {
        let mut stream = flow(&channel, named(id, text)).await.unwrap();
        while within(stream.message()).await.is_ok_and(|item| item.is_some()) {}
        log.line_of(id, &["ERROR", "\"INTERNAL\"", cause, "Flow"]).await;
    }
}

#[tokio::test]
async fn a_cancelled_call_is_logged_at_debug_level() {
    let log = Log::listen();
    let server = start(settings()).await;
    let mut stream = flow(&server.channel().await, named("cancelled", "quiet")).await.unwrap();
    within(stream.message()).await.unwrap();
    drop(stream);
    log.line_of("cancelled", &["DEBUG", "CANCELLED", "Flow"]).await;
}

#[tokio::test]
async fn the_content_of_messages_is_not_logged() {
    let log = Log::listen();
    let server = start(settings()).await;
    let text = "meet me at noon";
    unary_of(&server.channel().await, UNARY, named("content", text)).await.unwrap();
    log.line_of("content", &["DEBUG", "OK"]).await;
    let everything = String::from_utf8_lossy(&log.0.lock().unwrap()).into_owned();
    assert!(!everything.contains(text));
}

/// A probe that failed, with the cause in its source only.
#[derive(Debug, thiserror::Error)]
#[error("the probe failed")]
struct ProbeError(#[source] io::Error);

#[tokio::test(start_paused = true)]
async fn a_failing_probe_is_logged_with_its_cause_once_per_change() {
    let (log, lifecycle) = (Log::listen(), Lifecycle::new());
    let mut asked = 0;
    readiness::watch(&Health::new([]), &lifecycle, Probing::default(), move || {
        asked += 1;
        let cause = if asked <= 5 { "no route to a6f1" } else { "refused by a6f1" };
        async move { Err::<(), _>(ProbeError(io::Error::other(cause))) }
    });
    tokio::time::sleep(Duration::from_mins(1)).await;
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for cause in ["the probe failed: no route to a6f1", "the probe failed: refused by a6f1"] {
        let lines: Vec<_> = text.lines().filter(|line| line.contains("WARN") && line.contains(cause)).collect();
        assert_eq!(lines.len(), 1, "{cause}: {lines:?}");
    }
}
