//! The real binaries as child processes, for stories about kills and about several processes. Always killed with their
//! value.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use parlance::{
    message::v1::{
        conversation_service_client::ConversationServiceClient, message_service_client::MessageServiceClient,
    },
    user::v1::{User, user_service_client::UserServiceClient},
};
use tonic::{Status, transport::Channel};
use tonic_health::pb::health_check_response::ServingStatus;

use super::{PATIENCE, channel_to, create_user, eventually, health};

/// The most warnings shown of a process whose test fails.
const SHOWN_WARNINGS: usize = 40;

const ANY_PORT: &str = "127.0.0.1:0";

/// A running service in a separate process.
pub struct Process {
    child: Child,
    address: SocketAddr,
    channel: Channel,
    log: Arc<Mutex<Vec<String>>>,
}

impl Process {
    /// Starts `user-service` and waits until it serves.
    pub async fn user_service(database_url: &str) -> Self {
        Self::user_service_with(database_url, &[]).await
    }

    /// The same, with more flags.
    pub async fn user_service_with(database_url: &str, more: &[&str]) -> Self {
        let flags = [&["--database-url", database_url][..], more].concat();
        let process = Self::launch("user-service", None, ANY_PORT, &flags).await;
        process.wait_until_serving().await;
        process
    }

    /// Starts `user-service` at the address of an earlier one, and waits until it serves.
    pub async fn user_service_on(listen: SocketAddr, database_url: &str) -> Self {
        let flags = ["--database-url", database_url];
        let process = Self::launch("user-service", None, &listen.to_string(), &flags).await;
        process.wait_until_serving().await;
        process
    }

    /// Starts `message-service` and waits until it serves. `user_service` is host and port.
    pub async fn message_service(database_url: &str, user_service: &str, more: &[&str]) -> Self {
        Self::message_service_with(None, None, database_url, user_service, more).await
    }

    /// Starts `message-service` with a planted bug, if one is named, and waits until it serves.
    pub async fn message_service_with(
        bug: Option<&str>,
        listen: Option<SocketAddr>,
        database_url: &str,
        user_service: &str,
        more: &[&str],
    ) -> Self {
        let url = format!("http://{user_service}");
        let flags = [&["--database-url", database_url, "--user-service-url", &url][..], more].concat();
        let listen = listen.map_or_else(|| ANY_PORT.to_owned(), |listen| listen.to_string());
        let name = if bug.is_some() { "message-service-planted" } else { "message-service" };
        let process = Self::launch(name, bug, &listen, &flags).await;
        process.wait_until_serving().await;
        process
    }

    /// Starts `message-service` at the address of an earlier one, and waits until it serves.
    pub async fn message_service_on(listen: SocketAddr, database_url: &str, user_service: &str) -> Self {
        Self::message_service_with(None, Some(listen), database_url, user_service, &[]).await
    }

    /// Starts a binary, perhaps on a port that the system picks, and reads the port from the log.
    async fn launch(name: &str, bug: Option<&str>, listen: &str, flags: &[&str]) -> Self {
        let mut command = Command::new(binary(name));
        command
            .args(["--listen", listen, "--log-format", "json", "--log-level", "info"])
            .args(["--database-connections", "4", "--drain-accept", "0s", "--drain-timeout", "10s"])
            .args(flags)
            .envs(bug.map(|bug| ("PARLANCE_PLANTED_BUG", bug)));
        Self::spawn(name, command).await
    }

    /// Starts a binary as a container does: with these arguments, and only these environment variables. They must keep
    /// JSON logging.
    pub async fn start_in_container(name: &str, words: &[String], settings: &[(String, String)]) -> Self {
        Self::spawn(name, in_container(name, words, settings)).await
    }

    /// Runs a binary in the same way, to its end.
    pub async fn run(name: &str, words: &[String], settings: &[(String, String)]) -> ExitStatus {
        let mut command = in_container(name, words, settings);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        tokio::task::spawn_blocking(move || command.status()).await.unwrap().unwrap()
    }

