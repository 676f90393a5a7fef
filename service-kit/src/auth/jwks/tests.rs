use std::{
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::UNIX_EPOCH,
};

use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
    time::sleep,
};
use tokio_rustls::TlsAcceptor;
use url::Url;

use super::*;
use crate::{
    auth::{
        Mode, Refusal, Role, Settings, Verifier,
        testing::{Files, SECRET, Signer, b64},
    },
    lifecycle::{Grace, Lifecycle},
};

mod fetching;
mod keeping;

/// What a provider answers with.
#[derive(Clone)]
enum Answer {
    /// These bytes.
    Bytes(Vec<u8>),
    /// These bytes, one in 20 ms.
    Drip(Vec<u8>),
    /// Nothing.
    Silence,
}

/// An identity provider on loopback.
struct Provider {
    url: Url,
    hits: Arc<AtomicUsize>,
    answer: Arc<Mutex<Answer>>,
}

impl Provider {
    async fn new(keys: &[Value]) -> Self {
        Self::with_tls(keys, None).await
    }

    async fn with_tls(keys: &[Value], tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let port = listener.local_addr().unwrap().port();
        let url = format!("{scheme}://localhost:{port}/keys").parse().unwrap();
        let (hits, answer) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(Answer::Silence)));
        let provider = Self { url, hits: hits.clone(), answer: answer.clone() };
        provider.publish(keys);
        let tasks = Lifecycle::new();
        tasks.clone().spawn_job("provider", async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (hits, answer, tls) = (hits.clone(), answer.clone(), tls.clone());
                tasks.spawn_job("connection", async move {
                    match tls {
                        None => serve(stream, &hits, &answer).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, &hits, &answer).await,
                            Err(_) => drop(hits.fetch_add(1, Ordering::SeqCst)),
                        },
                    }
                });
            }
        });
        provider
    }

    fn answers(&self, answer: Answer) {
        *lock(&self.answer) = answer;
    }

    fn answers_with(&self, status: &str, headers: &str, body: impl AsRef<[u8]>) {
        self.answers(Answer::Bytes(response(status, headers, body.as_ref())));
    }

    fn publish(&self, keys: &[Value]) {
        self.answers_with("200 OK", "", json!({"keys": keys}).to_string());
    }

    fn hits(&self) -> usize {
        self.hits.load(Ordering::SeqCst)
    }

    fn settings(&self) -> Settings {
        let jwks = JwksSettings {
            url: self.url.clone(),
            issuer: "idp".to_owned(),
            ca_file: None,
            roles: vec![Role::User],
            max_stale: Duration::from_hours(24),
            role_of: vec![("system:serviceaccount:chat:backend".to_owned(), Role::Service)],
        };
        Settings { jwks: Some(jwks), ..Settings::of_secrets(Mode::Required, Vec::new()) }
    }

    /// One that fetched the keys once.
    async fn verifier(&self) -> Verifier {
        let verifier = Verifier::open(&self.settings()).unwrap();
        verifier.fetch().await.unwrap();
        verifier
    }
}

fn response(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

async fn serve(mut stream: impl AsyncRead + AsyncWrite + Unpin, hits: &AtomicUsize, answer: &Mutex<Answer>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => return,
        }
    }
    hits.fetch_add(1, Ordering::SeqCst);
    let answer = lock(answer).clone();
    match answer {
        Answer::Bytes(bytes) => {
            // The client may hang up at a body that is too long.
            let _ = stream.write_all(&bytes).await;
            let _ = stream.shutdown().await;
        }
        Answer::Drip(bytes) => {
            for byte in bytes {
                sleep(Duration::from_millis(20)).await;
                if stream.write_all(&[byte]).await.is_err() {
                    return;
                }
            }
        }
        Answer::Silence => std::future::pending().await,
    }
}

/// Short times where the test waits for them, and long ones where they must not matter.
fn timing() -> Timing {
    Timing {
        every: Duration::from_hours(1),
        fetch: Duration::from_millis(500),
        unknown: Duration::from_hours(1),
        wait: Duration::from_secs(30),
        retry: (Duration::from_millis(20), Duration::from_millis(20)),
    }
}

/// A token of now, or of some time after it: key sets age by the clock.
fn token_at(signer: &Signer, kid: &str, now: SystemTime) -> String {
    let now = now.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = json!({"iss": "idp", "aud": "parlance", "sub": "ada", "iat": now, "exp": now + 3600});
    signer.token_with(&json!({"kid": kid}), &claims)
}

async fn verify(verifier: &Verifier, signer: &Signer, kid: &str) -> Result<(), Refusal> {
    let now = SystemTime::now();
    verifier.verify(&token_at(signer, kid, now), now).await.map(drop)
}

fn is_invalid(result: &Result<(), Refusal>) -> bool {
    matches!(result, Err(Refusal::Invalid { .. }))
}

/// Polls until a condition holds.
async fn eventually(mut holds: impl AsyncFnMut() -> bool) {
    let polling = async {
        while !holds().await {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(30), polling).await.unwrap();
}

/// Ends the tasks of a verifier, which must end by themselves.
async fn end(lifecycle: Lifecycle) {
    let grace = Grace { accept: Duration::ZERO, drain: Duration::from_secs(30), kill: Duration::ZERO };
    lifecycle.shutdown(grace).await;
    assert!(lifecycle.run(std::future::ready(()), grace).await.is_ok());
}
