//! A real NATS server, on a free port, killed with its value.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
};

use super::PATIENCE;

/// A running NATS server.
pub struct NatsServer {
    child: Child,
    port: u16,
}

impl NatsServer {
    /// Starts one on a free port.
    pub async fn start() -> Self {
        Self::on("-1").await
    }

    /// Starts one on this port, used before by another.
    pub async fn start_again(port: u16) -> Self {
        Self::on(&port.to_string()).await
    }

    async fn on(port: &str) -> Self {
        let mut child = Command::new("nats-server")
            .args(["--addr", "127.0.0.1", "--port", port])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("nats-server is missing; run make test, which installs it");
        let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let (found, address) = mpsc::channel();
        // A thread that ends with the process: a full pipe would block it.
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((_, received)) = line.split_once("Listening for client connections on ") {
                    let _ = found.send(received.rsplit(':').next().unwrap_or_default().trim().to_owned());
                }
            }
        });
        let received = tokio::task::spawn_blocking(move || address.recv_timeout(PATIENCE)).await.unwrap();
        let Ok(received) = received else {
            let _ = child.kill();
            panic!("nats-server does not listen");
        };
        Self { child, port: received.parse().unwrap() }
    }

    /// Returns its URL.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Kills it; returns its port.
    pub fn kill(mut self) -> u16 {
        self.end();
        self.port
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.end();
    }
}
