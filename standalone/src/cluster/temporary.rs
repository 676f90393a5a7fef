//! Temporary clusters, removed with their owner, and the removal of those whose owner was killed.
//!
//! All temporary clusters of a user are in one folder, `parlance-UID` under the system's folder for temporary files:
//!
//! ```text
//! new-NAME     being set up; renamed to run-NAME once it is locked
//! run-NAME     in use while its lock is held, else left by a dead process and removed by the next one
//! kept-NAME    kept on request; never removed automatically
//! ```

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::unistd::geteuid;

use super::account::Account;
use super::error::Error;
use super::layout::{create_folder, folder_mode, random_name};
use super::leftover;
use super::lock::Lock;

/// The age beyond which a folder named `new-…` is abandoned: it has this name for a few milliseconds only.
const SETTING_UP: Duration = Duration::from_mins(1);

/// The folder of a temporary cluster; removed on drop.
#[derive(Debug)]
pub(super) struct Temporary {
    folder: PathBuf,
    is_kept: bool,
}

impl Temporary {
    /// Removes the folders of dead processes, then creates and locks a new one.
    pub(super) async fn create() -> Result<(Temporary, Lock), Error> {
        let base = base()?;
        sweep(&base).await;
        let name = random_name();
        let new = base.join(format!("new-{name}"));
        create_folder(&new, folder_mode()).map_err(Error::file("create the folder", &new))?;
        // Locked before it gets the name that `sweep` looks for, so that it is never mistaken for an abandoned one.
        let mut lock = Lock::take(&new)?;
        let folder = base.join(format!("run-{name}"));
        lock.rename_folder(&folder)?;
        Ok((Temporary { folder, is_kept: false }, lock))
    }

    /// The path.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Keeps the folder, under a name that is never removed automatically.
    pub(super) fn keep(mut self) -> Result<PathBuf, Error> {
        let name = self.folder.file_name().unwrap_or_default().to_string_lossy().replacen("run-", "kept-", 1);
        let kept = self.folder.with_file_name(name);
        std::fs::rename(&self.folder, &kept).map_err(Error::file("rename", &self.folder))?;
        self.is_kept = true;
        Ok(kept)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.is_kept {
            // If this fails, the next process removes the folder.
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// Returns the folder of all temporary clusters of this user: in the system's folder for temporary files, unless the
/// server's user cannot enter that.
fn base() -> Result<PathBuf, Error> {
    let account = Account::for_new_cluster()?;
    let attempt = |parent: &Path| base_under(parent).and_then(|base| account.enter(&base).map(|()| base));
    let preferred = std::env::temp_dir();
    attempt(&preferred).or_else(|error| {
        let mut others = ["/tmp", "/var/tmp"].into_iter();
        let other = others.find_map(|parent| attempt(Path::new(parent)).ok());
        other.ok_or_else(|| Error::file("put a temporary cluster into", &preferred)(error))
    })
}

fn base_under(parent: &Path) -> io::Result<PathBuf> {
    // The canonical path, as a running server's command line will show it.
    let base = parent.canonicalize()?.join(format!("parlance-{}", geteuid()));
    create_folder(&base, folder_mode())?;
    // Another user may have created a folder of that name in a folder open to all.
    let metadata = base.symlink_metadata()?;
    let is_ours = metadata.is_dir() && metadata.uid() == geteuid().as_raw() && metadata.mode() & 0o022 == 0;
    if is_ours {
        Ok(base)
    } else {
        Err(io::Error::other(format!("{} is not a private folder of this user", base.display())))
    }
}

/// Removes abandoned folders. A failure to remove one does not keep a new cluster from starting.
async fn sweep(base: &Path) {
    for entry in std::fs::read_dir(base).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_abandoned = name.starts_with("run-") || (name.starts_with("new-") && is_older(&entry, SETTING_UP));
        let Some(Ok(_lock)) = is_abandoned.then(|| Lock::take(&entry.path())) else { continue };
        leftover::kill(&entry.path().join("cluster/data")).await;
        let _ = std::fs::remove_dir_all(entry.path());
    }
}

fn is_older(entry: &std::fs::DirEntry, age: Duration) -> bool {
    let changed = entry.metadata().and_then(|metadata| metadata.modified());
    changed.ok().and_then(|changed| changed.elapsed().ok()).is_some_and(|elapsed| elapsed > age)
}
