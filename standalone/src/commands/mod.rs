//! One file per subcommand, and the signal handling that they share.

pub(crate) mod chat;
mod database;
pub(crate) mod postgres;
pub(crate) mod serve;
mod signals;
pub(crate) mod token;
pub(crate) mod verify;
pub(crate) mod with_postgres;
