//! The parts of `service_kit::database` that need a PostgreSQL server: the outbox and notifications. Each test has its own
//! database.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends where it fails")]

mod consumer;
mod open_transactions;

use std::time::Duration;

use service_kit::database::{
    Database, MigrateError, Schema, Settings, migrate,
    outbox::{Position, Read, Reader, Source, Trimmer},
};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, postgres::PgConnectOptions};

const RETENTION: Duration = Duration::from_mins(5);
/// The longest that a test waits for transactions of other tests.
const PATIENCE: Duration = Duration::from_mins(1);

/// An outbox of names.
#[derive(Debug)]
struct Names;

#[derive(Debug, PartialEq, Eq, sqlx::FromRow)]
struct Batch {
    names: Vec<String>,
}

impl Source for Names {
    type Batch = Batch;

    const TABLE: &'static str = "public.outbox";
    const COLUMNS: &'static str = "name";
    const BATCH: &'static str = "ARRAY(SELECT name FROM read) AS names";
    const WEIGHT: &'static str = "length(name)";
    const MAX_WEIGHT: i64 = 6;
}

const TABLE: &str = "
    CREATE TABLE public.outbox (
        outbox_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        xact_id   xid8 NOT NULL DEFAULT pg_current_xact_id(),
        name      text NOT NULL
    );
    CREATE INDEX outbox_xact_id_idx ON public.outbox (xact_id)";

/// The database of one test.
struct Fresh {
    name: String,
    admin: PgConnection,
    settings: Settings,
    database: Database,
}

impl Fresh {
    async fn new(of: &str) -> Self {
        let url = std::env::var("TEST_DATABASE_URL").expect("TEST_DATABASE_URL is not set: run `make test`");
        let server: PgConnectOptions = url.parse().unwrap();
        let name = format!("kit_{of}_{}", std::process::id());
        let mut admin = PgConnection::connect_with(&server).await.unwrap();
        run(&mut admin, format!("CREATE DATABASE {name}")).await;
        let settings = Settings {
            connect: server.database(&name).into(),
            application_name: "test",
            connections: 2,
            timeout: Duration::from_secs(5),
            plan_anew: false,
        };
        let database = Database::new(settings.clone());
        let mut connection = settings.open().await.unwrap();
        run(&mut connection, TABLE.to_owned()).await;
        connection.close().await.unwrap();
        Self { name, admin, settings, database }
    }

    fn reader(&self) -> Reader<Names> {
        Reader::new(self.database.clone(), RETENTION)
    }

    fn trimmer(&self) -> Trimmer {
        Trimmer::new(self.database.clone(), Names::TABLE, RETENTION)
    }

    /// Returns the position at the end of the outbox.
    async fn begin(&self) -> Position {
        let Read { batch, is_whole, position } = self.reader().read(None).await.unwrap();
        assert!(batch.is_none() && is_whole);
        position
    }

    async fn insert(&self, name: &str) {
        self.database.execute(sqlx::query("INSERT INTO public.outbox (name) VALUES ($1)").bind(name)).await.unwrap();
    }

    /// Begins a transaction that has inserted a row.
    async fn open(&self, name: &str) -> PgConnection {
        let mut connection = self.settings.open().await.unwrap();
        run(&mut connection, format!("BEGIN; INSERT INTO public.outbox (name) VALUES ('{name}')")).await;
        connection
    }

    async fn count(&self, name: &str) -> i64 {
        let query = sqlx::query_as("SELECT count(*) FROM public.outbox WHERE name = $1").bind(name);
        let (count,) = self.database.fetch_one(query).await.unwrap();
        count
    }

    async fn drop(mut self) {
        self.database.close().await;
        run(&mut self.admin, format!("DROP DATABASE {} WITH (FORCE)", self.name)).await;
    }
}

async fn run(connection: &mut PgConnection, statements: String) {
    connection.execute(sqlx::raw_sql(AssertSqlSafe(statements))).await.unwrap();
}

/// Reads once and moves the position.
async fn read(reader: &Reader<Names>, position: &mut Position) -> (Vec<String>, bool) {
    let read = reader.read(Some(&*position)).await.unwrap();
    *position = read.position;
    (read.batch.expect("a gap").names, read.is_whole)
}

