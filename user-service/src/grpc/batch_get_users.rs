//! `BatchGetUsers`: up to 1,000 users by id, in the order asked. Goes to the database directly: it is a batch already.
//!
//! The largest answer, 1,000 users of at most 1.3 KiB, is well below the 4 MiB that clients decode by default.

use std::collections::HashMap;

use parlance::user::v1;
use service_kit::failure::{Failure, Violations};
use tonic::Request;

use super::{
    convert::{self, required},
    service::Service,
};
use crate::domain::{User, UserId};

const MAX_USERS: usize = 1_000;

pub(super) async fn answer(
    service: &Service,
    request: Request<v1::BatchGetUsersRequest>,
) -> Result<v1::BatchGetUsersResponse, Failure> {
    let user_ids = decode(&request.get_ref().user_ids)?;
    // Everybody may look, as with GetUser.
    let found = service.store.find_users(&user_ids).await?;
    Ok(encode(&user_ids, found))
}

fn decode(texts: &[String]) -> Result<Vec<UserId>, Failure> {
    let mut violations = Violations::default();
    if texts.is_empty() || texts.len() > MAX_USERS {
        violations.add("user_ids", "must be 1 to 1,000 ids");
        return Err(convert::refused(violations));
    }
    let read =
        |(at, text): (usize, &String)| required(&mut violations, &format!("user_ids[{at}]"), text, UserId::parse);
    // All of them are read, so that all violations are noted.
    let user_ids: Vec<Option<UserId>> = texts.iter().enumerate().map(read).collect();
    user_ids.into_iter().collect::<Option<_>>().ok_or_else(|| convert::refused(violations))
}

fn encode(asked: &[UserId], found: Vec<User>) -> v1::BatchGetUsersResponse {
    let found: HashMap<String, v1::User> =
        found.into_iter().map(convert::user).map(|user| (user.user_id.clone(), user)).collect();
    let mut response = v1::BatchGetUsersResponse::default();
    for user_id in asked {
        match found.get(user_id.as_str()) {
            Some(user) => response.users.push(user.clone()),
            None => response.missing_user_ids.push(user_id.to_string()),
        }
    }
    response
}
