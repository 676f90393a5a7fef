//! A reader of an outbox with a name, whose position survives restarts.

use std::time::Duration;

use sqlx::AssertSqlSafe;

use super::{
    super::{Database, Error},
    position::Position,
    reader::{Read, Reader, Source},
};

/// Reads an outbox under a name, at least once each: the position is stored after the batch was handled, so a batch is
/// read again after a crash in between. One task at a time per name.
///
/// The table has the columns `name text PRIMARY KEY`, `position text` and `updated_at timestamptz`.
#[derive(Debug)]
pub struct Consumer<S> {
    reader: Reader<S>,
    database: Database,
    name: &'static str,
    load: String,
    store: String,
}

impl<S: Source> Consumer<S> {
    /// Prepares to consume. `table` holds the positions, such as `parlance_message.consumers`; `retention` is for how long
    /// rows of the outbox are kept.
    pub fn new(database: Database, table: &'static str, name: &'static str, retention: Duration) -> Self {
        Self {
            reader: Reader::new(database.clone(), retention),
            database,
            name,
            load: format!("SELECT position FROM {table} WHERE name = $1"),
            store: format!(
                "INSERT INTO {table} (name, position, updated_at) VALUES ($1, $2, now())
                 ON CONFLICT (name) DO UPDATE SET position = excluded.position, updated_at = excluded.updated_at"
            ),
        }
    }

    /// Reads what was committed since the stored position. A gap, as of the first read, after a restore, or when the position is
    /// older than the retention allows, has no batch: the consumer then reads its whole subject again.
    ///
    /// # Errors
    /// The database cannot be reached or fails; the stored position is one that this version cannot read.
    pub async fn read(&self) -> Result<Read<S::Batch>, Error> {
        let query = sqlx::query_as(AssertSqlSafe(self.load.as_str())).bind(self.name);
        let stored: Option<(String,)> = self.database.fetch_optional(query).await?;
        let position = stored.map(|(text,)| text.parse::<Position>()).transpose();
        let position = position.map_err(|error| Error::Corrupt(format!("the position of {}: {error}", self.name)))?;
        self.reader.read(position.as_ref()).await
    }

    /// Stores the position of a read, once its batch is handled.
    ///
    /// # Errors
    /// The database cannot be reached or fails: the same batch is read again.
    pub async fn commit(&self, position: &Position) -> Result<(), Error> {
        let query = sqlx::query(AssertSqlSafe(self.store.as_str())).bind(self.name).bind(position.to_string());
        self.database.execute(query).await.map(drop)
    }
}
