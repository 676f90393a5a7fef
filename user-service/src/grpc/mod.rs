//! The contract as this service answers it: one file per RPC, named after it, in the order decode, authorise, store, encode.
//! The only module that knows wire types. The layers around the calls are in service-kit.

mod authorise;
mod batch_get_users;
mod context;
mod convert;
mod create_token;
mod create_user;
mod deactivate_user;
mod delete_user;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod get_user;
mod list_users;
mod original;
mod reactivate_user;
mod revoke_tokens;
mod service;
mod status;
mod update_user;
mod watch_users;

use parlance::{original as unpackaged, user::v1};
use service_kit::{auth::Rules, configured};
use tonic::{server::NamedService, service::Routes};

pub(crate) use self::context::Context;
use crate::domain::Rpc;

/// The full names of the gRPC services, for health and reflection.
pub(crate) const SERVICE_NAMES: [&str; 2] = [
    <v1::user_service_server::UserServiceServer<Context> as NamedService>::NAME,
    <unpackaged::user_service_server::UserServiceServer<Context> as NamedService>::NAME,
];

/// Returns the rule of each method.
pub(crate) fn rules() -> Rules {
    Rpc::ALL.map(|rpc| (rpc.path(), rpc.rule())).into()
}

/// Adds both services to the routes, each with the limit on the size of requests.
pub(crate) fn add_to(routes: Routes, context: Context) -> Routes {
    let versioned = v1::user_service_server::UserServiceServer::new(context.clone());
    let original = unpackaged::user_service_server::UserServiceServer::new(context);
    routes.add_service(configured!(versioned)).add_service(configured!(original))
}
