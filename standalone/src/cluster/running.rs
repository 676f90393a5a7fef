//! Finds the server of a data folder while another process runs it, for commands that only read.

use std::path::Path;

use super::connect::{Address, SUPERUSER};
use super::error::Error;
use super::{leftover, process};

/// Returns the connection string for `database` of the server that runs on `data_dir`, password included; `None` if none
/// runs. Changes nothing.
///
/// Errors: [`Error::NoCluster`]; [`Error::File`] when the password may not be read.
pub fn url_of_running(data_dir: &Path, database: &str) -> Result<Option<String>, Error> {
    Ok(find(data_dir)?.map(|address| address.url(database)))
}

/// Does the same, with a connection string for sessions that only read.
///
/// Errors: those of [`url_of_running`].
pub fn reader_url_of_running(data_dir: &Path, database: &str) -> Result<Option<String>, Error> {
    Ok(find(data_dir)?.map(|address| address.reader_url(database)))
}

fn find(data_dir: &Path) -> Result<Option<Address>, Error> {
    let missing = || Error::NoCluster { folder: data_dir.to_path_buf() };
    let folder = data_dir.canonicalize().map_err(|_| missing())?;
    let folder = folder.join("elsewhere").read_link().unwrap_or(folder);
    let data = folder.join("cluster/data");
    if !data.is_dir() {
        return Err(missing());
    }
    let pid_file = data.join("postmaster.pid");
    if !leftover::read_pid(&pid_file).is_some_and(|pid| process::is_postmaster_of(pid, &data)) {
        return Ok(None);
    }
    // The fourth line is the port, which a starting server may not have written yet.
    let text = std::fs::read_to_string(&pid_file).unwrap_or_default();
    let Some(port) = text.lines().nth(3).and_then(|line| line.trim().parse().ok()) else {
        return Ok(None);
    };
    let password_file = folder.join("cluster/password");
    let password = std::fs::read_to_string(&password_file).map_err(Error::file("read", &password_file))?;
    Ok(Some(Address { user: SUPERUSER, port, password: password.trim().to_owned() }))
}
