//! A private PostgreSQL cluster: created on first use, started and stopped with the process that owns it.
//!
//! | file | subject |
//! |---|---|
//! | `binaries` | PostgreSQL's programs |
//! | `account` | the system user that runs them (PostgreSQL refuses root) |
//! | `layout` | the files of a cluster |
//! | `lock` | the lock on a data folder |
//! | `init` | the creation of a cluster, all or nothing |
//! | `leftover` | the cleanup after a killed process |
//! | `roles` | the roles of the services |
//! | `server` | a running server process |
//! | `running` | the server that another process runs |
//! | `temporary` | temporary clusters, and the removal of abandoned ones |
//!
//! The server listens on 127.0.0.1 only, with a generated password and without a Unix socket (socket paths end at 107
//! bytes, data folders do not). It has its own process group: Ctrl-C at the terminal reaches the owner, which drains
//! first and stops PostgreSQL last.

mod account;
mod binaries;
mod connect;
mod error;
mod init;
mod layout;
mod leftover;
mod lock;
mod log;
mod options;
mod process;
mod roles;
mod running;
mod server;
mod temporary;

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use self::binaries::Binaries;
use self::connect::{Address, SUPERUSER};
pub use self::error::Error;
use self::layout::Layout;
use self::lock::Lock;
use self::options::Location;
pub use self::options::{Options, Progress};
pub use self::roles::ServiceUrls;
pub use self::running::{reader_url_of_running, url_of_running};
pub use self::server::StopMode;
use self::server::{Launch, Server};
use self::temporary::Temporary;

/// A private PostgreSQL server. Dropping it stops the server (immediate mode, blocks for a few seconds at most), and
/// removes the files if the cluster is temporary.
pub struct Cluster {
    // Fields are dropped in this order: first the server, then the files, then the lock that admits the next owner.
    server: Option<Server>,
    temporary: Option<Temporary>,
    layout: Layout,
    binaries: Binaries,
    options: Options,
    address: Address,
    lock: Lock,
}

impl Cluster {
    /// Starts the cluster that `options` describe, and creates it first if it does not exist. Cancel-safe: dropping the
    /// future stops everything that it has started.
    ///
    /// A server that a killed process left behind on the same data is stopped cleanly first.
    ///
    /// Errors: [`Error::InUse`] while another process runs the same data folder; [`Error::NoPrograms`],
    /// [`Error::OtherVersion`], [`Error::NoAccount`], [`Error::CannotEnter`] when the machine cannot run it;
    /// [`Error::Init`], [`Error::Start`], [`Error::StartTimeout`] when PostgreSQL refuses.
    pub async fn start(options: Options) -> Result<Cluster, Error> {
        Cluster::start_with(options, |_| ()).await
    }

    /// Like [`Cluster::start`], and reports what takes long.
    pub async fn start_with(options: Options, progress: impl Fn(Progress)) -> Result<Cluster, Error> {
        let (data_dir, lock, temporary) = match &options.location {
            Location::Folder(folder) => {
                let folder = layout::prepare_folder(folder)?;
                let lock = Lock::take_with_retry(&folder).await?;
                (folder, lock, None)
            }
            Location::Temporary => {
                let (temporary, lock) = Temporary::create().await?;
                (temporary.folder().to_path_buf(), lock, Some(temporary))
            }
        };
        let layout = Layout::open(&data_dir, temporary.is_none())?;
        leftover::clear(&layout).await?;
        let binaries = Binaries::find(options.bin_dir.as_deref(), &layout.account, layout.data_version()?)?;
        let password = init::ensure(&layout, &binaries, temporary.is_some(), || progress(Progress::Creating)).await?;
        let address = Address { user: SUPERUSER, port: 0, password };
        let mut cluster = Cluster { server: None, temporary, layout, binaries, options, address, lock };
        cluster.launch(None, progress).await?;
        Ok(cluster)
    }

    /// Starts an empty cluster that exists as long as the value does, and removes those of killed processes. The same as
    /// [`Cluster::start`] with [`Options::temporary`].
    pub async fn temporary() -> Result<Cluster, Error> {
        Cluster::start(Options::temporary()).await
    }

    /// Starts a temporary standby that streams from this cluster, with the same superuser, password and options.
    ///
    /// Errors: those of [`Cluster::start`].
    pub async fn standby(&self) -> Result<Cluster, Error> {
        let (temporary, lock) = Temporary::create().await?;
        let layout = Layout::open(temporary.folder(), false)?;
        init::copy(&layout, &self.binaries, &self.address).await?;
        let (binaries, options) = (self.binaries.clone(), self.options.clone());
        let address = Address { port: 0, ..self.address.clone() };
        let mut standby =
            Cluster { server: None, temporary: Some(temporary), layout, binaries, options, address, lock };
        standby.launch(None, |_| ()).await?;
        Ok(standby)
    }

