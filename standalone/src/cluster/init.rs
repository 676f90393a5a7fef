//! Creates a cluster: `initdb` works in a folder with a temporary name, and one rename publishes the result. The next
//! attempt removes what a killed one left behind.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use super::account::Account;
use super::binaries::Binaries;
use super::connect::Address;
use super::error::Error;
use super::layout::{Layout, random_name};

/// The prefix of the names of unfinished clusters.
const UNFINISHED: &str = "cluster.new-";

/// Creates the cluster unless it exists, and returns its superuser's password. If `temporary`, the files need not survive
/// a power failure, so `initdb` does not sync them. Calls `on_create` before `initdb`, which takes seconds.
///
/// Errors: [`Error::Init`], [`Error::File`].
pub(super) async fn ensure(
    layout: &Layout,
    binaries: &Binaries,
    temporary: bool,
    on_create: impl FnOnce(),
) -> Result<String, Error> {
    remove_unfinished(layout.folder()).await?;
    let password_file = layout.cluster().join("password");
    if layout.cluster().is_dir() {
        let password = std::fs::read_to_string(&password_file).map_err(Error::file("read", &password_file))?;
        return Ok(password.trim().to_owned());
    }
    let unfinished = Unfinished(layout.folder().join(format!("{UNFINISHED}{}", random_name())));
    on_create();
    let password = random_password()?;
    prepare(&unfinished.0, &layout.account, &password)?;
    initialise(&unfinished.0, &layout.account, binaries, temporary).await?;
    let cluster = layout.cluster();
    std::fs::rename(&unfinished.0, &cluster).map_err(Error::file("create", &cluster))?;
    if !temporary {
        let folder = File::open(layout.folder()).and_then(|folder| folder.sync_all());
        folder.map_err(Error::file("write", layout.folder()))?;
    }
    Ok(password)
}

/// Creates a streaming standby of the server at this address, with the same password.
///
/// Errors: [`Error::Init`], [`Error::File`].
pub(super) async fn copy(layout: &Layout, binaries: &Binaries, primary: &Address) -> Result<(), Error> {
    let folder = layout.cluster();
    prepare(&folder, &layout.account, &primary.password)?;
    let mut command = layout.account.command(&binaries.dir().join("pg_basebackup"));
    command.current_dir(&folder).arg("--pgdata").arg(folder.join("data")).arg("--dbname").arg(primary.url("postgres"));
    command.args(["--write-recovery-conf", "--wal-method=stream", "--checkpoint=fast", "--no-sync"]);
    run(command, &folder).await
}

/// A cluster under its temporary name, removed on drop. (The next attempt would remove it, too, but a full disk should not
/// have to wait for that.) Once it is renamed there is nothing to remove.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Creates the folder of a cluster, with the password.
fn prepare(folder: &Path, account: &Account, password: &str) -> Result<(), Error> {
    let failed = Error::file("create the folder", folder);
    std::fs::DirBuilder::new().create(folder).map_err(failed)?;
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(folder, private).map_err(Error::file("close to others", folder))?;
    let password_file = folder.join("password");
    let failed = Error::file("write", &password_file);
    write_private(&password_file, password).map_err(failed)?;
    account.own(&password_file)?;
    account.own(folder)
}

async fn initialise(folder: &Path, account: &Account, binaries: &Binaries, temporary: bool) -> Result<(), Error> {
    let mut command = account.command(&binaries.dir().join("initdb"));
    command.current_dir(folder).arg("--pgdata").arg(folder.join("data")).arg("--pwfile").arg(folder.join("password"));
    command.args(["--username=postgres", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions"]);
    if temporary {
        command.arg("--no-sync");
    }
    run(command, folder).await
}

/// Runs a program that writes a data folder.
async fn run(mut command: std::process::Command, folder: &Path) -> Result<(), Error> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    // Dropping the future (Ctrl-C during the first start) kills it; its child process then ends at the end of its input.
    let output = tokio::process::Command::from(command).kill_on_drop(true).output().await;
    let failed = |output: String| Error::Init { folder: folder.to_path_buf(), output };
    let output = output.map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed);
    // Progress comes first, the error last.
    let lines: Vec<&str> = printed.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Err(failed(lines[lines.len().saturating_sub(5)..].join("; ")))
}

/// Removes the remains of killed attempts. An orphaned `initdb` may still be writing: removing its folder makes it fail,
/// and the removal is retried.
async fn remove_unfinished(folder: &Path) -> Result<(), Error> {
    let entries = std::fs::read_dir(folder).map_err(Error::file("read the folder", folder))?;
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            continue;
        }
        let path = entry.path();
        for attempt in 1.. {
            match std::fs::remove_dir_all(&path) {
                Err(_) if attempt < 50 => tokio::time::sleep(Duration::from_millis(100)).await,
                done => {
                    done.map_err(Error::file("remove", &path))?;
                    break;
                }
            }
        }
    }
    Ok(())
}

/// Returns 128 random bits from the system as 32 hexadecimal characters, which need no quoting anywhere.
pub(super) fn random_password() -> Result<String, Error> {
    let source = Path::new("/dev/urandom");
    let mut bytes = [0_u8; 16];
    File::open(source).and_then(|mut file| file.read_exact(&mut bytes)).map_err(Error::file("read", source))?;
    Ok(format!("{:032x}", u128::from_ne_bytes(bytes)))
}

fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{text}")?;
    file.sync_all()
}
