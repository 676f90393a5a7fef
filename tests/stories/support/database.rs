//! A database for each test, cloned from one template that is migrated once for each version of the migrations.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection, postgres::PgConnectOptions};
use tokio::sync::OnceCell;

use super::{message_service_config, user_service_config};

/// An arbitrary number, the same in every run: the lock is held while the template is created.
const TEMPLATE_LOCK: i64 = 0x7061_726c;

/// The longest wait at the end of a test for its database to be dropped.
const DROP_PATIENCE: Duration = Duration::from_secs(1);

static TEMPLATE: OnceCell<String> = OnceCell::const_new();
static COUNT: AtomicU32 = AtomicU32::new(0);

/// A database of one test; dropped with this value, even while connected to.
pub struct TestDatabase {
    name: String,
}

impl TestDatabase {
    /// Clones the migrated template.
    pub async fn migrated() -> Self {
        let template = TEMPLATE.get_or_init(template).await;
        Self::create(&format!("TEMPLATE {template}")).await
    }

    /// Creates one without any schema.
    pub async fn empty() -> Self {
        Self::create("").await
    }

    /// Creates one with another encoding than UTF-8.
    pub async fn with_encoding(encoding: &str) -> Self {
        Self::create(&format!("ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0")).await
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes a user the owner and only member of conversations `c1`, `c2`, … that have no other entry.
    pub async fn join_many(&self, user_id: &str, count: i64) {
        let mut outside = self.connect().await;
        for insert in [
            "INSERT INTO parlance_message.conversations
                (conversation_id, kind, title, creator_id, last_sequence, last_entry_at, created_at, updated_at)
             SELECT 'c' || n, 2, '', $2, 1, now(), now(), now() FROM generate_series(1, $1) AS n",
            "INSERT INTO parlance_message.members (conversation_id, user_id, role, join_sequence, joined_at,
                last_read_sequence, last_read_ordinal)
             SELECT 'c' || n, $2, 1, 1, now(), 1, 0 FROM generate_series(1, $1) AS n",
            "INSERT INTO parlance_message.changes (conversation_id, sequence, kind, actor_id, user_id, role, joined_at,
                created_at)
             SELECT 'c' || n, 1, 3, $2, $2, 1, now(), now() FROM generate_series(1, $1) AS n",
        ] {
            sqlx::query(insert).bind(count).bind(user_id).execute(&mut outside).await.unwrap();
        }
    }

    /// Clones this one, which must be without connections.
    pub async fn copy(&self) -> Self {
        Self::create(&format!("TEMPLATE {}", self.name)).await
    }

    async fn create(how: &str) -> Self {
        let name = format!("parlance_test_{}_{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        run(&mut server().await, &format!("CREATE DATABASE {name} {how}")).await;
        Self { name }
    }

    /// Returns its URL, for a service.
    pub fn url(&self) -> String {
        url_of(&self.name)
    }

    /// Returns its URL through this loopback port, such as a proxy's.
    pub fn url_through(&self, port: u16) -> String {
        options(&self.name).host("127.0.0.1").port(port).to_url_lossy().to_string()
    }

    /// Returns host and port of the server.
    pub fn server_address() -> String {
        let server = options("postgres");
        format!("{}:{}", server.get_host(), server.get_port())
    }

    /// Opens a connection for the test itself.
    pub async fn connect(&self) -> PgConnection {
        options(&self.name).connect().await.expect("connecting to the test's database")
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // The test's runtime may be ending: use a separate thread and runtime.
        let (done, dropped) = mpsc::channel();
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { run(&mut server().await, &statement).await });
            // The receiver may be gone.
            let _ = done.send(());
        });
        // PostgreSQL waits for sessions that are just starting, and those of the test's runtime are blocked while this
        // waits. They end with the runtime, and the database after them.
        let dropped = dropped.recv_timeout(DROP_PATIENCE);
        assert!(
            dropped != Err(RecvTimeoutError::Disconnected) || thread::panicking(),
            "the test's database could not be dropped"
        );
    }
}

/// Creates the template unless it exists, and returns its name, a hash of the migrations of this checkout, so that
/// another checkout or an older run on the same server is never mistaken for it.
async fn template() -> String {
    let name = format!("parlance_template_{:016x}", hash_of_migrations());
    let mut server = server().await;
    run(&mut server, &format!("SELECT pg_advisory_lock({TEMPLATE_LOCK})")).await;
    let (exists,): (bool,) = sqlx::query_as("SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)")
        .bind(&name)
        .fetch_one(&mut server)
        .await
        .unwrap();
    if !exists {
        // Renamed only when complete: a run that is aborted leaves nothing that looks like a template.
        let half_made = format!("{name}_half_made");
        run(&mut server, &format!("DROP DATABASE IF EXISTS {half_made} WITH (FORCE)")).await;
        run(&mut server, &format!("CREATE DATABASE {half_made}")).await;
        migrate_all(&url_of(&half_made)).await;
        run(&mut server, &format!("ALTER DATABASE {half_made} RENAME TO {name}")).await;
    }
    // Closing releases the lock.
    server.close().await.unwrap();
    name
}

/// Applies every schema. A further service migrates here, too.
async fn migrate_all(url: &str) {
    user_service::migrate(&user_service_config(url, &[])).await.expect("migrating the template");
    let message_service = message_service_config(url, "127.0.0.1:1", &[]);
    message_service::migrate(&message_service).await.expect("migrating the template");
}

fn hash_of_migrations() -> u64 {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut hash = DefaultHasher::new();
    root.hash(&mut hash);
    for service in ["user", "message"] {
        let folder = fs::read_dir(root.join("migrations").join(service)).unwrap();
        let mut files: Vec<_> = folder.map(|file| file.unwrap().path()).collect();
        files.sort();
        for file in files {
            (file.file_name(), fs::read(&file).unwrap()).hash(&mut hash);
        }
    }
    hash.finish()
}

fn options(database: &str) -> PgConnectOptions {
    let url =
        std::env::var("TEST_DATABASE_URL").expect("TEST_DATABASE_URL is not set; run `make test`, which starts one");
    let options: PgConnectOptions = url.parse().expect("TEST_DATABASE_URL is not a PostgreSQL connection string");
    options.database(database)
}

fn url_of(database: &str) -> String {
    options(database).to_url_lossy().to_string()
}

async fn server() -> PgConnection {
    options("postgres").connect().await.expect("PostgreSQL at TEST_DATABASE_URL cannot be reached; run `make test`")
}

async fn run(connection: &mut PgConnection, statement: &str) {
    let query = sqlx::raw_sql(AssertSqlSafe(statement.to_owned()));
    connection.execute(query).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
}
