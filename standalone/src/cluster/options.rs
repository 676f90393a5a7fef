//! The options of a cluster. The defaults suit `parlance serve`; tests use a temporary cluster.

use std::path::PathBuf;
use std::time::Duration;

/// The location of the cluster's files.
#[derive(Clone, Debug)]
pub(super) enum Location {
    /// In this folder, permanently.
    Folder(PathBuf),
    /// In a new folder that is removed with the [`Cluster`](super::Cluster).
    Temporary,
}

/// The options of [`Cluster::start`](super::Cluster::start).
#[derive(Clone, Debug)]
pub struct Options {
    pub(super) location: Location,
    pub(super) bin_dir: Option<PathBuf>,
    pub(super) max_connections: u32,
    pub(super) settings: Vec<(String, String)>,
    pub(super) start_timeout: Duration,
}

/// What a start is doing, for its operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A new cluster is being created, which takes several seconds.
    Creating,
    /// The server has been starting for this many seconds, as it does after a crash.
    Starting(u64),
}

impl Options {
    /// Options of a permanent cluster in `data_dir`, which is created if missing: 200 connections, otherwise PostgreSQL's
    /// defaults, and two minutes to start (a recovery after a crash may take that long).
    pub fn new(data_dir: impl Into<PathBuf>) -> Options {
        Options {
            location: Location::Folder(data_dir.into()),
            bin_dir: None,
            max_connections: 200,
            settings: Vec::new(),
            start_timeout: Duration::from_mins(2),
        }
    }

    /// Options of a cluster that is removed when it is dropped: 400 connections, 64 MiB of shared buffers, otherwise as
    /// [`Options::new`], `fsync` included.
    pub fn temporary() -> Options {
        Options { location: Location::Temporary, ..Options::new("") }
            .max_connections(400)
            .setting("shared_buffers", "64MB")
    }

    /// Sets the folder of PostgreSQL's programs. Without it, `PG_BIN_DIR` decides, else they are searched for.
    #[must_use]
    pub fn bin_dir(mut self, folder: impl Into<PathBuf>) -> Options {
        self.bin_dir = Some(folder.into());
        self
    }

    /// Sets PostgreSQL's `max_connections`.
    #[must_use]
    pub fn max_connections(mut self, connections: u32) -> Options {
        self.max_connections = connections;
        self
    }

    /// Sets any other setting of `postgresql.conf`. The last value for a name wins, also over this module's own.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Options {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Limits the time of a start in which the server does not say that it is starting. The recovery after a crash, during which
    /// it does, may take as long as it needs.
    #[must_use]
    pub fn start_timeout(mut self, timeout: Duration) -> Options {
        self.start_timeout = timeout;
        self
    }
}
