//! The roles of the services in the private database.

use std::process::Command;

use nix::sys::signal::Signal;
use parlance::message::v1::conversation_service_client::ConversationServiceClient;
use parlance::message::v1::message_service_client::MessageServiceClient;
use parlance::message::v1::{ConversationKind, CreateConversationRequest, ListMessagesRequest, SendMessageRequest};
use parlance::user::v1::CreateUserRequest;
use parlance::user::v1::user_service_client::UserServiceClient;
use parlance_standalone::cluster::reader_url_of_running;
use sqlx::{Connection, Executor, PgConnection};

use crate::support::{Parlance, data_dir, execute, text};

/// All sessions of the services: name, role, and whether the role could do more than use what it owns.
const SESSIONS: &str = "
    SELECT string_agg(DISTINCT concat_ws(' ', split_part(a.application_name, ' ', 2), 'as', a.usename,
        CASE WHEN r.rolsuper OR r.rolcreatedb OR r.rolcreaterole OR r.rolreplication OR r.rolbypassrls THEN 'with rights' END
    ), ', ') FROM pg_stat_activity AS a JOIN pg_roles AS r ON r.oid = a.usesysid
    WHERE a.application_name LIKE 'parlance %'";

/// All objects in both schemas by the role that owns them.
const OWNERS: &str = "
    SELECT coalesce(string_agg(DISTINCT owned.nspname || ' of ' || owned.rolname, ', '), 'none') FROM (
        SELECT n.nspname, r.rolname FROM pg_namespace AS n JOIN pg_roles AS r ON r.oid = n.nspowner
        UNION ALL
        SELECT n.nspname, r.rolname FROM pg_class AS c
        JOIN pg_namespace AS n ON n.oid = c.relnamespace JOIN pg_roles AS r ON r.oid = c.relowner
        UNION ALL
        SELECT n.nspname, r.rolname FROM pg_proc AS p
        JOIN pg_namespace AS n ON n.oid = p.pronamespace JOIN pg_roles AS r ON r.oid = p.proowner
        UNION ALL
        SELECT n.nspname, r.rolname FROM pg_type AS t
        JOIN pg_namespace AS n ON n.oid = t.typnamespace JOIN pg_roles AS r ON r.oid = t.typowner
    ) AS owned WHERE owned.nspname LIKE 'parlance%'";

/// `parlance serve` and the addresses of its services.
struct Serve {
    process: Parlance,
    user: String,
    message: String,
}

impl Serve {
    fn start(database: &[&str]) -> Self {
        let ports = ["--user-listen", "127.0.0.1:0", "--message-listen", "127.0.0.1:0", "--no-web"];
        let mut process = Parlance::start(&[&["serve", "--log-level", "error"], &ports[..], database].concat());
        assert_eq!(process.line(), "Parlance is ready.");
        process.line();
        let mut address = || format!("http://{}", process.line().split_whitespace().last().unwrap());
        let (user, message) = (address(), address());
        Self { process, user, message }
    }

    async fn send(&self, request_id: &str) {
        let message = SendMessageRequest {
            conversation_id: "general".to_owned(),
            sender_id: "ada".to_owned(),
            text: "Hello!".to_owned(),
            request_id: request_id.to_owned(),
            ..Default::default()
        };
        MessageServiceClient::connect(self.message.clone()).await.unwrap().send_message(message).await.unwrap();
    }

    async fn create_conversation(&self) {
        let user = CreateUserRequest { user_id: "ada".to_owned(), username: "ada".to_owned(), ..Default::default() };
        UserServiceClient::connect(self.user.clone()).await.unwrap().create_user(user).await.unwrap();
        let conversation = CreateConversationRequest {
            conversation_id: "general".to_owned(),
            kind: ConversationKind::Channel.into(),
            creator_id: "ada".to_owned(),
            ..Default::default()
        };
        let mut conversations = ConversationServiceClient::connect(self.message.clone()).await.unwrap();
        conversations.create_conversation(conversation).await.unwrap();
    }

    async fn messages(&self) -> usize {
        let request = ListMessagesRequest {
            conversation_id: "general".to_owned(),
            actor_id: "ada".to_owned(),
            ..Default::default()
        };
        let mut messages = MessageServiceClient::connect(self.message.clone()).await.unwrap();
        messages.list_messages(request).await.unwrap().into_inner().messages.len()
    }

    fn stop(mut self) {
        self.process.signal(Signal::SIGTERM);
        assert_eq!(self.process.code(), Some(0));
    }
}

/// Runs a command on the data folder, and returns its exit code and what it printed.
fn run(words: &[&str], folder: &str) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_parlance"));
    let output = command.args(words).args(["--data-dir", folder]).output().unwrap();
    (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap().trim().to_owned())
}

