//! Signs tokens with a secret: for the command, for backends without a JWT library, and for a service itself.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use http::HeaderValue;
use jsonwebtoken::Header;
use serde::Serialize;
use tokio::{sync::watch, time::sleep};
use uuid::Uuid;

use super::{
    KeyId, Role,
    file::read_bounded,
    settings::{ISSUER, KeyFile},
    source::Keys,
    token::{MACHINE_LIFETIME, seconds},
};
use crate::{bounds, config::Secret, lifecycle::Lifecycle, sync::lock};

/// The lifetime of a token that a service signs for itself.
const SELF_LIFETIME: Duration = Duration::from_mins(5);
/// The part of its life after which it is replaced.
const RENEW_AT: f64 = 0.8;
/// How often the file with a service's own token is read.
const READ_EVERY: Duration = Duration::from_secs(10);
/// The longest token that a file may hold, in bytes.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// The reason why no token was signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The lifetime is out of bounds.
    #[error("the lifetime of a token of this role is 1s to {}", humantime::format_duration(*.0))]
    Lifetime(Duration),
    /// The subject is out of bounds.
    #[error("the subject {0}")]
    Subject(&'static str),
    /// There is no key that signs.
    #[error("there is no secret to sign with")]
    NoKey,
    /// The library failed.
    #[error("the token cannot be signed")]
    Signing,
}

/// What a new token says.
#[derive(Debug, Clone)]
pub struct NewToken<'a> {
    /// Whom it is for: of the role user, a user id.
    pub subject: &'a str,
    /// The role.
    pub role: Role,
    /// For how long it is valid: 1 s to 24 h (or the setting) for a user, to 90 days for others.
    pub lifetime: Duration,
    /// The audience; without one, that of the settings.
    pub audience: Option<&'a str>,
    /// When it begins to be valid, in whole seconds.
    pub issued_at: SystemTime,
}

#[derive(Serialize)]
struct ClaimsOut<'a> {
    iss: &'static str,
    sub: &'a str,
    aud: &'a str,
    iat: u64,
    exp: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    parlance_role: Option<&'static str>,
    jti: String,
}

/// Signs HS256 tokens. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Issuer {
    keys: watch::Receiver<Arc<Keys>>,
    audience: Arc<str>,
    user_lifetime: Duration,
}

impl Issuer {
    /// Reads the secret of a file once. Blocks.
    ///
    /// # Errors
    /// One sentence that names the file.
    pub fn open(file: &KeyFile, audience: &str, user_lifetime: Duration) -> Result<Self, String> {
        let content = read_bounded(&file.path)?;
        let signing = super::keys::SigningKey::of_secret(file.kid.as_deref(), &content);
        let signing = Some(signing.map_err(|rule| format!("{file} {rule}"))?);
        let (_, keys) = watch::channel(Arc::new(Keys { signing, ..Keys::default() }));
        Ok(Self::following(keys, audience, user_lifetime))
    }

    pub(super) fn following(keys: watch::Receiver<Arc<Keys>>, audience: &str, user_lifetime: Duration) -> Self {
        Self { keys, audience: audience.into(), user_lifetime }
    }

    /// The key that signs now.
    fn key(&self) -> Option<KeyId> {
        self.keys.borrow().signing.as_ref().map(|signing| signing.id.clone())
    }

    /// Signs a token. Its `jti` is new.
    ///
    /// # Errors
    /// [`IssueError`].
    pub fn sign(&self, new: &NewToken<'_>) -> Result<Secret, IssueError> {
        let longest = if new.role == Role::User { self.user_lifetime } else { MACHINE_LIFETIME };
        let lifetime = new.lifetime.as_secs();
        if lifetime == 0 || new.lifetime > longest {
            return Err(IssueError::Lifetime(longest));
        }
        if new.role == Role::User {
            bounds::own_id(new.subject).map_err(|rule| IssueError::Subject(rule.0))?;
        } else if !(1..=256).contains(&new.subject.len())
            || !new.subject.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        {
            return Err(IssueError::Subject("must be 1 to 256 printable ASCII characters"));
        }
        let keys = self.keys.borrow().clone();
        let signing = keys.signing.as_ref().ok_or(IssueError::NoKey)?;
        let iat = seconds(new.issued_at).floor() as u64;
        let claims = ClaimsOut {
            iss: ISSUER,
            sub: new.subject,
            aud: new.audience.unwrap_or(&self.audience),
            iat,
            exp: iat.saturating_add(lifetime),
            parlance_role: (new.role != Role::User).then_some(new.role.name()),
            jti: Uuid::now_v7().to_string(),
        };
        let header = Header { kid: Some(signing.kid.to_string()), ..Header::default() };
        let token = jsonwebtoken::encode(&header, &claims, &signing.encoding).map_err(|_| IssueError::Signing)?;
        Ok(Secret::new(token))
    }
}

