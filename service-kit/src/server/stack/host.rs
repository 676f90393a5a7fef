//! Refuses foreign `Host` names on a loopback listener without authentication.
//!
//! A web page can make its own name resolve to 127.0.0.1 and is then of the same origin as a server that listens
//! there. The `Host` header reveals it.

use http::{Request, header::HOST, uri::Authority};

use crate::{
    failure::{Failure, Reason},
    names::{HostName, is_loopback_host},
};

/// Accepts requests that have a host name and whose host names are all loopback names or `allowed`.
pub(super) fn check<B>(request: &Request<B>, allowed: &[HostName]) -> Result<(), Failure> {
    let in_uri = request.uri().authority().map(Authority::as_str);
    let in_headers = request.headers().get_all(HOST).iter().map(|value| value.to_str().unwrap_or_default());
    let mut names = in_uri.into_iter().chain(in_headers).peekable();
    if names.peek().is_some()
        && names.all(|name| is_loopback_host(name) || allowed.iter().any(|allowed| allowed.is_of(name)))
    {
        return Ok(());
    }
    tracing::info!("request refused: its host name is neither a loopback name nor in --allow-host");
    let message = "only loopback host names are answered while there is no authentication; --allow-host (ALLOW_HOST) adds the \
                   name under which a proxy, an emulator or a forwarded port reaches the service";
    Err(Failure::of(Reason::HostNotAllowed, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_given_counts_and_there_must_be_one() {
        let request = |uri: &str, host: Option<&str>| {
            let builder = Request::builder().uri(uri);
            host.into_iter().fold(builder, |builder, host| builder.header(HOST, host)).body(()).unwrap()
        };
        let allowed = ["chat.example".parse().unwrap(), "10.0.2.2".parse().unwrap()];
        for (uri, host) in [
            ("http://localhost/x", None),
            ("/x", Some("127.0.0.1")),
            ("/x", Some("Chat.example:50051")),
            ("/x", Some("10.0.2.2:50052")),
            ("http://chat.example./x", Some("localhost")),
        ] {
            assert!(check(&request(uri, host), &allowed).is_ok(), "{uri} {host:?}");
        }
        for (uri, host) in [
            ("http://localhost/x", Some("evil.example")),
            ("http://chat.example/x", Some("evil.example")),
            ("/x", Some("a.chat.example")),
            ("/x", Some("me@chat.example")),
            ("/x", None),
        ] {
            assert!(check(&request(uri, host), &allowed).is_err(), "{uri} {host:?}");
        }
    }
}
