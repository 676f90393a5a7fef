//! The server's address, and the statements that this module runs on it.

use std::fmt::{self, Write as _};
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, PgConnection};

use super::error::Error;

/// The time limit of one attempt to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The superuser of a cluster.
pub(super) const SUPERUSER: &str = "postgres";

/// The parameter of a connection string with which a session of the superuser reads everything and writes nothing.
const READER: &str = "options=-c%20role%3Dpg_read_all_data";

/// The server's port, and the name and the password of a role.
#[derive(Clone)]
pub(super) struct Address {
    pub(super) user: &'static str,
    pub(super) port: u16,
    pub(super) password: String,
}

impl Address {
    /// Returns a connection string. The server does not use TLS on loopback; `sslmode=disable` saves each connection the
    /// negotiation.
    pub(super) fn url(&self, database: &str) -> String {
        let Self { user, port, password } = self;
        format!("postgresql://{user}:{password}@127.0.0.1:{port}/{}?sslmode=disable", percent_encoded(database))
    }

    /// Returns a connection string of the superuser for sessions that only read.
    pub(super) fn reader_url(&self, database: &str) -> String {
        format!("{}&{READER}", self.url(database))
    }

    pub(super) async fn connect(&self, database: &str) -> Result<PgConnection, sqlx::Error> {
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username(self.user)
            .password(&self.password)
            .database(database)
            .ssl_mode(PgSslMode::Disable);
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, options.connect()).await;
        connecting.unwrap_or_else(|_| Err(sqlx::Error::PoolTimedOut))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address").field("port", &self.port).finish_non_exhaustive()
    }
}

/// Connects and runs a query. An accepted password proves that this is the server that was started.
pub(super) async fn ping(address: &Address) -> Result<(), sqlx::Error> {
    let mut connection = address.connect("postgres").await?;
    sqlx::query("SELECT 1").execute(&mut connection).await?;
    connection.close().await
}

/// Creates a database unless it exists.
pub(super) async fn create_database(address: &Address, name: &str) -> Result<(), Error> {
    let mut connection = address.connect("postgres").await?;
    let known = sqlx::query("SELECT 1 FROM pg_database WHERE datname = $1").bind(name);
    if known.fetch_optional(&mut connection).await?.is_some() {
        return Ok(connection.close().await?);
    }
    // An identifier cannot be a parameter. Inside double quotes only the double quote is special, and it is doubled.
    let statement = format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\""));
    let created = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await;
    connection.close().await?;
    match created {
        // Another caller has created it concurrently.
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("42P04") => Ok(()),
        created => created.map(drop).map_err(Error::from),
    }
}

fn percent_encoded(name: &str) -> String {
    let mut encoded = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_database_name_makes_a_good_connection_string() {
        let address = Address { user: SUPERUSER, port: 21_000, password: "secret".to_owned() };
        assert_eq!(
            address.url("räume/1"),
            "postgresql://postgres:secret@127.0.0.1:21000/r%C3%A4ume%2F1?sslmode=disable"
        );
        assert!(!format!("{address:?}").contains("secret"));
    }
}
