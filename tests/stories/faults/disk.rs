//! A disk of its own for a PostgreSQL, which can lose power and be filled: a file system in a file. Needs root.

use std::{
    fs,
    io::{ErrorKind, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use parlance_standalone::cluster::{Cluster, Error, Options};
use tempfile::TempDir;

use super::{database_down::start_services, run::CONVERSATIONS};
use crate::support::{Mode, Proxy, RunningMessageService, RunningUserService};

/// Stops the file system at once, as the kernel's tests of file systems do: whatever was not synced to the device is never
/// written, and neither is the journal. It is `FS_IOC_SHUTDOWN` with the flag `NOLOGFLUSH`.
const CUT: &str = "import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))";

/// A disk, unmounted and removed with this value.
pub struct Disk(TempDir);

impl Disk {
    /// Makes one of this size.
    pub fn new(megabytes: u64) -> Self {
        let folder = TempDir::with_prefix("parlance-disk-").unwrap();
        // The server's user passes through it.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let disk = Self(folder);
        fs::File::create(disk.image()).unwrap().set_len(megabytes << 20).unwrap();
        fs::create_dir(disk.path()).unwrap();
        // Nothing is reserved for root: a full disk is full for all.
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(disk.image()));
        disk.mount();
        disk
    }

    fn image(&self) -> PathBuf {
        self.0.path().join("image")
    }

    /// Returns the folder where it is mounted.
    fn path(&self) -> PathBuf {
        self.0.path().join("disk")
    }

    fn mount(&self) {
        run(Command::new("mount").args(["-o", "loop"]).arg(self.image()).arg(self.path()));
    }

    /// Cuts the power: what was not synced is lost.
    pub fn lose_power(&self) {
        run(Command::new("python3").args(["-c", CUT]).arg(self.path()));
    }

    /// Turns the power on again, once no process uses the disk.
    pub fn turn_on(&self) {
        run(Command::new("umount").arg(self.path()));
        self.mount();
    }

    /// Syncs everything, so that only what follows can be lost.
    pub fn sync(&self) {
        run(Command::new("sync").arg("--file-system").arg(self.path()));
    }

    /// Fills it to the last block.
    pub fn fill(&self) {
        let mut filler = fs::File::create(self.filler()).unwrap();
        // Smaller and smaller pieces: a large one fails although there is room for a small one.
        for size in [1 << 20, 4096, 1] {
            let piece = vec![1; size];
            let full = loop {
                if let Err(error) = filler.write_all(&piece) {
                    break error;
                }
            };
            assert_eq!(full.kind(), ErrorKind::StorageFull);
        }
    }

    /// Removes what filled it.
    pub fn make_room(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?} (as root?): {}", String::from_utf8_lossy(&output.stderr));
}

/// A PostgreSQL on a disk, and both services before it. Fields are dropped in this order.
pub struct Deployment {
    pub message_service: RunningMessageService,
    _user_service: RunningUserService,
    proxy: Proxy,
    pub cluster: Option<Cluster>,
    options: Options,
    pub disk: Disk,
}

impl Deployment {
    /// Starts all of it, with the groups of a run.
    pub async fn new(disk: Disk, setting: (&str, &str)) -> Self {
        let options = options(&disk.path()).setting(setting.0, setting.1);
        let cluster = Cluster::start(options.clone()).await.unwrap();
        cluster.create_database("parlance").await.unwrap();
        let proxy = Proxy::before(address(&cluster), Mode::Open).await;
        let url = cluster.url("parlance").replace(&format!(":{}/", cluster.port()), &format!(":{}/", proxy.port()));
        let (user_service, message_service) = start_services(&url, &CONVERSATIONS).await;
        Self { message_service, _user_service: user_service, proxy, cluster: Some(cluster), options, disk }
    }

    /// Cuts the power of the server's machine: of its disk first, then of its processes.
    pub async fn lose_power(&mut self) {
        self.disk.lose_power();
        let mut cluster = self.cluster.take().expect("a machine that is on");
        cluster.kill().await;
    }

    /// Turns the machine on again. Errors: PostgreSQL does not start from what is left.
    pub async fn turn_on(&mut self) -> Result<(), Error> {
        self.disk.turn_on();
        let cluster = Cluster::start(self.options.clone()).await?;
        self.proxy.redirect_to(address(&cluster));
        self.cluster = Some(cluster);
        Ok(())
    }
}

fn address(cluster: &Cluster) -> String {
    format!("127.0.0.1:{}", cluster.port())
}

fn options(folder: &Path) -> Options {
    Options::new(folder.join("data")).max_connections(50).setting("shared_buffers", "64MB")
}
