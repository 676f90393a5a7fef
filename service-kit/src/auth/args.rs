//! The settings of authentication as text: flags and environment variables. Secrets come from files only, since flags and
//! environments are readable by others.

use std::{net::IpAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::Args;
use url::{Host, Url};

use super::{
    JwksSettings, KeyFile, Mode, PublicKeySettings, Role, Settings, settings::is_name, token::MACHINE_LIFETIME,
};
use crate::config::Problems;

/// The longest clock skew.
const MAX_SKEW: Duration = Duration::from_mins(5);

/// Flags and environment variables of authentication.
#[derive(Debug, Clone, Args)]
pub struct AuthArgs {
    /// Whether callers need a token: `off`, `permissive` (a token sent must be valid, a call without one is trusted) or
    /// `required`, also meant without a value. Default: `required` with a source of tokens, else `off`.
    #[arg(long, env = "AUTH", value_name = "MODE", num_args = 0..=1, default_missing_value = "required")]
    pub auth: Option<String>,

    /// File with a secret of at least 32 bytes, for HS256 tokens of the issuer `parlance`. Repeat it or separate several by
    /// commas to rotate secrets: the first one signs, all verify. Tokens may name it by KID.
    #[arg(long, env = "TOKEN_SECRET_FILE", value_delimiter = ',', value_name = "[KID=]FILE")]
    pub token_secret_file: Vec<String>,

    /// File with an RSA, P-256, P-384 or Ed25519 public key in PEM, for tokens of --token-issuer. Repeat it or separate several
    /// by commas. Tokens that name a key by `kid` need the KID here.
    #[arg(long, env = "TOKEN_PUBLIC_KEY_FILE", value_delimiter = ',', value_name = "[KID=]FILE")]
    pub token_public_key_file: Vec<String>,

    /// The `iss` of the tokens of --token-public-key-file.
    #[arg(long, env = "TOKEN_ISSUER", value_name = "ISSUER")]
    pub token_issuer: Option<String>,

    /// A role besides `user` that tokens of --token-issuer may carry: `service`, `operator` or `directory`. Repeat it or
    /// separate several by commas.
    #[arg(long, env = "TOKEN_PUBLIC_KEY_ROLES", value_delimiter = ',', value_name = "ROLE")]
    pub token_public_key_roles: Vec<String>,

    /// URL of the JSON Web Key Set of an identity provider: https, or http on loopback.
    #[arg(long, env = "TOKEN_JWKS", value_name = "URL")]
    pub token_jwks: Option<String>,

    /// The `iss` of the tokens of --token-jwks.
    #[arg(long, env = "TOKEN_JWKS_ISSUER", value_name = "ISSUER")]
    pub token_jwks_issuer: Option<String>,

    /// File with the CA certificates in PEM that the server of --token-jwks is verified with. Default: the public ones.
    #[arg(long, env = "TOKEN_JWKS_CA_FILE", value_name = "FILE")]
    pub token_jwks_ca_file: Option<String>,

    /// A role besides `user` that tokens of --token-jwks-issuer may carry: `service`, `operator` or `directory`. Repeat it or
    /// separate several by commas.
    #[arg(long, env = "TOKEN_JWKS_ROLES", value_delimiter = ',', value_name = "ROLE")]
    pub token_jwks_roles: Vec<String>,

    /// Time for which the keys of --token-jwks are used after the last successful fetch (5m to 30d).
    #[arg(long, env = "TOKEN_JWKS_MAX_STALE", default_value = "24h", value_name = "DURATION")]
    pub token_jwks_max_stale: String,

    /// The role of a subject (`sub`) of --token-jwks-issuer, such as `system:serviceaccount:chat:backend=service`. Repeat it or
    /// separate several by commas.
    #[arg(long, env = "TOKEN_ROLE_OF", value_delimiter = ',', value_name = "SUBJECT=ROLE")]
    pub token_role_of: Vec<String>,

    /// The audience (`aud`) that tokens must be for.
    #[arg(long, env = "TOKEN_AUDIENCE", default_value = "parlance", value_name = "AUDIENCE")]
    pub token_audience: String,

    /// The claim with the user id, in users' tokens of --token-issuer and --token-jwks-issuer.
    #[arg(long, env = "TOKEN_USER_CLAIM", default_value = "sub", value_name = "CLAIM")]
    pub token_user_claim: String,

    /// The claim with the role, in tokens of --token-issuer and --token-jwks-issuer. It must be one that users cannot edit.
    #[arg(long, env = "TOKEN_ROLE_CLAIM", default_value = "parlance_role", value_name = "CLAIM")]
    pub token_role_claim: String,

    /// How far the clocks of issuers may differ (0s to 5m).
    #[arg(long, env = "TOKEN_CLOCK_SKEW", default_value = "30s", value_name = "DURATION")]
    pub token_clock_skew: String,

    /// The longest lifetime of a user's token (1m to 90d). Tokens of other roles may live for 90 days.
    #[arg(long, env = "TOKEN_MAX_LIFETIME", default_value = "24h", value_name = "DURATION")]
    pub token_max_lifetime: String,
}

impl AuthArgs {
    /// Returns whether the flags name a source of tokens.
    pub fn has_source(&self) -> bool {
        !self.token_secret_file.is_empty()
            || !self.token_public_key_file.is_empty()
            || set(self.token_jwks.as_deref()).is_some()
    }

    /// Turns text into values, or adds problems and returns `None`. Files are not read yet.
    pub fn parse(&self, problems: &mut Problems) -> Option<Settings> {
        let secrets = problems.list::<KeyFile>("--token-secret-file", &self.token_secret_file);
        let public_keys = self.public_keys(problems);
        let jwks = self.jwks(problems);
        let audience = name(problems, "--token-audience", &self.token_audience);
        let user_claim = name(problems, "--token-user-claim", &self.token_user_claim);
        let role_claim = name(problems, "--token-role-claim", &self.token_role_claim);
        let skew = problems.duration_within("--token-clock-skew", &self.token_clock_skew, Duration::ZERO..=MAX_SKEW);
        let lifetimes = Duration::from_mins(1)..=MACHINE_LIFETIME;
        let max_lifetime = problems.duration_within("--token-max-lifetime", &self.token_max_lifetime, lifetimes);
        let mode = set(self.auth.as_deref()).map(|text| problems.parse::<Mode>("--auth", text));
        let mut settings = Settings {
            mode: Mode::Off,
            secrets: secrets?,
            public_keys: public_keys?,
            jwks: jwks?,
            audience: audience?,
            user_claim: user_claim?,
            role_claim: role_claim?,
            skew: skew?,
            max_lifetime: max_lifetime?,
        };
        let has_source = settings.has_source();
        settings.mode = match mode {
            Some(mode) => mode?,
            None if has_source => Mode::Required,
            None => Mode::Off,
        };
        if settings.mode != Mode::Off && !has_source {
            problems.add(
                "--auth: there is no source of tokens; pass --token-secret-file, --token-public-key-file or --token-jwks",
            );
        }
        settings.check_issuers(problems);
        Some(settings)
    }

    /// The inner value is `None` where no public keys are configured.
    #[expect(clippy::option_option, reason = "the outer one is a problem that was added")]
    fn public_keys(&self, problems: &mut Problems) -> Option<Option<PublicKeySettings>> {
        let files = problems.list::<KeyFile>("--token-public-key-file", &self.token_public_key_file);
        let roles = roles(problems, "--token-public-key-roles", &self.token_public_key_roles);
        let issuer = set(self.token_issuer.as_deref());
        let has_issuer = issuer.is_some();
        let issuer = issuer.map(|text| name(problems, "--token-issuer", text));
        match (files?, issuer) {
            (files, None) if files.is_empty() => {
                if roles?.len() > 1 {
                    problems.add("--token-public-key-roles needs --token-public-key-file");
                }
                Some(None)
            }
            (files, Some(issuer)) if !files.is_empty() => {
                Some(Some(PublicKeySettings { issuer: issuer?, files, roles: roles? }))
            }
            _ => {
                let mut flags = ["--token-public-key-file", "--token-issuer"];
                if has_issuer {
                    flags.reverse();
                }
                let [given, missing] = flags;
                problems.add(format!("{given} needs {missing}"));
                None
            }
        }
    }

    /// The inner value is `None` where no identity provider is configured.
    #[expect(clippy::option_option, reason = "the outer one is a problem that was added")]
    fn jwks(&self, problems: &mut Problems) -> Option<Option<JwksSettings>> {
        let roles = roles(problems, "--token-jwks-roles", &self.token_jwks_roles);
        let role_of = problems.list::<RoleOf>("--token-role-of", &self.token_role_of);
        let stale = Duration::from_mins(5)..=Duration::from_hours(30 * 24);
        let max_stale = problems.duration_within("--token-jwks-max-stale", &self.token_jwks_max_stale, stale);
        let issuer = set(self.token_jwks_issuer.as_deref());
        let ca_file = set(self.token_jwks_ca_file.as_deref());
        let Some(url) = set(self.token_jwks.as_deref()) else {
            let dependent = [
                (issuer.is_some(), "--token-jwks-issuer"),
                (ca_file.is_some(), "--token-jwks-ca-file"),
                (roles?.len() > 1, "--token-jwks-roles"),
                (!role_of?.is_empty(), "--token-role-of"),
            ];
            for (_, flag) in dependent.into_iter().filter(|(is_given, _)| *is_given) {
                problems.add(format!("{flag} needs --token-jwks"));
            }
            return Some(None);
        };
        let url = problems.parse::<Url>("--token-jwks", url).filter(|url| {
            let is_safe = is_safe(url);
            if !is_safe {
                problems.add("--token-jwks is not an https URL without a user (http is possible on loopback only)");
            }
            is_safe
        });
        if issuer.is_none() {
            problems.add("--token-jwks needs --token-jwks-issuer");
        }
        let role_of: Vec<(String, Role)> = role_of?.into_iter().map(|RoleOf(subject, role)| (subject, role)).collect();
        for (index, (subject, _)) in role_of.iter().enumerate() {
            if role_of[..index].iter().any(|(earlier, _)| earlier == subject) {
                problems.add(format!("--token-role-of names {subject:?} twice; keep one role"));
            }
        }
        Some(Some(JwksSettings {
            issuer: name(problems, "--token-jwks-issuer", issuer?)?,
            url: url?,
            ca_file: ca_file.map(PathBuf::from),
            roles: roles?,
            max_stale: max_stale?,
            role_of,
        }))
    }
}

struct RoleOf(String, Role);

impl FromStr for RoleOf {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (subject, role) = text.rsplit_once('=').filter(|(subject, _)| is_name(subject)).unwrap_or_default();
        let role = Role::of_name(role).filter(|role| *role != Role::User);
        let role = role.ok_or("it is SUBJECT=ROLE, with the role service, operator or directory")?;
        Ok(Self(subject.to_owned(), role))
    }
}

