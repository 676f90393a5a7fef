//! Request ids: they find a call in the logs of the service and of the caller.

use std::sync::Arc;

use http::{Extensions, HeaderMap, HeaderName, HeaderValue};

/// The header in which a caller may send the id, and in which it is returned.
pub(super) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

const MAX_LEN: usize = 64;

/// The id of a call: 1–64 visible ASCII characters, chosen by the caller or generated. It has nothing to do with idempotency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// Returns the id of a call from its extensions, to pass it on to another service.
    pub fn find(extensions: &Extensions) -> Option<&Self> {
        extensions.get()
    }

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn of(headers: &HeaderMap) -> Self {
        let given = headers.get(HEADER).and_then(|value| value.to_str().ok());
        let usable =
            given.filter(|id| (1..=MAX_LEN).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()));
        Self(usable.map_or_else(|| format!("{:032x}", fastrand::u128(..)).into(), Into::into))
    }

    pub(super) fn to_header(&self) -> HeaderValue {
        // Visible ASCII is always a valid header value.
        HeaderValue::from_str(&self.0).unwrap_or_else(|_| HeaderValue::from_static("invalid"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_usable_id_is_kept_and_another_replaced() {
        let of = |value: &[u8]| {
            let headers = HeaderMap::from_iter([(HEADER, HeaderValue::from_bytes(value).unwrap())]);
            RequestId::of(&headers).as_str().to_owned()
        };
        assert_eq!(of(b"abc-1/2~3"), "abc-1/2~3");
        assert_eq!(of(&[b'x'; 64]), "x".repeat(64));
        for replaced in [&b""[..], b"two words", "ä".as_bytes(), &[b'x'; 65]] {
            assert_eq!(of(replaced).len(), 32);
        }
        assert_ne!(of(b""), of(b""));
    }
}
