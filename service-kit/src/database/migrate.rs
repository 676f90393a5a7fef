//! Runs migrations with refinery over sqlx, under a lock, since refinery takes none: when ten processes start at once on an
//! empty database, all of them start and each migration is applied once.

use std::time::{Duration, Instant};

use refinery_core::{
    Migration, Runner,
    traits::r#async::{AsyncMigrate, AsyncQuery, AsyncTransaction},
};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, Row};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{EncodingError, Error, Settings, error, server};
use crate::causes::causes;

/// The longest time to wait for another process that is migrating.
const LOCK_WAIT: Duration = Duration::from_mins(2);

/// The pause before the next attempt at a database that could not be reached.
const PAUSE: Duration = Duration::from_secs(1);

/// The time for which a server may refuse the role, the password or the database at startup. One that is created a moment
/// later is waited for; else it is a mistake in the configuration.
const REFUSED_FOR: Duration = Duration::from_secs(4);

/// One service's schema and its migrations, in order.
#[derive(Debug, Clone)]
pub struct Schema {
    /// The name of the schema, which is created if it is missing. The history is kept in its table `schema_history`.
    pub name: &'static str,
    /// All migrations this binary knows.
    pub migrations: Vec<Migration>,
}

/// An error of a migration.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database has migrations that this binary does not know.
    #[error(
        "the database schema {schema} is at version {found}, newer than the {known} that this binary knows: run a newer \
         binary, or restore a backup made before the upgrade"
    )]
    Newer {
        /// The schema.
        schema: &'static str,
        /// Version of the database.
        found: i32,
        /// Newest version known here.
        known: i32,
    },
    /// Another process holds the lock for too long.
    #[error("another process has been migrating the schema {schema} for more than {LOCK_WAIT:?}")]
    Locked {
        /// The schema.
        schema: &'static str,
    },
    /// A migration needs a table that another transaction holds for too long. Nothing was changed; it can be repeated.
    #[error("a migration of the schema {schema} waits for another transaction, such as a backup, that uses its tables")]
    TableInUse {
        /// The schema.
        schema: &'static str,
    },
    /// The server accepts no writes. A failover may be under way.
    #[error(
        "the server of the schema {schema} is read only: it is a standby, so use the address of the primary, or \
         default_transaction_read_only is on"
    )]
    ReadOnly {
        /// The schema.
        schema: &'static str,
    },
    /// A pooler gives the server processes of connections to others.
    #[error(
        "the database is behind a pooler in transaction mode, which loses session settings and locks: use session mode \
         (PgBouncer: pool_mode=session), or connect to PostgreSQL itself"
    )]
    SharedSessions,
    /// The server is not the one that the settings ask for.
    #[error(
        "the server cannot be trusted as the URL of the database demands: compare sslmode, sslrootcert and the host name \
         with the server's certificate"
    )]
    Untrusted(#[source] Error),
    /// The server opens no session with these settings.
    #[error(
        "the server of the database {database} refuses the session: compare the URL and the password with the roles and \
         databases of the server, and with its pg_hba.conf"
    )]
    Refused {
        /// The address.
        database: String,
        /// The answer of the server.
        source: sqlx::Error,
    },
    /// The answer cannot be understood.
    #[error(
        "the server of the database {database} does not answer as PostgreSQL does: compare the host and the port of the URL \
         with those of the server"
    )]
    Foreign {
        /// The address.
        database: String,
        /// The error of the driver.
        source: sqlx::Error,
    },
    /// No connection could be opened.
    #[error("the database {database} cannot be reached")]
    Unreachable {
        /// The address.
        database: String,
        /// The error of the driver.
        source: sqlx::Error,
    },
    /// The database cannot store every text.
    #[error(transparent)]
    Encoding(#[from] EncodingError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] Error),
    /// A migration failed, or one that was applied differs from the one in this binary.
    #[error("migrating the schema {schema} failed")]
    Refinery {
        /// The schema.
        schema: &'static str,
        /// The error of refinery.
        source: refinery_core::Error,
    },
}

