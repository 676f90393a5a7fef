//! The keys of an identity provider, fetched over HTTPS: when, how, and what of them is taken.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{
    HeaderMap, Request, StatusCode, Uri,
    header::{ACCEPT, CACHE_CONTROL, USER_AGENT},
};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use jsonwebtoken::jwk::Jwk;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use serde_json::Value;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{
    JwksSettings,
    file::read_bounded,
    keys::{Key, KeySet},
    strict_json,
    token::Refusal,
};
use crate::{backoff::Backoff, causes::causes, sync::lock};

/// The longest key set, in bytes.
const MAX_BYTES: usize = 64 * 1024;
/// The most keys of a set.
const MAX_KEYS: usize = 64;
/// The bounds of `max-age` in `Cache-Control`.
const MAX_AGE: std::ops::RangeInclusive<u64> = 60..=3600;

/// The times of fetching. Tests have shorter ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    /// Until the next fetch, unless the answer says how long it is good for.
    pub(super) every: Duration,
    /// The longest time of one fetch.
    pub(super) fetch: Duration,
    /// Between two fetches for an unknown key.
    pub(super) unknown: Duration,
    /// The longest time for which a call waits for such a fetch.
    pub(super) wait: Duration,
    /// The pauses after failures.
    pub(super) retry: (Duration, Duration),
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            every: Duration::from_mins(5),
            fetch: Duration::from_secs(5),
            unknown: Duration::from_secs(30),
            wait: Duration::from_secs(2),
            retry: (Duration::from_secs(1), Duration::from_mins(1)),
        }
    }
}

impl Timing {
    pub(super) const fn backoff(&self) -> Backoff {
        Backoff::new(self.retry.0, self.retry.1)
    }
}

/// The published keys of an identity provider.
#[derive(Debug)]
pub(super) struct Jwks {
    url: Uri,
    client: Client<HttpsConnector<HttpConnector>, Empty<Bytes>>,
    max_stale: Duration,
    pub(super) timing: Timing,
    /// When the last fetch that succeeded began.
    fetched_at: Mutex<Option<SystemTime>>,
    /// When a fetch for an unknown key was last asked for, whether or not it succeeded.
    asked_at: Mutex<Option<Instant>>,
    /// The number of fetches asked for.
    requested: watch::Sender<u64>,
    /// How many of them are done.
    served: watch::Sender<u64>,
}

/// A key set that was fetched.
#[derive(Debug)]
pub(super) struct Fetched {
    pub(super) set: KeySet,
    /// Why keys of the published set are not taken.
    pub(super) left_out: Vec<&'static str>,
    /// When the fetch began.
    pub(super) began: SystemTime,
    /// When it should be fetched again.
    pub(super) refetch_in: Duration,
}

