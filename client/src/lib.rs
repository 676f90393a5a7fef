//! A client of Parlance that an application can rely on: a [`Session`] of one user goes on over lost connections and
//! restarts of services.
//!
//! - What happens is one ordered stream of [`Update`]s: each conversation without a gap and without a double, proved by its
//!   sequences. After a break the session takes up where it was, with its cursors.
//! - What is sent is stored once: a message keeps its `request_id` over all tries, and those of one conversation keep their
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
mod ledger;
mod link;
mod outbox;
mod run;
mod session;

pub use client::{Client, InvalidAddress};
pub use session::{Draft, SendError, Sent, Session, SessionBuilder, Start, Transport, Update, Updates};
