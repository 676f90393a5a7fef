//! Bounds of text that both services hold callers to: ids, request ids, page sizes. Each function says in words what must
//! hold, for the violation that the caller reads.

use std::fmt::{self, Display};

/// The longest id, name and request id, in bytes (all ASCII).
pub const MAX_ID_BYTES: usize = 64;
/// The longest title or display name, in code points.
pub const MAX_TITLE_CHARS: usize = 256;
/// The largest page; what asks for more gets this.
pub const MAX_PAGE_SIZE: i32 = 1000;
/// The page of a request that names no size.
pub const DEFAULT_PAGE_SIZE: i32 = 50;

/// What must hold and does not, in words for the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfBounds(pub &'static str);

impl Display for OutOfBounds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

/// An id that a caller may bring: 1 to 64 of `A-Z a-z 0-9 . _ ~ -`, not beginning with `~`.
pub fn own_id(text: &str) -> Result<(), OutOfBounds> {
    id(text)?;
    if text.starts_with('~') {
        return Err(OutOfBounds("must not begin with ~, which marks ids made by the service"));
    }
    Ok(())
}

/// Any id, the service's own included: 1 to 64 of `A-Z a-z 0-9 . _ ~ -`.
pub fn id(text: &str) -> Result<(), OutOfBounds> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
    if (1..=MAX_ID_BYTES).contains(&text.len()) && text.bytes().all(allowed) {
        Ok(())
    } else {
        Err(OutOfBounds("must be 1 to 64 of A-Z a-z 0-9 . _ ~ -"))
    }
}

/// A username: 1 to 64 of `A-Z a-z 0-9 . _ -`.
pub fn username(text: &str) -> Result<(), OutOfBounds> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    if (1..=MAX_ID_BYTES).contains(&text.len()) && text.bytes().all(allowed) {
        Ok(())
    } else {
        Err(OutOfBounds("must be 1 to 64 of A-Z a-z 0-9 . _ -"))
    }
}

/// A request id: 1 to 64 printable ASCII characters.
pub fn request_id(text: &str) -> Result<(), OutOfBounds> {
    if (1..=MAX_ID_BYTES).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        Ok(())
    } else {
        Err(OutOfBounds("must be 1 to 64 printable ASCII characters"))
    }
}

/// A title or display name: at most 256 code points, none of them U+0000, which PostgreSQL cannot store.
pub fn title(text: &str) -> Result<(), OutOfBounds> {
    if text.chars().nth(MAX_TITLE_CHARS).is_some() {
        Err(OutOfBounds("must be at most 256 code points"))
    } else {
        no_nul(text)
    }
}

/// Text without U+0000.
pub fn no_nul(text: &str) -> Result<(), OutOfBounds> {
    if text.contains('\0') { Err(OutOfBounds("must not hold U+0000")) } else { Ok(()) }
}

/// The size of a page as asked for: 0 is 50, above 1,000 is 1,000.
pub fn page_size(asked: i32) -> Result<i64, OutOfBounds> {
    match asked {
        0 => Ok(i64::from(DEFAULT_PAGE_SIZE)),
        1.. => Ok(i64::from(asked.min(MAX_PAGE_SIZE))),
        _ => Err(OutOfBounds("must not be negative")),
    }
}
