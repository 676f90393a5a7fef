//! What a killed run left behind: a server without an owner, or only its pid file. We hold the folder's lock, so no
//! living owner can be meant.
//!
//! A server that still runs is stopped, not taken over: it was started with the settings, the programs and the log of
//! another run, and a clean stop takes a second.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;

use super::error::Error;
use super::process;
use super::room::Room;

/// Makes sure that no server runs on the room's data, and that no pid file says so.
///
/// Errors: [`Error::Leftover`]; [`Error::File`].
pub(super) async fn clear(room: &Room) -> Result<(), Error> {
    let data = room.data();
    let pid_file = data.join("postmaster.pid");
    let Some(pid) = read_pid(&pid_file) else {
        return remove(&pid_file);
    };
    if process::is_postmaster_of(pid, &data) {
        stop(pid).await?;
    }
    // PostgreSQL would believe a file whose number some other process of its user has by now, and refuse to start.
    remove(&pid_file)
}

/// Like [`clear`], for data that is about to be removed: the server is killed rather than stopped.
pub(super) async fn kill(data: &Path) {
    let Some(pid) = read_pid(&data.join("postmaster.pid")) else { return };
    if process::is_postmaster_of(pid, data) {
        let family = process::kill_family(pid);
        gone(&family, Duration::from_secs(10)).await;
    }
}

/// Waits until none of the processes lives. `false`: one still does.
pub(super) async fn gone(pids: &[u32], patience: Duration) -> bool {
    let deadline = Instant::now() + patience;
    while pids.iter().any(|pid| process::is_alive(*pid)) {
        if Instant::now() > deadline {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    true
}

async fn stop(pid: u32) -> Result<(), Error> {
    for (signal, patience) in [(Signal::SIGINT, 60), (Signal::SIGQUIT, 10)] {
        match process::signal(pid, signal) {
            Ok(()) => {}
            Err(Errno::ESRCH) => return Ok(()),
            Err(errno) => return Err(Error::Leftover { pid, problem: errno.desc().to_owned() }),
        }
        if gone(&[pid], Duration::from_secs(patience)).await {
            return Ok(());
        }
    }
    let family = process::kill_family(pid);
    if gone(&family, Duration::from_secs(10)).await {
        return Ok(());
    }
    Err(Error::Leftover { pid, problem: "it outlives SIGKILL".to_owned() })
}

/// The first line of the pid file; `None` without a file, or with one that was cut short.
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
