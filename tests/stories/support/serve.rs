//! `parlance serve` as a child process. Always killed with its value.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Instant,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{PATIENCE, TestDatabase, binary, eventually};

/// A running `parlance serve`.
pub struct Serve {
    child: Child,
    output: mpsc::Receiver<String>,
    /// The output so far.
    pub lines: Vec<String>,
}

impl Serve {
    /// Starts it on an existing database.
    pub fn start(database: &TestDatabase, more: &[&str]) -> Self {
        let mut command = Command::new(binary("parlance"));
        command.args(["serve", "--database-url", &database.url(), "--database-connections", "2"]);
        command.args(["--user-listen", "127.0.0.1:0", "--message-listen", "127.0.0.1:0"]).args(more);
        command.env_remove("WEB_LISTEN").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (lines, output) = mpsc::channel();
        forward_lines(child.stdout.take().expect("a pipe"), lines.clone());
        forward_lines(child.stderr.take().expect("a pipe"), lines);
        Self { child, output, lines: Vec::new() }
    }

    /// Waits for a line that contains this text.
    pub fn wait_for_line(&mut self, text: &str) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(line) = self.lines.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            let received = self.output.recv_timeout(until.saturating_duration_since(Instant::now()));
            self.lines.push(received.unwrap_or_else(|_| panic!("{text:?} is not in {:#?}", self.lines)));
        }
    }

    /// Returns the address at the end of a line of the welcome.
    pub fn address(&mut self, what: &str) -> SocketAddr {
        let line = self.wait_for_line(&format!("  {what}  "));
        let address = line.split_whitespace().last().expect("a word");
        address.trim_start_matches("http://").parse().unwrap()
    }

    /// Stops it, and returns its exit code.
    pub async fn stop(mut self) -> Option<i32> {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).unwrap();
        self.ended().await
    }

    /// Waits for its end, and returns its exit code.
    pub async fn ended(&mut self) -> Option<i32> {
        let child = std::sync::Mutex::new(&mut self.child);
        let ended = || async { child.lock().unwrap().try_wait().unwrap().ok_or("still running") };
        eventually(PATIENCE, ended).await.code()
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn forward_lines(from: impl Read + Send + 'static, lines: mpsc::Sender<String>) {
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let _ = lines.send(line);
        }
    });
}
