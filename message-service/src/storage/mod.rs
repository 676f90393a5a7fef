//! The only module that uses `sqlx`: statements, rows, and the call of the write path. Its interface is of domain types.
//!
//! Everything that takes a sequence is one call of one SQL function (`append.rs`, `Store::create_conversation`), so no lock
//! outlives a round trip. Reads are single statements on the primary. Statements are constants, each with the index that it
//! reads along.

pub(crate) mod append;
pub(crate) mod conversations;
pub(crate) mod entry;
pub(crate) mod epochs;
pub(crate) mod log;
pub(crate) mod members;
pub(crate) mod memberships;
pub(crate) mod messages;
pub(crate) mod migrations;
pub(crate) mod new_messages;
pub(crate) mod outbox;
pub(crate) mod read_marks;
#[cfg(test)]
mod testing;
pub(crate) mod verify;

use std::time::Duration;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use service_kit::database::{Database, Kept};
use sha2::{Digest, Sha256};

use crate::domain::{
    epoch::Epoch,
    sequence::{Position, Sequence},
};

pub(crate) use service_kit::database::Error;

/// Pages of lists end at about this many bytes of contents, or after their first item.
pub(crate) const MAX_PAGE_BYTES: i64 = 1024 * 1024;

/// The service's tables. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    database: Database,
}

const INSTALLATION: &str = "SELECT parlance_message.installation_v1()";

const PAGE_TOKEN_KEY: &str = "SELECT page_token_key FROM parlance_message.settings";

impl Store {
    pub(crate) fn new(database: Database) -> Self {
        Self { database }
    }

    /// Returns a name for this database that reveals nothing else of it, the same for all replicas, also on a promoted standby,
    /// and another one for a restored copy.
    pub(crate) async fn installation(&self) -> Result<String, Error> {
        let mut hasher = Sha256::new_with_prefix(b"parlance installation");
        hasher.update(self.page_token_key().await?);
        let (name,): (String,) = self.database.fetch_one(sqlx::query_as(INSTALLATION)).await?;
        hasher.update(name);
        let hash = hasher.finalize();
        Ok(URL_SAFE_NO_PAD.encode(&hash[..12]))
    }

    /// Returns the key of page tokens, which all replicas share. Other keys are derived from it.
    pub(crate) async fn page_token_key(&self) -> Result<[u8; 32], Error> {
        let (key,): (Vec<u8>,) = self.database.fetch_one(sqlx::query_as(PAGE_TOKEN_KEY)).await?;
        key.try_into().map_err(|_| Error::Corrupt("settings.page_token_key is not 32 bytes".to_owned()))
    }
}

/// A connection that one writer keeps for itself; opened when needed, dropped after an error that leaves it in doubt.
pub(crate) struct WriterConnection {
    kept: Kept,
    /// The epoch that the open session writes to: it is to one server, which cannot be replaced under it.
    epoch: Option<Epoch>,
}

impl WriterConnection {
    /// Opens the connection if there is none that answers. A failure here means that nothing was sent.
    pub(crate) async fn open(&mut self) -> Result<(), Error> {
        if self.kept.open().await? || self.epoch.is_none() {
            self.epoch = None;
            self.epoch = Some(self.enter_epoch().await.map_err(Error::of_connecting)?);
        }
        Ok(())
    }

    /// Runs a statement that is no part of the write path.
    #[cfg(feature = "planted-bugs")]
    pub(crate) async fn run(&mut self, statement: &'static str) -> Result<(), Error> {
        let mut session = self.kept.take().await?;
        let query = sqlx::raw_sql(statement).execute(session.connection());
        let answer = service_kit::database::bounded(self.kept.settings().timeout, query).await;
        self.kept.settle(session, answer).map(drop)
    }
}

impl Store {
    /// Prepares the connection of a writer. `timeout` is that of one call.
    pub(crate) fn writer_connection(&self, timeout: Duration) -> WriterConnection {
        let settings = self.database.settings();
        let kept = self.database.keep(settings.application_name, timeout.min(settings.timeout));
        WriterConnection { kept, epoch: None }
    }

    /// Returns the database, for the bus.
    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    /// Returns a store with one connection of its own, for a task that must not wait while calls hold the pool.
    pub(crate) fn beside(&self) -> Self {
        Self::new(self.database.beside())
    }
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    /// There are more items after the last one.
    pub(crate) has_more: bool,
}

impl<T> Page<T> {
    /// Converts rows that were read up to one more than `limit`, each with the number of rows before the page was cut to its
    /// bytes.
    fn cut<R>(rows: Vec<(R, i64)>, limit: i64, into: impl Fn(R) -> Result<T, Error>) -> Result<Self, Error> {
        let available = rows.first().map_or(0, |(_, available)| *available);
        let items = rows.into_iter().take(limit as usize).map(|(row, _)| into(row)).collect::<Result<Vec<_>, _>>()?;
        Ok(Self { has_more: available > items.len() as i64, items })
    }
}

/// Reads a column that holds a sequence.
fn sequence(number: i64, column: &str) -> Result<Sequence, Error> {
    Sequence::new(number).ok_or_else(|| Error::Corrupt(format!("{column} is {number}")))
}

/// Reads a column that holds a position in a log.
fn position(number: i64, column: &str) -> Result<Position, Error> {
    Position::new(number).ok_or_else(|| Error::Corrupt(format!("{column} is {number}")))
}
