//! The contract as this service answers it: one file per RPC, named after it, reading decode → authorise → rule → store
//! → encode. The only room that knows the wire types; layers around the calls are service-kit's.

mod authorise;
mod batch_get_users;
mod convert;
mod create_user;
mod deactivate_user;
mod delete_user;
mod get_user;
mod list_users;
mod original;
mod reactivate_user;
mod service;
mod status;
mod update_user;
mod watch_users;

use parlance::{original as unpackaged, user::v1};
use service_kit::server::MAX_REQUEST_BYTES;
use tonic::{server::NamedService, service::Routes};

pub(crate) use self::service::Service;

/// The full names of the services of this room, for health and reflection.
pub(crate) const SERVICE_NAMES: [&str; 2] = [
    <v1::user_service_server::UserServiceServer<Service> as NamedService>::NAME,
    <unpackaged::user_service_server::UserServiceServer<Service> as NamedService>::NAME,
];

/// Adds both services to the routes, each with the limit on what it decodes.
pub(crate) fn add_to(routes: Routes, service: Service) -> Routes {
    let versioned = v1::user_service_server::UserServiceServer::new(service.clone());
    let original = unpackaged::user_service_server::UserServiceServer::new(service);
    routes
        .add_service(versioned.max_decoding_message_size(MAX_REQUEST_BYTES))
        .add_service(original.max_decoding_message_size(MAX_REQUEST_BYTES))
}
