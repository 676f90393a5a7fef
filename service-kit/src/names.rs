//! Names by which a server is called: hosts of requests, and origins of the web pages that call.

use std::{
    net::{IpAddr, Ipv6Addr},
    str::FromStr,
};

use http::{HeaderValue, Request, header::HOST, uri::Authority};

/// An origin: scheme, host and, unless it is the usual one of the scheme, the port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(HeaderValue);

/// The text is not an origin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an origin is scheme://host or scheme://host:port, such as https://chat.example: without a path or a wildcard, and \
     with a name beyond ASCII in its xn-- form"
)]
pub struct NotAnOrigin;

impl Origin {
    /// Returns the origin as browsers send it.
    pub(crate) fn as_header(&self) -> &HeaderValue {
        &self.0
    }
}

impl FromStr for Origin {
    type Err = NotAnOrigin;

    /// Reads an origin in any case, with or without the usual port, also with the slash that an address bar shows.
    fn from_str(text: &str) -> Result<Self, NotAnOrigin> {
        let (scheme, rest) = text.trim().split_once("://").ok_or(NotAnOrigin)?;
        let scheme = scheme.to_ascii_lowercase();
        if !is_scheme(&scheme) {
            return Err(NotAnOrigin);
        }
        let authority: Authority = rest.strip_suffix('/').unwrap_or(rest).parse().map_err(|_| NotAnOrigin)?;
        let host = host_of_origin(authority.host()).ok_or(NotAnOrigin)?;
        let port = match authority.as_str().strip_prefix(authority.host()) {
            Some("") => None,
            Some(port) => Some(port.strip_prefix(':').and_then(|port| port.parse::<u16>().ok()).ok_or(NotAnOrigin)?),
            // User information comes before the host.
            None => return Err(NotAnOrigin),
        };
        let usual = USUAL_PORTS.iter().find(|(of, _)| *of == scheme).map(|(_, port)| *port);
        let port = port.filter(|port| Some(*port) != usual).map(|port| format!(":{port}")).unwrap_or_default();
        HeaderValue::try_from(format!("{scheme}://{host}{port}")).map(Self).map_err(|_| NotAnOrigin)
    }
}

/// The ports that browsers leave out.
const USUAL_PORTS: [(&str, u16); 2] = [("http", 80), ("https", 443)];

fn is_scheme(text: &str) -> bool {
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "+-.".contains(character);
    text.starts_with(|first: char| first.is_ascii_alphabetic()) && text.chars().all(is_plain)
}

/// Returns a host as browsers write it; `None` if no origin has it.
fn host_of_origin(text: &str) -> Option<String> {
    if let Some(address) = text.strip_prefix('[') {
        let address: Ipv6Addr = address.strip_suffix(']')?.parse().ok()?;
        return Some(format!("[{address}]"));
    }
    let is_plain = |character: char| character.is_ascii_alphanumeric() || "-._".contains(character);
    (!text.is_empty() && text.chars().all(is_plain)).then(|| text.to_ascii_lowercase())
}

/// A host name, without a port, under which a loopback listener is reached beside the loopback names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostName(String);

/// The text is not a host name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a host name or address such as chat.example or 10.0.2.2, without scheme, port, path or wildcard")]
pub struct NotAHostName;

impl HostName {
    /// True if an authority, with or without a port, has this name.
    pub fn is_of(&self, authority: &str) -> bool {
        host(authority).is_some_and(|host| self.0 == without_dot(&host))
    }
}

impl FromStr for HostName {
    type Err = NotAHostName;

    fn from_str(text: &str) -> Result<Self, NotAHostName> {
        let name = text.trim();
        let host = host(name).ok_or(NotAHostName)?;
        let is_plain = |character: char| character.is_ascii_alphanumeric() || "-._:[]".contains(character);
        let whole = name.len() == host.len() && name.chars().all(is_plain);
        whole.then(|| Self(without_dot(&host).to_owned())).ok_or(NotAHostName)
    }
}

