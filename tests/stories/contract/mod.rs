//! Stories about the contract around message-service's RPCs: every reason there is, reflection, health, browsers, and what
//! is told when a row is broken.

mod broken_rows;
mod health;
mod reasons;
mod reflection;
mod web;
