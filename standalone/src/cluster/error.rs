//! The reasons why a cluster could not be started or used. Each message is for the user at the terminal: it names the
//! problem and the remedy.

use std::io;
use std::path::{Path, PathBuf};

/// An error that keeps a cluster from running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No folder with `initdb` and `postgres` was found.
    #[error(
        "PostgreSQL's server programs (initdb and postgres, version {minimum} or newer) were not found: install them with \
         scripts/install-postgres or your package manager (Debian, Ubuntu: postgresql; Fedora: postgresql-server; \
         Alpine, Arch, Homebrew: postgresql), or set PG_BIN_DIR to the folder that holds them{}",
        searched(.considered)
    )]
    NoPrograms {
        /// The oldest supported major version.
        minimum: u32,
        /// The folders found, with the reason why each was rejected.
        considered: Vec<String>,
    },

    /// The folder set by `PG_BIN_DIR` or by the options is not usable.
    #[error("{} does not hold usable PostgreSQL programs: {problem}; correct PG_BIN_DIR or unset it", .folder.display())]
    BinDir {
        /// The folder as it was set.
        folder: PathBuf,
        /// The problem.
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
        /// Version of the programs, as they print it.
        found: String,
    },

    /// The current user is root, and no other user can run the server.
    #[error(
        "PostgreSQL refuses to run as root, and no other user can run it ({problem}): \
         run this as an ordinary user, or add one with: useradd --system postgres"
    )]
    NoAccount {
        /// The results of the attempts.
        problem: String,
    },

    /// The files belong to a user that the current user cannot switch to.
    #[error(
        "the PostgreSQL data in {} belongs to user {owner}: run this as that user or as root, or choose another data folder",
        .folder.display()
    )]
    OtherOwner {
        /// The cluster's folder.
        folder: PathBuf,
        /// Name or number of the user.
        owner: String,
    },

    /// The data belongs to root, as whom PostgreSQL refuses to run.
    #[error(
        "the PostgreSQL data in {folder} belongs to root, and PostgreSQL refuses to run as root: chown -R {account} {folder}/cluster"
    )]
    OwnedByRoot {
        /// The cluster's folder.
        folder: String,
        /// A user that can run it.
        account: String,
    },

    /// The server's user cannot enter one of the parent folders of the data.
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

    /// An earlier start put the data elsewhere, and it no longer exists there.
    #[error(
        "the data of {} was kept in {}, which is gone: restore it, or remove {}/elsewhere to begin with an empty database",
        .folder.display(), .elsewhere.display(), .folder.display()
    )]
    ElsewhereGone {
        /// The requested data folder.
        folder: PathBuf,
        /// The folder that it points to.
        elsewhere: PathBuf,
    },

    /// As root: another user can replace the data folder or a file in it.
    #[error(
        "as root, {} is no safe data folder: users other than root can change {}. Run as the user that it belongs to, or use a \
         folder that only root can change (chown root and chmod go-w, all the way up)",
        .folder.display(), .path.display()
    )]
    Untrusted {
        /// The data folder.
        folder: PathBuf,
        /// It or a folder above it, or the link in it.
        path: PathBuf,
    },

    /// The data folder contains no cluster, and the command does not create one.
    #[error("{} contains no PostgreSQL cluster of Parlance", .folder.display())]
    NoCluster {
        /// The data folder.
        folder: PathBuf,
    },

    /// Another process uses the data folder.
    #[error("the data folder {} is in use by {}: stop that first, or choose another data folder", .folder.display(), holder(*.pid))]
    InUse {
        /// The data folder.
        folder: PathBuf,
        /// The other process's id, if it could be read.
        pid: Option<u32>,
    },

    /// A leftover server runs as a user that the current user may not signal, or survives all signals.
    #[error("a PostgreSQL server that an earlier run left behind (pid {pid}) cannot be stopped: {problem}")]
    Leftover {
        /// The postmaster's process id.
        pid: u32,
        /// The problem.
        problem: String,
    },

    /// `initdb` failed. The attempt leaves no files.
    #[error("initdb could not create a PostgreSQL cluster in {}: {output}", .folder.display())]
    Init {
        /// The folder of the new cluster.
        folder: PathBuf,
        /// The last lines of `initdb`'s output.
        output: String,
    },

    /// The server exited while starting.
    #[error("PostgreSQL did not start: {tail} (full log: {})", .log.display())]
    Start {
        /// The server's log.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },

    /// The server runs but does not accept queries in time.
    #[error("PostgreSQL did not become ready within {seconds} s ({last}); its log is {}", .log.display())]
    StartTimeout {
        /// The time limit.
        seconds: u64,
        /// The result of the last attempt to connect.
        last: String,
        /// The server's log.
        log: PathBuf,
    },

    /// Another process listens on the port that the server had.
    #[error("port {port} on 127.0.0.1, which PostgreSQL had, is now used by another process")]
    PortTaken {
        /// The port.
        port: u16,
    },

    /// The server exited unexpectedly.
    #[error("PostgreSQL exited unexpectedly; its log is {}", .log.display())]
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
        /// The action, as a verb.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl Error {
    /// Returns a function for `map_err`: `.map_err(Error::file("create", &path))`.
    pub(super) fn file(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error + use<> {
        let path = path.to_path_buf();
        move |source| Error::File { action, path, source }
    }
}

fn searched(considered: &[String]) -> String {
    if considered.is_empty() { String::new() } else { format!(" (searched: {})", considered.join("; ")) }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}
