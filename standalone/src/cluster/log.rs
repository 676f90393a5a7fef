//! Bounds PostgreSQL's log file from outside: the server only appends, and its own rotation has no limit on the total
//! size. Keeps two files of at most [`LIMIT`] bytes (plus what is written between two checks).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::error::Error;

/// The size in bytes beyond which the log is rotated.
const LIMIT: u64 = 8 * 1024 * 1024;

/// Opens the log for a server to append to.
pub(super) fn open(path: &Path) -> Result<File, Error> {
    bound(path);
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
    options.open(path).map_err(Error::file("open", path))
}

/// Moves the content of a log that has grown too large to the previous log. The file itself stays, since the server has
/// it open for appending and continues at the new end. Lines written between the copy and the truncation are lost. Errors
/// are ignored: a log must not stop the program that it reports on.
pub(super) fn bound(path: &Path) {
    let is_large = std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > LIMIT);
    if is_large && copy(path, &previous(path)).is_ok() {
        let mut options = OpenOptions::new();
        options.write(true).custom_flags(OFlag::O_NOFOLLOW.bits());
        let _ = options.open(path).and_then(|file| file.set_len(0));
    }
}

/// Copies to a new file, through no link.
fn copy(from: &Path, to: &Path) -> io::Result<()> {
    match std::fs::remove_file(to) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut copied = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
    io::copy(&mut File::open(from)?, &mut copied).map(drop)
}

/// Returns the length in bytes; 0 if the file does not exist.
pub(super) fn len(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// Returns the text written since the log was `start` bytes long, at most the last 2 KiB of it.
pub(super) fn since(path: &Path, start: u64) -> String {
    let read = || -> io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(start.max(length.saturating_sub(2048)).min(length)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_default()
}

fn previous(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_previous_log_replaces_a_link_and_not_its_target() {
        let folder = tempfile::tempdir().unwrap();
        let (path, target) = (folder.path().join("server.log"), folder.path().join("target"));
        std::fs::write(&target, "kept").unwrap();
        std::os::unix::fs::symlink(&target, previous(&path)).unwrap();
        std::fs::write(&path, vec![b'x'; LIMIT as usize + 1]).unwrap();
        bound(&path);
        assert_eq!(std::fs::read_to_string(&target).unwrap(), "kept");
        assert_eq!((len(&previous(&path)), len(&path)), (LIMIT + 1, 0));
    }

    #[test]
    fn a_large_log_is_cut_while_its_writer_keeps_it_open() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.log");
        let mut writer = open(&path).unwrap();
        writer.write_all(&vec![b'x'; LIMIT as usize + 1]).unwrap();
        bound(&path);
        writer.write_all(b"after\n").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "after\n");
        assert_eq!(len(&folder.path().join("server.log.1")), LIMIT + 1);
        assert_eq!(since(&path, 2), "ter\n");
        assert_eq!(since(&path, 4000), "");
    }
}
