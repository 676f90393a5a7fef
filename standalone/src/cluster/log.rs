//! PostgreSQL's log file, kept within bounds from outside: the server only appends, and its own rotation knows days but
//! no total. Two files of at most [`LIMIT`] bytes (and what comes in between two looks).

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::error::Error;

/// Bytes after which a log becomes the previous log.
const LIMIT: u64 = 8 * 1024 * 1024;

/// Opens the log for a server to append to.
pub(super) fn open(path: &Path) -> Result<File, Error> {
    bound(path);
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o600).custom_flags(OFlag::O_NOFOLLOW.bits());
    options.open(path).map_err(Error::file("open", path))
}

/// Moves the text of a log that has grown too large into the previous one. The file itself stays, since the server
/// holds it open; it appends, so it continues at the new end. Lines written between copy and cut are lost. Trouble is
/// passed over: a log must not stop what it reports on.
pub(super) fn bound(path: &Path) {
    let is_large = std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > LIMIT);
    if is_large && std::fs::copy(path, previous(path)).is_ok() {
        let _ = OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(0));
    }
}

/// Length in bytes; 0 for a file that is not there.
pub(super) fn len(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// What was written since the log was `start` bytes long; its end when that is more than 2 KiB.
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
