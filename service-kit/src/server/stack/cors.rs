//! CORS: the web pages that may call over gRPC-Web, and the headers that they may send and read.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Method, header};
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::request_id;

/// The time for which a browser may cache the response to a preflight request.
const MAX_AGE: Duration = Duration::from_hours(2);

/// Returns the layer for these origins (`*` for all), or `None` without origins: no CORS header is sent then.
pub(super) fn layer(origins: &[HeaderValue]) -> Option<CorsLayer> {
    if origins.is_empty() {
        return None;
    }
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.iter().cloned())
    };
    let named = HeaderName::from_static;
    let sent = [
        header::CONTENT_TYPE,
        header::AUTHORIZATION,
        named("x-grpc-web"),
        named("x-user-agent"),
        named("grpc-timeout"),
        request_id::HEADER,
    ];
    // Without these a page sees every error as "closed without a status".
    let seen = [named("grpc-status"), named("grpc-message"), named("grpc-status-details-bin"), request_id::HEADER];
    let layer = CorsLayer::new().allow_origin(allowed).allow_methods([Method::POST]);
    Some(layer.allow_headers(sent).expose_headers(seen).max_age(MAX_AGE))
}
