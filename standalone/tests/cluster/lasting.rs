//! A cluster in a folder: its data lasts, and one process at a time runs it.

use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use parlance_standalone::cluster::{Cluster, Error, Options, StopMode};

use crate::support::{data_dir, execute, is_alive, postmaster, text};

#[tokio::test]
async fn data_survives_every_way_to_stop() {
    let folder = data_dir();
    let mut cluster = Cluster::start(Options::new(folder.path())).await.unwrap();
    assert_eq!(cluster.remarks(), [""; 0]);
    cluster.create_database("room \"1\"/ä").await.unwrap();
    cluster.create_database("room \"1\"/ä").await.expect("a database that exists is no error");
    let url = cluster.url("room \"1\"/ä");
    assert_eq!(text(&url, "SELECT current_database()::text").await, "room \"1\"/ä");
    execute(&url, "CREATE TABLE kept AS SELECT 'first'::text AS word").await;

    for (word, mode) in [("fast", StopMode::Fast), ("immediate", StopMode::Immediate)] {
        execute(&url, &format!("UPDATE kept SET word = '{word}'")).await;
        let pid = cluster.pid().unwrap();
        cluster.stop(mode).await;
        assert!(!is_alive(pid) && cluster.pid().is_none());
        assert!(matches!(cluster.create_database("other").await, Err(Error::NotRunning)));
        cluster.start_again().await.unwrap();
        cluster.start_again().await.expect("a second start of a running server is no error");
        assert_eq!(text(&url, "SELECT word FROM kept").await, word, "by the same connection string");
    }

    execute(&url, "UPDATE kept SET word = 'killed'").await;
    cluster.kill().await;
    cluster.start_again().await.unwrap();
    assert_eq!(text(&url, "SELECT word FROM kept").await, "killed");

    let pid = cluster.pid().unwrap();
    drop(cluster);
    assert!(!is_alive(pid), "dropping stops");
    let cluster = Cluster::start(Options::new(folder.path())).await.unwrap();
    assert_eq!(text(&cluster.url("room \"1\"/ä"), "SELECT word FROM kept").await, "killed");
}

#[tokio::test]
async fn it_is_durable_private_and_in_utf8() {
    let cluster = Cluster::temporary().await.unwrap();
    let url = cluster.url("postgres");
    for (setting, value) in [
        ("fsync", "on"),
        ("full_page_writes", "on"),
        ("synchronous_commit", "on"),
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", ""),
        ("server_encoding", "UTF8"),
        ("lc_collate", "C"),
        ("password_encryption", "scram-sha-256"),
        ("max_connections", "400"),
        ("shared_buffers", "64MB"),
    ] {
        assert_eq!(text(&url, &format!("SELECT current_setting('{setting}')")).await, value, "{setting}");
    }
    let without_password = format!("postgresql://postgres@127.0.0.1:{}/postgres", cluster.port());
    assert!(<sqlx::PgConnection as sqlx::Connection>::connect(&without_password).await.is_err());
    assert!(!format!("{cluster:?}").contains(url.split(['@', ':']).nth(2).unwrap()), "no password in Debug");
}

#[tokio::test]
async fn rows_and_statements_stay_out_of_the_log() {
    let cluster = Cluster::temporary().await.unwrap();
    let url = cluster.url("postgres");
    execute(&url, "CREATE TABLE t (word text PRIMARY KEY CHECK (word <> 'whisper'))").await;
    let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await.unwrap();
    sqlx::raw_sql("INSERT INTO t VALUES ('whisper')").execute(&mut connection).await.unwrap_err();
    let log = std::fs::read_to_string(cluster.log_file()).unwrap();
    assert!(log.contains("t_word_check"), "the error itself is there: {log}");
    assert!(!log.contains("whisper"), "{log}");
}

#[tokio::test]
async fn a_second_run_is_refused_with_one_sentence() {
    let folder = data_dir();
    let first = Cluster::start(Options::new(folder.path())).await.unwrap();
    let refused = Cluster::start(Options::new(folder.path())).await.unwrap_err();
    assert!(matches!(&refused, Error::InUse { pid: Some(pid), .. } if *pid == std::process::id()), "{refused}");
    assert!(refused.to_string().contains(&format!("in use by process {}", std::process::id())));
    assert_eq!(text(&first.url("postgres"), "SELECT 'unharmed'").await, "unharmed");
}

