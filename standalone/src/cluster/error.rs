//! Why a cluster could not be started or used. Each message is for the person at the terminal: what is wrong, and what
//! to do about it.

use std::io;
use std::path::{Path, PathBuf};

/// Anything that keeps a cluster from running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No folder with `initdb` and `postgres` was found anywhere.
    #[error(
        "PostgreSQL's server programs (initdb and postgres, version {minimum} or newer) were not found: install them with \
         scripts/install-postgres or your package manager (Debian, Ubuntu: postgresql; Fedora: postgresql-server; \
         Alpine, Arch, Homebrew: postgresql), or set PG_BIN_DIR to the folder that holds them{}",
        looked_at(.considered)
    )]
    NoPrograms {
        /// Oldest major version that will do.
        minimum: u32,
        /// Folders that looked promising, with the reason why each was not taken.
        considered: Vec<String>,
    },

    /// The folder named by `PG_BIN_DIR` or by the options does not serve.
    #[error("{} does not hold usable PostgreSQL programs: {problem}; correct PG_BIN_DIR or unset it", .folder.display())]
    BinDir {
        /// The folder as named.
        folder: PathBuf,
        /// What is wrong with it.
        problem: String,
    },

    /// The data was written by a major version that is not installed.
    #[error(
        "the data in {} was written by PostgreSQL {data}, but the programs found are of version {found}: install \
         PostgreSQL {data} beside it, set PG_BIN_DIR to its programs, or move the data with pg_upgrade", .folder.display()
    )]
    OtherVersion {
        /// The cluster's folder.
        folder: PathBuf,
        /// Major version of the data.
        data: u32,
        /// Version of the programs, as they call themselves.
        found: String,
    },

    /// We are root, and there is nobody else to run the server as.
    #[error(
        "PostgreSQL refuses to run as root, and neither the user postgres nor nobody can be used instead ({problem}): \
         run this as an ordinary user, or add one with: useradd --system postgres"
    )]
    NoAccount {
        /// What happened when it was tried.
        problem: String,
    },

    /// The files belong to a user that we cannot act for.
    #[error(
        "the PostgreSQL data in {} belongs to user {owner}: run this as that user or as root, or give another data folder",
        .folder.display()
    )]
    OtherOwner {
        /// The cluster's folder.
        folder: PathBuf,
        /// Name or number of the user.
        owner: String,
    },

    /// Root's own data, which no server may run on.
    #[error(
        "the PostgreSQL data in {folder} belongs to root, and PostgreSQL refuses to run as root: chown -R {account} {folder}/cluster"
    )]
    OwnedByRoot {
        /// The cluster's folder.
        folder: String,
        /// A user that can run it.
        account: String,
    },

    /// Data is there, but its user may not pass one of the folders above it.
    #[error(
        "PostgreSQL runs as user {account}, who may not enter {}: open the folders above it (chmod o+x), or move the data \
         to a place that user can reach", .folder.display()
    )]
    CannotEnter {
        /// The folder out of reach.
        folder: PathBuf,
        /// The server's user.
        account: String,
    },

    /// The data was put elsewhere by an earlier start, and is gone from there.
    #[error(
        "the data of {} was kept in {}, which is gone: bring it back, or remove {}/elsewhere to begin with an empty database",
        .folder.display(), .elsewhere.display(), .folder.display()
    )]
    ElsewhereGone {
        /// The data folder asked for.
        folder: PathBuf,
        /// Where it points to.
        elsewhere: PathBuf,
    },

    /// There is none, where one was to be found and not made.
    #[error("there is no PostgreSQL cluster of ours in {}", .folder.display())]
    NoCluster {
        /// The data folder.
        folder: PathBuf,
    },

    /// Another run has the data folder.
    #[error("the data folder {} is in use by {}: stop that first, or give another data folder", .folder.display(), holder(*.pid))]
    InUse {
        /// The data folder.
        folder: PathBuf,
        /// The other run's process id, when it could be read.
        pid: Option<u32>,
    },

    /// A leftover server runs under a user that we may not signal, or does not die.
    #[error("a PostgreSQL server that an earlier run left behind (pid {pid}) cannot be stopped: {problem}")]
    Leftover {
        /// The postmaster's process id.
        pid: u32,
        /// What happened.
        problem: String,
    },

    /// `initdb` failed. Nothing is left of the attempt.
    #[error("initdb could not make a PostgreSQL cluster in {}: {output}", .folder.display())]
    Init {
        /// Where it was to be.
        folder: PathBuf,
        /// What `initdb` said.
        output: String,
    },

    /// The server ended while starting.
    #[error("PostgreSQL did not start: {tail} (all of it: {})", .log.display())]
    Start {
        /// The server's log.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },

    /// The server runs but takes no queries yet.
    #[error("PostgreSQL did not become ready within {seconds} s ({last}); its log is {}", .log.display())]
    StartTimeout {
        /// How long it had.
        seconds: u64,
        /// Result of the last attempt.
        last: String,
        /// The server's log.
        log: PathBuf,
    },

    /// The port that the server had is taken by something else.
    #[error("port {port} on 127.0.0.1, which PostgreSQL had, is now taken by something else")]
    PortTaken {
        /// The port.
        port: u16,
    },

    /// The server ended by itself.
    #[error("PostgreSQL ended unexpectedly; its log is {}", .log.display())]
    Ended {
        /// The server's log.
        log: PathBuf,
    },

    /// The cluster is stopped.
    #[error("PostgreSQL is not running")]
    NotRunning,

    /// PostgreSQL refused a statement.
    #[error("PostgreSQL refused: {0}")]
    Sql(#[from] sqlx::Error),

    /// The file system refused.
    #[error("cannot {action} {}: {source}", .path.display())]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Error {
    /// For `map_err`: `.map_err(Error::file("create", &path))`.
    pub(super) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
        let path = path.to_path_buf();
        move |source| Error::File { action, path, source }
    }
}

fn looked_at(considered: &[String]) -> String {
    if considered.is_empty() { String::new() } else { format!(" (looked at {})", considered.join("; ")) }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}