    async fn spawn(name: &str, mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (found, address) = mpsc::channel();
        let kept = log.clone();
        // A thread that ends with the process: a full pipe would block it.
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let fields: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
                if fields["message"] == "listening"
                    && let Some(local) = fields["local"].as_str()
                {
                    let _ = found.send(local.to_owned());
                }
                kept.lock().unwrap().push(line);
            }
        });
        let address_line = tokio::task::spawn_blocking(move || address.recv_timeout(PATIENCE)).await.unwrap();
        let Ok(address) = address_line else {
            let _ = child.kill();
            panic!("{name} does not listen: {:?}", log.lock().unwrap());
        };
        let address: SocketAddr = address.parse().unwrap();
        Self { child, address, channel: channel_to(address), log }
    }

    /// Waits until health reports that the process serves.
    pub async fn wait_until_serving(&self) {
        eventually(PATIENCE, || async {
            match self.health().await {
                Ok(ServingStatus::Serving) => Ok(()),
                other => Err(format!("{other:?}; {:?}", self.log.lock().unwrap())),
            }
        })
        .await;
    }

    /// Checks the health of the whole process.
    pub async fn health(&self) -> Result<ServingStatus, Status> {
        health(self.channel.clone(), "").await
    }

    /// Creates a user with this name as id.
    pub async fn create(&self, name: &str) -> User {
        create_user(self.users(), name).await
    }

    /// Returns its address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns a client of conversations.
    pub fn conversations(&self) -> ConversationServiceClient<Channel> {
        ConversationServiceClient::new(self.channel.clone())
    }

    /// Returns a client of messages.
    pub fn messages(&self) -> MessageServiceClient<Channel> {
        MessageServiceClient::new(self.channel.clone())
    }

    /// Kills it with SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends SIGTERM.
    pub fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// Returns the most memory that it has had, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
        peak.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// Returns a client of users.
    pub fn users(&self) -> UserServiceClient<Channel> {
        UserServiceClient::new(self.channel.clone())
    }

    /// Returns its admin address, which is logged before the process serves.
    pub fn admin_address(&self) -> SocketAddr {
        let log = self.log.lock().unwrap();
        let admin_address = |line: &String| {
            let fields: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            (fields["message"] == "metrics are at /metrics")
                .then(|| fields["address"].as_str().unwrap().parse().unwrap())
        };
        log.iter().find_map(admin_address).expect("an admin port")
    }

    /// Returns its log so far, as lines of JSON.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Prints its last warnings and errors: a call that failed with an error of the server names its cause only there.
    fn print_warnings(&self) {
        let Ok(log) = self.log.lock() else { return };
        let is_warning = |line: &&String| {
            let fields: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            matches!(fields["level"].as_str(), Some("WARN" | "ERROR")) || fields.is_null()
        };
        let warnings: Vec<&String> = log.iter().filter(is_warning).collect();
        eprintln!("the last warnings of the process at {}:", self.address);
        warnings.iter().skip(warnings.len().saturating_sub(SHOWN_WARNINGS)).for_each(|line| eprintln!("{line}"));
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        self.ended_within(PATIENCE).await
    }

    /// Waits for its end, up to the deadline.
    pub async fn ended_within(&mut self, deadline: Duration) -> ExitStatus {
        let child = Mutex::new(&mut self.child);
        let ended = || async { child.lock().unwrap().try_wait().unwrap().ok_or("still running") };
        eventually(deadline, ended).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if thread::panicking() {
            self.print_warnings();
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn in_container(name: &str, words: &[String], settings: &[(String, String)]) -> Command {
    let mut command = Command::new(binary(name));
    command.env_clear().args(words).envs(settings.iter().cloned());
    command
}

/// Returns the path of a binary: in the folder that `PARLANCE_BINARIES` names, else above the `deps` folder of the test's own
/// executable.
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let folder = std::env::var_os("PARLANCE_BINARIES").map(PathBuf::from);
    let folder = folder.or_else(|| Some(own.parent()?.parent()?.to_owned()));
    let path = folder.expect("a target folder").join(name);
    assert!(path.exists(), "{} does not exist; run make test, which builds it", path.display());
    path
}
