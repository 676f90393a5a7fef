//! `UpdateUser`: changes the name, the display name, or both.

use parlance::user::v1;
use service_kit::failure::{Failure, Violations};
use tonic::Request;

use super::{
    authorise,
    convert::{self, optional, required},
    service::Service,
};
use crate::domain::{DisplayName, UserChange, UserId, Username};

pub(super) async fn answer(service: &Service, request: Request<v1::UpdateUserRequest>) -> Result<v1::User, Failure> {
    let change = decode(request.get_ref())?;
    authorise::user(request.extensions(), &change.user_id)?;
    let user = service.store.update_user(&change).await?;
    Ok(convert::user(user))
}

fn decode(request: &v1::UpdateUserRequest) -> Result<UserChange, Failure> {
    let mut violations = Violations::default();
    let absent = v1::User::default();
    let user = request.user.as_ref().unwrap_or(&absent);
    let mask = Mask::read(&mut violations, request, user);

    let user_id = required(&mut violations, "user.user_id", &user.user_id, UserId::parse);
    let expected = optional(&mut violations, "user.etag", &user.etag, convert::etag);
    // What is not to be changed is not looked at: callers send the user that they read, a tombstone's empty name included.
    let username = mask.username.then(|| required(&mut violations, "user.username", &user.username, Username::parse));
    let display_name = mask
        .display_name
        .then(|| required(&mut violations, "user.display_name", &user.display_name, DisplayName::parse));

    violations.into_result()?;
    let (Some(user_id), Some(expected)) = (user_id, expected) else {
        return Err(Failure::internal("a field was refused without a word"));
    };
    Ok(UserChange { user_id, username: username.flatten(), display_name: display_name.flatten(), expected })
}

/// Which fields are to be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Mask {
    username: bool,
    display_name: bool,
}

impl Mask {
    /// Reads the mask; without one, or with an empty one, it is the fields that are set.
    fn read(violations: &mut Violations, request: &v1::UpdateUserRequest, user: &v1::User) -> Self {
        let paths = request.update_mask.as_ref().map_or(&[][..], |mask| &mask.paths);
        if paths.is_empty() {
            return Self { username: !user.username.is_empty(), display_name: !user.display_name.is_empty() };
        }
        let mut mask = Self::default();
        for (at, path) in paths.iter().enumerate() {
            match path.as_str() {
                "username" => mask.username = true,
                "display_name" => mask.display_name = true,
                "*" => mask = Self { username: true, display_name: true },
                _ => violations.add(format!("update_mask.paths[{at}]"), "must be username, display_name or *"),
            }
        }
        mask
    }
}
