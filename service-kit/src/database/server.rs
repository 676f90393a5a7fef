//! Checks of the server and the database before they are used.

use std::time::Duration;

use sqlx::{Connection, Executor, PgConnection, Row};

use super::{Error, Settings, bounded};

const IS_READ_ONLY: &str = "SELECT current_setting('transaction_read_only') = 'on'";

/// The number of attempts to see a pooler give a server process to another: a busy one may have several that are free.
const ROUNDS: usize = 8;

/// The text of [`read_only`].
const READ_ONLY: &str = "the server is read only: it is a standby, so use the address of the primary, or \
                         default_transaction_read_only is on";

/// A database in which not every text can be stored.
#[derive(Debug, thiserror::Error)]
#[error(
    "the database {database} has the encoding {encoding}, and only UTF8 can store every text: create it with ENCODING \
     'UTF8' TEMPLATE template0"
)]
pub struct EncodingError {
    database: String,
    encoding: String,
}

/// Refuses a database whose encoding is not UTF-8. The inner result is the verdict.
pub(super) async fn check_encoding(connection: &mut PgConnection) -> Result<Result<(), EncodingError>, Error> {
    let statement = "SELECT current_database()::text, current_setting('server_encoding')";
    let (database, encoding): (String, String) = sqlx::query_as(statement).fetch_one(connection).await?;
    Ok(if encoding == "UTF8" { Ok(()) } else { Err(EncodingError { database, encoding }) })
}

/// Returns true if the server accepts no writes: a standby, or one that is set to read only.
pub(super) async fn is_read_only(connection: &mut PgConnection) -> Result<bool, Error> {
    Ok(sqlx::query_scalar(IS_READ_ONLY).fetch_one(connection).await?)
}

/// Fails as a write would if the server accepts none.
pub(super) async fn check_writable(connection: &mut PgConnection, limit: Duration) -> Result<(), Error> {
    let is_read_only = bounded(limit, sqlx::query_scalar(IS_READ_ONLY).fetch_one(connection)).await?;
    if is_read_only { Err(Error::Unavailable(read_only())) } else { Ok(()) }
}

/// Returns the error of a server that accepts no writes, as the only kind of the driver's that adds nothing to a text.
pub(super) fn read_only() -> sqlx::Error {
    sqlx::Error::InvalidArgument(READ_ONLY.to_owned())
}

/// Returns true if a pooler gives the server process of a connection to others between its transactions. Then session
/// settings and locks are lost at random.
pub(super) async fn is_shared(settings: &Settings, connection: &mut PgConnection) -> Result<bool, Error> {
    let mut other = settings.open().await?;
    let shared = bounded(settings.timeout, async {
        for _ in 0..ROUNDS {
            let before = process_id(connection).await?;
            other.execute(sqlx::raw_sql("BEGIN")).await?;
            let of_other = process_id(&mut other).await?;
            let after = process_id(connection).await?;
            other.execute(sqlx::raw_sql("COMMIT")).await?;
            if before == of_other || before != after {
                return Ok(true);
            }
        }
        Ok(false)
    });
    let shared = shared.await?;
    other.close().await?;
    Ok(shared)
}

/// Not as a prepared statement, which a pooler may refuse.
async fn process_id(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    connection.fetch_one(sqlx::raw_sql("SELECT pg_backend_pid()")).await?.try_get(0)
}
