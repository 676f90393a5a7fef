//! Etags of requests.

use service_kit::bounds::{self, OutOfBounds};

use crate::domain::Etag;

/// Parses an etag. A text that was never issued is stale, not malformed.
pub(in crate::grpc) fn parse(text: &str) -> Result<Etag, OutOfBounds> {
    bounds::no_nul(text).map(|()| Etag::read(text))
}
