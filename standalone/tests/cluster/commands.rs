//! The commands around the cluster: signals, exit codes, environment.

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Pid, getpgid};

use crate::support::{Parlance, data_dir, is_alive, postmaster, text, until};

#[tokio::test]
async fn ctrl_c_reaches_the_owner_and_not_postgresql() {
    let folder = data_dir();
    let mut command = Command::new(env!("CARGO_BIN_EXE_parlance"));
    command.args(["postgres", "--data-dir"]).arg(folder.path()).process_group(0);
    let mut owner = Parlance::spawn(command);
    let url = owner.line();
    assert_eq!(text(&url, "SELECT current_database()::text").await, "parlance");
    let server = postmaster(folder.path());
    let group = getpgid(Some(Pid::from_raw(server as i32))).unwrap();
    assert_ne!(group, owner.pid(), "a terminal's Ctrl-C goes to the owner's group");
    killpg(owner.pid(), Signal::SIGINT).unwrap();
    assert_eq!(owner.code(), Some(0));
    assert!(!is_alive(server));
    let log = std::fs::read_to_string(folder.path().join("server.log")).unwrap();
    assert!(log.contains("database system is shut down"), "{log}");
}

#[test]
fn with_postgres_passes_the_exit_code_and_the_programs() {
    let script = "test -x \"$PG_BIN_DIR/postgres\" && echo \"$TEST_DATABASE_URL\" && exit 7";
    let mut run = Parlance::start(&["with-postgres", "--", "sh", "-c", script]);
    assert!(run.line().starts_with("postgresql://postgres:"));
    assert_eq!(run.code(), Some(7));
    let mut run = Parlance::start(&["with-postgres", "--", "sh", "-c", "kill -TERM $$"]);
    assert_eq!(run.code(), Some(128 + 15), "a signal is passed as a shell would");
}

#[tokio::test]
async fn with_postgres_ends_all_processes_that_it_started() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        // Only a signal to the whole group reaches the inner sleep.
        let script = "sleep 600 & echo $!; echo $TEST_DATABASE_URL; wait";
        let mut run = Parlance::start(&["with-postgres", "--", "bash", "-c", script]);
        let grandchild: u32 = run.line().parse().unwrap();
        let data = text(&run.line(), "SELECT current_setting('data_directory')").await;
        let folder = std::path::Path::new(&data).ancestors().nth(2).unwrap().to_path_buf();
        let server = postmaster(&folder);
        run.signal(signal);
        assert_eq!(run.code(), Some(128 + signal as i32));
        assert!(!folder.exists() && !is_alive(server));
        if signal == Signal::SIGTERM {
            // A shell starts its background commands with SIGINT ignored.
            until("what the command had started ends", || !is_alive(grandchild));
        } else {
            nix::sys::signal::kill(Pid::from_raw(grandchild as i32), Signal::SIGKILL).unwrap();
        }
    }
}

#[test]
fn a_signal_during_the_first_start_removes_everything() {
    let folder = data_dir();
    let mut run = Parlance::start(&["postgres", "--data-dir", folder.path().to_str().unwrap()]);
    until("the folder is locked", || {
        std::fs::read_to_string(folder.path().join("lock")).is_ok_and(|pid| !pid.is_empty())
    });
    run.signal(Signal::SIGTERM);
    assert_eq!(run.code(), Some(0));
    assert!(!folder.path().join("cluster/data/postmaster.pid").exists(), "no server is left");
}

#[test]
fn the_error_of_a_second_run_names_the_owner_of_the_folder() {
    let folder = data_dir();
    let arguments = ["postgres", "--data-dir", folder.path().to_str().unwrap()];
    let mut first = Parlance::start(&arguments);
    assert_ne!(first.line(), "");
    let second = Command::new(env!("CARGO_BIN_EXE_parlance")).args(arguments).output().unwrap();
    let said = String::from_utf8(second.stderr).unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(said.contains(&format!("is in use by process {}: stop that first", first.pid())), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    first.signal(Signal::SIGINT);
    assert_eq!(first.code(), Some(0));
}

#[tokio::test]
async fn verify_checks_the_stored_data_with_and_without_running_services() {
    let folder = data_dir();
    let path = folder.path().to_str().unwrap();
    let run = |words: &[&str]| {
        let output =
            Command::new(env!("CARGO_BIN_EXE_parlance")).args(words).args(["--data-dir", path]).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, out, err) = run(&["verify"]);
    assert_eq!((code, &*out), (Some(2), ""), "{err}");
    assert!(err.contains("contains no PostgreSQL cluster of Parlance"), "{err}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "the check creates nothing");

    let any_port = ["--user-listen", "127.0.0.1:0", "--message-listen", "127.0.0.1:0"];
    let mut serve = Parlance::start(&[&["serve", "--data-dir", path, "--log-level", "error"], &any_port[..]].concat());
    assert_eq!(serve.line(), "Parlance is ready.");
    let server = postmaster(folder.path());
    let (code, url, err) = run(&["postgres", "--running"]);
    assert_eq!(code, Some(0), "{err}");
    assert_eq!(text(url.trim(), "SELECT current_database()::text").await, "parlance");
    for is_running in [true, false] {
        let (code, out, err) = run(&["verify"]);
        assert_eq!(code, Some(0), "{out} {err}");
        for service in ["user-service", "message-service"] {
            assert!(out.contains(&format!("{service}: no problems in ")), "{out}");
        }
        assert_eq!(is_alive(server), is_running);
        if is_running {
            serve.signal(Signal::SIGTERM);
            assert_eq!(serve.code(), Some(0));
        }
    }
    assert!(!folder.path().join("cluster/data/postmaster.pid").exists(), "no server is left");
    let (code, out, err) = run(&["postgres", "--running"]);
    assert_eq!((code, &*out), (Some(1), ""), "{err}");
    assert!(err.contains("no PostgreSQL runs on"), "{err}");
}
