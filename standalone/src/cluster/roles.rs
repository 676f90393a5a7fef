//! The roles of both services, which are no superusers: each owns its schema and nothing else.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::connect::Address;
use super::error::Error;
use super::init::random_password;

/// Creates the roles and the schemas, and hands over what another role has created in them, such as an earlier version.
const CREATE: &str = include_str!("../../../deploy/postgres/roles.sql");

/// The connection strings of the services, passwords included: keep them out of logs.
pub struct ServiceUrls {
    /// The one of user-service.
    pub user_service: String,
    /// The one of message-service.
    pub message_service: String,
}

/// Creates what is missing, and gives each role a new password, which is stored nowhere else.
pub(super) async fn create(superuser: &Address, database: &str) -> Result<ServiceUrls, Error> {
    let mut connection = superuser.connect(database).await?;
    sqlx::raw_sql(CREATE).execute(&mut connection).await?;
    // The server's log must not contain passwords.
    sqlx::raw_sql("SET log_statement = 'none'").execute(&mut connection).await?;
    let urls = ServiceUrls {
        user_service: renew(superuser, &mut connection, "user_service", database).await?,
        message_service: renew(superuser, &mut connection, "message_service", database).await?,
    };
    connection.close().await?;
    Ok(urls)
}

/// Replaces the password of a role, and returns its connection string.
async fn renew(
    superuser: &Address,
    connection: &mut PgConnection,
    role: &'static str,
    database: &str,
) -> Result<String, Error> {
    let address = Address { user: role, port: superuser.port, password: random_password()? };
    // Built only from a constant and hexadecimal digits.
    let statement = format!("ALTER ROLE {role} PASSWORD '{}'", address.password);
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await?;
    Ok(address.url(database))
}
