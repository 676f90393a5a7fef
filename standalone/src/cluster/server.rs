//! A running server process: started with settings on its command line, polled until it accepts queries, stopped by
//! signals.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::binaries::Binaries;
use super::connect::{self, Address, SUPERUSER};
use super::error::Error;
use super::layout::Layout;
use super::leftover;
use super::log;
use super::options::{Options, Progress};
use super::process;

/// The range of ports. Below every system's range for outgoing connections: a client that keeps calling a stopped
/// server's port from within that range can end up connected to itself, and hold the port.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// The time limit of a fast stop, which writes a checkpoint, after which the server is killed.
const FAST_STOP: Duration = Duration::from_mins(1);

/// The time limit of an immediate stop, after which the server is killed.
const IMMEDIATE_STOP: Duration = Duration::from_secs(10);

/// The time that the kernel may take to release a dead server's port and shared memory.
const LINGERING: Duration = Duration::from_secs(10);

/// A server that is still starting is reported after this long, and again each time.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// The interval between polls.
const POLL: Duration = Duration::from_millis(20);

/// The way to stop a server. Neither loses committed data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Ends all sessions, writes a checkpoint, exits. Takes as long as the checkpoint does, at most a minute.
    Fast,
    /// Exits at once; the next start replays the write-ahead log.
    Immediate,
}

/// The inputs of a start.
pub(super) struct Launch<'a> {
    pub(super) binaries: &'a Binaries,
    pub(super) layout: &'a Layout,
    pub(super) options: &'a Options,
    pub(super) password: &'a str,
}

