//! Where a cluster's files lie.
//!
//! ```text
//! DATA-DIR/lock            who runs it
//! DATA-DIR/elsewhere       only when needed: a link to the folder that has the rest
//! DATA-DIR/server.log      PostgreSQL's log, and server.log.1
//! DATA-DIR/cluster/        all of the cluster, appears in one rename
//!          cluster/data/       PostgreSQL's own folder
//!          cluster/password    of the superuser
//! ```
//!
//! As root the server runs as another user, who may not be able to enter the data folder (`/root` is closed to
//! everyone). Then the cluster lives under `/var/lib/parlance`, and `elsewhere` says where.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::account::Account;
use super::binaries::DataVersion;
use super::error::Error;

/// Where root's clusters go when their user cannot enter the data folder.
const ELSEWHERE: &str = "/var/lib/parlance";

/// A located cluster, which may not exist yet.
#[derive(Debug)]
pub(super) struct Room {
    folder: PathBuf,
    /// Who runs the server.
    pub(super) account: Account,
    /// What the operator should be told once.
    pub(super) remarks: Vec<String>,
}

/// Makes the data folder unless it is there, and returns its one true path.
pub(super) fn prepare_folder(folder: &Path) -> Result<PathBuf, Error> {
    make_folder(folder, folder_mode()).map_err(Error::file("create the folder", folder))?;
    folder.canonicalize().map_err(Error::file("enter", folder))
}

impl Room {
    /// Finds the cluster of a locked data folder, or the place for a new one. `may_move`: the place may be elsewhere.
    ///
    /// Errors: [`Error::CannotEnter`], [`Error::ElsewhereGone`], and those of choosing the account.
    pub(super) fn open(data_dir: &Path, may_move: bool) -> Result<Room, Error> {
        let link = data_dir.join("elsewhere");
        let mut remarks = Vec::new();
        let folder = if let Ok(elsewhere) = link.read_link() {
            if !elsewhere.is_dir() {
                return Err(Error::ElsewhereGone { folder: data_dir.to_path_buf(), elsewhere });
            }
            elsewhere
        } else {
            data_dir.to_path_buf()
        };
        let data = folder.join("cluster/data");
        if data.is_dir() {
            let account = Account::for_data(&folder, &data)?;
            account.enter(&folder).map_err(|_| cannot_enter(&folder, &account))?;
            note_move(&mut remarks, data_dir, &folder, &account);
            return Ok(Room { folder, account, remarks });
        }
        let account = Account::for_new_cluster()?;
        if account.enter(&folder).is_ok() {
            return Ok(Room { folder, account, remarks });
        }
        if !may_move || !account.is_other() {
            return Err(cannot_enter(&folder, &account));
        }
        let folder = make_elsewhere(&link)?;
        account.enter(&folder).map_err(|_| cannot_enter(&folder, &account))?;
        note_move(&mut remarks, data_dir, &folder, &account);
        Ok(Room { folder, account, remarks })
    }

    /// The folder with `cluster` in it.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// All of the cluster.
    pub(super) fn cluster(&self) -> PathBuf {
        self.folder.join("cluster")
    }

    /// PostgreSQL's data directory.
    pub(super) fn data(&self) -> PathBuf {
        self.folder.join("cluster/data")
    }

    /// PostgreSQL's log.
    pub(super) fn log_file(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    /// The version of the data that is there; `None` before the first start.
    pub(super) fn data_version(&self) -> Result<Option<DataVersion>, Error> {
        let file = self.data().join("PG_VERSION");
        match std::fs::read_to_string(&file) {
            Ok(text) => {
                // Since PostgreSQL 10 the file holds the major version alone.
                let major = text.trim().parse().map_err(|_| io::Error::other(format!("it says {text:?}")));
                let major = major.map_err(Error::file("read a version from", &file))?;
                Ok(Some(DataVersion { folder: self.folder.clone(), major }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file("read", &file)(error)),
        }
    }
}

/// Root's folders let the server's user pass; anyone else's are private.
pub(super) fn folder_mode() -> u32 {
    if geteuid().is_root() { 0o755 } else { 0o700 }
}

/// Makes a folder and those above it, with this mode whatever the umask; a folder that exists stays as it is.
pub(super) fn make_folder(folder: &Path, mode: u32) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_folder(parent, mode)?;
    }
    match DirBuilder::new().mode(mode).create(folder) {
        Ok(()) => std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(mode)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes the other folder and the link to it. The name is random: whoever removes a data folder begins with an empty
/// database, and never meets the old one again under a name derived from the path.
fn make_elsewhere(link: &Path) -> Result<PathBuf, Error> {
    let folder = Path::new(ELSEWHERE).join(random_name());
    make_folder(&folder, folder_mode()).map_err(Error::file("create the folder", &folder))?;
    std::os::unix::fs::symlink(&folder, link).map_err(Error::file("create", link))?;
    Ok(folder)
}

/// Eight letters and digits. Not a secret.
pub(super) fn random_name() -> String {
    std::iter::repeat_with(fastrand::alphanumeric).take(8).collect::<String>().to_lowercase()
}

fn cannot_enter(folder: &Path, account: &Account) -> Error {
    Error::CannotEnter { folder: folder.to_path_buf(), account: account.name().to_owned() }
}

fn note_move(remarks: &mut Vec<String>, asked: &Path, folder: &Path, account: &Account) {
    if asked != folder {
        let (asked, folder, name) = (asked.display(), folder.display(), account.name());
        remarks.push(format!(
            "the database is kept in {folder}: as root, PostgreSQL runs as user {name}, who may not enter {asked}"
        ));
    }
}
