//! Sends notifications of PostgreSQL.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use sqlx::Executor;
use tokio::sync::Mutex;

use super::{Database, Error, Kept, bounded};

/// Notifications are not stored, so a commit need not wait for the disk.
const SESSION: &str = "SET synchronous_commit = off";
const NOTIFY_ONE: &str = "SELECT pg_notify($1, $2)";
// PostgreSQL merges notifications of one transaction that are the same.
const NOTIFY_ALL: &str = "
    SELECT pg_notify(n.channel, n.payload)
    FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS n (channel, payload, place)
    ORDER BY n.place";

/// Sends notifications over a connection outside the pool, which it opens when it needs one. A [`Listener`](super::Listener)
/// is the other end.
#[derive(Debug)]
pub struct Notifier {
    kept: Mutex<Kept>,
    process_id: AtomicU32,
}

impl Database {
    /// Prepares to send notifications. Connects at the first one.
    pub fn notifier(&self, application_name: &'static str) -> Notifier {
        let kept = self.keep(application_name, self.settings().timeout);
        Notifier { kept: Mutex::new(kept), process_id: AtomicU32::new(0) }
    }
}

impl Notifier {
    /// Sends notifications, each a channel and a payload of at most 7,999 bytes, in one transaction. None is sent if this
    /// fails, unless the outcome is unknown.
    ///
    /// # Errors
    /// The database cannot be reached or refuses. The next call connects again.
    pub async fn notify(&self, notifications: &[(&str, &str)]) -> Result<(), Error> {
        if notifications.is_empty() {
            return Ok(());
        }
        let mut kept = self.kept.lock().await;
        let limit = kept.settings().timeout;
        if kept.open().await? {
            self.begin(&mut kept, limit).await?;
        }
        let mut session = kept.take().await?;
        // The notification of a commit is alone, and on the path of every message.
        let query = if let [(channel, payload)] = notifications {
            sqlx::query(NOTIFY_ONE).bind(channel).bind(payload)
        } else {
            let (channels, payloads): (Vec<&str>, Vec<&str>) = notifications.iter().copied().unzip();
            sqlx::query(NOTIFY_ALL).bind(channels).bind(payloads)
        };
        let sent = bounded(limit, query.execute(session.connection())).await;
        kept.settle(session, sent).map(drop)
    }

    /// Returns the id of the server process that sends, as in [`Notification::process_id`](super::Notification::process_id):
    /// a listener recognises its own notifications by it. 0 before the first one.
    pub fn process_id(&self) -> u32 {
        self.process_id.load(Ordering::Relaxed)
    }

    /// Prepares a new session.
    async fn begin(&self, kept: &mut Kept, limit: Duration) -> Result<(), Error> {
        let mut session = kept.take().await?;
        let begun = bounded(limit, session.connection().execute(SESSION)).await;
        if begun.is_ok() {
            self.process_id.store(session.process_id().cast_unsigned(), Ordering::Relaxed);
            kept.settle(session, begun).map(drop)
        } else {
            begun.map(drop)
        }
    }
}
