//! Compact JWS into claims: what a token must look like, and what its claims must say. Pure: the clock is a parameter, and
//! nothing is read or sent. The signature is verified by [`super::keys`].

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::{Role, algorithm::Algorithm, strict_json};
use crate::{
    bounds,
    failure::{Failure, Reason},
};

/// The longest token, in bytes.
const MAX_TOKEN_BYTES: usize = 8 * 1024;
/// The longest `jti`, in bytes.
const MAX_JTI_BYTES: usize = 128;
/// The longest subject that is not a user id, in bytes.
const MAX_SUBJECT_BYTES: usize = 256;
/// The end of the year 9999, in seconds since 1970. A time in milliseconds is beyond.
const MAX_TIME: f64 = 253_402_300_799.0;
/// The longest lifetime of a token of a role other than user.
pub(super) const MACHINE_LIFETIME: Duration = Duration::from_hours(90 * 24);

/// The reason why a token is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is malformed, is not signed by a known key, or its claims break a rule.
    #[error("the token is refused: {why}")]
    Invalid {
        /// The check that failed, for the log only.
        why: &'static str,
    },
    /// It has ended.
    #[error("the token has ended")]
    Expired,
    /// It has not begun.
    #[error("the token has not begun")]
    NotYetValid,
    /// The keys that would verify it cannot be fetched.
    #[error("the keys of the issuer of the token are not available")]
    KeysUnavailable,
}

impl From<Refusal> for Failure {
    /// The caller does not learn which check failed; the cause has it, for the log.
    fn from(refusal: Refusal) -> Self {
        let (reason, text) = match refusal {
            Refusal::Invalid { .. } => (Reason::TokenInvalid, "the token is not valid"),
            Refusal::Expired => (Reason::TokenExpired, "the token has expired; send a new one"),
            Refusal::NotYetValid => (Reason::TokenNotYetValid, "the token is not valid yet"),
            Refusal::KeysUnavailable => (Reason::KeysUnavailable, "the keys that verify tokens are not available"),
        };
        Self::of(reason, text).caused_by(refusal)
    }
}

pub(super) const fn invalid(why: &'static str) -> Refusal {
    Refusal::Invalid { why }
}

/// The parts of a well-formed token. Nothing of it is verified.
#[derive(Debug)]
pub(super) struct Parsed<'t> {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    /// The bytes that are signed.
    pub(super) message: &'t [u8],
    pub(super) signature: &'t str,
    claims: Map<String, Value>,
}

