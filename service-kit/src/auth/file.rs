//! Files with keys and tokens.

use std::{
    fs::{self, File},
    io::Read,
    path::Path,
};

/// The longest key file, in bytes.
const MAX_FILE_BYTES: u64 = 64 * 1024;

/// Reads a small file whole. Blocks.
///
/// # Errors
/// One sentence.
pub(super) fn read_bounded(path: &Path) -> Result<Vec<u8>, String> {
    let read = || {
        // A pipe would block, and could be read once only.
        if !fs::metadata(path)?.is_file() {
            return Err(std::io::Error::other("it is not a regular file"));
        }
        let mut content = Vec::new();
        File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut content)?;
        if content.len() as u64 > MAX_FILE_BYTES {
            return Err(std::io::Error::other("it is longer than 64 KiB"));
        }
        Ok(content)
    };
    read().map_err(|cause| format!("{} cannot be read: {cause}", path.display()))
}
