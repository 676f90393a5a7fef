//! The address of a database and its credentials, with a password that may change while the process runs.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use sqlx::postgres::PgConnectOptions;
use tokio::io::AsyncReadExt;

/// The most bytes of a password file. PostgreSQL takes shorter passwords only.
const MAX_PASSWORD_BYTES: u64 = 1_024;

/// The address of a database, and the credentials. Its `Debug` and its `Display` name the database, never the password.
#[derive(Clone)]
pub struct Address {
    options: PgConnectOptions,
    password_file: Option<PathBuf>,
}

impl From<PgConnectOptions> for Address {
    fn from(options: PgConnectOptions) -> Self {
        Self { options, password_file: None }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (host, port, database) = (self.options.get_host(), self.options.get_port(), self.options.get_database());
        write!(formatter, "{host}:{port}/{}", database.unwrap_or_default())
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Address {
    /// Takes the password from a file: now, and again for each new connection.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn with_password_file(self, file: &Path) -> io::Result<Self> {
        let options = self.options.password(&password(&std::fs::read_to_string(file)?)?);
        Ok(Self { options, password_file: Some(file.to_owned()) })
    }

    /// Returns the options as they were at the start.
    pub(super) fn first(&self) -> PgConnectOptions {
        self.options.clone()
    }

    /// Returns the options with the current password. While its file cannot be read, the first one is used.
    pub(super) async fn current(&self) -> PgConnectOptions {
        let Some(file) = &self.password_file else { return self.first() };
        match read(file).await {
            Ok(password) => self.first().password(&password),
            Err(cause) => {
                tracing::warn!(file = %file.display(), %cause, "the password file of the database cannot be read");
                self.first()
            }
        }
    }
}

async fn read(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    tokio::fs::File::open(file).await?.take(MAX_PASSWORD_BYTES + 2).read_to_string(&mut text).await?;
    password(&text)
}

/// The text of a password file without the end of its line.
fn password(text: &str) -> io::Result<String> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    match text.len() as u64 {
        0 => Err(io::Error::new(io::ErrorKind::InvalidData, "it is empty")),
        1..=MAX_PASSWORD_BYTES => Ok(text.to_owned()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "it is too long for a password")),
    }
}
