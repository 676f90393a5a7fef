//! Sends notifications of PostgreSQL.

use std::sync::atomic::{AtomicU32, Ordering};

use sqlx::{Executor, PgConnection};
use tokio::sync::Mutex;

use super::{Error, Settings, bounded};

/// Notifications are not stored, so a commit need not wait for the disk.
const SESSION: &str = "SET synchronous_commit = off";
const PROCESS_ID: &str = "SELECT pg_backend_pid()";
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
    settings: Settings,
    connection: Mutex<Option<PgConnection>>,
    process_id: AtomicU32,
}

impl Settings {
    /// Prepares to send notifications. Connects at the first one.
    pub fn notifier(&self) -> Notifier {
        Notifier { settings: self.clone(), connection: Mutex::default(), process_id: AtomicU32::new(0) }
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
        let mut kept = self.connection.lock().await;
        // Taken out, so that a connection whose call did not end is dropped.
        let mut connection = match kept.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        // The notification of a commit is alone, and on the path of every message.
        let query = if let [(channel, payload)] = notifications {
            sqlx::query(NOTIFY_ONE).bind(channel).bind(payload)
        } else {
            let (channels, payloads): (Vec<&str>, Vec<&str>) = notifications.iter().copied().unzip();
            sqlx::query(NOTIFY_ALL).bind(channels).bind(payloads)
        };
        bounded(self.settings.timeout, query.execute(&mut connection)).await?;
        *kept = Some(connection);
        Ok(())
    }

    /// Returns the id of the server process that sends, as in [`Notification::process_id`](super::Notification::process_id):
    /// a listener recognises its own notifications by it. 0 before the first one.
    pub fn process_id(&self) -> u32 {
        self.process_id.load(Ordering::Relaxed)
    }

    async fn connect(&self) -> Result<PgConnection, Error> {
        let mut connection = self.settings.open().await?;
        let (process_id,): (i32,) = bounded(self.settings.timeout, async {
            connection.execute(SESSION).await?;
            sqlx::query_as(PROCESS_ID).fetch_one(&mut connection).await
        })
        .await?;
        self.process_id.store(process_id.cast_unsigned(), Ordering::Relaxed);
        Ok(connection)
    }
}
