//! Checks of the server and the database before they are used.

use sqlx::PgConnection;

use super::Error;

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
    let statement = "SELECT current_setting('transaction_read_only') = 'on'";
    Ok(sqlx::query_scalar(statement).fetch_one(connection).await?)
}