impl MigrateError {
    /// True if the same attempt may succeed later without any change of the configuration.
    fn may_pass(&self) -> bool {
        match self {
            // Another program may have the port of a server that is about to start.
            Self::Locked { .. } | Self::TableInUse { .. } | Self::ReadOnly { .. } | Self::Foreign { .. } => true,
            // The connection broke, or the server became a standby, while refinery used it.
            Self::Refinery { source, .. } => driver_error(source).is_some_and(error::is_outage),
            Self::Newer { .. }
            | Self::SharedSessions
            | Self::Untrusted(_)
            | Self::Refused { .. }
            | Self::Unreachable { .. }
            | Self::Encoding(_)
            | Self::Database(_) => false,
        }
    }

    /// Converts an error of opening the first connection.
    fn of_opening(settings: &Settings, error: Error) -> Self {
        let database = settings.connect.to_string();
        match error {
            error if error.is_untrusted() => Self::Untrusted(error),
            Error::NotConnected(source) if error::is_refusal(&source) => Self::Refused { database, source },
            Error::NotConnected(source) if error::is_foreign(&source) => Self::Foreign { database, source },
            Error::NotConnected(source) => Self::Unreachable { database, source },
            error => error.into(),
        }
    }
}

/// Brings the schema up to the version of this binary and returns the number of migrations applied, 0 if it was already.
///
/// # Errors
/// [`MigrateError::Newer`] when the database is ahead of this binary; nothing is changed then.
pub async fn migrate(settings: &Settings, schema: &Schema) -> Result<usize, MigrateError> {
    let mut connection = settings.open().await.map_err(|error| MigrateError::of_opening(settings, error))?;
    if server::is_shared(settings, &mut connection).await? {
        return Err(MigrateError::SharedSessions);
    }
    // A migration may take longer than a request. Notices that a table exists already are not useful.
    let session = "SET statement_timeout = 0; SET lock_timeout = 0; SET client_min_messages = warning";
    raw(&mut connection, session.to_owned()).await?;
    server::check_encoding(&mut connection).await??;
    if server::is_read_only(&mut connection).await? {
        return Err(MigrateError::ReadOnly { schema: schema.name });
    }
    lock(&mut connection, schema).await?;
    let outcome = apply(&mut connection, schema).await;
    // The end of the session releases the lock in any case.
    let closed = connection.close().await;
    let applied = outcome?;
    closed.map_err(Error::from)?;
    Ok(applied)
}

