//! `ListUsers`: pages of users by name regardless of case, deleted ones last.
//!
//! Keyset pagination: a page starts after the key of the last user of the previous one, so inserts elsewhere neither repeat
//! nor hide a user. No limit in bytes is needed: 1,000 users of at most 1.3 KiB are well below the 4 MiB that clients decode.

use parlance::user::v1;
use service_kit::{failure::Failure, fields::Fields};
use tonic::Request;

use super::{authorise, context::Context, convert};
use crate::{
    domain::{Rpc, User, UsernamePrefix},
    storage::KeyRange,
};

/// Sorts after the keys of deleted users, which begin with `~`.
const AFTER_ALL_KEYS: &str = "\u{7f}";

pub(super) struct Params {
    page_size: i64,
    prefix: UsernamePrefix,
    show_deleted: bool,
}

pub(super) async fn answer(
    context: &Context,
    request: Request<v1::ListUsersRequest>,
) -> Result<v1::ListUsersResponse, Failure> {
    let params = decode(request.get_ref())?;
    let authorised = authorise::caller(context, Rpc::ListUsers, request.extensions()).await?;

    let tokens = context.store.page_tokens()?;
    let last_key = tokens.open(&params.token_arguments(), &request.get_ref().page_token)?;
    let after = String::from_utf8(last_key.unwrap_or_default()).map_err(Failure::internal)?;

    // One more than the page, to see if there is another page.
    let mut users = context.store.list_users(authorised, &params.range(after), params.page_size + 1).await?;
    let is_last = users.len() as i64 <= params.page_size;
    users.truncate(params.page_size as usize);

    let next = |last: &User| tokens.seal(&params.token_arguments(), last.list_key().as_bytes());
    let next_page_token = if is_last { None } else { users.last().map(next) };
    Ok(v1::ListUsersResponse {
        users: users.into_iter().map(|user| convert::user::to_wire(authorised, user)).collect(),
        next_page_token: next_page_token.unwrap_or_default(),
    })
}

pub(super) fn decode(request: &v1::ListUsersRequest) -> Result<Params, Failure> {
    let mut fields = Fields::default();
    let page_size = fields.page_size(request.page_size);
    let prefix = fields.parse("username_prefix", &request.username_prefix, UsernamePrefix::parse);
    let (page_size, prefix) = fields.finish((page_size, prefix))?;
    Ok(Params { page_size, prefix, show_deleted: request.show_deleted })
}

impl Params {
    /// The arguments that a page token is bound to: all but the page size.
    fn token_arguments(&self) -> [&str; 3] {
        ["ListUsers", self.prefix.as_str(), if self.show_deleted { "deleted" } else { "" }]
    }

    /// The section of the list after a key. Deleted users have no name, so none has a prefix.
    fn range(&self, after: String) -> KeyRange {
        let with_deleted = self.show_deleted && self.prefix.is_empty();
        let until = if with_deleted { AFTER_ALL_KEYS.to_owned() } else { self.prefix.upper_bound() };
        KeyRange { first: self.prefix.as_str().to_owned(), after, until }
    }

    /// Checks what the fuzzer got accepted.
    #[cfg(feature = "fuzzing")]
    pub(super) fn check(&self) {
        assert!((1..=1_000).contains(&self.page_size));
        assert!(self.prefix.is_empty() || service_kit::fuzzing::is_username(self.prefix.as_str()));
        let KeyRange { first, until, .. } = self.range(String::new());
        assert!(first < until);
    }
}
