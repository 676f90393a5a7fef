//! Recovery after the owner was killed with SIGKILL and could not stop anything.

use std::time::Duration;

use nix::sys::signal::Signal;
use parlance_standalone::cluster::{Cluster, Options};

use crate::support::{Parlance, data_dir, execute, is_alive, postmaster, text, until};

#[tokio::test]
async fn the_next_run_stops_the_leftover_server_and_finds_its_data() {
    let folder = data_dir();
    let data_dir = folder.path().to_str().unwrap();
    let mut killed = Parlance::start(&["postgres", "--data-dir", data_dir]);
    let url = killed.line();
    execute(&url, "CREATE TABLE kept AS SELECT 'committed'::text AS word").await;
    let leftover = postmaster(folder.path());
    killed.signal(Signal::SIGKILL);
    assert_eq!(killed.code(), None);
    assert_eq!(text(&url, "SELECT word FROM kept").await, "committed", "the server outlives its owner");

    let next = Cluster::start(Options::new(folder.path())).await.unwrap();
    assert!(!is_alive(leftover));
    assert_eq!(text(&next.url("parlance"), "SELECT word FROM kept").await, "committed");
}

#[tokio::test]
async fn a_run_killed_with_its_server_recovers() {
    let folder = data_dir();
    let data_dir = folder.path().to_str().unwrap();
    let mut killed = Parlance::start(&["postgres", "--data-dir", data_dir]);
    let url = killed.line();
    execute(&url, "CREATE TABLE kept AS SELECT 'committed'::text AS word").await;
    let server = nix::unistd::Pid::from_raw(postmaster(folder.path()) as i32);
    killed.signal(Signal::SIGKILL);
    nix::sys::signal::kill(server, Signal::SIGKILL).unwrap();
    assert_eq!(killed.code(), None);
    // Its other processes may still be ending when the next run starts, which must wait for them.
    let next = Cluster::start(Options::new(folder.path())).await.unwrap();
    assert_eq!(text(&next.url("parlance"), "SELECT word FROM kept").await, "committed");
}

#[tokio::test]
async fn the_next_run_repairs_a_run_killed_during_initdb() {
    let folder = data_dir();
    let data_dir = folder.path().to_str().unwrap();
    let mut killed = Parlance::start(&["postgres", "--data-dir", data_dir]);
    let unfinished = || {
        let names = std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.path());
        names.filter(|path| path.to_str().unwrap().contains("cluster.new-")).collect::<Vec<_>>()
    };
    until("initdb is at work", || unfinished().iter().any(|path| path.join("data/base").exists()));
    killed.signal(Signal::SIGKILL);
    assert_eq!(killed.code(), None);
    let left = unfinished();
    assert_eq!(left.len(), 1, "initdb was to be caught at work");

    let cluster = Cluster::start(Options::new(folder.path())).await.unwrap();
    assert_eq!(text(&cluster.url("postgres"), "SELECT 'ready'").await, "ready");
    assert!(!left[0].exists());
}

#[tokio::test]
async fn temporary_clusters_of_killed_runs_are_removed() {
    let mut killed = Parlance::start(&["with-postgres", "--", "sh", "-c", "echo $TEST_DATABASE_URL; cat"]);
    let url = killed.line();
    let data = text(&url, "SELECT current_setting('data_directory')").await;
    let folder = std::path::Path::new(&data).ancestors().nth(2).unwrap().to_path_buf();
    let leftover = postmaster(&folder);

    let bystander = Cluster::temporary().await.unwrap();
    assert!(is_alive(leftover) && folder.exists(), "a living run's cluster is left alone");
    killed.signal(Signal::SIGKILL);
    assert_eq!(killed.code(), None);
    drop(Cluster::temporary().await.unwrap());
    until("the dead run's server ends", || !is_alive(leftover));
    until("the dead run's folder goes", || !folder.exists());
    assert_eq!(text(&bystander.url("postgres"), "SELECT 'unharmed'").await, "unharmed");
}

#[tokio::test]
async fn a_recovery_that_takes_longer_than_a_start_may_is_waited_for() {
    let hasty = Options::temporary().start_timeout(Duration::from_millis(500)).setting("max_wal_size", "4GB");
    let mut cluster = Cluster::start(hasty).await.unwrap();
    let url = cluster.url("postgres");
    // Written after the last checkpoint, so that all of it is replayed.
    let rows = "CREATE TABLE kept AS SELECT n, repeat('x', 500) AS padding FROM generate_series(1, 300000) AS n";
    execute(&url, rows).await;
    execute(&url, "CREATE INDEX ON kept (padding, n)").await;
    cluster.kill().await;
    cluster.start_again().await.unwrap();
    assert_eq!(text(&url, "SELECT count(*)::text FROM kept").await, "300000");
}