/// Does the same, and waits as long as it takes for a database that cannot be reached, since it is starting or failing over,
/// and for others that migrate it or use its tables.
///
/// # Errors
/// Those of [`migrate`] that waiting does not cure; [`MigrateError::Refused`] once the server has refused for some seconds.
pub(crate) async fn migrate_when_reachable(settings: &Settings, schema: &Schema) -> Result<usize, MigrateError> {
    let mut refused_since: Option<Instant> = None;
    loop {
        let outcome = migrate(settings, schema).await;
        let is_refused = matches!(outcome, Err(MigrateError::Refused { .. }));
        refused_since = is_refused.then(|| refused_since.unwrap_or_else(Instant::now));
        match outcome {
            Err(MigrateError::Unreachable { source, .. }) => warn(settings, &source),
            Err(MigrateError::Refused { source, .. })
                if refused_since.is_some_and(|since| since.elapsed() < REFUSED_FOR) =>
            {
                warn(settings, &source);
            }
            // A migration that has begun can be repeated safely.
            Err(MigrateError::Database(cause)) if cause.is_outage() => warn(settings, &cause),
            Err(waiting) if waiting.may_pass() => {
                tracing::warn!(cause = causes(&waiting), "the database cannot be migrated yet");
            }
            outcome => return outcome,
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn warn(settings: &Settings, cause: &(dyn std::error::Error + 'static)) {
    tracing::warn!(database = %settings.connect, cause = causes(cause), "the database is not reachable yet");
}

async fn lock(connection: &mut PgConnection, schema: &Schema) -> Result<(), MigrateError> {
    let wait = sqlx::query("SELECT pg_advisory_lock(hashtextextended($1, 0))").bind(schema.name).execute(connection);
    match tokio::time::timeout(LOCK_WAIT, wait).await {
        Ok(outcome) => Ok(outcome.map(drop).map_err(Error::from)?),
        Err(_) => Err(MigrateError::Locked { schema: schema.name }),
    }
}

async fn apply(connection: &mut PgConnection, schema: &Schema) -> Result<usize, MigrateError> {
    let failed = |source| {
        if is_lock_timeout(&source) {
            MigrateError::TableInUse { schema: schema.name }
        } else {
            MigrateError::Refinery { schema: schema.name, source }
        }
    };
    let mut runner = Runner::new(&schema.migrations).set_abort_missing(false);
    runner.set_migration_table_name(format!("{}.schema_history", schema.name));
    if has_history(connection, schema).await? {
        refuse_newer(connection, schema).await?;
        // A role that may not create anything can use a schema that is up to date.
        let applied = runner.get_applied_migrations_async(&mut Target(connection)).await.map_err(failed)?;
        if schema.migrations.iter().all(|migration| applied.contains(migration)) {
            return Ok(0);
        }
    }
    create_schema(connection, schema).await?;
    let report = runner.run_async(&mut Target(connection)).await.map_err(failed)?;
    Ok(report.applied_migrations().len())
}

async fn create_schema(connection: &mut PgConnection, schema: &Schema) -> Result<(), MigrateError> {
    // Checked first, so that a role without the right to create schemas can use one created for it.
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)")
        .bind(schema.name)
        .fetch_one(&mut *connection)
        .await
        .map_err(Error::from)?;
    if !exists {
        raw(connection, format!("CREATE SCHEMA {}", schema.name)).await?;
    }
    Ok(())
}

/// Returns true if a statement of the migration did not get a lock in time.
fn is_lock_timeout(error: &refinery_core::Error) -> bool {
    let error = driver_error(error).and_then(sqlx::Error::as_database_error);
    error.is_some_and(|error| error.code().as_deref() == Some("55P03"))
}

/// Returns the error of the driver that made refinery fail.
fn driver_error(error: &refinery_core::Error) -> Option<&sqlx::Error> {
    let first: &(dyn std::error::Error + 'static) = error;
    std::iter::successors(Some(first), |error| error.source()).find_map(|error| error.downcast_ref())
}

async fn has_history(connection: &mut PgConnection, schema: &Schema) -> Result<bool, MigrateError> {
    let table = format!("{}.schema_history", schema.name);
    let exists = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL").bind(table).fetch_one(connection).await;
    Ok(exists.map_err(Error::from)?)
}

async fn refuse_newer(connection: &mut PgConnection, schema: &Schema) -> Result<(), MigrateError> {
    let known = schema.migrations.iter().map(Migration::version).max().unwrap_or(0);
    let statement = AssertSqlSafe(format!("SELECT max(version) FROM {}.schema_history", schema.name));
    let found: Option<i32> = sqlx::query_scalar(statement).fetch_one(connection).await.map_err(Error::from)?;
    match found {
        Some(found) if found > known => Err(MigrateError::Newer { schema: schema.name, found, known }),
        _ => Ok(()),
    }
}

async fn raw(connection: &mut PgConnection, statement: String) -> Result<(), Error> {
    // Built only from constant names and numbers.
    Ok(connection.execute(sqlx::raw_sql(AssertSqlSafe(statement))).await.map(drop)?)
}

/// The connection, for refinery.
struct Target<'c>(&'c mut PgConnection);

impl AsyncTransaction for Target<'_> {
    type Error = sqlx::Error;

    async fn execute<'a, T: Iterator<Item = &'a str> + Send + 'a>(
        &'a mut self,
        queries: T,
    ) -> Result<usize, sqlx::Error> {
        let mut transaction = self.0.begin().await?;
        let mut count = 0;
        for query in queries {
            transaction.execute(sqlx::raw_sql(AssertSqlSafe(query.to_owned()))).await?;
            count += 1;
        }
        transaction.commit().await?;
        Ok(count)
    }
}

impl AsyncQuery<Vec<Migration>> for Target<'_> {
    async fn query<'a>(&'a mut self, query: &'a str) -> Result<Vec<Migration>, sqlx::Error> {
        let rows = sqlx::query(AssertSqlSafe(query.to_owned())).fetch_all(&mut *self.0).await?;
        rows.iter()
            .map(|row| {
                let applied_on: String = row.try_get(2)?;
                let applied_on = OffsetDateTime::parse(&applied_on, &Rfc3339).map_err(decode)?;
                let checksum: String = row.try_get(3)?;
                Ok(Migration::applied(row.try_get(0)?, row.try_get(1)?, applied_on, checksum.parse().map_err(decode)?))
            })
            .collect()
    }
}

impl AsyncMigrate for Target<'_> {}

fn decode(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}