/// True if a request has a host name, and all that it has are loopback names or `allowed`. A web page can make its own name
/// resolve to 127.0.0.1 and is then of the same origin as a server that listens there: the name reveals it.
pub(crate) fn has_known_host<B>(request: &Request<B>, allowed: &[HostName]) -> bool {
    let in_uri = request.uri().authority().map(Authority::as_str);
    let in_headers = request.headers().get_all(HOST).iter().map(|value| value.to_str().unwrap_or_default());
    let mut names = in_uri.into_iter().chain(in_headers).peekable();
    names.peek().is_some()
        && names.all(|name| is_loopback_host(name) || allowed.iter().any(|allowed| allowed.is_of(name)))
}

/// True if a host name, with or without a port, always resolves to this machine.
pub fn is_loopback_host(name: &str) -> bool {
    let Some(host) = host(name) else {
        return false;
    };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let name = without_dot(&host);
    // RFC 6761: names below localhost resolve to loopback addresses only.
    name == "localhost"
        || name.strip_suffix(".localhost").is_some_and(|below| !below.is_empty())
        || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Returns the host of an authority, in lower case; `None` if it has user information or cannot be read.
fn host(name: &str) -> Option<String> {
    let authority: Authority = name.parse().ok()?;
    authority.as_str().starts_with(authority.host()).then(|| authority.host().to_ascii_lowercase())
}

/// Returns a host without the final dot of a fully qualified name.
fn without_dot(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_read_in_the_form_that_browsers_send() {
        for (text, sent) in [
            ("https://chat.example", "https://chat.example"),
            ("HTTPS://Chat.Example:443/", "https://chat.example"),
            ("http://chat.example:80", "http://chat.example"),
            ("http://chat.example:443", "http://chat.example:443"),
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://[0:0::1]:8080", "http://[::1]:8080"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("ionic://localhost", "ionic://localhost"),
            ("tauri://localhost", "tauri://localhost"),
            (
                "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
                "chrome-extension://abcdefghijklmnopabcdefghijklmnop",
            ),
            (
                "moz-extension://6e0e7cb1-40cc-4fe0-9d40-9a8d3c1b8a10",
                "moz-extension://6e0e7cb1-40cc-4fe0-9d40-9a8d3c1b8a10",
            ),
        ] {
            assert_eq!(text.parse::<Origin>().unwrap().as_header(), sent, "{text}");
        }
    }

    #[test]
    fn text_that_no_browser_would_send_is_refused() {
        for text in [
            "",
            "*",
            "null",
            "chat.example",
            "https://",
            "https:///",
            "https://chat.example/app",
            "https://chat.example//",
            "https://chat.example?x",
            "https://chat.example#x",
            "https://*.example",
            "https://me@chat.example",
            "https://chat.example:",
            "https://chat.example:70000",
            "https://chat example",
            "https://tschüs.example",
            "http://[::1",
            "file://",
            "1a://chat.example",
        ] {
            assert_eq!(text.parse::<Origin>(), Err(NotAnOrigin), "{text}");
        }
    }

    #[test]
    fn loopback_names_pass_and_others_do_not() {
        for name in [
            "localhost",
            "LOCALHOST:50051",
            "localhost.",
            "chat.localhost",
            "A.b.LocalHost:8080",
            "127.0.0.1:1",
            "127.8.9.10",
            "[::1]",
            "[::1]:50051",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(is_loopback_host(name), "{name}");
        }
        for name in [
            "",
            "example.com",
            "localhost.example.com",
            "evillocalhost",
            ".localhost",
            "localhost@example.com",
            "me@localhost",
            "10.0.0.1",
            "[::2]:1",
            "[::ffff:10.0.0.1]",
            "a b",
        ] {
            assert!(!is_loopback_host(name), "{name}");
        }
    }

    #[test]
    fn a_setting_names_a_host_and_nothing_else() {
        for text in ["chat.example", " Chat.Example ", "10.0.2.2", "[fd00::1]", "chat.example."] {
            assert!(text.parse::<HostName>().is_ok(), "{text}");
        }
        for text in ["", "chat.example:50051", "https://chat.example", "chat.example/", "*.example", "me@chat.example"]
        {
            assert_eq!(text.parse::<HostName>(), Err(NotAHostName), "{text}");
        }
    }
}
