//! Starting the binaries on databases, roles and settings as operators have them.

use std::{fs, path::PathBuf};

use nix::sys::signal::Signal;
use parlance::message::v1::{ConversationKind, CreateConversationRequest, SendMessageRequest};
use parlance::user::v1::{CreateUserRequest, WatchUsersRequest};
use sqlx::{AssertSqlSafe, Executor, PgConnection};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tonic::{Code, Response};

use super::{Checked, command};
use crate::support::{PATIENCE, Process, TestDatabase, World, code_and_reason, eventually, refused, send};

const SERVICES: [&str; 2] = ["user-service", "message-service"];

async fn run(connection: &mut PgConnection, statement: String) {
    connection.execute(sqlx::raw_sql(AssertSqlSafe(statement))).await.unwrap();
}

/// A role of one test.
struct Role {
    name: String,
    admin: PgConnection,
    url: String,
}

impl Role {
    /// Creates one that may read and write all rows of a schema and create nothing, with the rights that docs/OPERATIONS.md
    /// lists.
    async fn of_rows(database: &TestDatabase, schema: &str, password: &str) -> Self {
        let mut admin = database.connect().await;
        let name = format!("{}_{schema}", database.name());
        run(&mut admin, format!("CREATE ROLE {name} LOGIN PASSWORD '{password}'")).await;
        let rights = format!(
            "GRANT USAGE ON SCHEMA {schema} TO {name}; \
             GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA {schema} TO {name}; \
             GRANT USAGE ON ALL SEQUENCES IN SCHEMA {schema} TO {name}"
        );
        run(&mut admin, rights).await;
        let url = format!("postgres://{name}@{}/{}", TestDatabase::server_address(), database.name());
        Self { name, admin, url }
    }

    fn url_with(&self, password: &str) -> String {
        self.url.replacen('@', &format!(":{password}@"), 1)
    }

    async fn drop(mut self) {
        run(&mut self.admin, format!("DROP OWNED BY {0}; DROP ROLE {0}", self.name)).await;
    }
}

fn create(id: &str) -> CreateUserRequest {
    CreateUserRequest { user_id: id.to_owned(), username: id.to_owned(), ..Default::default() }
}

fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// The settings of a process on a free port.
fn settings(database_url: &str, more: &[(&str, &str)]) -> Vec<(String, String)> {
    let common = [("LISTEN", "127.0.0.1:0"), ("LOG_FORMAT", "json"), ("DATABASE_URL", database_url)];
    variables(&[&common[..], more].concat())
}

#[tokio::test]
async fn a_role_without_the_right_to_create_serves_a_migrated_database() {
    let database = TestDatabase::migrated().await;
    let user_role = Role::of_rows(&database, "parlance_user", "rows").await;
    let message_role = Role::of_rows(&database, "parlance_message", "rows").await;
    let users = Process::user_service(&user_role.url_with("rows")).await;
    users.users().create_user(create("ann")).await.unwrap();
    let url = message_role.url_with("rows");
    let messages = Process::message_service(&url, &users.address().to_string(), &[]).await;
    let conversation = CreateConversationRequest {
        conversation_id: "news".to_owned(),
        kind: ConversationKind::Channel.into(),
        creator_id: "ann".to_owned(),
        ..Default::default()
    };
    messages.conversations().create_conversation(conversation).await.unwrap();
    let message = SendMessageRequest {
        conversation_id: "news".to_owned(),
        sender_id: "ann".to_owned(),
        request_id: "first".to_owned(),
        text: "hello".to_owned(),
        ..Default::default()
    };
    messages.messages().send_message(message).await.unwrap();
    drop((messages, users));
    user_role.drop().await;
    message_role.drop().await;
}

#[tokio::test]
async fn a_read_only_server_is_waited_for() {
    let database = TestDatabase::migrated().await;
    let mut admin = database.connect().await;
    let read_only = format!("ALTER DATABASE {} SET default_transaction_read_only", database.name());
    run(&mut admin, format!("{read_only} = on")).await;
    let process = Process::start_in_container("user-service", &[], &settings(&database.url(), &[])).await;
    eventually(PATIENCE, || async {
        let log = process.log();
        if log.contains("is read only") { Ok(()) } else { Err(log) }
    })
    .await;
    run(&mut admin, format!("{read_only} = off")).await;
    process.wait_until_serving().await;
}