#[tokio::test]
async fn each_row_is_read_once_after_its_commit_however_late_that_is() {
    let fresh = Fresh::new("late").await;
    fresh.insert("before").await;
    let (mut a, mut b, mut undone) = (fresh.open("a").await, fresh.open("b").await, fresh.open("u").await);
    let (reader, mut position) = (fresh.reader(), fresh.begin().await);
    let nothing: [&str; 0] = [];

    assert_eq!(read(&reader, &mut position).await.0, nothing);
    fresh.insert("c").await;
    fresh.insert("d").await;
    assert_eq!(read(&reader, &mut position).await.0, ["c", "d"]);
    assert_eq!(read(&reader, &mut position).await.0, nothing);
    b.execute("COMMIT").await.unwrap();
    assert_eq!(read(&reader, &mut position).await.0, ["b"]);
    undone.execute("ROLLBACK").await.unwrap();
    fresh.insert("e").await;
    assert_eq!(read(&reader, &mut position).await.0, ["e"]);
    a.execute("COMMIT").await.unwrap();
    assert_eq!(read(&reader, &mut position).await.0, ["a"]);
    assert_eq!(read(&reader, &mut position).await.0, nothing);
    fresh.drop().await;
}

#[tokio::test]
async fn a_reader_by_number_loses_what_commits_late() {
    let fresh = Fresh::new("number").await;
    let mut late = fresh.open("late").await;
    // Only behind a transaction with a higher number is one counted as begun.
    fresh.insert("before").await;
    let position = fresh.begin().await;
    late.execute("COMMIT").await.unwrap();
    let exact = fresh.reader().read(Some(&position)).await.unwrap();
    assert_eq!(exact.batch.unwrap().names, ["late"]);
    let by_number = fresh.reader().read(Some(&position.ignoring_open_transactions())).await.unwrap();
    assert_eq!(by_number.batch.unwrap().names, Vec::<String>::new());
    fresh.drop().await;
}

#[tokio::test]
async fn more_than_fits_is_read_in_parts_also_from_a_stored_position() {
    let fresh = Fresh::new("parts").await;
    let (reader, mut position) = (fresh.reader(), fresh.begin().await);
    let mut late = fresh.open("late").await;
    for name in ["aaa", "bb", "cc", "dddddddddd", "e"] {
        fresh.insert(name).await;
    }
    let mut names = Vec::new();
    loop {
        let (part, is_whole) = read(&reader, &mut position).await;
        // What commits between two parts is not lost either.
        if names.is_empty() {
            late.execute("COMMIT").await.unwrap();
        }
        names.push(part);
        position = position.to_string().parse().unwrap();
        if is_whole {
            break;
        }
    }
    assert_eq!(names, [vec!["aaa", "bb", "cc"], vec!["dddddddddd"], vec!["e"], vec!["late"]]);

    fresh.insert("ffffff").await;
    fresh.insert("g").await;
    let part = reader.read(Some(&position)).await.unwrap();
    assert!(!part.is_whole);
    let mut skipped = part.position.skip_rest();
    assert_eq!(read(&reader, &mut skipped).await, (vec![], true));
    fresh.drop().await;
}

#[tokio::test]
async fn rows_of_another_server_are_neither_read_nor_kept() {
    let fresh = Fresh::new("restored").await;
    let mut position = fresh.begin().await;
    let restored =
        "INSERT INTO public.outbox (xact_id, name) SELECT '4000000000000'::xid8, 'r' FROM generate_series(1, 10001)";
    fresh.database.execute(sqlx::query(restored)).await.unwrap();
    fresh.insert("c").await;
    assert_eq!(read(&fresh.reader(), &mut position).await, (vec!["c".to_owned()], true));

    let trimmer = fresh.trimmer();
    let horizon = trimmer.horizon().await.unwrap();
    fresh.insert("d").await;
    assert!(trimmer.delete_below(&horizon).await.unwrap() >= 10_000, "a full statement");
    assert!(trimmer.delete_below(&horizon).await.unwrap() >= 1, "the rest");
    assert_eq!(fresh.count("r").await, 0);
    assert_eq!(fresh.count("d").await, 1);
    fresh.drop().await;
}

