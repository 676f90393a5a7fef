//! Users: values that cannot be out of bounds, rules, and refusals. No I/O, no async, no wire types. `storage` and `grpc`
//! convert to and from these types.

mod display_name;
mod refusal;
mod request;
mod rpc;
mod user;
mod user_id;
mod username;

pub(crate) use self::{
    display_name::DisplayName,
    refusal::{Changed, Created, Refusal},
    request::{ContentHash, Request, RequestId},
    rpc::Rpc,
    user::{Etag, NewUser, User, UserChange, UserState},
    user_id::UserId,
    username::{Username, UsernamePrefix},
};
