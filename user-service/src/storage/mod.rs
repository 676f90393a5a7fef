//! Statements, rows and errors of PostgreSQL. The only module that uses `sqlx`. It returns domain values and outcomes, and
//! knows nothing of gRPC.
//!
//! Every write is one call of one SQL function in autocommit, so no lock is held over a round trip and there is no
//! transaction to own.

mod error;
mod lookups;
mod migrations;
mod outbox;
mod rows;
mod settings;
mod users;
pub(crate) mod verify;

use std::sync::{Arc, OnceLock};

use service_kit::{
    database::{
        self, Database,
        outbox::{Position, Read, Reader, Trimmer},
    },
    page_token::PageTokens,
};

#[cfg(test)]
pub(crate) use self::error::samples;
use self::outbox::UserChanges;
pub(crate) use self::{
    error::Error,
    lookups::{Lookups, Queue},
    migrations::schema,
    outbox::ChangedUsers,
    users::KeyRange,
};

/// The accounts. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    database: Database,
    changes: Arc<Reader<UserChanges>>,
    /// Set once the schema is at the version of this binary. Until then every call is [`Error::NotReady`].
    opened: Arc<OnceLock<PageTokens>>,
}

impl Store {
    /// Makes a store that is not open.
    pub(crate) fn new(database: Database) -> Self {
        let changes = Arc::new(outbox::reader(database.clone()));
        Self { database, changes, opened: Arc::default() }
    }

    /// Returns a store with one connection of its own, for a task that must not wait while calls hold the pool. Both are
    /// opened together.
    pub(crate) fn beside(&self) -> Self {
        Self { opened: self.opened.clone(), ..Self::new(self.database.beside()) }
    }

    /// Reads what all replicas share. Requires the migrated schema.
    pub(crate) async fn open(&self) -> Result<(), database::Error> {
        let key = settings::find_page_token_key(&self.database).await?;
        // A second call reads the same key.
        self.opened.get_or_init(|| PageTokens::new(key));
        Ok(())
    }

    /// Returns the page tokens of this database.
    pub(crate) fn page_tokens(&self) -> Result<&PageTokens, Error> {
        self.opened.get().ok_or(Error::NotReady)
    }

    /// Fails until [`open`](Self::open) has been called.
    pub(crate) fn check_open(&self) -> Result<(), Error> {
        self.page_tokens().map(drop)
    }

    /// Reads the users that changed since the position. Without a position it is a gap.
    pub(crate) async fn read_changes(&self, last: Option<&Position>) -> Result<Read<ChangedUsers>, Error> {
        self.check_open()?;
        Ok(self.changes.read(last).await?)
    }

    /// Returns the trimmer of the outbox.
    pub(crate) fn trimmer(&self) -> Trimmer {
        outbox::trimmer(self.database.clone())
    }

    fn database(&self) -> Result<&Database, Error> {
        self.page_tokens().map(|_| &self.database)
    }
}
