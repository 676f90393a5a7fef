//! Refuses calls of web pages whose origin is not allowed.

use http::{Request, header::ORIGIN};

use crate::{
    failure::{Failure, Reason},
    names::Origin,
};

/// Refuses a page whose origin is not allowed. A browser names the origin in every call, so no page can call by making its
/// own name resolve to this server (DNS rebinding), and none where CORS alone would only hide the response.
pub(super) fn check<B>(request: &Request<B>, allowed: &[Origin]) -> Result<(), Failure> {
    let mut given = request.headers().get_all(ORIGIN).iter();
    let Some(foreign) = given.find(|given| allowed.iter().all(|origin| origin.as_header() != *given)) else {
        return Ok(());
    };
    let foreign = String::from_utf8_lossy(foreign.as_bytes());
    tracing::info!(origin = %foreign.escape_debug().take(MAX_LOGGED).collect::<String>(), "request refused: origin not allowed");
    let message = "pages of this origin may not call; --cors-allow-origin allows it, also where the page and the service have \
                   the same name";
    Err(Failure::of(Reason::OriginNotAllowed, message).with("origin", foreign))
}

/// The number of characters of an origin that are logged.
const MAX_LOGGED: usize = 200;
