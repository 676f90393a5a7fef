//! What a caller may ask of a cluster. Defaults suit `parlance serve`; tests ask for a temporary one.

use std::path::PathBuf;
use std::time::Duration;

/// Where the cluster lives.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// In this folder, for good.
    Folder(PathBuf),
    /// In a folder of its own that goes away with the [`Cluster`](super::Cluster).
    Temporary,
}

/// Which cluster to start, and how large.
#[derive(Clone, Debug)]
pub struct Options {
    pub(super) place: Place,
    pub(super) bin_dir: Option<PathBuf>,
    pub(super) max_connections: u32,
    pub(super) settings: Vec<(String, String)>,
    pub(super) start_timeout: Duration,
}

impl Options {
    /// A lasting cluster in `data_dir`, which is made when it is missing: 200 connections, PostgreSQL's own defaults
    /// otherwise, two minutes to start (a recovery after a crash may take that long).
    pub fn new(data_dir: impl Into<PathBuf>) -> Options {
        Options {
            place: Place::Folder(data_dir.into()),
            bin_dir: None,
            max_connections: 200,
            settings: Vec::new(),
            start_timeout: Duration::from_mins(2),
        }
    }

    /// A cluster that is removed when it is dropped: 400 connections, 64 MiB of shared buffers, everything else as real
    /// as in [`Options::new`], `fsync` included.
    pub fn temporary() -> Options {
        Options { place: Place::Temporary, ..Options::new("") }.max_connections(400).setting("shared_buffers", "64MB")
    }

    /// The folder of PostgreSQL's programs. Without it: the environment's `PG_BIN_DIR`, else they are searched for.
    #[must_use]
    pub fn bin_dir(mut self, folder: impl Into<PathBuf>) -> Options {
        self.bin_dir = Some(folder.into());
        self
    }

    /// PostgreSQL's `max_connections`.
    #[must_use]
    pub fn max_connections(mut self, connections: u32) -> Options {
        self.max_connections = connections;
        self
    }

    /// Any other setting of `postgresql.conf`. A later one for the same name wins, also over this module's own.
    #[must_use]
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Options {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// How long a start may take, recovery included.
    #[must_use]
    pub fn start_timeout(mut self, timeout: Duration) -> Options {
        self.start_timeout = timeout;
        self
    }
}
