//! A private PostgreSQL cluster: made on first use, started and stopped with the process that owns it.
//!
//! | file | what it answers |
//! |---|---|
//! | `binaries` | which PostgreSQL programs to run |
//! | `account` | as whom they run (PostgreSQL refuses root) |
//! | `room` | where the files lie, and who else is using them |
//! | `init` | how a cluster comes into being, all or nothing |
//! | `leftover` | what a killed run left behind |
//! | `server` | one running server process |
//! | `running` | where a server that another process runs is to be found |
//! | `temporary` | clusters that go away again, also those of dead runs |
//!
//! The server listens on 127.0.0.1 only, with a generated password and without a Unix socket (socket paths end at 107
//! bytes, data folders do not). It is in a process group of its own: a Ctrl-C at the terminal reaches the owner, which
//! drains first and stops PostgreSQL last.

mod account;
mod binaries;
mod connect;
mod error;
mod init;
mod leftover;
mod lock;
mod log;
mod options;
mod process;
mod room;
mod running;
mod server;
mod temporary;

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use self::binaries::Binaries;
use self::connect::Address;
pub use self::error::Error;
use self::lock::Lock;
pub use self::options::Options;
use self::options::Place;
use self::room::Room;
pub use self::running::url_of_running;
use self::server::{Launch, Server};
use self::temporary::Temporary;

/// How long PostgreSQL may take to write its last checkpoint before it is stopped the hard way.
const FAST_STOP: Duration = Duration::from_mins(1);

/// How a server is stopped. Nothing committed is lost by either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopMode {
    /// Ends all sessions, writes a checkpoint, exits. Takes as long as the checkpoint does, at most a minute.
    Fast,
    /// Exits at once; the next start replays the write-ahead log.
    Immediate,
}

/// A PostgreSQL server of our own. Dropping it stops the server (immediate mode, blocks for a few seconds at most), and
/// removes the files when the cluster is temporary.
pub struct Cluster {
    // Fields are dropped in this order: first the server, then the files, then the lock that admits the next run.
    server: Option<Server>,
    temporary: Option<Temporary>,
    room: Room,
    binaries: Binaries,
    options: Options,
    address: Address,
    lock: Lock,
}

impl Cluster {
    /// Starts the cluster that `options` describe, making it first when there is none. Cancel-safe: dropping the future
    /// stops whatever it had started.
    ///
    /// A server that a killed run left behind on the same data is stopped cleanly first.
    ///
    /// Errors: [`Error::InUse`] while another process runs the same data folder; [`Error::NoPrograms`],
    /// [`Error::OtherVersion`], [`Error::NoAccount`], [`Error::CannotEnter`] when the machine cannot run it;
    /// [`Error::Init`], [`Error::Start`], [`Error::StartTimeout`] when PostgreSQL refuses.
    pub async fn start(options: Options) -> Result<Cluster, Error> {
        let (data_dir, lock, temporary) = match &options.place {
            Place::Folder(folder) => {
                let folder = room::prepare_folder(folder)?;
                let lock = Lock::take_patiently(&folder).await?;
                (folder, lock, None)
            }
            Place::Temporary => {
                let (temporary, lock) = Temporary::make().await?;
                (temporary.folder().to_path_buf(), lock, Some(temporary))
            }
        };
        let room = Room::open(&data_dir, temporary.is_none())?;
        leftover::clear(&room).await?;
        let binaries = Binaries::find(options.bin_dir.as_deref(), &room.account, room.data_version()?)?;
        let password = init::ensure(&room, &binaries, temporary.is_some()).await?;
        let address = Address { port: 0, password };
        let mut cluster = Cluster { server: None, temporary, room, binaries, options, address, lock };
        cluster.launch(None).await?;
        Ok(cluster)
    }

    /// Starts an empty cluster that exists as long as the value does. Also removes what earlier runs left behind that
    /// had no chance to. The same as [`Cluster::start`] with [`Options::temporary`].
    pub async fn temporary() -> Result<Cluster, Error> {
        Cluster::start(Options::temporary()).await
    }

    /// The superuser's connection string for `database`, password included: keep it out of logs. Any name will do; it
    /// is percent-encoded.
    pub fn url(&self, database: &str) -> String {
        self.address.url(database)
    }

