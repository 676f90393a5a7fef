//! A source of tokens: an issuer, its keys, and what its tokens may say. Files are read again when their content changes.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{Arc, Mutex},
    time::SystemTime,
};

use aws_lc_rs::digest::{self, Digest};
use tokio::sync::watch;

use super::{
    Role,
    file::read_bounded,
    jwks::{Jwks, Timing},
    keys::{Key, KeySet, SigningKey},
    settings::{ISSUER, KeyFile, Settings},
    token::{ClaimRules, Refusal},
};
use crate::{sync::lock, telemetry::metrics::counter};

/// The keys of a source at one time.
#[derive(Debug, Default)]
pub(super) struct Keys {
    pub(super) set: KeySet,
    /// The key that signs new tokens, of a source of secrets.
    pub(super) signing: Option<SigningKey>,
}

/// Where the keys of a source come from.
#[derive(Debug)]
pub(super) enum Origin {
    Secrets(Files),
    PublicKeys(Files),
    Jwks(Box<Jwks>),
}

/// Key files, and what was last seen of them.
#[derive(Debug)]
pub(super) struct Files {
    files: Vec<KeyFile>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// The hash of all contents that were taken last.
    contents: Option<[u8; 32]>,
    /// The problem that was logged last, so that it is logged once.
    problem: Option<String>,
}

/// One issuer.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) issuer: String,
    pub(super) rules: ClaimRules,
    pub(super) origin: Origin,
    pub(super) keys: watch::Sender<Arc<Keys>>,
}

impl Source {
    /// Builds the sources of the settings, without keys.
    ///
    /// # Errors
    /// One sentence: the client for the key set cannot be set up.
    pub(super) fn all(settings: &Settings, timing: Timing) -> Result<Vec<Self>, String> {
        let rules = |grants: &[Role]| ClaimRules {
            audience: settings.audience.clone(),
            user_claim: settings.user_claim.clone(),
            role_claim: settings.role_claim.clone(),
            grants: grants.to_vec(),
            role_of: HashMap::new(),
            user_lifetime: settings.max_lifetime,
        };
        let mut sources = Vec::new();
        if !settings.secrets.is_empty() {
            // The tokens of the services themselves are among them, so the names of claims do not depend on settings.
            let rules =
                ClaimRules { user_claim: "sub".into(), role_claim: "parlance_role".into(), ..rules(&Role::ALL) };
            sources.push(Self::new(ISSUER, rules, Origin::Secrets(Files::new(&settings.secrets))));
        }
        if let Some(public) = &settings.public_keys {
            let origin = Origin::PublicKeys(Files::new(&public.files));
            sources.push(Self::new(&public.issuer, rules(&public.roles), origin));
        }
        if let Some(jwks) = &settings.jwks {
            let rules = ClaimRules { role_of: jwks.role_of.iter().cloned().collect(), ..rules(&jwks.roles) };
            sources.push(Self::new(&jwks.issuer, rules, Origin::Jwks(Box::new(Jwks::new(jwks, timing)?))));
        }
        Ok(sources)
    }

    fn new(issuer: &str, rules: ClaimRules, origin: Origin) -> Self {
        Self { issuer: issuer.to_owned(), rules, origin, keys: watch::Sender::default() }
    }

    /// Returns the keys of now.
    pub(super) fn keys(&self) -> Arc<Keys> {
        self.keys.borrow().clone()
    }

    /// Returns whether the keys come from files.
    pub(super) const fn has_files(&self) -> bool {
        match self.origin {
            Origin::Secrets(_) | Origin::PublicKeys(_) => true,
            Origin::Jwks(_) => false,
        }
    }

    /// Checks that the keys may be used at a time.
    ///
    /// # Errors
    /// [`Refusal::KeysUnavailable`].
    pub(super) fn check_available(&self, now: SystemTime) -> Result<(), Refusal> {
        match &self.origin {
            Origin::Secrets(_) | Origin::PublicKeys(_) => Ok(()),
            Origin::Jwks(jwks) => jwks.check_available(now),
        }
    }

    /// Replaces the keys, and returns whether they are others than before.
    pub(super) fn replace(&self, keys: Keys) -> bool {
        self.keys.send_if_modified(|current| {
            let is_changed = !current.set.is_same(&keys.set);
            *current = Arc::new(keys);
            is_changed
        })
    }

