//! A real server of NATS, on a port of its own, gone with its value.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
};

use super::PATIENCE;

/// A running server.
pub struct NatsServer {
    child: Child,
    port: u16,
}

impl NatsServer {
    /// Starts one on a free port.
    pub async fn start() -> Self {
        Self::on("-1").await
    }

    /// Starts one on this port, where another was before.
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
            .expect("nats-server is not there: run make test, which installs it");
        let lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let (found, address) = mpsc::channel();
        // A thread that ends with the process: a pipe that nobody reads would stop it.
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((_, told)) = line.split_once("Listening for client connections on ") {
                    let _ = found.send(told.rsplit(':').next().unwrap_or_default().trim().to_owned());
                }
            }
        });
        let told = tokio::task::spawn_blocking(move || address.recv_timeout(PATIENCE)).await.unwrap();
        let Ok(told) = told else {
            let _ = child.kill();
            panic!("nats-server does not listen");
        };
        Self { child, port: told.parse().unwrap() }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Ends it the hard way; gives its port.
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
