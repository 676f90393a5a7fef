//! The user that runs PostgreSQL: another user if the tests run as root, else the current one.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::unistd::{User, geteuid};
use parlance_standalone::cluster::{Cluster, Options};

use crate::support::{data_dir, text};

/// Reports a test that could not run here, bypassing the output capture of the test harness.
fn not_run(what: &str) {
    let _ = writeln!(std::io::stderr(), "\nNOT RUN, requires root: {what}\n");
}

#[tokio::test]
async fn as_root_the_data_folder_is_one_that_its_user_can_enter() {
    if !geteuid().is_root() {
        return not_run("the server as another user, with its data moved out of a closed folder");
    }
    let closed = tempfile::tempdir().unwrap();
    std::fs::set_permissions(closed.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let asked = closed.path().join("data");
    let cluster = Cluster::start(Options::new(&asked)).await.unwrap();
    let elsewhere = cluster.folder().to_path_buf();
    assert!(elsewhere.starts_with("/var/lib/parlance"), "{}", elsewhere.display());
    assert!(cluster.remarks()[0].contains("who may not enter"), "{:?}", cluster.remarks());
    let owner = std::fs::metadata(elsewhere.join("cluster/data")).unwrap().uid();
    assert_ne!(owner, 0);
    crate::support::execute(&cluster.url("postgres"), "CREATE TABLE kept AS SELECT 'here'::text AS word").await;
    drop(cluster);

    let cluster = Cluster::start(Options::new(&asked)).await.unwrap();
    assert_eq!(cluster.folder(), elsewhere, "the next start follows the link");
    assert_eq!(text(&cluster.url("postgres"), "SELECT word FROM kept").await, "here");
    drop(cluster);
    std::fs::remove_dir_all(&elsewhere).unwrap();
    let refused = Cluster::start(Options::new(&asked)).await.unwrap_err();
    assert!(refused.to_string().contains("which is gone"), "{refused}");
}

#[tokio::test]
async fn root_runs_an_ordinary_users_data_as_that_user() {
    if !geteuid().is_root() {
        return not_run("root on the data of an ordinary user");
    }
    let folder = data_dir();
    let nobody = User::from_name("nobody").unwrap().unwrap();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::os::unix::fs::chown(&data, Some(nobody.uid.as_raw()), None).unwrap();
    let output = run_unprivileged(&folder, &["postgres", "--data-dir", data.to_str().unwrap()], Some("postgresql://"));
    assert!(output.contains("postgresql://"), "{output}");
    // A folder in which that user can put links is not for root.
    let refused = Cluster::start(Options::new(&data)).await.unwrap_err();
    assert!(refused.to_string().contains("is no safe data folder"), "{refused}");
    std::os::unix::fs::chown(&data, Some(0), None).unwrap();
    let cluster = Cluster::start(Options::new(&data)).await.unwrap();
    assert_eq!(text(&cluster.url("postgres"), "SELECT 'open'").await, "open");
    let uid = std::fs::metadata(format!("/proc/{}", cluster.pid().unwrap())).unwrap().uid();
    assert_eq!(uid, nobody.uid.as_raw());
    drop(cluster);

    // Conversely, this user can open neither root's lock file nor the data of postgres.
    let roots = data_dir();
    drop(Cluster::start(Options::new(roots.path())).await.unwrap());
    let output = run_unprivileged(&folder, &["postgres", "--data-dir", roots.path().to_str().unwrap()], None);
    assert!(output.contains("Permission denied") && output.contains("lock"), "{output}");
}

#[test]
fn an_ordinary_user_runs_the_cluster_itself() {
    if !geteuid().is_root() {
        // Then every other test covers this.
        return;
    }
    let folder = data_dir();
    let output = run_unprivileged(&folder, &["with-postgres", "--", "sh", "-c", "id -un"], None);
    assert_eq!(output.lines().next(), Some("nobody"), "{output}");
}

/// Runs a copy of `parlance` as the unprivileged user of every system, in a folder open to that user (a checkout under `/root`
/// is not), until it ends or has printed these words. Returns its output.
fn run_unprivileged(folder: &tempfile::TempDir, arguments: &[&str], until: Option<&str>) -> String {
    let nobody = User::from_name("nobody").unwrap().unwrap();
    let copy = folder.path().join("parlance");
    if !copy.exists() {
        std::fs::copy(env!("CARGO_BIN_EXE_parlance"), &copy).unwrap();
    }
    let path = folder.path().join("output");
    let file = std::fs::File::create(&path).unwrap();
    let mut command = Command::new(&copy);
    command.args(arguments).current_dir("/").uid(nobody.uid.as_raw()).gid(nobody.gid.as_raw());
    command.stdout(file.try_clone().unwrap()).stderr(file);
    let mut child = command.spawn().unwrap();
    let printed = || std::fs::read_to_string(&path).unwrap();
    crate::support::until("the command ends or prints the words", || {
        child.try_wait().unwrap().is_some() || until.is_some_and(|words| printed().contains(words))
    });
    if child.try_wait().unwrap().is_none() {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::SIGTERM).unwrap();
        child.wait().unwrap();
    }
    printed()
}