    /// Reads the files of the source for the first time. Blocks.
    ///
    /// # Errors
    /// One sentence per problem.
    pub(super) fn load(&self) -> Result<(), Vec<String>> {
        match &self.origin {
            Origin::Secrets(files) | Origin::PublicKeys(files) => {
                let contents = files.read()?;
                self.replace(self.parse(files, &contents)?);
                lock(&files.seen).contents = Some(hash(&contents));
                Ok(())
            }
            Origin::Jwks(_) => Ok(()),
        }
    }

    /// Reads the files of the source, and returns whether the keys changed. Blocks. A file that cannot be used leaves the keys
    /// as they are, with an error line and a count.
    pub(super) fn reload(&self) -> bool {
        let (Origin::Secrets(files) | Origin::PublicKeys(files)) = &self.origin else { return false };
        let mut seen = lock(&files.seen);
        let keys = files.read().and_then(|contents| {
            let hash = hash(&contents);
            if seen.contents == Some(hash) {
                return Ok(None);
            }
            self.parse(files, &contents).map(|keys| Some((keys, hash)))
        });
        match keys {
            Ok(None) => {
                seen.problem = None;
                false
            }
            Ok(Some((keys, hash))) => {
                *seen = Seen { contents: Some(hash), problem: None };
                tracing::info!(issuer = self.issuer, keys = keys.set.len(), "token keys: reloaded");
                self.replace(keys)
            }
            Err(problems) => {
                counter!("parlance_auth_reload_failed_total").increment(1);
                let problem = problems.join("; ");
                if seen.problem.as_ref() != Some(&problem) {
                    tracing::error!(issuer = self.issuer, problem, "token keys: not reloaded, the old ones stay");
                    seen.problem = Some(problem);
                }
                false
            }
        }
    }

    fn parse(&self, files: &Files, contents: &[Vec<u8>]) -> Result<Keys, Vec<String>> {
        let is_secret = matches!(self.origin, Origin::Secrets(_));
        let (mut keys, mut problems) = (Vec::new(), Vec::new());
        for (file, content) in files.files.iter().zip(contents) {
            let kid = file.kid.as_deref();
            let key = if is_secret { Key::of_secret(kid, content) } else { Key::of_pem(kid, content) };
            match key {
                Ok(key) => keys.push(key),
                Err(rule) => problems.push(format!("{}: {file} {rule}", self.origin.flag())),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let signing = match (files.files.first(), contents.first()) {
            (Some(file), Some(content)) if is_secret => SigningKey::of_secret(file.kid.as_deref(), content).ok(),
            _ => None,
        };
        if is_secret {
            files.files.iter().for_each(|file| warn_if_readable(&file.path));
        }
        Ok(Keys { set: KeySet::new(keys), signing })
    }
}

impl Origin {
    const fn flag(&self) -> &'static str {
        match self {
            Self::Secrets(_) => "--token-secret-file",
            Self::PublicKeys(_) => "--token-public-key-file",
            Self::Jwks(_) => "--token-jwks",
        }
    }
}

impl Files {
    fn new(files: &[KeyFile]) -> Self {
        Self { files: files.to_vec(), seen: Mutex::default() }
    }

    fn read(&self) -> Result<Vec<Vec<u8>>, Vec<String>> {
        let (mut contents, mut problems) = (Vec::new(), Vec::new());
        for file in &self.files {
            match read_bounded(&file.path) {
                Ok(content) => contents.push(content),
                Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() { Ok(contents) } else { Err(problems) }
    }
}

/// Returns whether every user of the machine can read a file.
pub(super) fn is_world_readable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0)
}

fn warn_if_readable(path: &Path) {
    if is_world_readable(path) {
        tracing::warn!(file = %path.display(), "every user of this machine can read the token secret; chmod 600 it");
    }
}

fn hash(contents: &[Vec<u8>]) -> [u8; 32] {
    let mut all = digest::Context::new(&digest::SHA256);
    for content in contents {
        all.update(&(content.len() as u64).to_be_bytes());
        all.update(content);
    }
    to_array(&all.finish())
}

/// Returns a SHA-256 hash as an array.
pub(super) fn to_array(hash: &Digest) -> [u8; 32] {
    let mut array = [0; 32];
    array.copy_from_slice(hash.as_ref());
    array
}

#[cfg(test)]
mod tests;
