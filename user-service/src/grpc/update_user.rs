//! `UpdateUser`: changes the name, the display name, or both.

use parlance::user::v1;
use service_kit::{auth::Caller, failure::Failure, fields::Fields};
use tonic::Request;

use super::{authorise, context::Context, convert};
use crate::domain::{DisplayName, Rpc, UserChange, UserId, Username};

pub(super) async fn answer(
    context: &Context,
    mut request: Request<v1::UpdateUserRequest>,
) -> Result<v1::User, Failure> {
    let caller = Caller::of(request.extensions());
    caller.name_actor(&mut request.get_mut().user.get_or_insert_default().user_id)?;
    let change = decode(request.get_ref())?;
    let authorised = authorise::caller_for(context, Rpc::UpdateUser, request.extensions(), &change.user_id).await?;
    let changed = context.store.update_user(authorised, &change).await?;
    Ok(convert::user::to_wire(authorised, changed.into_user(&change.user_id)?))
}

pub(super) fn decode(request: &v1::UpdateUserRequest) -> Result<UserChange, Failure> {
    let absent = v1::User::default();
    let user = request.user.as_ref().unwrap_or(&absent);
    let mut fields = Fields::default();
    let mask = fields.update_mask(request.update_mask.as_ref(), ["username", "display_name"]);
    // Without a mask, the fields that are set.
    let [username, display_name] = mask.unwrap_or([!user.username.is_empty(), !user.display_name.is_empty()]);

    let user_id = fields.parse("user.user_id", &user.user_id, UserId::parse);
    let expected = fields.optional("user.etag", &user.etag, convert::etag::parse);
    // Fields that do not change are not parsed: clients send the user that they read, with a tombstone's empty name.
    let username = fields.check_if(username, "user.username", || Username::parse(&user.username));
    let display_name = fields.check_if(display_name, "user.display_name", || DisplayName::parse(&user.display_name));
    let (user_id, expected, username, display_name) = fields.finish((user_id, expected, username, display_name))?;
    Ok(UserChange { user_id, username, display_name, expected })
}