#[tokio::test]
async fn a_pid_file_of_an_unrelated_process_does_not_prevent_the_start() {
    let folder = data_dir();
    drop(Cluster::start(Options::new(folder.path())).await.unwrap());
    let data = folder.path().join("cluster/data");
    // PostgreSQL itself is misled only by a process of the same user.
    let owner = std::fs::metadata(&data).unwrap();
    let mut command = Command::new("sleep");
    command.arg("600");
    if nix::unistd::geteuid().is_root() {
        command.uid(owner.uid()).gid(owner.gid());
    }
    let mut stranger = command.spawn().unwrap();
    let file = format!("{}\n{}\n1\n5432\n\n127.0.0.1\n1 1\nready   \n", stranger.id(), data.display());
    std::fs::write(data.join("postmaster.pid"), file).unwrap();

    let cluster = Cluster::start(Options::new(folder.path())).await.unwrap();
    assert_eq!(postmaster(folder.path()), cluster.pid().unwrap());
    assert!(stranger.try_wait().unwrap().is_none(), "the stranger was left alone");
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[tokio::test]
async fn an_unfinished_initdb_is_repeated() {
    let folder = data_dir();
    let unfinished = folder.path().join("cluster.new-abcdefgh");
    std::fs::create_dir_all(unfinished.join("data/base/1")).unwrap();
    std::fs::write(unfinished.join("data/PG_VERSION"), "15\n").unwrap();
    let cluster = Cluster::start(Options::new(folder.path())).await.unwrap();
    assert_eq!(text(&cluster.url("postgres"), "SELECT 'ready'").await, "ready");
    assert!(!unfinished.exists());
}

#[tokio::test]
async fn data_of_another_version_is_named_and_left_alone() {
    let folder = data_dir();
    drop(Cluster::start(Options::new(folder.path())).await.unwrap());
    std::fs::write(folder.path().join("cluster/data/PG_VERSION"), "99\n").unwrap();
    let refused = Cluster::start(Options::new(folder.path())).await.unwrap_err();
    assert!(matches!(refused, Error::OtherVersion { data: 99, .. }), "{refused}");
    assert!(refused.to_string().contains("was written by PostgreSQL 99"), "{refused}");
}

#[tokio::test]
async fn a_folder_without_programs_is_named() {
    let (folder, empty) = (data_dir(), data_dir());
    let refused = Cluster::start(Options::new(folder.path()).bin_dir(empty.path())).await.unwrap_err();
    assert!(matches!(refused, Error::BinDir { .. }), "{refused}");
    assert!(refused.to_string().contains("it has no postgres; correct PG_BIN_DIR"), "{refused}");
}

#[tokio::test]
async fn a_setting_that_postgresql_refuses_is_quoted() {
    let refused = Cluster::start(Options::temporary().setting("shared_buffers", "plenty")).await.unwrap_err();
    assert!(matches!(refused, Error::Start { .. }), "{refused}");
    assert!(refused.to_string().contains("shared_buffers"), "{refused}");
}

#[tokio::test]
async fn a_temporary_cluster_leaves_nothing_unless_kept() {
    let cluster = Cluster::temporary().await.unwrap();
    let (folder, pid) = (cluster.folder().to_path_buf(), cluster.pid().unwrap());
    drop(cluster);
    assert!(!folder.exists() && !is_alive(pid));

    let kept = Cluster::temporary().await.unwrap().keep().await.unwrap();
    drop(Cluster::temporary().await.unwrap());
    let again = Cluster::start(Options::new(&kept)).await.expect("a kept cluster is a data folder like any other");
    drop(again);
    std::fs::remove_dir_all(kept).unwrap();
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let mut cluster = Cluster::temporary().await.unwrap();
    cluster.stop(StopMode::Fast).await;
    let squatter = std::net::TcpListener::bind(("127.0.0.1", cluster.port())).unwrap();
    let refused = cluster.start_again().await.unwrap_err();
    assert!(matches!(refused, Error::PortTaken { port } if port == cluster.port()), "{refused}");
    drop(squatter);
    cluster.start_again().await.unwrap();
}

#[tokio::test]
async fn an_unexpected_exit_of_the_server_is_reported() {
    let mut cluster = Cluster::temporary().await.unwrap();
    let postmaster = nix::unistd::Pid::from_raw(cluster.pid().unwrap() as i32);
    nix::sys::signal::kill(postmaster, nix::sys::signal::Signal::SIGKILL).unwrap();
    assert!(matches!(cluster.ended().await, Error::Ended { .. }));
    cluster.start_again().await.expect("what the postmaster left is cleared away");
}
