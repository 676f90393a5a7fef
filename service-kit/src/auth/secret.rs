//! New token secrets.

use std::{
    fs::OpenOptions,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use aws_lc_rs::rand;
use base64::{Engine, engine::general_purpose::STANDARD};

/// The entropy of a secret, in bytes.
const BYTES: usize = 32;

/// Writes a new secret, 32 random bytes in base64, into a new file that its owner alone can read. Blocks.
///
/// # Errors
/// The file exists, or cannot be written.
pub fn create_secret(path: &Path) -> io::Result<()> {
    let mut secret = [0; BYTES];
    rand::fill(&mut secret).map_err(|_| io::Error::other("the system gives no random numbers"))?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{}", STANDARD.encode(secret))?;
    file.sync_all()
}
