//! Refuses foreign `Host` names on a loopback listener without authentication.

use http::Request;

use crate::{
    failure::{Failure, Reason},
    names::{HostName, has_known_host},
};

/// Accepts requests that have a host name and whose host names are all loopback names or `allowed`.
pub(super) fn check<B>(request: &Request<B>, allowed: &[HostName]) -> Result<(), Failure> {
    if has_known_host(request, allowed) {
        return Ok(());
    }
    tracing::info!("request refused: its host name is neither a loopback name nor in --allow-host");
    let message = "only loopback host names are answered while there is no authentication; --allow-host (ALLOW_HOST) adds the \
                   name under which a proxy, an emulator or a forwarded port reaches the service";
    Err(Failure::of(Reason::HostNotAllowed, message))
}

#[cfg(test)]
mod tests {
    use http::header::HOST;

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
