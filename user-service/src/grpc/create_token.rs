//! `CreateToken`: signs a token for a user, for backends that cannot sign one themselves.

use std::time::{Duration, SystemTime};

use parlance::user::v1;
use prost_types::Timestamp;
use service_kit::{
    auth::{IssueError, NewToken, Role},
    failure::{Failure, Reason},
    fields::Fields,
};
use tonic::Request;

use super::{authorise, context::Context};
use crate::domain::{Refusal, Rpc, UserId};

/// The lifetime of a token whose request names none.
const DEFAULT_LIFETIME: Duration = Duration::from_hours(1);
/// The longest lifetime.
const MAX_LIFETIME: Duration = Duration::from_hours(24);

pub(super) async fn answer(
    context: &Context,
    request: Request<v1::CreateTokenRequest>,
) -> Result<v1::CreateTokenResponse, Failure> {
    let (user_id, lifetime) = decode(request.get_ref())?;
    let authorised = authorise::caller(context, Rpc::CreateToken, request.extensions()).await?;
    let issuer = context.issuer.as_ref().ok_or_else(no_signing_key)?;
    let user = context.lookups.find(authorised, user_id.clone()).await?;
    let user = user.ok_or(Refusal::UserNotFound { user_id: user_id.clone() })?.require_active()?;
    // After a revocation the next token works at once.
    let issued_at = user.tokens_valid_after.map_or_else(SystemTime::now, |after| SystemTime::now().max(after.into()));
    let new = NewToken { subject: user_id.as_str(), role: Role::User, lifetime, audience: None, issued_at };
    let signed = issuer.sign(&new).map_err(|error| match error {
        IssueError::Lifetime(_) => Failure::invalid_field("lifetime", error.to_string()),
        IssueError::NoKey => no_signing_key(),
        IssueError::Subject(_) | IssueError::Signing => Failure::internal(error),
    })?;
    let expire_time = Timestamp::from(issued_at + lifetime);
    Ok(v1::CreateTokenResponse {
        token: signed.expose().to_owned(),
        // Tokens have whole seconds.
        expire_time: Some(Timestamp { nanos: 0, ..expire_time }),
    })
}

pub(super) fn decode(request: &v1::CreateTokenRequest) -> Result<(UserId, Duration), Failure> {
    let mut fields = Fields::default();
    let user_id = fields.parse("user_id", &request.user_id, UserId::parse);
    let lifetime = request.lifetime.map_or(Ok(DEFAULT_LIFETIME), |lifetime| match Duration::try_from(lifetime) {
        Ok(lifetime) if (Duration::from_secs(1)..=MAX_LIFETIME).contains(&lifetime) => Ok(lifetime),
        _ => Err("must be 1 second to 24 hours"),
    });
    let lifetime = fields.check("lifetime", lifetime);
    fields.finish((user_id, lifetime))
}

fn no_signing_key() -> Failure {
    let text = "user-service has no secret to sign tokens with; give it --token-secret-file";
    Failure::of(Reason::NoSigningKey, text).precondition("token secret", "user-service must have a token secret")
}
