//! Page tokens: opaque, tamper-proof, valid on every replica, and bound to the arguments for which they were issued.
//!
//! A token is the last key of a page and a keyed hash over that key and the other arguments of the request. The key of
//! the hash is in the database of the service, so every replica has the same one. A token grants nothing: its user is
//! authorised like any other caller.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::failure::{Failure, Reason};

const TAG_BYTES: usize = 16;
/// Keys are far shorter; longer tokens are not decoded.
const MAX_TOKEN_BYTES: usize = 2048;

/// Seals and opens page tokens. Cheap to clone.
#[derive(Clone)]
pub struct PageTokens {
    key: [u8; 32],
}

impl std::fmt::Debug for PageTokens {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("PageTokens([redacted])")
    }
}

impl PageTokens {
    /// Uses this key, the same on every replica.
    pub fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// Returns the token of the page after `last_key`. `arguments` are the RPC's name and all arguments of the request that
    /// must not change from page to page (so not `page_size`).
    pub fn seal(&self, arguments: &[&str], last_key: &[u8]) -> String {
        let mut bytes = self.tag(arguments, last_key);
        bytes.extend_from_slice(last_key);
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Returns the last key of the previous page; `None` for the empty token of a first page.
    ///
    /// # Errors
    /// `INVALID_ARGUMENT` `PAGE_TOKEN_INVALID` for a token that was not issued for these arguments.
    pub fn open(&self, arguments: &[&str], token: &str) -> Result<Option<Vec<u8>>, Failure> {
        if token.is_empty() {
            return Ok(None);
        }
        let bytes = if token.len() > MAX_TOKEN_BYTES { None } else { URL_SAFE_NO_PAD.decode(token).ok() };
        let opened = bytes.and_then(|bytes| {
            let (tag, last_key) = bytes.split_at_checked(TAG_BYTES)?;
            self.mac(arguments, last_key).verify_truncated_left(tag).ok()?;
            Some(last_key.to_vec())
        });
        opened.map(Some).ok_or_else(|| {
            let message = "page_token was not issued by this service for these arguments; start again without it";
            Failure::of(Reason::PageTokenInvalid, message).violating("page_token", message)
        })
    }

    fn tag(&self, arguments: &[&str], last_key: &[u8]) -> Vec<u8> {
        self.mac(arguments, last_key).finalize().into_bytes()[..TAG_BYTES].to_vec()
    }

    fn mac(&self, arguments: &[&str], last_key: &[u8]) -> Hmac<Sha256> {
        #[expect(clippy::expect_used, reason = "HMAC takes a key of any length")]
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.key).expect("HMAC takes a key of any length");
        for part in arguments.iter().map(|argument| argument.as_bytes()).chain([last_key]) {
            // Lengths first, so that no two lists of arguments have the same bytes.
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_token_opens_for_its_arguments_only(key: [u8; 32], arguments: Vec<String>, other: Vec<String>, last: Vec<u8>) {
            let tokens = PageTokens::new(key);
            let (arguments, other): (Vec<&str>, Vec<&str>) =
                (arguments.iter().map(String::as_str).collect(), other.iter().map(String::as_str).collect());
            let last = &last[..last.len().min(1000)];
            let token = tokens.seal(&arguments, last);
            prop_assert_eq!(tokens.open(&arguments, &token).unwrap(), Some(last.to_vec()));
            if other != arguments {
                prop_assert!(tokens.open(&other, &token).is_err());
            }
        }

        #[test]
        fn no_text_opens_by_chance(text in "\\PC{1,80}") {
            prop_assert!(PageTokens::new([7; 32]).open(&["ListUsers"], &text).is_err());
        }
    }
}
