//! Inspects and signals processes that are not child processes, by `/proc` on Linux and `ps` elsewhere.

use std::path::Path;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A process.
struct Process {
    pid: u32,
    parent: u32,
    /// Dead, but not yet reaped by its parent. In a container it may never be.
    is_zombie: bool,
}

/// Returns true if the process exists and is not a zombie.
pub(super) fn is_alive(pid: u32) -> bool {
    match kill(as_pid(pid), None) {
        Err(Errno::ESRCH) => false,
        _ => list(Some(pid)).into_iter().any(|process| process.pid == pid && !process.is_zombie),
    }
}

/// Returns true if the process is a postmaster on this data directory. A pid read from a pid file proves nothing: it may
/// have been reused by any other process since.
pub(super) fn is_postmaster_of(pid: u32, data: &Path) -> bool {
    if !is_alive(pid) {
        return false;
    }
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).map(|bytes| {
        bytes.split(|byte| *byte == 0).map(|part| String::from_utf8_lossy(part).into_owned()).collect::<Vec<_>>()
    });
    let data = data.display().to_string();
    if let Ok(arguments) = arguments {
        let is_postgres = arguments.first().is_some_and(|program| program.ends_with("postgres"));
        return is_postgres && arguments.contains(&data);
    }
    let line = ps(&["-o", "command=", "-p", &pid.to_string()]);
    line.contains("postgres") && line.contains(&format!("-D {data}"))
}

/// Returns the process's children.
pub(super) fn children(pid: u32) -> Vec<u32> {
    list(None).into_iter().filter(|process| process.parent == pid).map(|process| process.pid).collect()
}

/// Kills a postmaster and its children, and returns their pids.
pub(super) fn kill_tree(postmaster: u32) -> Vec<u32> {
    // Stopped first, so that it starts no new children while they are listed.
    let _ = signal(postmaster, Signal::SIGSTOP);
    let pids: Vec<u32> = children(postmaster).into_iter().chain([postmaster]).collect();
    for pid in &pids {
        let _ = signal(*pid, Signal::SIGKILL);
    }
    pids
}

/// Sends a signal.
pub(super) fn signal(pid: u32, signal: Signal) -> nix::Result<()> {
    kill(as_pid(pid), signal)
}

fn as_pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap_or(i32::MAX))
}

/// Lists one process, or all of them.
fn list(only: Option<u32>) -> Vec<Process> {
    if Path::new("/proc/self/stat").exists() {
        if let Some(pid) = only {
            return from_proc(pid).into_iter().collect();
        }
        let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
        return entries.filter_map(|entry| from_proc(entry.file_name().to_str()?.parse().ok()?)).collect();
    }
    ps(&["-A", "-o", "pid=,ppid=,stat="]).lines().filter_map(from_ps).collect()
}

fn from_proc(pid: u32) -> Option<Process> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in brackets, which may itself contain brackets.
    let (_, rest) = text.rsplit_once(')')?;
    let mut fields = rest.split_whitespace();
    let state = fields.next()?;
    Some(Process { pid, parent: fields.next()?.parse().ok()?, is_zombie: matches!(state, "Z" | "X") })
}

fn from_ps(line: &str) -> Option<Process> {
    let mut fields = line.split_whitespace();
    let (pid, parent) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(Process { pid, parent, is_zombie: fields.next()?.starts_with('Z') })
}

fn ps(arguments: &[&str]) -> String {
    let output = Command::new("ps").args(arguments).output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_is_seen_until_it_is_dead_even_before_it_is_reaped() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        assert!(is_alive(child.id()));
        assert!(children(std::process::id()).contains(&child.id()));
        assert!(!is_postmaster_of(child.id(), Path::new("600")));
        child.kill().unwrap();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while is_alive(child.id()) {
            assert!(std::time::Instant::now() < deadline, "a killed process still counts as alive");
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(!is_alive(child.id()));
    }

    #[test]
    fn lines_of_ps_are_read() {
        let process = from_ps("  412     1 Ss+").unwrap();
        assert_eq!((process.pid, process.parent, process.is_zombie), (412, 1, false));
        assert!(from_ps("413 412 Z").unwrap().is_zombie);
        assert!(from_ps("").is_none());
    }
}
