//! The layout of a cluster's files.
//!
//! ```text
//! DATA-DIR/lock            the lock, with the pid of its owner
//! DATA-DIR/elsewhere       only when needed: a link to the folder with the rest
//! DATA-DIR/server.log      PostgreSQL's log, and server.log.1
//! DATA-DIR/cluster/        the whole cluster, published by one rename
//!          cluster/data/       PostgreSQL's own folder
//!          cluster/password    the superuser's password
//! ```
//!
//! If the current user is root, the server runs as another user, which may not be able to enter the data folder (`/root`
//! is closed to everyone else). Then the cluster is under `/var/lib/parlance`, and `elsewhere` points to it.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;

use super::account::Account;
use super::binaries::DataVersion;
use super::error::Error;

/// The parent folder of root's clusters whose user cannot enter the data folder.
const ELSEWHERE: &str = "/var/lib/parlance";

/// A located cluster, which may not exist yet.
#[derive(Debug)]
pub(super) struct Layout {
    folder: PathBuf,
    /// The system user that runs the server.
    pub(super) account: Account,
    /// Notes for the operator.
    pub(super) remarks: Vec<String>,
}

/// Creates the data folder unless it exists, and returns its canonical path.
pub(super) fn prepare_folder(folder: &Path) -> Result<PathBuf, Error> {
    create_folder(folder, folder_mode()).map_err(Error::file("create the folder", folder))?;
    let folder = folder.canonicalize().map_err(Error::file("enter", folder))?;
    if geteuid().is_root() {
        check_trusted(&folder)?;
    }
    Ok(folder)
}

/// Checks that only root can replace the folder or a file in it: others could make root write elsewhere by links.
fn check_trusted(folder: &Path) -> Result<(), Error> {
    for path in folder.ancestors() {
        let metadata = path.symlink_metadata().map_err(Error::file("read the owner of", path))?;
        let (is_shared, is_sticky) = (metadata.mode() & 0o022 != 0, metadata.mode() & 0o1000 != 0);
        // In a sticky folder others can replace only what is theirs.
        if metadata.uid() != 0 || (is_shared && (!is_sticky || path == folder)) {
            return Err(Error::Untrusted { folder: folder.to_path_buf(), path: path.to_path_buf() });
        }
    }
    Ok(())
}

impl Layout {
    /// Locates the cluster of a locked data folder, or the folder for a new one, which may be elsewhere if `may_move`.
    ///
    /// Errors: [`Error::CannotEnter`], [`Error::ElsewhereGone`], and those of choosing the account.
    pub(super) fn open(data_dir: &Path, may_move: bool) -> Result<Layout, Error> {
        let link = data_dir.join("elsewhere");
        let mut remarks = Vec::new();
        let folder = if let Ok(elsewhere) = link.read_link() {
            if geteuid().is_root() && !elsewhere.starts_with(ELSEWHERE) {
                return Err(Error::Untrusted { folder: data_dir.to_path_buf(), path: link });
            }
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
            return Ok(Layout { folder, account, remarks });
        }
        let account = Account::for_new_cluster()?;
        if account.enter(&folder).is_ok() {
            return Ok(Layout { folder, account, remarks });
        }
        if !may_move || !account.is_switched() {
            return Err(cannot_enter(&folder, &account));
        }
        let folder = create_elsewhere(&link)?;
        account.enter(&folder).map_err(|_| cannot_enter(&folder, &account))?;
        note_move(&mut remarks, data_dir, &folder, &account);
        Ok(Layout { folder, account, remarks })
    }

    /// The folder that contains `cluster`.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of the whole cluster.
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

    /// Returns the version of the existing data; `None` before the first start.
    pub(super) fn data_version(&self) -> Result<Option<DataVersion>, Error> {
        let file = self.data().join("PG_VERSION");
        match std::fs::read_to_string(&file) {
            Ok(text) => {
                // Since PostgreSQL 10 the file holds the major version alone.
                let major = text.trim().parse().map_err(|_| io::Error::other(format!("it contains {text:?}")));
                let major = major.map_err(Error::file("read a version from", &file))?;
                Ok(Some(DataVersion { folder: self.folder.clone(), major }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file("read", &file)(error)),
        }
    }
}

/// Returns the mode of new folders: root's must let the server's user pass, all others are private.
pub(super) fn folder_mode() -> u32 {
    if geteuid().is_root() { 0o755 } else { 0o700 }
}

/// Creates a folder and its parents with this mode, whatever the umask; an existing folder is left unchanged.
pub(super) fn create_folder(folder: &Path, mode: u32) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    if let Some(parent) = folder.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        create_folder(parent, mode)?;
    }
    match DirBuilder::new().mode(mode).create(folder) {
        Ok(()) => std::fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(mode)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// Creates the other folder and the link to it. The name is random, not derived from the path, so that removing a data
/// folder always leads to an empty database and never back to the old one.
fn create_elsewhere(link: &Path) -> Result<PathBuf, Error> {
    let folder = Path::new(ELSEWHERE).join(random_name());
    create_folder(&folder, folder_mode()).map_err(Error::file("create the folder", &folder))?;
    std::os::unix::fs::symlink(&folder, link).map_err(Error::file("create", link))?;
    Ok(folder)
}

/// Returns eight random letters and digits. Not a secret.
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn root_uses_no_folder_that_others_can_change() {
        let shared = tempfile::tempdir().unwrap();
        std::fs::set_permissions(shared.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        for folder in [shared.path().to_owned(), shared.path().join("data")] {
            let prepared = prepare_folder(&folder);
            // For any other user it is a matter of their own files only.
            assert_eq!(prepared.is_err(), geteuid().is_root(), "{prepared:?}");
        }
        std::fs::set_permissions(shared.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        prepare_folder(&shared.path().join("data")).unwrap();
    }
}
