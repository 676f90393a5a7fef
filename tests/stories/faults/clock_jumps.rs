//! The clocks of PostgreSQL and of both services jump under load, forwards and back. Nothing depends on them but the times that
//! messages carry.

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use sqlx::{Connection, PgConnection};
use tempfile::TempDir;

use super::{
    fault::Fault,
    run::{CONVERSATIONS, Run},
};
use crate::support::{PATIENCE, Process, binary, channel_to, eventually, group};

/// The jumps, in seconds.
const JUMPS: [f64; 6] = [-3600.0, -60.0, -0.005, 0.005, 60.0, 3600.0];

/// A clock that is ahead of this machine's, or behind it. Processes with its environment see it in place of the wall clock;
/// time that is measured stays.
struct Clock {
    folder: TempDir,
    ahead: f64,
}

impl Clock {
    fn new() -> Self {
        let folder = TempDir::with_prefix("parlance-clock-").unwrap();
        // The server's user reads it.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let clock = Self { folder, ahead: 0.0 };
        clock.set();
        clock
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("ahead")
    }

    fn set(&self) {
        // Replaced, not written: it is read at any moment.
        let new = self.folder.path().join("new");
        fs::write(&new, format!("{:+.3}", self.ahead)).unwrap();
        fs::rename(new, self.file()).unwrap();
    }

    fn jump(&mut self, seconds: f64) {
        self.ahead += seconds;
        self.set();
    }

    fn environment(&self) -> Vec<(String, String)> {
        let library = library().to_str().expect("a path in ASCII").to_owned();
        let file = self.file().to_str().expect("a path in ASCII").to_owned();
        [
            ("LD_PRELOAD", library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", &file),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into()
    }

    async fn service(&self, name: &str, settings: &[(&str, &str)]) -> Process {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let process =
            Process::start_in_container(name, &[], &self.environment().into_iter().chain(settings).collect::<Vec<_>>())
                .await;
        process.wait_until_serving().await;
        process
    }
}

/// Returns the path of libfaketime.
fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap().map(|folder| folder.unwrap().path());
    let mut libraries = folders.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    libraries.find(|library| library.exists()).expect("libfaketime is missing (package faketime)")
}

/// A PostgreSQL with that clock, stopped with this value.
struct Postgres {
    child: Child,
    url: String,
}

impl Postgres {
    fn start(clock: &Clock) -> Self {
        let mut child = Command::new(binary("parlance"))
            .args(["postgres", "--data-dir"])
            .arg(clock.folder.path().join("data"))
            .envs(clock.environment())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut url).unwrap();
        Self { child, url: url.trim().to_owned() }
    }
}

impl Postgres {
    /// Waits until its clock is this far ahead.
    async fn wait_until_ahead(&self, seconds: f64) {
        eventually(PATIENCE, || async {
            let mut session = PgConnection::connect(&self.url).await.map_err(|error| error.to_string())?;
            let clock = "SELECT extract(epoch FROM clock_timestamp())::float8";
            let (seen,): (f64,) =
                sqlx::query_as(clock).fetch_one(&mut session).await.map_err(|error| error.to_string())?;
            let ahead = seen - SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs_f64();
            if (ahead - seconds).abs() < 10.0 { Ok(()) } else { Err(format!("{ahead} s ahead, not {seconds}")) }
        })
        .await;
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM);
        let _ = self.child.wait();
    }
}

pub(super) async fn clock_jumps(mut fault: Fault) {
    while let Some(rounds) = fault.next_part() {
        let mut clock = Clock::new();
        let postgres = Postgres::start(&clock);
        let settings = [("LISTEN", "127.0.0.1:0"), ("LOG_FORMAT", "json"), ("DATABASE_URL", &*postgres.url)];
        let users = clock.service("user-service", &settings).await;
        for name in ["ann", "ben"] {
            users.create(name).await;
        }
        let user_service = format!("http://{}", users.address());
        let settings = [&settings[..], &[("USER_SERVICE_URL", &*user_service)]].concat();
        let service = clock.service("message-service", &settings).await;
        for id in CONVERSATIONS {
            service.conversations().create_conversation(group(id, "ann", &["ben"])).await.unwrap();
        }
        let run = Run::begin(&fault, channel_to(service.address()));
        run.inject(&mut fault, rounds, async |fault| {
            let jump = fault.random().choice(JUMPS).expect("some");
            clock.jump(jump);
            postgres.wait_until_ahead(clock.ahead).await;
            run.delivers().await;
        })
        .await;
        run.end(&mut fault, rounds, &service.messages()).await;
    }
    fault.end();
}
