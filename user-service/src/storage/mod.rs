//! The one place that says `sqlx`: statements, rows and what their failures mean. Speaks the domain's words; knows
//! nothing of gRPC.
//!
//! Every write is one call of one SQL function in autocommit, so no lock outlives a round trip and there is no
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
    database::{self, Database},
    page_token::PageTokens,
};

#[cfg(test)]
pub(crate) use self::error::samples;
pub(crate) use self::{
    error::Error,
    lookups::{Lookups, Queue},
    migrations::schema,
    outbox::{Horizon, Snapshot},
    users::KeyRange,
};

/// The accounts. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    database: Database,
    /// Set once the schema is known to be this binary's. Until then every call is [`Error::NotReady`].
    opened: Arc<OnceLock<PageTokens>>,
}

impl Store {
    /// Makes a store that answers nothing before [`open`](Self::open).
    pub(crate) fn new(database: Database) -> Self {
        Self { database, opened: Arc::default() }
    }

    /// Reads what all replicas share. Call it when the schema is migrated.
    pub(crate) async fn open(&self) -> Result<(), database::Error> {
        let key = settings::find_page_token_key(&self.database).await?;
        // A second call reads the same key.
        self.opened.get_or_init(|| PageTokens::new(key));
        Ok(())
    }

    /// The page tokens of this database.
    pub(crate) fn page_tokens(&self) -> Result<&PageTokens, Error> {
        self.opened.get().ok_or(Error::NotReady)
    }

    /// Fails until [`open`](Self::open) has been called.
    pub(crate) fn check_open(&self) -> Result<(), Error> {
        self.page_tokens().map(drop)
    }

    fn database(&self) -> Result<&Database, Error> {
        self.page_tokens().map(|_| &self.database)
    }
}
