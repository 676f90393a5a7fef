//! The system user that runs the server: the current user, unless that is root. PostgreSQL refuses to run as root, so then
//! it is the owner of existing data, else a system account: `postgres`, or the unprivileged one that every system has.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::unistd::{Uid, User, geteuid};

use super::error::Error;

/// The user that PostgreSQL's programs run as.
#[derive(Clone, Debug)]
pub(super) struct Account {
    name: String,
    /// User and group to switch to; `None` if it is the current user.
    switch: Option<(u32, u32)>,
}

impl Account {
    /// Returns the account for a new cluster. Errors: [`Error::NoAccount`].
    pub(super) fn for_new_cluster() -> Result<Account, Error> {
        if !geteuid().is_root() {
            return Ok(Account::current());
        }
        let mut problems = Vec::new();
        for name in ["postgres", "nobody"] {
            let Ok(Some(user)) = User::from_name(name) else {
                problems.push(format!("there is no user {name}"));
                continue;
            };
            let account = Account { name: user.name, switch: Some((user.uid.as_raw(), user.gid.as_raw())) };
            match account.enter(Path::new("/")) {
                Ok(()) => return Ok(account),
                Err(error) => problems.push(format!("cannot become {name}: {error}")),
            }
        }
        Err(Error::NoAccount { problem: problems.join(", ") })
    }

    /// Returns the owner of `data` as the account. Errors: [`Error::OtherOwner`], [`Error::OwnedByRoot`].
    pub(super) fn for_data(folder: &Path, data: &Path) -> Result<Account, Error> {
        let metadata = std::fs::metadata(data).map_err(Error::file("read the owner of", data))?;
        let (uid, gid) = (metadata.uid(), metadata.gid());
        if uid == 0 {
            let account = Account::for_new_cluster()?.name;
            return Err(Error::OwnedByRoot { folder: folder.display().to_string(), account });
        }
        if geteuid().as_raw() == uid {
            return Ok(Account::current());
        }
        let name = user_name(uid);
        if !geteuid().is_root() {
            return Err(Error::OtherOwner { folder: folder.to_path_buf(), owner: name });
        }
        Ok(Account { name, switch: Some((uid, gid)) })
    }

    fn current() -> Account {
        Account { name: user_name(geteuid().as_raw()), switch: None }
    }

    /// The name, for messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Returns true if the account is not the current user.
    pub(super) fn is_switched(&self) -> bool {
        self.switch.is_some()
    }

    /// Returns a command that runs as this account, without the caller's `PG…` variables and locale, in a process group of
    /// its own so that Ctrl-C at the terminal does not reach it.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        command.env("LC_ALL", "C").stdin(Stdio::null()).process_group(0);
        if let Some((uid, gid)) = self.switch {
            // The standard library drops the supplementary groups along with the user.
            command.uid(uid).gid(gid).env_remove("HOME");
        }
        command
    }

    /// Makes the account the owner of `path`, of a link itself and not of its target.
    pub(super) fn own(&self, path: &Path) -> Result<(), Error> {
        let Some((uid, gid)) = self.switch else { return Ok(()) };
        std::os::unix::fs::lchown(path, Some(uid), Some(gid)).map_err(Error::file("change the owner of", path))
    }

    /// Checks that the account can enter `folder`. Tried rather than computed: modes, access lists and mounts all count.
    pub(super) fn enter(&self, folder: &Path) -> io::Result<()> {
        let mut command = self.command(Path::new("/bin/sh"));
        command.args(["-c", ":"]).current_dir(folder).stdout(Stdio::null()).stderr(Stdio::null());
        let status = command.status()?;
        if status.success() { Ok(()) } else { Err(io::Error::other(format!("sh: {status}"))) }
    }
}

/// Returns the user's name, or its number if it has none.
fn user_name(uid: u32) -> String {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}
