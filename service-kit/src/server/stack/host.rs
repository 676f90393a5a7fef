//! Refuses foreign `Host` names on a loopback listener without authentication.
//!
//! A web page can make its own name resolve to 127.0.0.1 and is then of the same origin as a server that listens
//! there. The `Host` header reveals it.

use std::net::IpAddr;

use http::{Request, header::HOST, uri::Authority};

use crate::failure::{Failure, Reason};

/// Accepts requests that have a host name and whose host names are all loopback names.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), Failure> {
    let in_uri = request.uri().authority().map(Authority::as_str);
    let in_headers = request.headers().get_all(HOST).iter().map(|value| value.to_str().unwrap_or_default());
    let mut names = in_uri.into_iter().chain(in_headers).peekable();
    if names.peek().is_some() && names.all(is_loopback) {
        return Ok(());
    }
    tracing::info!("request refused: not a loopback host name");
    let message = "only loopback host names are answered while there is no authentication";
    Err(Failure::of(Reason::HostNotAllowed, message))
}

/// True if a host name, with or without a port, always resolves to this machine.
pub fn is_loopback(name: &str) -> bool {
    let Ok(authority) = name.parse::<Authority>() else {
        return false;
    };
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_names_pass_and_others_do_not() {
        for name in ["localhost", "LOCALHOST:50051", "127.0.0.1:1", "127.8.9.10", "[::1]", "[::1]:50051"] {
            assert!(is_loopback(name), "{name}");
        }
        for name in ["", "example.com", "localhost.example.com", "localhost@example.com", "10.0.0.1", "[::2]:1", "a b"]
        {
            assert!(!is_loopback(name), "{name}");
        }
    }

    #[test]
    fn every_name_given_counts_and_there_must_be_one() {
        let request = |uri: &str, host: Option<&str>| {
            let builder = Request::builder().uri(uri);
            host.into_iter().fold(builder, |builder, host| builder.header(HOST, host)).body(()).unwrap()
        };
        assert!(check(&request("http://localhost/x", None)).is_ok());
        assert!(check(&request("/x", Some("127.0.0.1"))).is_ok());
        assert!(check(&request("http://localhost/x", Some("evil.example"))).is_err());
        assert!(check(&request("/x", None)).is_err());
    }
}