/// The user role, and those listed.
fn roles(problems: &mut Problems, flag: &str, texts: &[String]) -> Option<Vec<Role>> {
    let mut roles = vec![Role::User];
    let mut is_good = true;
    for text in texts.iter().map(|text| text.trim()).filter(|text| !text.is_empty()) {
        match Role::of_name(text) {
            Some(role) if roles.contains(&role) => {}
            Some(role) => roles.push(role),
            None => {
                problems.add(format!("{flag}: {text:?} is not valid: it is user, service, operator or directory"));
                is_good = false;
            }
        }
    }
    is_good.then_some(roles)
}

/// The value of an optional setting. An empty one counts as none.
fn set(text: Option<&str>) -> Option<&str> {
    text.map(str::trim).filter(|text| !text.is_empty())
}

fn name(problems: &mut Problems, flag: &str, text: &str) -> Option<String> {
    let text = text.trim();
    if !is_name(text) {
        problems.add(format!("{flag} is not 1 to 256 printable ASCII characters"));
        return None;
    }
    Some(text.to_owned())
}

fn is_safe(url: &Url) -> bool {
    let is_loopback = match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => return false,
    };
    let has_user = !url.username().is_empty() || url.password().is_some();
    !has_user && (url.scheme() == "https" || (url.scheme() == "http" && is_loopback))
}

#[cfg(test)]
mod tests;
