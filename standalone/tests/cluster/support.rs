//! Helpers of the cluster's tests: SQL by connection string, the `parlance` binary as a child, waiting with a deadline.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Row};

/// Longer than any wait here takes on a busy machine.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

/// Runs one statement.
pub(crate) async fn execute(url: &str, statement: &str) {
    let mut connection = PgConnection::connect(url).await.expect("connect");
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.expect(statement);
    connection.close().await.expect("close");
}

/// Returns the single text that a query selects.
pub(crate) async fn text(url: &str, query: &str) -> String {
    let mut connection = PgConnection::connect(url).await.expect("connect");
    let row = sqlx::query(AssertSqlSafe(query.to_owned())).fetch_one(&mut connection).await.expect(query);
    connection.close().await.expect("close");
    row.get(0)
}

/// Waits until `done` returns true.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < DEADLINE, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Returns true if the process runs (a zombie does not).
pub(crate) fn is_alive(pid: u32) -> bool {
    if std::path::Path::new("/proc/self/stat").exists() {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        return text.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'));
    }
    let output = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output().expect("ps");
    let state = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    !state.is_empty() && !state.starts_with('Z')
}

/// Returns the postmaster's process id from its pid file.
pub(crate) fn postmaster(folder: &Path) -> u32 {
    let text = std::fs::read_to_string(folder.join("cluster/data/postmaster.pid")).expect("a pid file");
    text.lines().next().expect("a line").trim().parse().expect("a number")
}

/// A running `parlance`. Killed on drop, so that a failed test leaves no owner behind.
pub(crate) struct Parlance {
    pub(crate) child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Parlance {
    /// Starts it with a pipe on each side.
    pub(crate) fn start(arguments: &[&str]) -> Parlance {
        let mut command = Command::new(env!("CARGO_BIN_EXE_parlance"));
        command.args(arguments);
        Parlance::spawn(command)
    }

    /// Like [`Parlance::start`], with a custom command.
    pub(crate) fn spawn(mut command: Command) -> Parlance {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("parlance starts");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        Parlance { child, output }
    }

    /// Returns the next line of its output; empty at its end.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("a line");
        line.trim().to_owned()
    }

    /// Returns its process id.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32)
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("signal");
    }

    /// Waits for its end and returns the exit code; `None` after a signal.
    pub(crate) fn code(&mut self) -> Option<i32> {
        let mut status = None;
        until("parlance ends", || {
            status = self.child.try_wait().expect("wait");
            status.is_some()
        });
        status.and_then(|status| status.code())
    }
}

impl Drop for Parlance {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A data folder whose PostgreSQL user can enter it, also when the tests run as root. Removed on drop.
pub(crate) fn data_dir() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(folder.path(), open).expect("open to others");
    folder
}
