//! Entry points of the fuzz targets, and the laws that they check. The rules of the contract are written down here a second
//! time, so that a mistake in `bounds` is one.

#![expect(clippy::expect_used, reason = "a broken law ends the fuzzer")]

use http::HeaderValue;
use prost::Message;
use tonic::{Code, Status};

use crate::{
    config::{Problems, Secret},
    failure::Failure,
    fields::{Field, Fields},
    names::{HostName, Origin, is_loopback_host},
    page_token::PageTokens,
    server::fuzzing as server,
};

/// Clients in several languages drop a response whose headers are larger.
const MAX_HEADER_BYTES: usize = 8 * 1024;

/// Decodes a request and reads its fields. Returns it with what was read, if it was accepted.
///
/// # Panics
/// If the refusal, or the accepted request, breaks a law.
pub fn request<R, T>(bytes: &[u8], decode: impl FnOnce(R) -> Result<T, Failure>) -> Option<(R, T)>
where
    R: Message + Default + Clone + PartialEq,
{
    let request = R::decode(bytes).ok()?;
    match decode(request.clone()) {
        Ok(params) => {
            assert!(R::decode(&*request.encode_to_vec()).as_ref() == Ok(&request), "it is decoded as it was encoded");
            Some((request, params))
        }
        Err(failure) => {
            refusal(failure);
            None
        }
    }
}

/// Checks the refusal of a request: clients can read it, and it names what is wrong.
///
/// # Panics
/// If it breaks a law.
pub fn refusal(failure: Failure) {
    let status = Status::from(failure);
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let message: usize = status.message().bytes().map(|byte| if (b' '..=b'~').contains(&byte) { 1 } else { 3 }).sum();
    let bytes = message + status.details().len().div_ceil(3) * 4;
    assert!(bytes <= MAX_HEADER_BYTES, "{bytes} bytes of headers");
}

/// True for an id that clients choose.
pub fn is_own_id(text: &str) -> bool {
    is_id(text) && !text.starts_with('~')
}

/// True for any id.
pub fn is_id(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.chars().all(|one| matches!(one, 'A'..='Z' | 'a'..='z' | '0'..='9' | '.' | '_' | '~' | '-'))
}

/// True for the name of a user.
pub fn is_username(text: &str) -> bool {
    is_id(text) && !text.contains('~')
}

/// True for a request id.
pub fn is_request_id(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.chars().all(|one| (' '..='~').contains(&one))
}

/// True for free text of at most this many code points.
pub fn is_text(text: &str, most: usize) -> bool {
    text.chars().count() <= most && !text.contains('\0')
}

/// Opens what claims to be a page token: the input itself, and a token of the service that the input changes.
///
/// # Panics
/// If one opens that the service did not issue.
pub fn page_token(input: &[u8]) {
    const ARGUMENTS: [&str; 3] = ["ListUsers", "prefix", ""];
    let tokens = PageTokens::new([7; 32]);
    let text = String::from_utf8_lossy(input);
    if let Ok(Some(key)) = tokens.open(&ARGUMENTS, &text) {
        assert_eq!(tokens.seal(&ARGUMENTS, &key), text, "the form of a token is its only one");
    }
    let (change, key) = input.split_at(input.len().min(4));
    let key = &key[..key.len().min(1_000)];
    let token = tokens.seal(&ARGUMENTS, key);
    assert_eq!(tokens.open(&ARGUMENTS, &token).ok().flatten().as_deref(), Some(key));
    if let [high, low, with, kind] = *change {
        let mut changed = token.clone().into_bytes();
        let at = usize::from(u16::from_be_bytes([high, low])) % changed.len();
        match kind % 3 {
            0 => changed[at] = with,
            1 => changed.truncate(at),
            _ => changed.insert(at, with),
        }
        let Ok(changed) = String::from_utf8(changed) else { return };
        if changed != token && !changed.is_empty() {
            refusal(tokens.open(&ARGUMENTS, &changed).expect_err("a changed token is refused"));
        }
        let other = ["ListUsers", "prefi", "x"];
        assert!(tokens.open(&other, &token).is_err(), "a token is bound to its arguments");
    }
}

/// Reads an input as each kind of id, text, mask, name of a host, and header.
///
/// # Panics
/// If one is accepted that breaks the contract, or refused that keeps it.
pub fn texts(input: &[u8]) {
    use crate::bounds;

    headers(input);
    let Ok(text) = std::str::from_utf8(input) else { return };
    assert_eq!(bounds::id(text).is_ok(), is_id(text));
    assert_eq!(bounds::own_id(text).is_ok(), is_own_id(text));
    assert_eq!(bounds::username(text).is_ok(), is_username(text));
    assert_eq!(bounds::request_id(text).is_ok(), is_request_id(text));
    assert_eq!(bounds::title(text).is_ok(), is_text(text, 256));
    if let Ok(origin) = text.parse::<Origin>() {
        let sent = origin.as_header().to_str().expect("origins are ASCII").to_owned();
        assert_eq!(sent.parse(), Ok(origin), "the form that browsers send is read as the same");
    }
    if let Ok(host) = text.parse::<HostName>() {
        assert!(host.is_of(text.trim()), "a name is its own");
    }
    let _ = is_loopback_host(text);
    mask(text);
}

fn mask(text: &str) {
    let mask = prost_types::FieldMask { paths: text.split(',').map(str::to_owned).collect() };
    let mut fields = Fields::default();
    let named = fields.update_mask(Some(&mask), ["title", "description"]);
    let named: Field<Option<[bool; 2]>> = fields.check("mask", Ok::<_, &str>(named));
    match fields.finish(named) {
        Ok(named) => {
            let all = mask.paths.iter().any(|path| path == "*");
            let has = |path: &str| all || mask.paths.iter().any(|named| named == path);
            assert_eq!(named, Some([has("title"), has("description")]));
        }
        Err(failure) => refusal(failure),
    }
}

fn headers(input: &[u8]) {
    if let Ok(value) = HeaderValue::from_bytes(input) {
        server::headers(&value);
    }
}

/// Reads an input as the address of a database.
///
/// # Panics
/// If a problem repeats the password.
pub fn database_url(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    // Files that the input names are not read: what is in them is no part of it.
    if ["/dev", "/proc", "%2", "pgpass", "service"].iter().any(|path| text.contains(path)) {
        return;
    }
    let mut problems = Problems::default();
    let address = problems.database_url("--database-url", Some(&Secret::new(text)), None);
    let Err(problems) = problems.finish(address) else { return };
    // Only where it is the password, and nothing else.
    let authority = text.split_once("://").map(|(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or_default());
    let has_password =
        authority.and_then(|authority| authority.split_once(":secret-")).is_some_and(|(_, rest)| rest.contains('@'));
    if has_password && text.matches("secret-").count() == 1 {
        assert!(!problems.to_string().contains("secret-"), "{problems}");
    }
}
