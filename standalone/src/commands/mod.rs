//! One file per subcommand, and the signals they all obey.

pub(crate) mod chat;
pub(crate) mod postgres;
pub(crate) mod serve;
mod signals;
pub(crate) mod verify;
pub(crate) mod with_postgres;