/// Checks that the session has no right to run a statement.
async fn assert_refused(session: &mut PgConnection, statement: &str) {
    let refusal = session.execute(sqlx::AssertSqlSafe(statement.to_owned())).await.unwrap_err();
    let code = refusal.as_database_error().and_then(sqlx::error::DatabaseError::code);
    assert_eq!(code.as_deref(), Some("42501"), "{statement}: {refusal}");
}

/// Checks the roles of a running `parlance serve`.
async fn check_roles(folder: &str) {
    let (code, url) = run(&["postgres", "--running"], folder);
    assert_eq!(code, Some(0), "{url}");
    assert_eq!(text(&url, SESSIONS).await, "message-service as message_service, user-service as user_service");
    assert_eq!(text(&url, OWNERS).await, "parlance_message of message_service, parlance_user of user_service");
    for (role, own, other) in [
        ("user_service", "parlance_user.users", "parlance_message.messages"),
        ("message_service", "parlance_message.messages", "parlance_user.users"),
    ] {
        let mut session = PgConnection::connect(&url).await.unwrap();
        session.execute(sqlx::AssertSqlSafe(format!("SET SESSION AUTHORIZATION {role}"))).await.unwrap();
        session.execute(sqlx::AssertSqlSafe(format!("SELECT FROM {own}"))).await.unwrap();
        for statement in [
            format!("SELECT FROM {other}"),
            format!("DELETE FROM {other}"),
            "SELECT pg_read_file('PG_VERSION')".to_owned(),
            "CREATE SCHEMA another".to_owned(),
        ] {
            assert_refused(&mut session, &statement).await;
        }
        session.close().await.unwrap();
    }
    let reader = reader_url_of_running(folder.as_ref(), "parlance").unwrap().unwrap();
    let mut session = PgConnection::connect(&reader).await.unwrap();
    session.execute("SELECT FROM parlance_user.users, parlance_message.messages").await.unwrap();
    assert_refused(&mut session, "DELETE FROM parlance_user.users").await;
    session.close().await.unwrap();
}

// Connections close while the test waits for the end of a process.
#[tokio::test(flavor = "multi_thread")]
async fn each_service_has_a_role_that_owns_its_schema_only() {
    let folder = data_dir();
    let path = folder.path().to_str().unwrap();
    for messages in 1..=2 {
        let serve = Serve::start(&["--data-dir", path, "--postgres-setting", "log_statement=all"]);
        if messages == 1 {
            serve.create_conversation().await;
        }
        serve.send(&format!("request-{messages}")).await;
        check_roles(path).await;
        assert_eq!(serve.messages().await, messages);
        serve.stop();
    }
    let log = std::fs::read_to_string(folder.path().join("server.log")).unwrap();
    assert!(log.contains("CREATE ROLE") && !log.contains("PASSWORD"), "{log}");
}

// Connections close while the test waits for the end of a process.
#[tokio::test(flavor = "multi_thread")]
async fn the_tables_of_a_superuser_are_handed_over_to_the_services() {
    let folder = data_dir();
    let path = folder.path().to_str().unwrap();
    let mut postgres = Parlance::start(&["postgres", "--data-dir", path]);
    let url = postgres.line();
    let before = Serve::start(&["--database-url", &url]);
    before.create_conversation().await;
    before.send("before").await;
    before.stop();
    execute(&url, "CREATE DOMAIN parlance_user.word AS text; CREATE SEQUENCE parlance_message.numbers").await;
    assert_eq!(text(&url, OWNERS).await, "parlance_message of postgres, parlance_user of postgres");
    let epoch = text(&url, "SELECT epoch FROM parlance_message.epochs").await;
    let (code, out) = run(&["verify"], path);
    assert_eq!(code, Some(0), "{out}");
    assert_eq!(
        text(&url, OWNERS).await,
        "parlance_message of postgres, parlance_user of postgres",
        "the check changes nothing"
    );
    postgres.signal(Signal::SIGTERM);
    assert_eq!(postgres.code(), Some(0));

    let after = Serve::start(&["--data-dir", path]);
    after.send("after").await;
    assert_eq!(after.messages().await, 2);
    check_roles(path).await;
    let (_, url) = run(&["postgres", "--running"], path);
    // The start of PostgreSQL has begun the second epoch; neither role nor folder has begun another.
    assert_eq!(text(&url, "SELECT epoch FROM parlance_message.epochs ORDER BY epoch_id LIMIT 1").await, epoch);
    assert_eq!(text(&url, "SELECT count(*)::text FROM parlance_message.epochs").await, "2");
    let (code, out) = run(&["verify"], path);
    assert_eq!(code, Some(0), "{out}");
    after.stop();
    let (code, out) = run(&["verify"], path);
    assert_eq!(code, Some(0), "{out}");
}
