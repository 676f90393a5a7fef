//! The real binaries as child processes, for stories about being killed and about several of them. Always gone with
//! their value.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use parlance::{
    message::v1::{
        conversation_service_client::ConversationServiceClient, message_service_client::MessageServiceClient,
    },
    user::v1::user_service_client::UserServiceClient,
};
use tonic::transport::Channel;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use super::{PATIENCE, channel_to, eventually};

const ANY_PORT: &str = "127.0.0.1:0";

/// A running service of its own process.
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

    /// Starts `message-service` and waits until it serves. `user_service` is host and port.
    pub async fn message_service(database_url: &str, user_service: &str, more: &[&str]) -> Self {
        Self::message_service_with(None, None, database_url, user_service, more).await
    }

    /// Starts `message-service` with a bug on purpose, if one is named, and waits until it serves.
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

    /// Starts `message-service` where another was before, and waits until it serves.
    pub async fn message_service_on(listen: SocketAddr, database_url: &str, user_service: &str) -> Self {
        Self::message_service_with(None, Some(listen), database_url, user_service, &[]).await
    }

    /// Starts a binary, perhaps on a port that the system picks, and learns it from the log.
    async fn launch(name: &str, bug: Option<&str>, listen: &str, flags: &[&str]) -> Self {
        let mut child = Command::new(binary(name))
            .args(["--listen", listen, "--log-format", "json", "--log-level", "info"])
            .args(["--database-connections", "4", "--drain-accept", "0s", "--drain-timeout", "10s"])
            .args(flags)
            .envs(bug.map(|bug| ("PARLANCE_PLANTED_BUG", bug)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (found, address) = mpsc::channel();
        let kept = log.clone();
        // A thread that ends with the process: a pipe that nobody reads would stop it.
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let said: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
                if said["message"] == "listening"
                    && let Some(local) = said["local"].as_str()
                {
                    let _ = found.send(local.to_owned());
                }
                kept.lock().unwrap().push(line);
            }
        });
        let told = tokio::task::spawn_blocking(move || address.recv_timeout(PATIENCE)).await.unwrap();
        let Ok(address) = told else {
            let _ = child.kill();
            panic!("{name} does not listen: {:?}", log.lock().unwrap());
        };
        let address: SocketAddr = address.parse().unwrap();
        Self { child, address, channel: channel_to(address), log }
    }

    /// Waits until health says that the process serves.
    pub async fn wait_until_serving(&self) {
        eventually(PATIENCE, || async {
            let request = HealthCheckRequest::default();
            match HealthClient::new(self.channel.clone()).check(request).await {
                Ok(answer) if answer.get_ref().status() == ServingStatus::Serving => Ok(()),
                other => Err(format!("{other:?}; {:?}", self.log.lock().unwrap())),
            }
        })
        .await;
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client of conversations.
    pub fn conversations(&self) -> ConversationServiceClient<Channel> {
        ConversationServiceClient::new(self.channel.clone())
    }

    /// A client of messages.
    pub fn messages(&self) -> MessageServiceClient<Channel> {
        MessageServiceClient::new(self.channel.clone())
    }

    /// Kills it the hard way, and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    /// A client of users.
    pub fn users(&self) -> UserServiceClient<Channel> {
        UserServiceClient::new(self.channel.clone())
    }

    /// Where its admin port is, of which it has told before it served.
    pub fn admin_address(&self) -> SocketAddr {
        let log = self.log.lock().unwrap();
        let told = |line: &String| {
            let said: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
            (said["message"] == "metrics are at /metrics").then(|| said["address"].as_str().unwrap().parse().unwrap())
        };
        log.iter().find_map(told).expect("an admin port")
    }

    /// What it has logged so far, as lines of JSON.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        let child = Mutex::new(&mut self.child);
        let ended = || async { child.lock().unwrap().try_wait().unwrap().ok_or("still running") };
        eventually(PATIENCE, ended).await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Beside the test's own executable, which lies in `deps`.
pub fn binary(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let path = own.parent().and_then(|deps| deps.parent()).expect("a target folder").join(name);
    assert!(path.exists(), "there is no {}; run make test, which builds it", path.display());
    path
}
