//! The contract as this service answers it: one file per RPC, named after it, reading decode → authorise → rule → store
//! → encode. The only module beside `directory/` that knows the wire types; layers around the calls are service-kit's.

mod access;
mod add_members;
mod authorise;
mod change;
mod chat;
mod context;
mod convert;
mod create_conversation;
mod decode;
mod delete_message;
mod edit_message;
mod frames;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod get_conversation;
mod get_message;
mod list_conversations;
mod list_events;
mod list_members;
mod list_messages;
mod mark_read;
mod named_cursors;
mod outgoing;
mod read_share;
mod refusals;
mod remove_member;
mod rules;
mod send_message;
mod send_typing;
mod service;
mod status;
mod stream_messages;
mod streams;
mod subscribe;
mod succession;
mod typing_limiter;
mod update_conversation;
mod update_member;

use parlance::message::v1::{
    conversation_service_server::ConversationServiceServer, message_service_server::MessageServiceServer,
};
use service_kit::configured;
use tonic::{server::NamedService, service::Routes};

use self::streams::WithStreams;
use crate::domain::encoded::Encode;

pub(crate) use self::{context::Context, rules::rules};

/// Encodes entries and ephemerals for the live logs.
pub(crate) const ENCODE: Encode = Encode { entry: frames::event, ephemeral: frames::ephemeral };

/// The full names of the services of this module, for health and reflection.
pub(crate) const SERVICE_NAMES: [&str; 2] =
    [<ConversationServiceServer<Context> as NamedService>::NAME, <MessageServiceServer<Context> as NamedService>::NAME];

/// Adds both services to the routes, each with the limit on what it decodes. Streams stand in front of the generated
/// server.
pub(crate) fn add_to(routes: Routes, context: &Context) -> Routes {
    let conversations = configured!(ConversationServiceServer::new(context.clone()));
    let messages = configured!(MessageServiceServer::new(context.clone()));
    routes.add_service(conversations).add_service(WithStreams::new(messages, context.clone()))
}
