//! The bus over PostgreSQL's `NOTIFY`, each direction on a connection of its own: a bell with nothing to say when something was
//! committed, and a second channel for what is live only.

use std::sync::atomic::{AtomicU32, Ordering};

use base64::{Engine, engine::general_purpose::STANDARD};
use service_kit::{
    database::{Error, Listener, Settings, bounded},
    lifecycle::BoxError,
};
use sqlx::{Executor, PgConnection};
use tokio::sync::Mutex;

use super::{Bus, Hint, ReplicaId, wire};

const BELL: &str = "parlance_message";
const LIVE: &str = "parlance_message_live";
const RING: &str = "NOTIFY parlance_message";
const TELL: &str = "SELECT pg_notify('parlance_message_live', $1)";

/// A payload of `NOTIFY` ends at 8,000 bytes; as text it is a third longer than this.
const MAX_LIVE_BYTES: usize = 5_000;

// What a crash of the server loses is not missed.
const PREPARE: &str = "SET synchronous_commit = off";
const OWN_PROCESS: &str = "SELECT pg_backend_pid()";

/// The bus of one replica.
pub(crate) struct PostgresBus {
    from: ReplicaId,
    bell: Settings,
    ear: Settings,
    telling: Mutex<Option<PgConnection>>,
    hearing: Mutex<Option<Listener>>,
    /// The server's process of the connection that tells: what comes from it is one's own.
    own_process: AtomicU32,
}

impl PostgresBus {
    /// Connects when it is first used.
    pub(crate) fn new(settings: &Settings) -> Self {
        let named = |application_name| Settings { application_name, ..settings.clone() };
        Self {
            from: fastrand::u64(..),
            bell: named("parlance message-service bell"),
            ear: named("parlance message-service listener"),
            telling: Mutex::default(),
            hearing: Mutex::default(),
            own_process: AtomicU32::new(0),
        }
    }

    async fn connect(&self) -> Result<PgConnection, Error> {
        let mut connection = self.bell.open().await?;
        let (process,): (i32,) = bounded(self.bell.timeout, async {
            connection.execute(PREPARE).await?;
            sqlx::query_as(OWN_PROCESS).fetch_one(&mut connection).await
        })
        .await?;
        self.own_process.store(process.cast_unsigned(), Ordering::Relaxed);
        Ok(connection)
    }
}

impl Bus for PostgresBus {
    async fn tell(&self, hint: Hint) -> Result<(), BoxError> {
        let mut telling = self.telling.lock().await;
        // Taken out: a connection that was not seen to the end of its call is dropped.
        let mut connection = match telling.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        if hint.look || !hint.entries.is_empty() {
            bounded(self.bell.timeout, connection.execute(RING)).await?;
        }
        if !hint.ephemerals.is_empty() {
            let live = Hint { ephemerals: hint.ephemerals, ..Hint::default() };
            for part in wire::encode(self.from, live, MAX_LIVE_BYTES) {
                let query = sqlx::query(TELL).bind(STANDARD.encode(part));
                bounded(self.bell.timeout, query.execute(&mut connection)).await?;
            }
        }
        *telling = Some(connection);
        Ok(())
    }

    async fn hear(&self) -> Result<Hint, BoxError> {
        let mut hearing = self.hearing.lock().await;
        let mut listener = match hearing.take() {
            Some(listener) => listener,
            None => self.ear.listen(&[BELL, LIVE]).await?,
        };
        let hint = loop {
            let heard = listener.next().await?;
            if heard.channel == BELL {
                if heard.process_id != self.own_process.load(Ordering::Relaxed) {
                    break Hint { look: true, ..Hint::default() };
                }
                continue;
            }
            let bytes = STANDARD.decode(&heard.payload).unwrap_or_default();
            if let Some(hint) = wire::decode(self.from, &bytes) {
                // This channel is for nothing else.
                break Hint { ephemerals: hint.ephemerals, ..Hint::default() };
            }
        };
        *hearing = Some(listener);
        Ok(hint)
    }
}