impl Jwks {
    /// Sets up the client. Reads the file of CA certificates.
    ///
    /// # Errors
    /// One sentence.
    pub(super) fn new(settings: &JwksSettings, timing: Timing) -> Result<Self, String> {
        let invalid = |cause: http::uri::InvalidUri| format!("--token-jwks is not a URL: {cause}");
        let url: Uri = settings.url.as_str().parse().map_err(invalid)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|cause| format!("TLS cannot be set up: {cause}"))?;
        let tls = match &settings.ca_file {
            None => builder.with_webpki_roots().with_no_client_auth(),
            Some(path) => {
                let roots = read_bounded(path)
                    .and_then(|text| roots(&text).map_err(|problem| format!("{} {problem}", path.display())));
                let roots = roots.map_err(|problem| format!("--token-jwks-ca-file: {problem}"))?;
                builder.with_root_certificates(roots).with_no_client_auth()
            }
        };
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls);
        // The settings allow plain HTTP on loopback only.
        let is_plain = settings.url.scheme() == "http";
        let builder = if is_plain { builder.https_or_http() } else { builder.https_only() };
        let connector = builder.enable_http1().build();
        // A connection for one request in minutes is not kept.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(connector);
        Ok(Self {
            url,
            client,
            max_stale: settings.max_stale,
            timing,
            fetched_at: Mutex::default(),
            asked_at: Mutex::default(),
            requested: watch::Sender::default(),
            served: watch::Sender::default(),
        })
    }

    /// Checks that there are keys, and that they are not too old.
    ///
    /// # Errors
    /// [`Refusal::KeysUnavailable`].
    pub(super) fn check_available(&self, now: SystemTime) -> Result<(), Refusal> {
        let fetched_at = lock(&self.fetched_at).ok_or(Refusal::KeysUnavailable)?;
        // A clock that was set back does not make keys older.
        let age = now.duration_since(fetched_at).unwrap_or_default();
        if age <= self.max_stale { Ok(()) } else { Err(Refusal::KeysUnavailable) }
    }

    /// Fetches the set.
    ///
    /// # Errors
    /// One sentence.
    pub(super) async fn fetch(&self) -> Result<Fetched, String> {
        let began = SystemTime::now();
        let failed = |cause: String| format!("the key set at {} cannot be used: {cause}", self.url);
        let late = |_| failed(format!("no answer within {}", humantime::format_duration(self.timing.fetch)));
        let answer = timeout(self.timing.fetch, self.get()).await.map_err(late)?;
        let (headers, body) = answer.map_err(failed)?;
        let (set, left_out) = parse(&body).map_err(failed)?;
        Ok(Fetched { set, left_out, began, refetch_in: max_age(&headers).unwrap_or(self.timing.every) })
    }

    /// Notes that the keys of a fetch are in use.
    pub(super) fn succeeded(&self, began: SystemTime) {
        *lock(&self.fetched_at) = Some(began);
    }

    async fn get(&self) -> Result<(HeaderMap, Bytes), String> {
        let request = Request::get(&self.url).header(ACCEPT, "application/json").header(USER_AGENT, "parlance");
        let request = request.body(Empty::new()).map_err(|cause| cause.to_string())?;
        let (head, body) = self.client.request(request).await.map_err(|cause| causes(&cause))?.into_parts();
        if head.status != StatusCode::OK {
            return Err(format!("the answer has the status {}; redirects are not followed", head.status.as_u16()));
        }
        let body = Limited::new(body, MAX_BYTES).collect().await.map_err(|cause| causes(&*cause))?;
        Ok((head.headers, body.to_bytes()))
    }

    /// Asks for a fetch because a token names an unknown key, and waits for it; at most one in 30 s. Returns whether there was
    /// one; `false` at once while the pause lasts.
    pub(super) async fn fetch_for_unknown_kid(&self) -> bool {
        let mut served = self.served.subscribe();
        let Some(request) = self.claim() else { return false };
        let done = timeout(self.timing.wait, served.wait_for(|served| *served >= request)).await;
        matches!(done, Ok(Ok(_)))
    }

    /// Returns the number of the fetch to wait for: a new one, or one that is under way.
    fn claim(&self) -> Option<u64> {
        if self.requested.receiver_count() == 0 {
            return None;
        }
        let mut asked_at = lock(&self.asked_at);
        if asked_at.is_none_or(|asked_at| asked_at.elapsed() >= self.timing.unknown) {
            // Before the fetch, so that a provider that does not answer is not asked more often.
            *asked_at = Some(Instant::now());
            self.requested.send_modify(|requested| *requested += 1);
            return Some(*self.requested.borrow());
        }
        drop(asked_at);
        let requested = *self.requested.borrow();
        (requested > *self.served.borrow()).then_some(requested)
    }

    /// Returns the numbers of the fetches asked for.
    pub(super) fn requests(&self) -> watch::Receiver<u64> {
        self.requested.subscribe()
    }

    /// Wakes the calls that wait for a fetch.
    pub(super) fn served(&self, request: u64) {
        self.served.send_replace(request);
    }
}

fn roots(text: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(text) {
        let certificate = certificate.map_err(|cause| format!("is not PEM: {cause}"))?;
        roots.add(certificate).map_err(|cause| format!("has a certificate that cannot be used: {cause}"))?;
    }
    if roots.is_empty() { Err("has no certificate".to_owned()) } else { Ok(roots) }
}

/// Returns the usable keys of a set, and why the others are not.
fn parse(body: &[u8]) -> Result<(KeySet, Vec<&'static str>), String> {
    let mut members = strict_json::object(body).map_err(|_| "it is not a JSON object".to_owned())?;
    let Some(Value::Array(published)) = members.remove("keys") else { return Err("it has no list keys".to_owned()) };
    if published.len() > MAX_KEYS {
        return Err(format!("it has more than {MAX_KEYS} keys"));
    }
    let (mut keys, mut left_out) = (Vec::new(), Vec::new());
    for key in published {
        match public_key(key) {
            Ok(key) => keys.push(key),
            Err(why) => left_out.push(why),
        }
    }
    if keys.is_empty() {
        return Err(format!("it has no usable key {left_out:?}"));
    }
    Ok((KeySet::new(keys), left_out))
}

fn public_key(key: Value) -> Result<Key, &'static str> {
    if key.get("d").is_some() {
        return Err("is published with its private part, so everyone can sign with it");
    }
    let jwk: Jwk = serde_json::from_value(key).map_err(|_| "cannot be read")?;
    Key::of_jwk(&jwk)
}

/// Returns `max-age` of `Cache-Control`, from 1 min to 1 h.
fn max_age(headers: &HeaderMap) -> Option<Duration> {
    let texts = headers.get_all(CACHE_CONTROL).iter().filter_map(|value| value.to_str().ok());
    let mut directives = texts.flat_map(|text| text.split(',')).filter_map(|directive| directive.split_once('='));
    let (_, seconds) = directives.find(|(name, _)| name.trim().eq_ignore_ascii_case("max-age"))?;
    let seconds: u64 = seconds.trim().trim_matches('"').parse().ok()?;
    Some(Duration::from_secs(seconds.clamp(*MAX_AGE.start(), *MAX_AGE.end())))
}

#[cfg(test)]
mod tests;
