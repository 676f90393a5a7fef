//! TLS to the database, checked in full: a server of the operator's own authority is accepted, and one of another
//! authority or another name ends the start with a problem that names the cause.

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, chown},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use parlance::message::v1::SendMessageRequest;
use parlance_standalone::cluster::{Cluster, Options};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use crate::support::{PATIENCE, Process, eventually, group, send};

/// The extensions of the certificates: those of an authority, and of a server that is called `localhost`.
const EXTENSIONS: &str = "
[req]
distinguished_name = name
x509_extensions = authority
prompt = no
[name]
CN = NAME
[authority]
basicConstraints = critical, CA:TRUE
[server]
subjectAltName = DNS:localhost
extendedKeyUsage = serverAuth
";

/// The longest time until a service that is set up wrongly ends.
const ENDED: Duration = Duration::from_secs(10);

/// An authority, made for one test: nothing secret is in the repository.
struct Authority(TempDir);

impl Authority {
    fn new(name: &str) -> Self {
        let authority = Self(tempfile::tempdir().unwrap());
        fs::write(authority.file("extensions"), EXTENSIONS.replace("NAME", name)).unwrap();
        authority.openssl("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -config extensions -days 2 -keyout ca.key -out ca.pem");
        authority
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Issues the certificate of a server, `server.pem` and `server.key`.
    fn issue(&self) {
        self.openssl("req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -config extensions -keyout server.key -out server.csr");
        self.openssl("x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -extensions server -out server.pem");
    }

    fn openssl(&self, words: &str) {
        let output = Command::new("openssl").args(words.split(' ')).current_dir(self.0.path()).output();
        let output = output.expect("openssl is missing");
        assert!(output.status.success(), "openssl {words}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Returns the URL of a server, reached under this name and checked against this authority.
    fn url(&self, cluster: &Cluster, host: &str) -> String {
        let url = cluster.url("parlance").replace("127.0.0.1", host);
        url.replace("sslmode=disable", &format!("sslmode=verify-full&sslrootcert={}", self.file("ca.pem").display()))
    }
}

/// Gives a server a certificate, and turns TLS on.
async fn turn_on_tls(cluster: &Cluster, authority: &Authority) {
    let data = cluster.folder().join("cluster/data");
    install(&authority.file("server.pem"), &data, "server.crt");
    install(&authority.file("server.key"), &data, "server.key");
    let mut connection = PgConnection::connect(&cluster.url("postgres")).await.unwrap();
    for statement in ["ALTER SYSTEM SET ssl = on", "SELECT pg_reload_conf()"] {
        sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
    }
    eventually(PATIENCE, || async {
        let mut new = PgConnection::connect(&cluster.url("postgres")).await.unwrap();
        let (ssl,): (String,) = sqlx::query_as("SHOW ssl").fetch_one(&mut new).await.unwrap();
        if ssl == "on" { Ok(()) } else { Err(ssl) }
    })
    .await;
}

/// Copies a file to the server's folder, for the server's user alone.
fn install(source: &Path, data: &Path, name: &str) {
    let (target, owner) = (data.join(name), fs::metadata(data).unwrap());
    fs::copy(source, &target).unwrap();
    fs::set_permissions(&target, fs::Permissions::from_mode(0o600)).unwrap();
    chown(&target, Some(owner.uid()), Some(owner.gid())).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_the_operators_own_authority_is_checked_in_full() {
    let (own, other) = (Authority::new("own"), Authority::new("other"));
    own.issue();
    let cluster = Cluster::start(Options::temporary().max_connections(50)).await.unwrap();
    cluster.create_database("parlance").await.unwrap();
    turn_on_tls(&cluster, &own).await;

    let url = own.url(&cluster, "localhost");
    let users = Process::user_service(&url).await;
    let messages = Process::message_service(&url, &users.address().to_string(), &[]).await;
    for name in ["ann", "ben"] {
        users.create(name).await;
    }
    messages.conversations().create_conversation(group("g", "ann", &["ben"])).await.unwrap();
    let message = SendMessageRequest { request_id: "one".to_owned(), ..send("g", "ann", "over TLS") };
    messages.messages().send_message(message).await.unwrap();
    assert!(connections(&cluster, "ssl").await > 0);
    assert_eq!(connections(&cluster, "NOT ssl").await, 0);

    for (url, cause) in [
        (other.url(&cluster, "localhost"), "UnknownIssuer"),
        // Of the right authority, and not for this name.
        (own.url(&cluster, "127.0.0.1"), "certificate not valid for name"),
    ] {
        tokio::join!(is_refused("user-service", &url, cause), is_refused("message-service", &url, cause));
    }
}

/// Counts the connections of services, with TLS or without.
async fn connections(cluster: &Cluster, condition: &str) -> i64 {
    let mut connection = PgConnection::connect(&cluster.url("postgres")).await.unwrap();
    let count = format!(
        "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
         WHERE application_name LIKE 'parlance%' AND {condition}"
    );
    let (count,) = sqlx::query_as(sqlx::AssertSqlSafe(count)).fetch_one(&mut connection).await.unwrap();
    count
}

/// Starts a service that does not trust the server: it ends soon, and its log names the cause and what to check.
async fn is_refused(service: &str, url: &str, cause: &str) {
    let settings = [
        ("LISTEN", "127.0.0.1:0"),
        ("LOG_FORMAT", "json"),
        ("DATABASE_URL", url),
        ("USER_SERVICE_URL", "http://127.0.0.1:1"),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut process = Process::start_in_container(service, &[], &settings).await;
    let ended = process.ended_within(ENDED).await;
    let log = process.log();
    assert_eq!(ended.code(), Some(1), "{log}");
    let line = log.lines().last().unwrap_or_default();
    assert!(line.contains("sslrootcert") && line.contains(cause), "{log}");
}