#[tokio::test]
async fn a_position_of_another_server_or_table_is_a_gap() {
    let fresh = Fresh::new("history").await;
    let reader = fresh.reader();
    let position = fresh.begin().await;
    fresh.insert("a").await;
    let is_gap = async |text: String| reader.read(Some(&text.parse().unwrap())).await.unwrap().batch.is_none();
    let text = position.to_string();
    assert!(!is_gap(text.clone()).await);

    let mut parts: Vec<String> = text.split(' ').map(str::to_owned).collect();
    parts[1] = "1".to_owned();
    assert!(is_gap(parts.join(" ")).await, "a server that started at another time");
    let mut parts: Vec<String> = text.split(' ').map(str::to_owned).collect();
    parts[3] = "4000000000000:4000000000000:".to_owned();
    assert!(is_gap(parts.join(" ")).await, "a server whose transaction ids are lower");

    let mut connection = fresh.settings.open().await.unwrap();
    run(&mut connection, format!("DROP TABLE public.outbox; {TABLE}")).await;
    assert!(is_gap(text).await, "a table that was restored");
    let again = fresh.begin().await;
    fresh.insert("b").await;
    assert_eq!(reader.read(Some(&again)).await.unwrap().batch.unwrap().names, ["b"]);
    fresh.drop().await;
}

#[tokio::test]
async fn a_position_that_is_older_than_rows_are_kept_is_a_gap() {
    let fresh = Fresh::new("age").await;
    let reader: Reader<Names> = Reader::new(fresh.database.clone(), Duration::from_secs(3));
    let position = fresh.begin().await;
    tokio::time::sleep(Duration::from_millis(1_600)).await;
    let late = reader.read(Some(&position)).await.unwrap();
    assert!(late.batch.is_none());
    assert!(reader.read(Some(&late.position)).await.unwrap().batch.is_some());
    fresh.drop().await;
}

#[tokio::test]
async fn a_listener_receives_what_a_notifier_sends() {
    let fresh = Fresh::new("notify").await;
    let mut listener = fresh.settings.listen(&["one", "two"]).await.unwrap();
    let notifier = fresh.database.notifier("bell");
    notifier.notify(&[("two", "payload"), ("one", ""), ("one", "")]).await.unwrap();
    notifier.notify(&[]).await.unwrap();
    notifier.notify(&[("one", "last")]).await.unwrap();
    let mut received = Vec::new();
    while received.last().is_none_or(|(_, payload)| payload != "last") {
        let notification = listener.next().await.unwrap();
        assert_eq!(notification.process_id, notifier.process_id());
        received.push((notification.channel, notification.payload));
    }
    let expected = [("two", "payload"), ("one", ""), ("one", "last")];
    assert_eq!(received, expected.map(|(channel, payload)| (channel.to_owned(), payload.to_owned())));
    drop(listener);
    fresh.drop().await;
}

#[tokio::test]
async fn a_migration_blocked_by_a_table_in_use_fails_and_can_be_repeated() {
    const CHANGE: &str = "SET LOCAL lock_timeout = '50ms'; ALTER TABLE public.outbox ADD COLUMN note text";
    let fresh = Fresh::new("in_use").await;
    let migration = refinery_core::Migration::unapplied("V1__change", CHANGE).unwrap();
    let schema = Schema { name: "kit", migrations: vec![migration] };
    let mut backup = fresh.settings.open().await.unwrap();
    run(&mut backup, "BEGIN; SELECT count(*) FROM public.outbox".to_owned()).await;
    let refused = migrate(&fresh.settings, &schema).await.unwrap_err();
    assert!(matches!(refused, MigrateError::TableInUse { schema: "kit" }), "{refused:?}");
    backup.execute("COMMIT").await.unwrap();
    assert_eq!(migrate(&fresh.settings, &schema).await.unwrap(), 1);
    backup.close().await.unwrap();
    fresh.drop().await;
}
