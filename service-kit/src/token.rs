//! The command `token`: signs tokens with a secret, makes a secret, and says what is in a token.

use std::{
    io::{self, Read, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use crate::{
    auth::{AuthArgs, Issuer, KeyFile, NewToken, Refusal, Role, Settings, Verifier, create_secret, unverified},
    config::Problems,
    lifecycle::BoxError,
};

/// The longest token that is read, in bytes; a longer one would be refused unread, too.
const MAX_INPUT: u64 = 64 * 1024;

/// Sign a token for a user, make a token secret, or say what is in a token
///
/// Prints the token alone on standard output. The services take it if they have the same secret. docs/AUTH.md explains tokens
/// and roles.
#[derive(clap::Args, Debug)]
#[command(mut_arg("token_secret_file", |argument| argument.visible_alias("secret-file")))]
#[command(mut_arg("auth", |argument| argument.hide(true)))]
pub struct TokenArgs {
    /// Whom the token is for: a user id; with another role, the name of your backend
    #[arg(value_name = "USER", required_unless_present_any = ["new_secret", "inspect"])]
    subject: Option<String>,

    /// What it allows: user, directory, service or operator
    #[arg(long, default_value = "user", value_name = "ROLE")]
    role: String,

    /// For how long it is good: up to 24h for a user, up to 90d for other roles
    #[arg(long = "for", default_value = "1h", value_name = "DURATION")]
    lifetime: String,

    /// Print the address of the web client with the token in it, which signs in whoever opens it
    #[arg(long, value_name = "URL", num_args = 0..=1, require_equals = true, default_missing_value = "http://127.0.0.1:8080/")]
    link: Option<String>,

    /// Write a new secret into a new file, which only its owner can read, and do nothing else
    #[arg(long, value_name = "FILE", conflicts_with_all = ["subject", "inspect"])]
    new_secret: Option<PathBuf>,

    /// Read a token from standard input; print what is in it, whether it would be taken, and if not, why. Exit code 1 if it
    /// would not
    #[arg(long, conflicts_with = "subject")]
    inspect: bool,

    #[command(flatten)]
    auth: AuthArgs,
}

/// Does what the flags ask for. `own` is the secret where no flag names a key.
///
/// # Errors
/// One sentence that says what to do.
pub async fn run(mut arguments: TokenArgs, own: Option<&Path>) -> Result<ExitCode, BoxError> {
    if let Some(file) = &arguments.new_secret {
        create_secret(file).map_err(|error| format!("cannot make the secret {}: {error}", file.display()))?;
        return Ok(ExitCode::SUCCESS);
    }
    let auth = &mut arguments.auth;
    if !auth.has_source() {
        match own {
            Some(own) if own.exists() => auth.token_secret_file.push(own.to_string_lossy().into_owned()),
            Some(own) => {
                let missing = format!(
                    "there is no secret in {}; start `parlance serve --auth` once, or name a file with --secret-file \
                     (`parlance token --new-secret FILE` makes one)",
                    own.display()
                );
                return Err(missing.into());
            }
            None => return Err("there is no secret; name its file with --secret-file".into()),
        }
    }
    let mut problems = Problems::default();
    let settings = auth.parse(&mut problems);
    let settings = problems.finish(settings)?;
    if arguments.inspect {
        return inspect(&settings).await;
    }
    let Some(secret) = settings.secrets.first() else {
        return Err("only a secret can sign; name its file with --secret-file".into());
    };
    let token = sign(&arguments, secret, &settings)?;
    match &arguments.link {
        Some(url) => out(format_args!("{}#token={token}", url.trim_end_matches('#'))),
        None => out(token),
    }
    Ok(ExitCode::SUCCESS)
}

fn sign(arguments: &TokenArgs, secret: &KeyFile, settings: &Settings) -> Result<String, BoxError> {
    let mut problems = Problems::default();
    let lifetime = problems.duration("--for", &arguments.lifetime);
    let role = Role::of_name(&arguments.role);
    if role.is_none() {
        problems.add(format!("--role: {:?} is not user, directory, service or operator", arguments.role));
    }
    let (lifetime, role) = problems.finish((lifetime, role))?;
    let issuer = Issuer::open(secret, &settings.audience, settings.max_lifetime)?;
    let subject = arguments.subject.as_deref().unwrap_or_default();
    let new = NewToken { subject, role, lifetime, audience: None, issued_at: SystemTime::now() };
    Ok(issuer.sign(&new)?.expose().to_owned())
}

/// Says what is in a token, and whether it would be taken.
async fn inspect(settings: &Settings) -> Result<ExitCode, BoxError> {
    let mut input = String::new();
    io::stdin()
        .take(MAX_INPUT)
        .read_to_string(&mut input)
        .map_err(|error| format!("cannot read standard input: {error}"))?;
    let token = input.trim();
    let token = token.strip_prefix("Bearer ").unwrap_or(token);
    if let Ok((header, claims)) = unverified(token) {
        out(format_args!("header  {header:#}\nclaims  {claims:#}"));
        for (claim, meaning) in [("iat", "issued"), ("nbf", "begins"), ("exp", "ends")] {
            let seconds = claims.get(claim).and_then(Value::as_u64);
            if let Some(at) = seconds.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds))) {
                out(format_args!("{meaning:7} {}", humantime::format_rfc3339_seconds(at)));
            }
        }
    }
    let verifier = Verifier::open(settings)?;
    if let Err(problem) = verifier.fetch().await {
        out(format_args!("The keys cannot be had: {problem}"));
    }
    Ok(match verifier.verify(token, SystemTime::now()).await {
        Ok(principal) => {
            out(format_args!("It would be taken: {} of the role {}.", principal.subject, principal.role.name()));
            ExitCode::SUCCESS
        }
        Err(refusal) => {
            let why = match refusal {
                Refusal::Invalid { why } => why.to_owned(),
                refusal => refusal.to_string(),
            };
            out(format_args!("It would be refused: {why}."));
            ExitCode::FAILURE
        }
    })
}

/// Prints a line of the result. A closed pipe is no error.
fn out(line: impl std::fmt::Display) {
    let _ = writeln!(io::stdout(), "{line}");
}
