//! Reads a whole database in slices for `verify`: by keyset along primary keys, over one connection that cannot write. Each
//! slice is one statement and locks no row.

use std::time::Duration;

use sqlx::{
    Executor, FromRow, PgConnection, Postgres,
    postgres::{PgArguments, PgRow},
    query::QueryAs,
};

use super::{Error, Schema, Settings, VersionError, bounded, version::check_version};

/// The longest time for one slice, unless the service has a longer timeout.
const SLICE_TIMEOUT: Duration = Duration::from_mins(1);

/// Read only; does not delay a migration by more than a slice; and reads in the order of primary keys, since the statistics
/// of a table that has just been restored are missing.
const SESSION: &str = "
    SET default_transaction_read_only = on;
    SET lock_timeout = '10s';
    SET enable_seqscan = off;
    SET enable_bitmapscan = off;
    SET enable_hashjoin = off;
    SET enable_mergejoin = off;
    SET enable_sort = off;
    SET enable_incremental_sort = off;
    SET max_parallel_workers_per_gather = 0;
    SET jit = off";

/// A connection that reads slices.
#[derive(Debug)]
pub struct Inspection {
    connection: PgConnection,
    limit: Duration,
    slice: u32,
}

impl Inspection {
    /// Connects, and checks that the schema is at the version of this binary. A slice has at most `slice` rows.
    ///
    /// # Errors
    /// The database cannot be reached, or has another version.
    pub async fn open(settings: &Settings, schema: &Schema, slice: u32) -> Result<Self, VersionError> {
        let limit = SLICE_TIMEOUT.max(settings.timeout);
        let settings = Settings { timeout: limit, plan_anew: true, ..settings.clone() };
        let mut connection = settings.open().await?;
        bounded(limit, connection.execute(sqlx::raw_sql(SESSION))).await?;
        check_version(&mut connection, schema).await?;
        Ok(Self { connection, limit, slice })
    }

    /// Returns the number of rows of a full slice.
    pub fn slice(&self) -> u32 {
        self.slice
    }

    /// Returns the connection, for slices of several statements in one transaction, and the time that they may take together.
    pub fn connection(&mut self) -> (&mut PgConnection, Duration) {
        (&mut self.connection, self.limit)
    }

    /// Returns all rows of a statement.
    ///
    /// # Errors
    /// The database fails, or takes too long.
    pub async fn fetch_all<O>(&mut self, query: QueryAs<'_, Postgres, O, PgArguments>) -> Result<Vec<O>, Error>
    where
        O: Send + Unpin + for<'r> FromRow<'r, PgRow>,
    {
        bounded(self.limit, query.fetch_all(&mut self.connection)).await
    }
}