    /// The loopback port. It stays the same through [`Cluster::start_again`], and differs from one start of a data
    /// folder to the next.
    pub fn port(&self) -> u16 {
        self.address.port
    }

    /// The folder of the programs in use: what `PG_BIN_DIR` would have to say to get the same ones.
    pub fn bin_dir(&self) -> &Path {
        self.binaries.dir()
    }

    /// PostgreSQL's version as its build names it, such as `15.8 (Debian 15.8-1)`.
    pub fn version(&self) -> &str {
        self.binaries.version()
    }

    /// The folder that holds the cluster. Not always the one asked for: see [`Cluster::remarks`].
    pub fn folder(&self) -> &Path {
        self.room.folder()
    }

    /// The server's own log. At most two files of about 8 MiB: this one and the one before it (`.1`).
    pub fn log_file(&self) -> std::path::PathBuf {
        self.room.log_file()
    }

    /// Sentences an operator should see once, such as where the data went when it could not stay in the folder asked
    /// for. Usually none.
    pub fn remarks(&self) -> &[String] {
        &self.room.remarks
    }

    /// Process id of the postmaster; `None` while stopped.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Server::pid)
    }

    /// Makes the database unless it exists already. Any name will do; it is quoted.
    ///
    /// Errors: [`Error::NotRunning`]; [`Error::Sql`].
    pub async fn create_database(&self, name: &str) -> Result<(), Error> {
        self.server.as_ref().ok_or(Error::NotRunning)?;
        connect::create_database(&self.address, name).await
    }

    /// Stops the server and keeps the files; nothing happens when it is stopped already. A server that does not obey
    /// within a minute ([`StopMode::Fast`]) or ten seconds ([`StopMode::Immediate`]) is killed, so it is gone in any
    /// case when this returns.
    pub async fn stop(&mut self, mode: StopMode) {
        if let Some(mut server) = self.server.take() {
            server.stop(mode).await;
        }
    }

    /// Starts a stopped server again on the same port, so that connection strings stay good. Nothing happens while it
    /// runs.
    ///
    /// Errors: [`Error::PortTaken`] when something else listens there now; otherwise those of [`Cluster::start`].
    pub async fn start_again(&mut self) -> Result<(), Error> {
        if self.server.as_mut().is_some_and(Server::is_running) {
            return Ok(());
        }
        self.server = None;
        // Another owner cannot have come in between (the lock is ours), but a killed postmaster leaves its pid file.
        leftover::clear(&self.room).await?;
        self.launch(Some(self.address.port)).await
    }

    /// Kills the postmaster and every one of its processes with SIGKILL, as a power cut would: what is committed must
    /// survive. Waits until all of them are gone. Nothing happens while stopped.
    pub async fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().await;
        }
    }

    /// Waits until the server ends by itself, and keeps its log within bounds meanwhile. Returns at once while stopped.
    /// Cancel-safe.
    pub async fn ended(&mut self) -> Error {
        let log_file = self.room.log_file();
        let mut log_checked = Instant::now();
        while self.server.as_mut().is_some_and(Server::is_running) {
            tokio::time::sleep(Duration::from_millis(200)).await;
            if log_checked.elapsed() > Duration::from_secs(30) {
                log::bound(&log_file);
                log_checked = Instant::now();
            }
        }
        Error::Ended { log: log_file }
    }

    /// Stops a temporary cluster and keeps its files, out of reach of later runs' cleaning. Returns the folder, which
    /// is good as a data folder. A cluster that is not temporary is just stopped.
    pub async fn keep(mut self) -> Result<std::path::PathBuf, Error> {
        self.stop(StopMode::Fast).await;
        match self.temporary.take() {
            Some(temporary) => temporary.keep(),
            None => Ok(self.lock.folder().to_path_buf()),
        }
    }

    /// Starts the server on `port`, or on a free one, and waits until it takes queries.
    async fn launch(&mut self, port: Option<u16>) -> Result<(), Error> {
        let launch = Launch {
            binaries: &self.binaries,
            room: &self.room,
            options: &self.options,
            password: &self.address.password,
        };
        let server = launch.start(port).await?;
        self.address.port = server.port();
        self.server = Some(server);
        Ok(())
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("folder", &self.room.folder())
            .field("port", &self.address.port)
            .field("pid", &self.pid())
            .finish_non_exhaustive()
    }
}
