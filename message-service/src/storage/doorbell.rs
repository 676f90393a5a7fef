//! The doorbell over PostgreSQL's `NOTIFY`, each side on a connection of its own. A bus, not a record: it may lose anything.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use service_kit::database::{Listener, Settings, bounded};
use sqlx::{Executor, PgConnection};

use super::Error;

const CHANNEL: &str = "parlance_message";
const RING: &str = "NOTIFY parlance_message";

// A ring that a crash of the server loses is not missed.
const PREPARE: &str = "SET synchronous_commit = off";
const OWN_PROCESS: &str = "SELECT pg_backend_pid()";

/// Rings. Opens its connection when it is needed.
pub(crate) struct Bell {
    settings: Settings,
    open: Option<PgConnection>,
    /// The server's process of that connection, by which its own replica knows it.
    process: Arc<AtomicU32>,
}

/// Hears the bells of others.
pub(crate) struct Ear {
    settings: Settings,
    open: Option<Listener>,
    own_bell: Arc<AtomicU32>,
}

/// Both ends of one replica.
pub(crate) fn pair(settings: &Settings) -> (Bell, Ear) {
    let process: Arc<AtomicU32> = Arc::default();
    let bell = Settings { application_name: "parlance message-service bell", ..settings.clone() };
    let ear = Settings { application_name: "parlance message-service listener", ..settings.clone() };
    (
        Bell { settings: bell, open: None, process: process.clone() },
        Ear { settings: ear, open: None, own_bell: process },
    )
}

impl Bell {
    /// Rings once. May be dropped at any time, as may the ring.
    pub(crate) async fn ring(&mut self) -> Result<(), Error> {
        // Taken out: a connection that was not seen to the end of its call is dropped.
        let mut connection = match self.open.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        bounded(self.settings.timeout, connection.execute(RING)).await?;
        self.open = Some(connection);
        Ok(())
    }

    async fn connect(&self) -> Result<PgConnection, Error> {
        let mut connection = self.settings.open().await?;
        let (process,): (i32,) = bounded(self.settings.timeout, async {
            connection.execute(PREPARE).await?;
            sqlx::query_as(OWN_PROCESS).fetch_one(&mut connection).await
        })
        .await?;
        self.process.store(process.cast_unsigned(), Ordering::Relaxed);
        Ok(connection)
    }
}

impl Ear {
    /// Waits until another replica's bell rings. After an error nothing is heard until this is called again.
    pub(crate) async fn hear(&mut self) -> Result<(), Error> {
        let mut listener = match self.open.take() {
            Some(listener) => listener,
            None => self.settings.listen(CHANNEL).await?,
        };
        while listener.next().await? == self.own_bell.load(Ordering::Relaxed) {}
        self.open = Some(listener);
        Ok(())
    }
}