impl Launch<'_> {
    /// Starts a server on `port`, or on a free one, and waits until it accepts queries. If a free port is taken by another
    /// process in the meantime, another one is tried.
    pub(super) async fn start(&self, port: Option<u16>, progress: impl Fn(Progress)) -> Result<Server, Error> {
        let log_file = self.layout.log_file();
        let started = Instant::now();
        loop {
            let attempt = port.map_or_else(free_port, Ok)?;
            let log_start = log::len(&log_file);
            let mut server = self.spawn(attempt)?;
            if self.ready(&mut server, &progress).await? {
                return Ok(server);
            }
            let output = log::since(&log_file, log_start);
            let port_taken = output.contains("could not create any TCP/IP sockets");
            let memory_in_use = output.contains("is still in use");
            if (port_taken || memory_in_use) && started.elapsed() < LINGERING {
                tokio::time::sleep(POLL * 5).await;
            } else if let (true, Some(port)) = (port_taken, port) {
                return Err(Error::PortTaken { port });
            } else {
                let tail = output.lines().rev().take(5).collect::<Vec<_>>();
                let tail = tail.into_iter().rev().collect::<Vec<_>>().join("; ");
                return Err(Error::Start { log: log_file, tail });
            }
        }
    }

    fn spawn(&self, port: u16) -> Result<Server, Error> {
        let data = self.layout.data();
        let program = self.binaries.dir().join("postgres");
        let log = log::open(&self.layout.log_file())?;
        let failed = Error::file("write", &self.layout.log_file());
        let stdout = log.try_clone().map_err(failed)?;
        let mut command = self.layout.account.command(&program);
        command.current_dir(&data).arg("-D").arg(&data).stdout(stdout).stderr(Stdio::from(log));
        for (name, value) in self.settings(port) {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let child = command.spawn().map_err(Error::file("run", &program))?;
        Ok(Server { child, port, is_gone: false })
    }

    fn settings(&self, port: u16) -> Vec<(String, String)> {
        let own = [
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("port", port.to_string()),
            ("unix_socket_directories", String::new()),
            ("max_connections", self.options.max_connections.to_string()),
            // Acknowledged messages depend on these, whatever the cluster's own files contain.
            ("fsync", "on".to_owned()),
            ("full_page_writes", "on".to_owned()),
            ("timezone", "UTC".to_owned()),
            ("log_timezone", "UTC".to_owned()),
            // To the file that `log` bounds, and without the content of statements and rows, which are users' messages.
            ("logging_collector", "off".to_owned()),
            ("log_destination", "stderr".to_owned()),
            ("log_line_prefix", "%m [%p] ".to_owned()),
            ("log_error_verbosity", "terse".to_owned()),
            ("log_min_error_statement", "panic".to_owned()),
        ];
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
        own.chain(self.options.settings.iter().cloned()).collect()
    }

    /// Waits until the server accepts queries, for as long as it says that it is starting. Returns false if it exited.
    async fn ready(&self, server: &mut Server, progress: &impl Fn(Progress)) -> Result<bool, Error> {
        let address = Address { user: SUPERUSER, port: server.port, password: self.password.to_owned() };
        let pid_file = self.layout.data().join("postmaster.pid");
        let started = Instant::now();
        let (mut patient_since, mut reported) = (started, 0);
        let mut last = "it is starting".to_owned();
        while server.is_running() {
            match state(&pid_file, server.pid()).as_deref() {
                // It replays what it had written before a crash: to stop it now would make it begin again.
                Some("starting") => {
                    patient_since = Instant::now();
                    let reports = started.elapsed().as_secs() / REPORT_EVERY.as_secs();
                    if reports > reported {
                        reported = reports;
                        progress(Progress::Starting(started.elapsed().as_secs()));
                    }
                }
                // Before that, it would log an error for each connection.
                Some("ready" | "standby") => match connect::ping(&address).await {
                    Ok(()) => return Ok(true),
                    Err(error) => last = error.to_string(),
                },
                _ => {}
            }
            if patient_since.elapsed() > self.options.start_timeout {
                let seconds = self.options.start_timeout.as_secs();
                return Err(Error::StartTimeout { seconds, last, log: self.layout.log_file() });
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(false)
    }
}

/// Returns the state that the pid file reports of this postmaster: its first line is the pid, its eighth the state.
fn state(pid_file: &PathBuf, pid: u32) -> Option<String> {
    let text = std::fs::read_to_string(pid_file).ok()?;
    let line = |number: usize| text.lines().nth(number).map(str::trim);
    if line(0) == Some(pid.to_string().as_str()) { line(7).map(str::to_owned) } else { None }
}

fn free_port() -> Result<u16, Error> {
    let failed = |source| Error::File { action: "listen on", path: PathBuf::from("127.0.0.1"), source };
    let mut last = None;
    for _ in 0..100 {
        let port = fastrand::u16(PORTS);
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(error) => last = Some(error),
        }
    }
    Err(failed(last.unwrap_or_else(|| std::io::Error::other("no port is free"))))
}

/// A server that this process has started. Dropping it stops it in immediate mode.
pub(super) struct Server {
    child: Child,
    port: u16,
    /// The process has ended and was reaped: its pid may belong to another process by now.
    is_gone: bool,
}

impl Server {
    /// Process id of the postmaster.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The port it listens on.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Returns true if the postmaster is alive.
    pub(super) fn is_running(&mut self) -> bool {
        if !self.is_gone {
            self.is_gone = !matches!(self.child.try_wait(), Ok(None));
        }
        !self.is_gone
    }

    /// Stops the server, and kills it if it does not stop in time.
    pub(super) async fn stop(&mut self, mode: StopMode) {
        let (signal, timeout) = match mode {
            StopMode::Fast => (Signal::SIGINT, FAST_STOP),
            StopMode::Immediate => (Signal::SIGQUIT, IMMEDIATE_STOP),
        };
        self.send(signal);
        let deadline = Instant::now() + timeout;
        while self.is_running() && Instant::now() < deadline {
            tokio::time::sleep(POLL / 4).await;
        }
        self.kill().await;
    }

    /// Kills the server and all its processes, and waits until they have ended.
    pub(super) async fn kill(&mut self) {
        if self.is_running() {
            let pids = process::kill_tree(self.pid());
            while self.is_running() {
                tokio::time::sleep(POLL / 4).await;
            }
            leftover::wait_until_gone(&pids, IMMEDIATE_STOP).await;
        }
    }

    fn send(&mut self, signal: Signal) {
        if self.is_running() {
            // It can only fail when the process has ended, which the caller checks next.
            let _ = process::signal(self.pid(), signal);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.send(Signal::SIGQUIT);
        let deadline = Instant::now() + IMMEDIATE_STOP / 2;
        while self.is_running() {
            if Instant::now() > deadline {
                process::kill_tree(self.pid());
                let _ = self.child.wait();
                self.is_gone = true;
            }
            std::thread::sleep(POLL / 4);
        }
    }
}