impl<'t> Parsed<'t> {
    /// Parses a token.
    ///
    /// # Errors
    /// [`Refusal::Invalid`].
    pub(super) fn parse(token: &'t str) -> Result<Self, Refusal> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(invalid("longer than 8 KiB"));
        }
        let (message, signature) = token.rsplit_once('.').ok_or(invalid("not three parts"))?;
        let (header, payload) = message.split_once('.').ok_or(invalid("not three parts"))?;
        if payload.contains('.') {
            return Err(invalid("not three parts"));
        }
        if signature.is_empty() {
            return Err(invalid("no signature"));
        }
        // The library decodes it once more, by the same rules; here it costs no verification.
        decoded(signature)?;
        let mut header = part(header, "the header is not a JSON object")?;
        let claims = part(payload, "the payload is not a JSON object")?;
        if ["crit", "b64", "zip", "enc"].into_iter().any(|name| header.contains_key(name)) {
            return Err(invalid("the header demands an extension"));
        }
        let typ_is_known = match header.get("typ") {
            None => true,
            Some(Value::String(typ)) => ["JWT", "at+jwt"].iter().any(|known| typ.eq_ignore_ascii_case(known)),
            Some(_) => false,
        };
        if !typ_is_known {
            return Err(invalid("typ is neither JWT nor at+jwt"));
        }
        let algorithm = header.get("alg").and_then(Value::as_str).and_then(Algorithm::of_name);
        let algorithm = algorithm.ok_or(invalid("alg is missing or not supported"))?;
        let kid = match header.remove("kid") {
            None => None,
            Some(Value::String(kid)) => Some(kid),
            Some(_) => return Err(invalid("kid is not a text")),
        };
        Ok(Self { algorithm, kid, message: message.as_bytes(), signature, claims })
    }

    /// Returns the issuer that the token names.
    ///
    /// # Errors
    /// [`Refusal::Invalid`].
    pub(super) fn issuer(&self) -> Result<&str, Refusal> {
        self.claims.get("iss").and_then(Value::as_str).ok_or(invalid("iss is missing or not a text"))
    }

    /// Returns the claims, once the signature is verified. Their times are not compared with the clock yet.
    ///
    /// # Errors
    /// [`Refusal::Invalid`].
    pub(super) fn claims(&self, rules: &ClaimRules) -> Result<Claims, Refusal> {
        let is_ours = |value: &Value| value.as_str() == Some(&rules.audience);
        let is_addressed = match self.claims.get("aud") {
            Some(Value::Array(list)) => list.iter().all(Value::is_string) && list.iter().any(is_ours),
            Some(value) => is_ours(value),
            None => false,
        };
        if !is_addressed {
            return Err(invalid("aud does not hold our audience"));
        }
        let (subject, role) = self.subject(rules)?;
        let jti = match self.claims.get("jti") {
            None => None,
            Some(Value::String(jti)) if jti.len() <= MAX_JTI_BYTES => Some(Arc::from(jti.as_str())),
            Some(_) => return Err(invalid("jti is not a text of at most 128 bytes")),
        };
        let times = Times {
            issued_at: self.time("iat")?.ok_or(invalid("iat is missing"))?,
            expires_at: self.time("exp")?.ok_or(invalid("exp is missing"))?,
            not_before: self.time("nbf")?,
        };
        let longest = if role == Role::User { rules.user_lifetime } else { MACHINE_LIFETIME };
        if times.expires_at - times.issued_at > longest.as_secs_f64() {
            return Err(invalid("exp is too long after iat"));
        }
        Ok(Claims { subject: subject.into(), role, jti, times })
    }

    fn subject(&self, rules: &ClaimRules) -> Result<(&str, Role), Refusal> {
        let claimed = match self.claims.get(&rules.role_claim) {
            None => None,
            Some(Value::String(name)) => Some(Role::of_name(name).ok_or(invalid("the role is unknown"))?),
            Some(_) => return Err(invalid("the role is not a text")),
        };
        let sub = self.claims.get("sub").map(|sub| sub.as_str().ok_or(invalid("sub is not a text"))).transpose()?;
        let role = match sub.and_then(|sub| rules.role_of.get(sub)) {
            Some(configured) if claimed.is_none_or(|claimed| claimed == *configured) => *configured,
            Some(_) => return Err(invalid("the role is not the one of this subject")),
            None => {
                let role = claimed.unwrap_or(Role::User);
                if !rules.grants.contains(&role) {
                    return Err(invalid("the issuer may not grant this role"));
                }
                role
            }
        };
        if role == Role::User {
            let user = self.claims.get(&rules.user_claim).and_then(Value::as_str);
            let user = user.ok_or(invalid("the claim with the user id is missing or not a text"))?;
            bounds::own_id(user).map_err(|_| invalid("the subject is not a user id"))?;
            return Ok((user, role));
        }
        let sub = sub.ok_or(invalid("sub is missing"))?;
        let is_printable = sub.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if !(1..=MAX_SUBJECT_BYTES).contains(&sub.len()) || !is_printable {
            return Err(invalid("sub is not 1 to 256 printable ASCII characters"));
        }
        Ok((sub, role))
    }

    fn time(&self, claim: &str) -> Result<Option<f64>, Refusal> {
        let Some(value) = self.claims.get(claim) else { return Ok(None) };
        let Value::Number(number) = value else { return Err(invalid("a time is not a number")) };
        let seconds = number.as_f64().filter(|seconds| (0.0..=MAX_TIME).contains(seconds));
        seconds.map(Some).ok_or(invalid("a time is out of bounds"))
    }
}

/// Returns the header and the claims of a well-formed token, unverified: to be shown to people, and to decide nothing.
///
/// # Errors
/// [`Refusal::Invalid`].
pub fn unverified(token: &str) -> Result<(Value, Value), Refusal> {
    let parsed = Parsed::parse(token)?;
    let header = token.split('.').next().unwrap_or_default();
    Ok((part(header, "the header is not a JSON object")?.into(), parsed.claims.into()))
}

fn decoded(text: &str) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| invalid("a part is not base64url"))
}

fn part(text: &str, why: &'static str) -> Result<Map<String, Value>, Refusal> {
    strict_json::object(&decoded(text)?).map_err(|_| invalid(why))
}

/// What the claims of a source's tokens must say.
#[derive(Debug, Clone)]
pub(super) struct ClaimRules {
    pub(super) audience: String,
    /// The claim with the user id, in a token of the role user. The subject of other roles is `sub`.
    pub(super) user_claim: String,
    pub(super) role_claim: String,
    pub(super) grants: Vec<Role>,
    /// Roles by `sub`, for tokens that carry no role.
    pub(super) role_of: HashMap<String, Role>,
    /// The longest lifetime of a user's token.
    pub(super) user_lifetime: Duration,
}

/// The claims of a token that follow the rules of its source.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Claims {
    pub(super) subject: Arc<str>,
    pub(super) role: Role,
    pub(super) jti: Option<Arc<str>>,
    pub(super) times: Times,
}

/// The times of a token, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Times {
    pub(super) issued_at: f64,
    pub(super) expires_at: f64,
    pub(super) not_before: Option<f64>,
}

impl Times {
    /// Compares them with the clock, which may differ from that of the issuer by `skew`.
    ///
    /// # Errors
    /// Any [`Refusal`] but [`Refusal::KeysUnavailable`].
    pub(super) fn check(&self, now: SystemTime, skew: Duration) -> Result<(), Refusal> {
        let (now, skew) = (seconds(now), skew.as_secs_f64());
        if self.issued_at > now + skew {
            Err(invalid("iat is ahead of the clock"))
        } else if now >= self.expires_at + skew {
            Err(Refusal::Expired)
        } else if self.not_before.is_some_and(|begin| begin > now + skew) {
            Err(Refusal::NotYetValid)
        } else {
            Ok(())
        }
    }
}

/// Returns a time as seconds since 1970.
pub(super) fn seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

#[cfg(test)]
mod tests;
