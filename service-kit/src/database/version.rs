//! Checks that a database is at the version of this binary, for commands that read it and must not migrate it.

use sqlx::{AssertSqlSafe, PgConnection};

use super::{EncodingError, Error, Schema, server};

/// The reason why the tables are not those that this binary knows.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// The schema does not exist.
    #[error("the database {database} has no schema {schema}: it was never migrated; is it the right database?")]
    Missing {
        /// The database.
        database: String,
        /// The schema.
        schema: &'static str,
    },
    /// Migrations are missing.
    #[error(
        "the database schema {schema} is at version {found}, older than the {known} that this binary knows: migrate it first, or use the binary of that version"
    )]
    Older {
        /// The schema.
        schema: &'static str,
        /// Version of the database.
        found: i32,
        /// Newest version known here.
        known: i32,
    },
    /// The database has migrations that this binary does not know.
    #[error(
        "the database schema {schema} is at version {found}, newer than the {known} that this binary knows: use a newer binary"
    )]
    Newer {
        /// The schema.
        schema: &'static str,
        /// Version of the database.
        found: i32,
        /// Newest version known here.
        known: i32,
    },
    /// The database cannot store every text.
    #[error(transparent)]
    Encoding(#[from] EncodingError),
    /// The version could not be read.
    #[error(transparent)]
    Database(#[from] Error),
}

/// Checks that the schema is exactly at the version of this binary. Changes nothing.
///
/// # Errors
/// [`VersionError`] when it is not, or cannot be read.
pub(super) async fn check_version(connection: &mut PgConnection, schema: &Schema) -> Result<(), VersionError> {
    server::check_encoding(connection).await??;
    let table = format!("{}.schema_history", schema.name);
    let (database, exists): (String, bool) =
        sqlx::query_as("SELECT current_database()::text, to_regclass($1) IS NOT NULL")
            .bind(&table)
            .fetch_one(&mut *connection)
            .await
            .map_err(Error::from)?;
    if !exists {
        return Err(VersionError::Missing { database, schema: schema.name });
    }
    let found: Option<i32> = sqlx::query_scalar(AssertSqlSafe(format!("SELECT max(version) FROM {table}")))
        .fetch_one(connection)
        .await
        .map_err(Error::from)?;
    let found = found.unwrap_or(0);
    let known = schema.migrations.iter().map(refinery_core::Migration::version).max().unwrap_or(0);
    match found.cmp(&known) {
        std::cmp::Ordering::Less => Err(VersionError::Older { schema: schema.name, found, known }),
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Greater => Err(VersionError::Newer { schema: schema.name, found, known }),
    }
}
