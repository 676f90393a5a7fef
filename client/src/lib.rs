//! The reference client of Parlance: a [`Session`] of one user that survives lost connections and restarts of the services.
//!
//! - Events arrive as one ordered stream of [`Update`]s: each conversation without gaps and duplicates, proved by its
//!   sequences. After a disconnect the session resumes from its cursors.
//! - Each message is stored once: it keeps its `request_id` over all attempts, and messages to one conversation keep their
//!   order.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use parlance_client::{Client, Draft, Update};
//!
//! let client = Client::new(["http://127.0.0.1:50052"])?;
//! let (session, mut updates) = client.session("alice").open();
//! let sent = session.send(Draft::text("general", "hello")).await?;
//! while let Some(update) = updates.next().await {
//!     if let Update::Event(event) = update {
//!         // …
//! #       let _ = (event, &sent);
//!     }
//! }
//! # Ok(())
//! # }
//! ```

mod backoff;
mod client;
mod command;
mod connection;
mod frame_queue;
mod message;
mod positions;
mod replicas;
mod session;
mod settings;
mod status;
mod task;
mod update;

/// The entry points of the fuzz targets.
#[cfg(feature = "fuzzing")]
pub mod fuzzing {
    pub use crate::task::fuzzing::answers;
}

pub use client::Client;
pub use message::{Draft, SendError, Sent};
pub use replicas::InvalidAddress;
pub use session::{Session, SessionBuilder, Updates};
pub use settings::{Start, Transport};
pub use update::Update;
