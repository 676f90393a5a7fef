//! What is measured, as child processes: the services' binaries and a server of NATS. Always gone with their value.

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

/// Longer than a start takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often health is asked about while a service starts.
const ASK_EVERY: Duration = Duration::from_millis(20);

/// How much of what a process said last is told when it does not start.
const LAST_LINES: usize = 10;

/// A running child.
pub(crate) struct Process {
    child: Child,
    /// Host and port.
    address: String,
    said: Said,
}

/// What a process said last.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<VecDeque<String>>>);

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

    /// Starts a server of NATS on a free port.
    pub(crate) async fn nats() -> anyhow::Result<Self> {
        let mut command = Command::new("nats-server");
        command.args(["--addr", "127.0.0.1", "--port", "-1"]);
        let port = |line: &str| {
            let (_, told) = line.split_once("Listening for client connections on ")?;
            Some(format!("127.0.0.1:{}", told.rsplit(':').next()?.trim()))
        };
        Self::launch(command, port).await.context("nats-server (scripts/install-nats installs it)")
    }

    /// Where it is, as services are called.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Host and port.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// A connection to it.
    pub(crate) fn channel(&self) -> anyhow::Result<Channel> {
        Ok(Endpoint::from_shared(self.url())?.connect_lazy())
    }

    async fn service(name: &str, flags: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(beside_this_one(name)?);
        command.args(["--listen", "127.0.0.1:0", "--log-format", "json", "--log-level", "info"]).args(flags);
        let address = |line: &str| {
            let said: serde_json::Value = serde_json::from_str(line).ok()?;
            (said["message"] == "listening").then(|| said["local"].as_str().map(str::to_owned))?
        };
        let process = Self::launch(command, address).await.with_context(|| name.to_owned())?;
        process.serving().await.with_context(|| format!("{name} does not serve; it said: {}", process.said.text()))?;
        Ok(process)
    }

    /// Starts a program and waits until a line of its log says where it listens.
    async fn launch(
        mut command: Command,
        address_in: impl Fn(&str) -> Option<String> + Send + 'static,
    ) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot be started")?;
        let lines = child.stderr.take().map(|pipe| BufReader::new(pipe).lines());
        let mut process = Self { child, address: String::new(), said: Said::default() };
        let said = process.said.clone();
        let (found, address) = oneshot::channel();
        // A thread that ends with the process: a pipe that nobody reads would stop it.
        thread::spawn(move || {
            let mut found = Some(found);
            for line in lines.into_iter().flatten().map_while(Result::ok) {
                if let Some(address) = address_in(&line)
                    && let Some(found) = found.take()
                {
                    let _ = found.send(address);
                }
                said.keep(line);
            }
        });
        match tokio::time::timeout(PATIENCE, address).await {
            Ok(Ok(address)) => process.address = address,
            _ => bail!("does not listen; it said: {}", process.said.text()),
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
            if began.elapsed() > PATIENCE {
                bail!("{seen}");
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Said {
    fn keep(&self, line: String) {
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

/// Built together: what is measured is never older than who measures.
fn beside_this_one(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    if !path.exists() {
        bail!("there is no {}; make bench-delivery builds it", path.display());
    }
    Ok(path)
}