#[tokio::test]
async fn a_line_of_json_names_the_cause_of_the_cause() {
    let database = TestDatabase::migrated().await;
    let users = Process::user_service(&database.url()).await;
    users.users().create_user(create("ann")).await.unwrap();
    let address = format!("http://{}", users.address());
    let settings = settings(&database.url(), &[("USER_SERVICE_URL", &address)]);
    let process = Process::start_in_container("message-service", &[], &settings).await;
    process.wait_until_serving().await;
    let conversation = CreateConversationRequest {
        conversation_id: "news".to_owned(),
        kind: ConversationKind::Channel.into(),
        creator_id: "ann".to_owned(),
        ..Default::default()
    };
    process.conversations().create_conversation(conversation).await.unwrap();

    let mut admin = database.connect().await;
    run(&mut admin, format!("ALTER DATABASE {} SET default_transaction_read_only = on", database.name())).await;
    let sessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                    WHERE datname = current_database() AND pid <> pg_backend_pid()";
    run(&mut admin, sessions.to_owned()).await;
    let message = SendMessageRequest {
        conversation_id: "news".to_owned(),
        sender_id: "ann".to_owned(),
        text: "hello".to_owned(),
        ..Default::default()
    };
    refused(process.messages().send_message(message).await, Code::Unavailable, "DATABASE_UNAVAILABLE");
    let log = process.log();
    let cause = "the database cannot be reached: the server is read only: it is a standby, so use";
    let said = |line: &str| line.contains("a batch of writes failed") && line.contains(cause);
    assert!(log.lines().any(said), "{log}");
}

#[tokio::test]
async fn a_database_that_is_not_utf_8_is_refused_in_one_sentence() {
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let database = TestDatabase::with_encoding(encoding).await;
        for (service, word) in SERVICES.iter().flat_map(|name| [(name, "migrate"), (name, "serve"), (name, "verify")]) {
            let flags: &[&str] = if word == "verify" { &[] } else { &["--listen", "127.0.0.1:0"] };
            let Checked { code, err, .. } = command(service, word, &database.url(), flags).await;
            let said = err.lines().last().unwrap_or_default();
            assert!(said.contains(encoding) && said.contains("UTF8"), "{service} {word}: {err}");
            assert_eq!(code, Some(if word == "verify" { 2 } else { 1 }), "{service} {word}: {err}");
        }
    }
}

#[tokio::test]
async fn a_server_that_refuses_the_role_or_the_database_ends_the_start_in_one_sentence() {
    let database = TestDatabase::migrated().await;
    let role = Role::of_rows(&database, "parlance_user", "right").await;
    let name = database.name();
    let absent = format!("{name}_absent");
    let wrong_password = (role.url_with("wrong"), name, "password authentication failed");
    let no_database =
        (database.url().replacen(&format!("/{name}"), &format!("/{absent}"), 1), &*absent, "does not exist");
    for (url, name, cause) in [&wrong_password, &no_database] {
        let address = format!("{}/{name}", TestDatabase::server_address());
        for (service, word) in SERVICES.iter().flat_map(|name| [(name, "migrate"), (name, "serve")]) {
            let Checked { code, err, .. } = command(service, word, url, &["--listen", "127.0.0.1:0"]).await;
            let said = err.lines().last().unwrap_or_default();
            assert!(said.contains("refuses") && said.contains(&address) && said.contains(cause), "{word}: {err}");
            assert_eq!(code, Some(1), "{service} {word}: {err}");
        }
    }
    role.drop().await;
}

#[tokio::test]
async fn a_wait_for_the_database_names_it() {
    let url = "postgres://none@127.0.0.1:1/absent";
    let process = Process::start_in_container("user-service", &[], &settings(url, &[])).await;
    eventually(PATIENCE, || async {
        let log = process.log();
        let line = log.lines().find(|line| line.contains("the database is not reachable yet"));
        if line.is_some_and(|line| line.contains("127.0.0.1:1/absent")) { Ok(()) } else { Err(log) }
    })
    .await;
}

#[tokio::test]
async fn a_port_that_is_not_postgresqls_is_named_in_one_sentence() {
    let foreign = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = foreign.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = foreign.accept().await {
            let _ = client.write_all(b"SSH-2.0-Example\r\n").await;
            tokio::spawn(async move { while let Ok(1..) = client.read(&mut [0; 64]).await {} });
        }
    });
    for (mode, expected) in [
        (
            "prefer",
            format!("the server of the database {address}/d does not answer as PostgreSQL does: compare the host"),
        ),
        (
            "require",
            format!("the server of the database {address}/d does not answer as PostgreSQL does: compare the host"),
        ),
        ("disable", "the port is not PostgreSQL's".to_owned()),
    ] {
        let url = format!("postgres://u:p@{address}/d?sslmode={mode}");
        for service in SERVICES {
            let Checked { code, err, .. } = command(service, "migrate", &url, &["--database-timeout", "1s"]).await;
            let said = err.lines().last().unwrap_or_default();
            assert!(said.contains(&expected), "{service} {mode}: {err}");
            assert_eq!(code, Some(1), "{service} {mode}: {err}");
        }
    }
}

