//! Cleans up after a killed process: a server without an owner, or only its pid file. The folder's lock is held, so no
//! living owner exists.
//!
//! A server that still runs is stopped, not taken over: it was started with the settings, programs and log of another
//! process, and a clean stop takes a second.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::error::Error;
use super::layout::Layout;
use super::process;

/// Stops any server that runs on the data, and removes its pid file.
///
/// Errors: [`Error::Leftover`]; [`Error::File`].
pub(super) async fn clear(layout: &Layout) -> Result<(), Error> {
    let data = layout.data();
    let pid_file = data.join("postmaster.pid");
    let Some(pid) = read_pid(&pid_file) else {
        return remove(&pid_file);
    };
    if process::is_postmaster_of(pid, &data) {
        stop(pid).await?;
    }
    // PostgreSQL would refuse to start if another process of its user has the pid in the file by now.
    remove(&pid_file)
}

/// Like [`clear`], for data that is about to be removed: the server is killed rather than stopped.
pub(super) async fn kill(data: &Path) {
    let Some(pid) = read_pid(&data.join("postmaster.pid")) else { return };
    if process::is_postmaster_of(pid, data) {
        let pids = process::kill_tree(pid);
        wait_until_gone(&pids, Duration::from_secs(10)).await;
    }
}

/// Waits until all processes have ended. Returns false if one is still alive after `timeout`.
pub(super) async fn wait_until_gone(pids: &[u32], timeout: Duration) -> bool {
    let deadline = Instant::now() + timeout;
    while pids.iter().any(|pid| process::is_alive(*pid)) {
        if Instant::now() > deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    true
}

async fn stop(pid: u32) -> Result<(), Error> {
    for (signal, timeout) in [(Signal::SIGINT, 60), (Signal::SIGQUIT, 10)] {
        match process::signal(pid, signal) {
            Ok(()) => {}
            Err(Errno::ESRCH) => return Ok(()),
            Err(errno) => return Err(Error::Leftover { pid, problem: errno.desc().to_owned() }),
        }
        if wait_until_gone(&[pid], Duration::from_secs(timeout)).await {
            return Ok(());
        }
    }
    let pids = process::kill_tree(pid);
    if wait_until_gone(&pids, Duration::from_secs(10)).await {
        return Ok(());
    }
    Err(Error::Leftover { pid, problem: "it survived SIGKILL".to_owned() })
}

/// Returns the pid in the first line of the pid file; `None` if the file is missing or incomplete.
pub(super) fn read_pid(pid_file: &Path) -> Option<u32> {
    let text = std::fs::read_to_string(pid_file).ok()?;
    text.lines().next()?.trim().parse().ok().filter(|pid| *pid > 1)
}

fn remove(pid_file: &Path) -> Result<(), Error> {
    match std::fs::remove_file(pid_file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", pid_file)(error)),
        _ => Ok(()),
    }
}
