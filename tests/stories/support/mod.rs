//! Support for stories: databases, running services, typed clients, and helpers for errors.

mod database;
mod errors;
mod eventually;
mod health;
mod inbox;
mod message_service;
mod nats;
mod process;
mod proxy;
mod reader;
mod serve;
mod user_service;
mod web;
mod world;

pub use self::{
    database::TestDatabase,
    errors::{code_and_reason, metadata, preconditions, refused, resource, retry_delay, violated_fields},
    eventually::{PATIENCE, eventually},
    health::health,
    inbox::{Inbox, Received, Session, to_status},
    message_service::{RunningMessageService, channel_to, message_service_config},
    nats::NatsServer,
    process::{Process, binary},
    proxy::{Mode, Proxy},
    reader::Reader,
    serve::Serve,
    user_service::{RunningUserService, create_user, user_service_config},
    web::WebCall,
    world::{World, channel, direct, group, read_log, send, send_as, strings, try_read_log},
};
