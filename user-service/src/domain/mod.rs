//! What a user is: values that cannot be out of bounds, rules, and the refusals a caller may be told. No I/O, no async,
//! no wire types; `storage` and `grpc` speak in these words.

mod display_name;
mod refusal;
mod request;
mod user;
mod user_id;
mod username;

pub(crate) use self::{
    display_name::DisplayName,
    refusal::Refusal,
    request::{ContentHash, Request, RequestId},
    user::{Etag, NewUser, State, User, UserChange},
    user_id::UserId,
    username::{Username, UsernamePrefix},
};