    /// Returns the superuser's connection string for `database`, password included: keep it out of logs. Any name is
    /// valid; it is percent-encoded.
    pub fn url(&self, database: &str) -> String {
        self.address.url(database)
    }

    /// Returns a connection string of the superuser for sessions that only read.
    pub fn reader_url(&self, database: &str) -> String {
        self.address.reader_url(database)
    }

    /// The loopback port. It stays the same through [`Cluster::start_again`], and differs from one start of a data
    /// folder to the next.
    pub fn port(&self) -> u16 {
        self.address.port
    }

    /// The folder of the programs in use, as a value for `PG_BIN_DIR`.
    pub fn bin_dir(&self) -> &Path {
        self.binaries.dir()
    }

    /// PostgreSQL's full version, such as `15.8 (Debian 15.8-1)`.
    pub fn version(&self) -> &str {
        self.binaries.version()
    }

    /// The folder that contains the cluster. Not always the requested one: see [`Cluster::remarks`].
    pub fn folder(&self) -> &Path {
        self.layout.folder()
    }

    /// The server's own log. At most two files of about 8 MiB: this one and the one before it (`.1`).
    pub fn log_file(&self) -> std::path::PathBuf {
        self.layout.log_file()
    }

    /// Notes for the operator, such as the location of the data if it could not be in the requested folder. Usually empty.
    pub fn remarks(&self) -> &[String] {
        &self.layout.remarks
    }

    /// Process id of the postmaster; `None` while stopped.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Server::pid)
    }

    /// Creates the database unless it exists. Any name is valid; it is quoted.
    ///
    /// Errors: [`Error::NotRunning`]; [`Error::Sql`].
    pub async fn create_database(&self, name: &str) -> Result<(), Error> {
        self.server.as_ref().ok_or(Error::NotRunning)?;
        connect::create_database(&self.address, name).await
    }

    /// Creates a role and a schema for each service in the database, and hands over what others have created in the schemas.
    /// Returns the connection strings of the roles, which are valid until the next call.
    ///
    /// Errors: [`Error::NotRunning`]; [`Error::Sql`].
    pub async fn create_roles(&self, database: &str) -> Result<ServiceUrls, Error> {
        self.server.as_ref().ok_or(Error::NotRunning)?;
        roles::create(&self.address, database).await
    }

    /// Stops the server and keeps the files; does nothing if it is stopped already. A server that does not stop within a
    /// minute ([`StopMode::Fast`]) or ten seconds ([`StopMode::Immediate`]) is killed, so it has always ended when this
    /// returns.
    pub async fn stop(&mut self, mode: StopMode) {
        if let Some(mut server) = self.server.take() {
            server.stop(mode).await;
        }
    }

    /// Restarts a stopped server on the same port, so that connection strings stay valid. Does nothing while it runs.
    ///
    /// Errors: [`Error::PortTaken`] when something else listens there now; otherwise those of [`Cluster::start`].
    pub async fn start_again(&mut self) -> Result<(), Error> {
        if self.server.as_mut().is_some_and(Server::is_running) {
            return Ok(());
        }
        self.server = None;
        // This process holds the lock, so there is no other owner, but a killed postmaster leaves its pid file.
        leftover::clear(&self.layout).await?;
        self.launch(Some(self.address.port), |_| ()).await
    }

    /// Kills the postmaster and every one of its processes with SIGKILL, as a power cut would: what is committed must
    /// survive. Waits until all of them are gone. Nothing happens while stopped.
    pub async fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().await;
        }
    }

    /// Waits until the server exits unexpectedly, and bounds its log meanwhile. Returns at once if it is stopped.
    /// Cancel-safe.
    pub async fn ended(&mut self) -> Error {
        let log_file = self.layout.log_file();
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

    /// Stops a temporary cluster and keeps its files under a name that is never removed automatically. Returns the folder,
    /// which can be used as a data folder. A cluster that is not temporary is only stopped.
    pub async fn keep(mut self) -> Result<std::path::PathBuf, Error> {
        self.stop(StopMode::Fast).await;
        match self.temporary.take() {
            Some(temporary) => temporary.keep(),
            None => Ok(self.lock.folder().to_path_buf()),
        }
    }

    /// Starts the server on `port`, or on a free one, and waits until it accepts queries.
    async fn launch(&mut self, port: Option<u16>, progress: impl Fn(Progress)) -> Result<(), Error> {
        let launch = Launch {
            binaries: &self.binaries,
            layout: &self.layout,
            options: &self.options,
            password: &self.address.password,
        };
        let server = launch.start(port, progress).await?;
        self.address.port = server.port();
        self.server = Some(server);
        Ok(())
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("folder", &self.layout.folder())
            .field("port", &self.address.port)
            .field("pid", &self.pid())
            .finish_non_exhaustive()
    }
}
