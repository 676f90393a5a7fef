//! CORS: the web pages that may call over gRPC-Web, and the headers that they may send and read.

use std::time::Duration;

use http::{HeaderName, Method};
use tower_http::cors::{AllowHeaders, AllowOrigin, CorsLayer};

use super::request_id;
use crate::names::Origin;

/// The time for which a browser may cache the response to a preflight request.
const MAX_AGE: Duration = Duration::from_hours(2);

/// Returns the layer for these origins, or `None` without origins: no CORS header is sent then.
pub(super) fn layer(origins: &[Origin]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let allowed = AllowOrigin::list(origins.iter().map(Origin::as_header).cloned());
    // Without these a page sees every error as "closed without a status".
    let named = HeaderName::from_static;
    let seen = [named("grpc-status"), named("grpc-message"), named("grpc-status-details-bin"), request_id::HEADER];
    let layer = CorsLayer::new().allow_origin(allowed).allow_methods([Method::POST]);
    // Whatever it asks for: metadata has any name, and tracing libraries add theirs to each call.
    Some(layer.allow_headers(AllowHeaders::mirror_request()).expose_headers(seen).max_age(MAX_AGE))
}
