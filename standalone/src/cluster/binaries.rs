//! Finds PostgreSQL's programs: in `PG_BIN_DIR`, on the `PATH`, by `pg_config`, or where distributions install them.
//! `initdb` and `postgres` must be in the same folder, since each expects the other there.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::account::Account;
use super::error::Error;

/// The oldest supported major version.
const MINIMUM: u32 = 14;

/// Folders of distributions; `*` matches within one path component, and the newest match is tried first.
const PLACES: [&str; 8] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/libexec/postgresql*",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/opt/postgresql*/bin",
    "/home/linuxbrew/.linuxbrew/opt/postgresql*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
    "/usr/local/pgsql/bin",
];

/// A folder of PostgreSQL programs that were run to check their version.
#[derive(Clone, Debug)]
pub(super) struct Binaries {
    dir: PathBuf,
    major: u32,
    version: String,
}

impl Binaries {
    /// Finds programs that `account` can run, of the major version of `data` if there is any.
    ///
    /// Errors: [`Error::NoPrograms`], [`Error::BinDir`] for a folder that was named, [`Error::OtherVersion`].
    pub(super) fn find(named: Option<&Path>, account: &Account, data: Option<DataVersion>) -> Result<Binaries, Error> {
        let named = named.map(Path::to_path_buf).or_else(|| {
            let folder = env::var_os("PG_BIN_DIR").filter(|folder| !folder.is_empty())?;
            Some(PathBuf::from(folder))
        });
        if let Some(folder) = named {
            let found = Binaries::try_folder(&folder, account).map_err(|problem| Error::BinDir { folder, problem })?;
            return found.matching(data);
        }
        let (mut considered, mut of_other_version) = (Vec::new(), None);
        for folder in candidates() {
            match Binaries::try_folder(&folder, account) {
                Ok(found) if data.as_ref().is_none_or(|data| data.major == found.major) => return Ok(found),
                Ok(found) => of_other_version = of_other_version.or(Some(found)),
                Err(problem) => considered.push(format!("{}: {problem}", folder.display())),
            }
        }
        match of_other_version {
            Some(found) => found.matching(data),
            None => Err(Error::NoPrograms { minimum: MINIMUM, considered }),
        }
    }

    /// The folder.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The version that `postgres --version` prints, without the program's name.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    fn matching(self, data: Option<DataVersion>) -> Result<Binaries, Error> {
        match data {
            Some(data) if data.major != self.major => {
                Err(Error::OtherVersion { folder: data.folder, data: data.major, found: self.version })
            }
            _ => Ok(self),
        }
    }

    /// Follows links (`/usr/local/bin/postgres` may point into a version's folder), then runs the program.
    fn try_folder(folder: &Path, account: &Account) -> Result<Binaries, String> {
        let resolved = folder.join("postgres").canonicalize().map_err(|_| "it has no postgres".to_owned())?;
        let behind_link = resolved.parent().filter(|dir| dir.join("initdb").is_file());
        let dir = match behind_link {
            Some(dir) => dir.to_path_buf(),
            None if folder.join("initdb").is_file() => folder.to_path_buf(),
            None => return Err("it has postgres but no initdb".to_owned()),
        };
        let output = account
            .command(&dir.join("postgres"))
            .arg("--version")
            .current_dir("/")
            .output()
            .map_err(|error| format!("user {} cannot run its postgres: {error}", account.name()))?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let version = version_of(&text).ok_or_else(|| format!("its postgres printed {text:?} instead of a version"))?;
        let major = major_of(version).ok_or_else(|| format!("cannot read its version {version:?}"))?;
        if major < MINIMUM {
            return Err(format!("{version} is older than {MINIMUM}"));
        }
        Ok(Binaries { dir, major, version: version.to_owned() })
    }
}

/// The major version of existing data.
#[derive(Clone, Debug)]
pub(super) struct DataVersion {
    /// The cluster's folder.
    pub(super) folder: PathBuf,
    /// Such as 15.
    pub(super) major: u32,
}

/// `postgres (PostgreSQL) 15.8 (Debian 15.8-1)` → `15.8 (Debian 15.8-1)`.
fn version_of(text: &str) -> Option<&str> {
    text.strip_prefix("postgres (PostgreSQL) ").filter(|version| !version.is_empty())
}

/// `15.8 (Debian)`, `17beta1` → 15, 17.
fn major_of(version: &str) -> Option<u32> {
    let digits = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
    version[..digits].parse().ok()
}

/// Returns the folders that contain a `postgres`, best first, each once.
fn candidates() -> Vec<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = Vec::new();
    let places = PLACES.iter().flat_map(|place| expand(place));
    for folder in env::split_paths(&path).chain(pg_config()).chain(places) {
        if folder.join("postgres").is_file() && !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

/// Returns the folder that `pg_config` reports. `pg_config` belongs to the development files, so the folder may contain
/// client programs only.
fn pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let folder = String::from_utf8(output.stdout).ok()?;
    Some(PathBuf::from(folder.trim())).filter(|folder| folder.is_absolute())
}

/// Expands the component with the `*` to the existing folders, highest number first.
fn expand(place: &str) -> Vec<PathBuf> {
    let Some((before, after)) = place.split_once('*') else { return vec![PathBuf::from(place)] };
    let (parent, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let Ok(entries) = std::fs::read_dir(parent) else { return Vec::new() };
    let mut found: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let rest = name.strip_prefix(prefix)?;
            let number = major_of(rest.trim_start_matches(['@', '-'])).unwrap_or(0);
            Some((number, entry.path().join(after.trim_start_matches('/'))))
        })
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, folder)| folder).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_distributions_write_them() {
        assert_eq!(version_of("postgres (PostgreSQL) 15.8 (Debian 15.8-1)"), Some("15.8 (Debian 15.8-1)"));
        assert_eq!(version_of("postgres: not found"), None);
        assert_eq!(major_of("15.8 (Debian 15.8-1)"), Some(15));
        assert_eq!(major_of("17beta1"), Some(17));
        assert_eq!(major_of("16"), Some(16));
        assert_eq!(major_of("devel"), None);
    }

    #[test]
    fn the_newest_version_folder_comes_first() {
        let root = tempfile::tempdir().unwrap();
        for version in ["9.6", "15", "17", "extra"] {
            std::fs::create_dir_all(root.path().join(version).join("bin")).unwrap();
        }
        let found = expand(&format!("{}/*/bin", root.path().display()));
        let names: Vec<_> = found.iter().map(|f| f.strip_prefix(root.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["17/bin", "15/bin", "9.6/bin", "extra/bin"]);
    }
}