/// The token by which a service calls another one. Cheap to clone; clones share it.
#[derive(Debug, Clone)]
pub struct SelfToken {
    from: Arc<From>,
}

#[derive(Debug)]
enum From {
    Issuer { issuer: Issuer, subject: &'static str, role: Role, current: Mutex<Option<Current>> },
    File { path: PathBuf, current: Mutex<HeaderValue> },
}

#[derive(Debug)]
struct Current {
    key: Option<KeyId>,
    header: HeaderValue,
    signed_at: SystemTime,
}

impl SelfToken {
    /// Returns one that signs tokens of 5 min for this subject and role, and replaces each at 80 % of its life, or when the
    /// secret changed.
    pub fn signed(issuer: Issuer, subject: &'static str, role: Role) -> Self {
        Self { from: Arc::new(From::Issuer { issuer, subject, role, current: Mutex::default() }) }
    }

    /// Reads the token from a file, now and every 10 s. A file that cannot be used later keeps the old token, with an error
    /// line.
    ///
    /// # Errors
    /// One sentence that names the file.
    pub fn read(path: PathBuf, lifecycle: &Lifecycle) -> Result<Self, String> {
        let current = Mutex::new(bearer_of_file(&path)?);
        let token = Self { from: Arc::new(From::File { path, current }) };
        let (reading, stages) = (token.clone(), lifecycle.clone());
        lifecycle.spawn("own token", async move {
            let work = async {
                loop {
                    sleep(READ_EVERY).await;
                    reading.reload().await;
                }
            };
            stages.closing().run_until_cancelled(work).await;
        });
        Ok(token)
    }

    /// Returns the value of the header `authorization`, marked as sensitive.
    ///
    /// # Errors
    /// [`IssueError`], where the token is signed here.
    pub fn header(&self, now: SystemTime) -> Result<HeaderValue, IssueError> {
        match &*self.from {
            From::File { current, .. } => Ok(lock(current).clone()),
            From::Issuer { issuer, subject, role, current } => {
                let mut current = lock(current);
                let life = SELF_LIFETIME.mul_f64(RENEW_AT);
                // A clock that was set back makes a token of the future, which must be replaced as well.
                let key = issuer.key();
                let is_young = |signed_at| now.duration_since(signed_at).is_ok_and(|age| age < life);
                if let Some(current) =
                    current.as_ref().filter(|current| current.key == key && is_young(current.signed_at))
                {
                    return Ok(current.header.clone());
                }
                let new = NewToken { subject, role: *role, lifetime: SELF_LIFETIME, audience: None, issued_at: now };
                let header = bearer(issuer.sign(&new)?.expose()).ok_or(IssueError::Signing)?;
                *current = Some(Current { key, header: header.clone(), signed_at: now });
                Ok(header)
            }
        }
    }

    /// Replaces the token now: after a rotation of keys it may have been refused.
    pub async fn reload(&self) {
        let token = self.clone();
        let reloaded = tokio::task::spawn_blocking(move || match &*token.from {
            From::Issuer { current, .. } => *lock(current) = None,
            From::File { path, current } => match bearer_of_file(path) {
                Ok(header) => *lock(current) = header,
                Err(problem) => tracing::error!(problem, "own token: not reloaded, the old one stays"),
            },
        });
        if let Err(cause) = reloaded.await {
            tracing::error!(%cause, "own token: reading the file failed");
        }
    }
}

fn bearer(token: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

fn bearer_of_file(path: &std::path::Path) -> Result<HeaderValue, String> {
    let content = read_bounded(path)?;
    let token = str::from_utf8(content.trim_ascii()).unwrap_or_default();
    let is_token = (1..=MAX_TOKEN_BYTES).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic());
    let header = if is_token { bearer(token) } else { None };
    header.ok_or_else(|| format!("{} holds no token; write one there, alone", path.display()))
}

#[cfg(test)]
mod tests;