#[tokio::test]
async fn a_password_is_replaced_in_its_file_while_the_service_runs() {
    let database = TestDatabase::migrated().await;
    let mut role = Role::of_rows(&database, "parlance_user", "old").await;
    let file: PathBuf = std::env::temp_dir().join(format!("{}.password", role.name));
    fs::write(&file, "old\n").unwrap();
    let more = [("DATABASE_PASSWORD_FILE", file.to_str().unwrap())];
    let process = Process::start_in_container("user-service", &[], &settings(&role.url, &more)).await;
    process.wait_until_serving().await;

    let rotation = format!("ALTER ROLE {} PASSWORD 'new'", role.name);
    run(&mut role.admin, rotation).await;
    let sessions = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{}'", role.name);
    run(&mut role.admin, sessions).await;
    let mut users = process.users();
    eventually(PATIENCE, || {
        let mut users = users.clone();
        async move {
            // The first calls find connections that the server has closed.
            let status = users.create_user(create("ann")).await.unwrap_err();
            if status.code() == Code::Unavailable { Ok(()) } else { Err(status) }
        }
    })
    .await;
    refused(users.create_user(create("ann")).await, Code::Unavailable, "DATABASE_UNAVAILABLE");
    let log = process.log();
    assert!(log.contains("password authentication failed"), "{log}");

    fs::write(&file, "new\n").unwrap();
    users.create_user(create("ann")).await.unwrap();
    fs::remove_file(file).unwrap();
    drop(process);
    role.drop().await;
}

#[tokio::test]
async fn a_database_is_reached_at_an_ipv6_address() {
    let database = TestDatabase::migrated().await;
    let listener = TcpListener::bind("[::1]:0").await.expect("IPv6 on loopback");
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = TcpStream::connect(TestDatabase::server_address()).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    let url = database.url().replacen(&TestDatabase::server_address(), &format!("[::1]:{port}"), 1);
    Process::user_service(&url).await;
}

#[tokio::test]
async fn empty_variables_count_as_not_set_and_switches_take_the_usual_words() {
    let database = TestDatabase::migrated().await;
    let names = ["CORS_ALLOW_ORIGIN", "BUS_URL", "LOG_LEVEL", "OUTBOX_RETENTION", "DATABASE_PASSWORD_FILE", "WRITERS"];
    let empty = names.map(|name| (name, ""));
    for switch in ["", "0", "1", "no", "yes", "off", "on", "false", "true"] {
        let more = [&empty[..], &[("INSECURE_ALLOW_UNAUTHENTICATED", switch)]].concat();
        for service in SERVICES {
            let ended = Process::run(service, &["migrate".to_owned()], &settings(&database.url(), &more)).await;
            assert!(ended.success(), "{service} {switch:?}");
        }
    }
}

#[tokio::test]
async fn a_hangup_drains_unless_the_process_was_started_to_ignore_it() {
    let database = TestDatabase::migrated().await;
    let mut process = Process::user_service(&database.url()).await;
    process.signal(Signal::SIGHUP);
    if ignores_hangups() {
        // As under nohup, which the process has inherited.
        process.wait_until_serving().await;
        assert!(!process.log().contains("shutdown requested"), "{}", process.log());
        process.terminate();
    }
    let ended = process.ended().await;
    assert!(ended.success() && process.log().contains("shutdown requested"), "{ended}: {}", process.log());
}

/// Returns true if this process was started to ignore SIGHUP, which is signal 1.
fn ignores_hangups() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.is_some_and(|mask| u64::from_str_radix(mask.trim(), 16).expect("a mask") & 1 == 1)
}

#[tokio::test]
async fn a_start_and_an_end_that_go_well_log_no_warning() {
    let database = TestDatabase::empty().await;
    let mut other = database.connect().await;
    // As if another process were migrating.
    run(&mut other, "SELECT pg_advisory_lock(hashtextextended('parlance_user', 0))".to_owned()).await;
    let mut process = Process::start_in_container("user-service", &[], &settings(&database.url(), &[])).await;
    let watch = || async { process.users().watch_users(WatchUsersRequest {}).await.map(Response::into_inner) };
    refused(watch().await, Code::Unavailable, "DATABASE_UNAVAILABLE");
    refused(process.users().create_user(create("ann")).await, Code::Unavailable, "DATABASE_UNAVAILABLE");
    run(&mut other, "SELECT pg_advisory_unlock_all()".to_owned()).await;
    process.wait_until_serving().await;

    let mut changes = watch().await.unwrap();
    process.terminate();
    let end = loop {
        match changes.message().await {
            Ok(item) => assert!(item.is_some(), "the watch ended without a status"),
            Err(status) => break status,
        }
    };
    refused::<()>(Err(end), Code::Unavailable, "DRAINING");
    assert!(process.ended().await.success());
    let log = process.log();
    assert!(log.matches("call failed").count() == 3 && !log.contains("WARN") && !log.contains("ERROR"), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_service_url_that_leads_to_another_service_is_named() {
    let world = World::with_group().await;
    let wrong = world.message_service.address().to_string();
    let service = Process::message_service(&world.database.url(), &wrong, &[]).await;
    let status = service.messages().send_message(send("g", "ann", "hello")).await.unwrap_err();
    assert_eq!(code_and_reason(&status), (Code::Unavailable, "USER_SERVICE_UNAVAILABLE".to_owned()));
    let expected = "USER_SERVICE_URL leads to a server that is no user-service";
    eventually(PATIENCE, || async {
        let log = service.log();
        if log.lines().any(|line| line.contains(expected) && line.contains(&wrong)) { Ok(()) } else { Err(log) }
    })
    .await;
}
