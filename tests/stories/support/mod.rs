//! What stories stand on: a database of their own, running services, typed clients, and words for what came back.

mod database;
mod eventually;
mod inbox;
mod message_service;
mod nats;
mod process;
mod proxy;
mod reader;
mod refused;
mod user_service;
mod web;
mod world;

pub use self::{
    database::TestDatabase,
    eventually::{PATIENCE, eventually},
    inbox::{Inbox, Session, Told, to_status},
    message_service::{RunningMessageService, channel_to, message_service_config},
    nats::NatsServer,
    process::{Process, binary},
    proxy::{Mode, Proxy},
    reader::Reader,
    refused::{code_and_reason, metadata, preconditions, refused, resource, retry_delay, violated_fields},
    user_service::{RunningUserService, user_service_config},
    web::WebCall,
    world::{World, channel, direct, group, read_log, send, send_as, strings, try_read_log},
};
