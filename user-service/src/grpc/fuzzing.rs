//! The entry point of the fuzz target of requests.

use parlance::{original, user::v1};
use service_kit::fuzzing::{is_own_id, is_request_id, is_text, is_username, request as decoded};
use uuid::Uuid;

use super::{
    batch_get_users, convert::user::only_id, create_token, create_user, delete_user, get_user, list_users, update_user,
};
use crate::domain::Etag;

/// Decodes a request: the first byte of the input chooses the RPC.
///
/// # Panics
/// If a request is accepted that breaks the contract.
pub fn request(input: &[u8]) {
    let Some((rpc, bytes)) = input.split_first() else { return };
    match rpc % 9 {
        0 => {
            if let Some((_, new)) = decoded(bytes, |request| create_user::decode(&request, Uuid::nil())) {
                assert!(is_own_id(new.user_id.as_str()) && is_username(new.username.as_str()));
                assert!(is_text(new.display_name.as_str(), 256));
                assert!(new.request.is_none_or(|request| is_request_id(request.request_id.as_str())));
            }
        }
        1 => {
            decoded(bytes, |request: v1::GetUserRequest| get_user::decode(&request.user_id, &request.username));
        }
        2 => {
            let found = decoded(bytes, |request: v1::BatchGetUsersRequest| batch_get_users::decode(&request.user_ids));
            if let Some((_, ids)) = found {
                assert!((1..=1_000).contains(&ids.len()) && ids.iter().all(|id| is_own_id(id.as_str())));
            }
        }
        3 => {
            if let Some((_, params)) = decoded(bytes, |request| list_users::decode(&request)) {
                params.check();
            }
        }
        4 => {
            if let Some((_, change)) = decoded(bytes, |request| update_user::decode(&request)) {
                assert!(is_own_id(change.user_id.as_str()));
                assert!(change.username.is_none_or(|name| is_username(name.as_str())));
                assert!(change.display_name.is_none_or(|name| is_text(name.as_str(), 256)));
            }
        }
        5 => {
            if let Some((request, (id, etag))) = decoded(bytes, |request| delete_user::decode(&request)) {
                assert!(is_own_id(id.as_str()));
                let etag = etag.filter(|etag| etag.version() != 0).map(Etag::to_text);
                assert!(etag.is_none_or(|etag| etag == request.etag), "an etag is read as it was issued");
            }
        }
        6 => {
            if let Some((_, id)) = decoded(bytes, |request: v1::DeactivateUserRequest| only_id(&request.user_id)) {
                assert!(is_own_id(id.as_str()));
            }
        }
        7 => {
            if let Some((_, (id, lifetime))) = decoded(bytes, |request| create_token::decode(&request)) {
                assert!(is_own_id(id.as_str()) && (1..=24 * 3_600).contains(&lifetime.as_secs()));
            }
        }
        _ => {
            decoded(bytes, |request: original::UserInfo| get_user::decode(&request.user_id, &request.username));
        }
    }
}
