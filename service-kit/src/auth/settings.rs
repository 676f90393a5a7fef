//! The settings of authentication as values.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use url::Url;

use super::Role;
use crate::config::Problems;

/// The issuer of tokens that are signed with a secret.
pub const ISSUER: &str = "parlance";
/// The longest text of an issuer, audience or claim name, in bytes.
const MAX_NAME_BYTES: usize = 256;

/// Whether callers need a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Every caller is trusted, and tokens are not looked at.
    Off,
    /// A token that is sent must be valid; a call without one is trusted.
    Permissive,
    /// Only callers with a valid token are known.
    Required,
}

impl FromStr for Mode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "off" => Ok(Self::Off),
            "permissive" => Ok(Self::Permissive),
            "required" => Ok(Self::Required),
            _ => Err("it is off, permissive or required"),
        }
    }
}

/// A file with a key, and the name by which tokens may call the key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFile {
    /// The name (`kid`). Without one, the fingerprint of the key.
    pub kid: Option<String>,
    /// The file.
    pub path: PathBuf,
}

impl FromStr for KeyFile {
    type Err = &'static str;

    /// Parses `[KID=]FILE`. What has a slash before the first `=` is a path.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kid, path) = match text.split_once('=') {
            Some((kid, path)) if !kid.contains('/') => (Some(kid), path),
            _ => (None, text),
        };
        if kid.is_some_and(|kid| !is_name(kid)) || path.is_empty() {
            return Err("it is FILE, or KID=FILE with a KID of 1 to 256 printable ASCII characters");
        }
        Ok(Self { kid: kid.map(str::to_owned), path: path.into() })
    }
}

impl fmt::Display for KeyFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.display().fmt(formatter)
    }
}

/// Public keys in files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKeySettings {
    /// The issuer of their tokens.
    pub issuer: String,
    /// The files.
    pub files: Vec<KeyFile>,
    /// The roles that the tokens may carry.
    pub roles: Vec<Role>,
}

/// The keys of an identity provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JwksSettings {
    /// Where they are published.
    pub url: Url,
    /// The issuer of their tokens.
    pub issuer: String,
    /// The CA certificates that its server is verified with, instead of the public ones.
    pub ca_file: Option<PathBuf>,
    /// The roles that the tokens may carry.
    pub roles: Vec<Role>,
    /// For how long keys are used after the last fetch that succeeded.
    pub max_stale: Duration,
    /// The roles of subjects.
    pub role_of: Vec<(String, Role)>,
}

/// [`AuthArgs`](super::AuthArgs) as values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whether callers need a token.
    pub mode: Mode,
    /// The secret files, of which the first one signs.
    pub secrets: Vec<KeyFile>,
    /// The public key files, if any.
    pub public_keys: Option<PublicKeySettings>,
    /// The identity provider, if any.
    pub jwks: Option<JwksSettings>,
    /// The audience that tokens must be for.
    pub audience: String,
    /// The claim with the user id.
    pub user_claim: String,
    /// The claim with the role.
    pub role_claim: String,
    /// How far clocks may differ.
    pub skew: Duration,
    /// The longest lifetime of a user's token.
    pub max_lifetime: Duration,
}

impl Settings {
    /// Returns the settings of a service that has these secrets only, with the defaults of everything else.
    pub fn of_secrets(mode: Mode, secrets: Vec<KeyFile>) -> Self {
        Self {
            mode,
            secrets,
            public_keys: None,
            jwks: None,
            audience: "parlance".to_owned(),
            user_claim: "sub".to_owned(),
            role_claim: "parlance_role".to_owned(),
            skew: Duration::from_secs(30),
            max_lifetime: Duration::from_hours(24),
        }
    }

    /// Returns whether there is a source of tokens.
    pub fn has_source(&self) -> bool {
        !self.secrets.is_empty() || self.public_keys.is_some() || self.jwks.is_some()
    }
}

impl Settings {
    pub(super) fn check_issuers(&self, problems: &mut Problems) {
        let secrets = (!self.secrets.is_empty()).then_some(("--token-secret-file", ISSUER));
        let public_keys = self.public_keys.as_ref().map(|keys| ("--token-issuer", &*keys.issuer));
        let jwks = self.jwks.as_ref().map(|jwks| ("--token-jwks-issuer", &*jwks.issuer));
        let issuers: Vec<_> = [secrets, public_keys, jwks].into_iter().flatten().collect();
        for (index, (flag, issuer)) in issuers.iter().enumerate() {
            if let Some((other, _)) = issuers[..index].iter().find(|(_, earlier)| earlier == issuer) {
                problems
                    .add(format!("{other} and {flag} have the issuer {issuer:?} both; give each an issuer of its own"));
            }
        }
    }
}

/// Returns whether a text can be the name of an issuer, an audience, a claim or a key.
pub(super) fn is_name(text: &str) -> bool {
    (1..=MAX_NAME_BYTES).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}
