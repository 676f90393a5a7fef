//! Receives notifications of PostgreSQL over a connection outside the pool. They may be lost, so nothing may depend on them.

use std::{io, time::Duration};

use sqlx::postgres::{PgListener, PgPoolOptions};

use super::{Error, Settings, bounded};

/// A connection that has been silent for longer is pinged.
const SILENCE_BEFORE_PING: Duration = Duration::from_secs(30);

/// A notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// The channel.
    pub channel: String,
    /// The payload, which may be empty.
    pub payload: String,
    /// The id of the server process that sent it.
    pub process_id: u32,
}

/// Receives the notifications of some channels. After an error it cannot be used again: make a new one.
#[derive(Debug)]
pub struct Listener {
    listener: PgListener,
    timeout: Duration,
}

impl Settings {
    /// Listens on these channels.
    ///
    /// # Errors
    /// The database cannot be reached or refuses.
    pub async fn listen(&self, channels: &[&str]) -> Result<Listener, Error> {
        let session = self.clone();
        // The only way to a listener. It never needs a second connection.
        let pool = PgPoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(self.timeout)
            .after_connect(move |connection, _| {
                let session = session.clone();
                Box::pin(async move { session.apply(connection).await.map(drop) })
            })
            .connect_lazy_with(self.connect_options().await);
        let listener = bounded(self.timeout, async {
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.eager_reconnect(false);
            listener.listen_all(channels.iter().copied()).await?;
            Ok(listener)
        });
        let listener = listener.await.map_err(Error::of_connecting)?;
        Ok(Listener { listener, timeout: self.timeout })
    }
}

impl Listener {
    /// Waits for the next notification.
    ///
    /// # Errors
    /// The connection is lost.
    pub async fn next(&mut self) -> Result<Notification, Error> {
        loop {
            match tokio::time::timeout(SILENCE_BEFORE_PING, self.listener.try_recv()).await {
                Ok(Ok(Some(notification))) => {
                    return Ok(Notification {
                        channel: notification.channel().to_owned(),
                        payload: notification.payload().to_owned(),
                        process_id: notification.process_id(),
                    });
                }
                Ok(Ok(None)) => return Err(sqlx::Error::Io(io::ErrorKind::ConnectionAborted.into()).into()),
                Ok(Err(error)) => return Err(error.into()),
                Err(_) => self.ping().await?,
            }
        }
    }

    async fn ping(&mut self) -> Result<(), Error> {
        bounded(self.timeout, sqlx::query("SELECT 1").execute(&mut self.listener)).await.map(drop)
    }
}
