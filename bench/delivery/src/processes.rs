//! The measured programs as child processes: the services' binaries and a NATS server. Killed on drop.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use tokio::sync::oneshot;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

/// The time limit of a start, generous for a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// The interval between health checks while a service starts.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// The number of log lines that are shown when a process does not start.
const LAST_LINES: usize = 10;

/// A running child process.
pub(crate) struct Process {
    child: Child,
    /// Host and port.
    address: String,
    log: LogTail,
}

/// The last lines of a process's log.
#[derive(Clone, Default)]
struct LogTail(Arc<Mutex<VecDeque<String>>>);

impl Process {
    /// Starts `user-service` and waits until it serves.
    pub(crate) async fn user_service(database_url: &str) -> anyhow::Result<Self> {
        Self::service("user-service", &["--database-url", database_url]).await
    }

    /// Starts `message-service` and waits until it serves.
    pub(crate) async fn message_service(
        database_url: &str,
        user_service: &Self,
        bus_url: &str,
    ) -> anyhow::Result<Self> {
        let users = user_service.url();
        let flags = ["--database-url", database_url, "--user-service-url", &users, "--bus-url", bus_url];
        Self::service("message-service", &flags).await
    }

    /// Starts a NATS server on a free port.
    pub(crate) async fn nats() -> anyhow::Result<Self> {
        let mut command = Command::new("nats-server");
        command.args(["--addr", "127.0.0.1", "--port", "-1"]);
        let port = |line: &str| {
            let (_, address) = line.split_once("Listening for client connections on ")?;
            Some(format!("127.0.0.1:{}", address.rsplit(':').next()?.trim()))
        };
        Self::launch(command, port).await.context("nats-server (scripts/install-nats installs it)")
    }

    /// Returns its URL.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns its host and port.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Returns a lazy connection to it.
    pub(crate) fn channel(&self) -> anyhow::Result<Channel> {
        Ok(Endpoint::from_shared(self.url())?.connect_lazy())
    }

    async fn service(name: &str, flags: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(sibling_binary(name)?);
        command.args(["--listen", "127.0.0.1:0", "--log-format", "json", "--log-level", "info"]).args(flags);
        let address = |line: &str| {
            let entry: serde_json::Value = serde_json::from_str(line).ok()?;
            (entry["message"] == "listening").then(|| entry["local"].as_str().map(str::to_owned))?
        };
        let process = Self::launch(command, address).await.with_context(|| name.to_owned())?;
        process.serving().await.with_context(|| format!("{name} does not serve; its log: {}", process.log.text()))?;
        Ok(process)
    }

    /// Starts a program and waits until its log contains its address.
    async fn launch(
        mut command: Command,
        address_in: impl Fn(&str) -> Option<String> + Send + 'static,
    ) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot be started")?;
        let lines = child.stderr.take().map(|pipe| BufReader::new(pipe).lines());
        let mut process = Self { child, address: String::new(), log: LogTail::default() };
        let log = process.log.clone();
        let (found, address) = oneshot::channel();
        // A thread that ends with the process, which would block on a full pipe.
        thread::spawn(move || {
            let mut found = Some(found);
            for line in lines.into_iter().flatten().map_while(Result::ok) {
                if let Some(address) = address_in(&line)
                    && let Some(found) = found.take()
                {
                    let _ = found.send(address);
                }
                log.push(line);
            }
        });
        match tokio::time::timeout(START_TIMEOUT, address).await {
            Ok(Ok(address)) => process.address = address,
            _ => bail!("does not listen; its log: {}", process.log.text()),
        }
        Ok(process)
    }

    async fn serving(&self) -> anyhow::Result<()> {
        let mut health = HealthClient::new(self.channel()?);
        let began = Instant::now();
        loop {
            let seen = match health.check(HealthCheckRequest::default()).await {
                Ok(answer) if answer.get_ref().status() == ServingStatus::Serving => return Ok(()),
                Ok(answer) => answer.get_ref().status().as_str_name().to_owned(),
                Err(status) => status.to_string(),
            };
            if began.elapsed() > START_TIMEOUT {
                bail!("{seen}");
            }
            tokio::time::sleep(CHECK_INTERVAL).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl LogTail {
    fn push(&self, line: String) {
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.push_back(line);
        if lines.len() > LAST_LINES {
            lines.pop_front();
        }
    }

    fn text(&self) -> String {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

/// Returns the path of a binary in the same folder, which is built together with the benchmark.
fn sibling_binary(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if !path.exists() {
        bail!("{} does not exist; make bench-delivery builds it", path.display());
    }
    Ok(path)
}
