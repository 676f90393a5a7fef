//! Reads the files of TLS, and makes of them what a handshake uses.

use std::{path::Path, sync::Arc};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs::Ticketer,
    server::{ProducesTickets, WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
    version::{TLS12, TLS13},
};
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::settings::{ClientAuth, Clients, MinVersion, Settings};
use crate::tls::{
    files::{self, MAX_CRL_FILE_BYTES, MAX_FILE_BYTES, PairError},
    provider,
};

/// What a new handshake uses.
pub(super) struct Current {
    pub(super) config: Arc<ServerConfig>,
    /// Cancelled when the authorities or the lists of revoked certificates change.
    pub(super) withdrawn: CancellationToken,
}

/// The files as they were last read without an error.
pub(super) struct Loaded {
    pub(super) pair: Pair,
    pub(super) trust: Option<Trust>,
    /// Keys of tickets, which rotate.
    pub(super) tickets: Arc<dyn ProducesTickets>,
    /// What was wrong at the last attempt.
    pub(super) problems: Vec<String>,
}

/// A certificate and its key.
#[derive(Clone)]
pub(super) struct Pair {
    /// Of both files.
    pub(super) digest: [u8; 32],
    pub(super) certified: CertifiedKey,
}

/// The authorities of client certificates, and the certificates that were revoked.
#[derive(Clone)]
pub(super) struct Trust {
    /// Of both files.
    pub(super) digest: [u8; 32],
    verifier: Arc<dyn ClientCertVerifier>,
    /// Cancelled when this is replaced.
    pub(super) withdrawn: CancellationToken,
}

impl Loaded {
    /// Reads all files, to the end, so that every problem is reported.
    pub(super) fn new(settings: &Settings) -> Result<(Self, Current), Vec<String>> {
        let pair = Pair::read(settings);
        let trust = settings.clients.as_ref().map(Trust::read).transpose();
        let (pair, trust) = match (pair, trust) {
            (Ok(pair), Ok(trust)) => (pair, trust),
            (pair, trust) => return Err([pair.err(), trust.err()].into_iter().flatten().collect()),
        };
        let tickets = tickets().map_err(|problem| vec![problem])?;
        let loaded = Self { pair, trust, tickets, problems: Vec::new() };
        let current = loaded.current(settings.min_version).map_err(|problem| vec![problem])?;
        Ok((loaded, current))
    }

    /// Returns the same with these parts replaced.
    pub(super) fn next(&self, pair: Option<Pair>, trust: Option<Trust>) -> Self {
        Self {
            pair: pair.unwrap_or_else(|| self.pair.clone()),
            trust: trust.or_else(|| self.trust.clone()),
            tickets: Arc::clone(&self.tickets),
            problems: self.problems.clone(),
        }
    }

    /// Returns the signal for connections with a client certificate if `next` verifies those by other files.
    pub(super) fn withdrawn_by(&self, next: &Self) -> Option<CancellationToken> {
        let (old, new) = (self.trust.as_ref()?, next.trust.as_ref()?);
        (old.digest != new.digest).then(|| old.withdrawn.clone())
    }

    /// Returns what new handshakes use.
    pub(super) fn current(&self, min_version: MinVersion) -> Result<Current, String> {
        let versions: &[_] = match min_version {
            MinVersion::Tls12 => &[&TLS13, &TLS12],
            MinVersion::Tls13 => &[&TLS13],
        };
        let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions);
        let builder = builder.map_err(|error| format!("TLS cannot be used: {error}"))?;
        let builder = match &self.trust {
            Some(trust) => builder.with_client_cert_verifier(Arc::clone(&trust.verifier)),
            None => builder.with_no_client_auth(),
        };
        let certificate = SingleCertAndKey::from(self.pair.certified.clone());
        let mut config = builder.with_cert_resolver(Arc::new(certificate));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Data before the handshake could be replayed.
        config.max_early_data_size = 0;
        config.ticketer = Arc::clone(&self.tickets);
        let withdrawn = self.trust.as_ref().map_or_else(CancellationToken::new, |trust| trust.withdrawn.clone());
        Ok(Current { config: Arc::new(config), withdrawn })
    }
}

impl Pair {
    /// Reads certificate and key. Blocks.
    pub(super) fn read(settings: &Settings) -> Result<Self, String> {
        let read = files::pair(&settings.certificate, &settings.key, &provider());
        let (certified, texts) = read.map_err(|error| match error {
            PairError::Certificate(cause) => problem("--tls-cert-file", &settings.certificate, &cause),
            PairError::Key(cause) => problem("--tls-key-file", &settings.key, &cause),
        })?;
        Ok(Self { digest: digest(&texts), certified })
    }
}

impl Trust {
    /// Reads the authorities and the revocation lists. Blocks.
    pub(super) fn read(clients: &Clients) -> Result<Self, String> {
        let of_authorities = |cause: String| problem("--tls-client-ca-file", &clients.authorities, &cause);
        let mut texts = vec![files::read(&clients.authorities, MAX_FILE_BYTES).map_err(of_authorities)?];
        let roots = files::authorities(&texts[0]).map_err(of_authorities)?;
        let mut builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
        let mut of_builder = of_authorities("cannot be used".to_owned());
        if let Some(path) = &clients.revocation_lists {
            let of_lists = |cause: String| problem("--tls-client-crl-file", path, &cause);
            let text = files::read(path, MAX_CRL_FILE_BYTES).map_err(of_lists)?;
            builder = builder.with_crls(files::revocation_lists(&text).map_err(of_lists)?);
            texts.push(text);
            of_builder = of_lists("has a revocation list that cannot be used".to_owned());
        }
        if clients.auth == ClientAuth::Optional {
            builder = builder.allow_unauthenticated();
        }
        let verifier = builder.build().map_err(|error| format!("{of_builder}: {error}"))?;
        Ok(Self { digest: digest(&texts), verifier, withdrawn: CancellationToken::new() })
    }
}

/// Returns new keys of tickets. Tickets by other keys are worth nothing.
pub(super) fn tickets() -> Result<Arc<dyn ProducesTickets>, String> {
    Ticketer::new().map_err(|error| format!("TLS cannot be used: {error}"))
}

fn digest(texts: &[Vec<u8>]) -> [u8; 32] {
    let mut all = Sha256::new();
    for text in texts {
        all.update(text.len().to_be_bytes());
        all.update(text);
    }
    all.finalize().into()
}

fn problem(setting: &str, path: &Path, cause: &str) -> String {
    format!("{setting}: the file {} {cause}", path.display())
}
