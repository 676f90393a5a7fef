//! PgBouncer between the services and PostgreSQL.

use std::{
    fmt::Write as _,
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    time::Duration,
};

use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;
use tokio::{net::TcpStream, time::timeout};

use crate::support::{
    PATIENCE, RunningMessageService, RunningUserService, TestDatabase, eventually, group, message_service_config, send,
    user_service_config,
};

/// A PgBouncer before the server of the tests, killed with its value.
struct PgBouncer {
    child: Child,
    port: u16,
    _folder: TempDir,
}

impl PgBouncer {
    async fn start(mode: &str) -> Self {
        let server: PgConnectOptions = std::env::var("TEST_DATABASE_URL").unwrap().parse().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (file, users) = (folder.path().join("pgbouncer.ini"), folder.path().join("users"));
        let text = std::env::var("TEST_DATABASE_URL").unwrap();
        let credentials = text.split_once("://").and_then(|(_, rest)| rest.split_once('@')).map(|(before, _)| before);
        let password = credentials.and_then(|text| text.split_once(':')).map_or("", |(_, password)| password);
        let mut settings = String::new();
        let (host, server_port, user) = (server.get_host(), server.get_port(), server.get_username());
        write!(
            settings,
            "[databases]\n* = host={host} port={server_port} user={user} password='{password}'\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\n\
             auth_file = {}\npool_mode = {mode}\ndefault_pool_size = 50\n",
            users.display()
        )
        .unwrap();
        std::fs::write(&users, format!("\"{user}\" \"{password}\"\n")).unwrap();
        std::fs::write(&file, settings).unwrap();
        let child = spawn(&file).expect("pgbouncer is missing: run `make pgbouncer`, which installs it");
        let pooler = Self { child, port, _folder: folder };
        eventually(PATIENCE, || TcpStream::connect(("127.0.0.1", port))).await;
        pooler
    }
}

/// Debian installs it where only root's PATH leads. It refuses to run as root.
fn spawn(file: &std::path::Path) -> std::io::Result<Child> {
    let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("pgbouncer");
    command.arg("-q").arg(file).env("PATH", path);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let folder = file.parent().expect("a folder");
    if let Some(owner) = other_owner(folder) {
        command.uid(owner);
    }
    command.spawn()
}

/// Gives the folder to an unprivileged user if this process runs as root.
fn other_owner(folder: &std::path::Path) -> Option<u32> {
    use std::os::unix::fs::{MetadataExt, chown};
    const UNPRIVILEGED: u32 = 65_534;
    (std::fs::metadata(folder).unwrap().uid() == 0).then(|| {
        for path in [folder.to_owned(), folder.join("pgbouncer.ini"), folder.join("users")] {
            chown(path, Some(UNPRIVILEGED), None).unwrap();
        }
        UNPRIVILEGED
    })
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn the_services_work_behind_a_pooler_in_session_mode() {
    let pooler = PgBouncer::start("session").await;
    let database = TestDatabase::empty().await;
    let url = database.url_through(pooler.port);
    let user_service = RunningUserService::launch(user_service_config(&url, &[])).await;
    user_service.wait_until_serving().await;
    let address = user_service.address().to_string();
    let message_service = RunningMessageService::start(message_service_config(&url, &address, &[])).await;
    for name in ["ann", "ben"] {
        user_service.create(name).await;
    }
    message_service.conversations().create_conversation(group("g", "ann", &["ben"])).await.unwrap();
    message_service.messages().send_message(send("g", "ann", "x")).await.unwrap();
    message_service.stop().await.unwrap();
    user_service.stop().await.unwrap();
}

#[tokio::test]
async fn a_pooler_in_transaction_mode_is_refused_at_the_start() {
    let pooler = PgBouncer::start("transaction").await;
    let database = TestDatabase::migrated().await;
    let url = database.url_through(pooler.port);
    let mut user_service = RunningUserService::launch(user_service_config(&url, &[])).await;
    let ended = timeout(Duration::from_secs(20), user_service.ended()).await.expect("it does not start");
    let error = ended.unwrap_err();
    let first: &dyn std::error::Error = &error;
    let causes: Vec<String> =
        std::iter::successors(Some(first), |error| error.source()).map(ToString::to_string).collect();
    assert!(causes.iter().any(|cause| cause.contains("pooler in transaction mode")), "{causes:?}");
    let refused = message_service::migrate(&message_service_config(&url, "127.0.0.1:1", &[])).await.unwrap_err();
    assert!(refused.to_string().contains("pool_mode=session"), "{refused}");
}
