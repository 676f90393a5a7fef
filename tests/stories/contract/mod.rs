//! Stories about the contract around message-service's RPCs: every reason, reflection, health, browsers, and corrupted
//! rows.

mod broken_rows;
mod compression;
mod grpc_web;
mod health;
mod reasons;
mod reflection;
