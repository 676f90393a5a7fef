//! The lock on a data folder. PostgreSQL's pid file cannot serve as one: it does not distinguish its own server from
//! another process that has the same pid by now. An flock ends with its process, however that dies.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};

use super::error::Error;

/// The name of the lock file. It contains the owner's process id and remains when the owner has ended: removing it would
/// let two processes lock two files of the same name.
const FILE: &str = "lock";

/// The exclusive right to run a cluster in a folder; released on drop.
#[derive(Debug)]
pub(super) struct Lock {
    folder: PathBuf,
    _file: Flock<File>,
}

impl Lock {
    /// Like [`Lock::take`], but retries for half a second: a killed owner, and a process that it was just starting, may
    /// need a few milliseconds to end.
    pub(super) async fn take_with_retry(folder: &Path) -> Result<Lock, Error> {
        let started = Instant::now();
        loop {
            match Lock::take(folder) {
                Err(Error::InUse { .. }) if started.elapsed() < Duration::from_millis(500) => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                done => return done,
            }
        }
    }

    /// Takes the lock of `folder`, or fails with [`Error::InUse`], which names the owner.
    pub(super) fn take(folder: &Path) -> Result<Lock, Error> {
        let path = folder.join(FILE);
        // Readable for everyone, so that the error can name the owner. Not inherited by child processes: the standard
        // library opens files close-on-exec, else a leftover server would hold the lock.
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&path)
            .map_err(Error::file("open", &path))?;
        let mut text = String::new();
        // The holder is for the message only; an incomplete number is ignored.
        let holder = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                note_pid(&mut file).map_err(Error::file("write", &path))?;
                Ok(Lock { folder: folder.to_path_buf(), _file: file })
            }
            Err((_, Errno::EWOULDBLOCK)) => Err(Error::InUse { folder: folder.to_path_buf(), pid: holder }),
            Err((_, errno)) => Err(Error::file("lock", &path)(errno.into())),
        }
    }

    /// Renames the locked folder without releasing the lock.
    pub(super) fn rename_folder(&mut self, to: &Path) -> Result<(), Error> {
        std::fs::rename(&self.folder, to).map_err(Error::file("rename", &self.folder))?;
        self.folder = to.to_path_buf();
        Ok(())
    }

    /// The locked folder.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }
}

fn note_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}
