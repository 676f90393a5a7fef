//! Answers requests for the web client: with a file, with the addresses of the services, or with an error.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{
        ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HOST, IF_NONE_MATCH, REFERRER_POLICY,
        X_CONTENT_TYPE_OPTIONS,
    },
    uri::Authority,
};
use http_body_util::Full;
use service_kit::names::{HostName, is_loopback_host};

use super::{
    files::{self, File},
    origins::{Services, of_service},
};

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";

/// The files and the rules for serving them.
pub(super) struct Site {
    files: Vec<File>,
    services: Services,
    /// Guards against DNS rebinding: a foreign page whose name resolves to 127.0.0.1 has the same origin as this site, but
    /// its requests carry the foreign name.
    loopback_hosts_only: bool,
    /// The names that a proxy passes on. It passes calls on by the same names, too.
    proxied: Vec<HostName>,
}

impl Site {
    /// Creates the site of a listener.
    pub(super) fn new(local: SocketAddr, services: Services, proxied: Vec<HostName>) -> Self {
        Self { files: files::all(), services, loopback_hosts_only: local.ip().is_loopback(), proxied }
    }

    /// Answers one request. hyper omits the body of the response to a HEAD request.
    pub(super) fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let Some(host) = host(request).filter(|host| self.accepts(host)) else {
            let text = "The web client accepts localhost, 127.0.0.1 and the names of --allow-host (ALLOW_HOST) only.\n";
            return self.refuse(StatusCode::FORBIDDEN, text);
        };
        if ![Method::GET, Method::HEAD].contains(request.method()) {
            let mut answer = self.refuse(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD are supported.\n");
            answer.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return answer;
        }
        let path = request.uri().path();
        if path == "/config.json" {
            let [user, message] = self.service_origins(&host);
            let text = format!(r#"{{"user_service": "{user}", "message_service": "{message}"}}"#);
            return self.respond(StatusCode::OK, JSON, text.into(), "no-store", &host);
        }
        let Some(file) = self.files.iter().find(|file| file.path == path) else {
            return self.refuse(StatusCode::NOT_FOUND, "Not found.\n");
        };
        // The browser revalidates each time, since a new binary brings new files.
        let (status, content) = if has(request.headers(), &file.etag) {
            (StatusCode::NOT_MODIFIED, Bytes::new())
        } else {
            (StatusCode::OK, file.content.clone())
        };
        let mut answer = self.respond(status, file.content_type, content, "no-cache", &host);
        answer.headers_mut().extend(HeaderValue::from_str(&file.etag).map(|etag| (ETAG, etag)));
        answer
    }

    fn refuse(&self, status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
        self.respond(status, TEXT, Bytes::from_static(text.as_bytes()), "no-store", "localhost")
    }

    fn respond(
        &self,
        status: StatusCode,
        content_type: &'static str,
        content: Bytes,
        cache: &'static str,
        host: &str,
    ) -> Response<Full<Bytes>> {
        let [user, message] = self.service_origins(host);
        let policy = format!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
             connect-src 'self' {user} {message}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
             require-trusted-types-for 'script'; trusted-types 'none'"
        );
        let mut answer = Response::new(Full::new(content));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
        headers.extend(HeaderValue::from_str(&policy).map(|policy| (CONTENT_SECURITY_POLICY, policy)));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert("cross-origin-opener-policy", HeaderValue::from_static("same-origin"));
        headers.insert("cross-origin-resource-policy", HeaderValue::from_static("same-origin"));
        answer
    }

    fn accepts(&self, host: &str) -> bool {
        !self.loopback_hosts_only || is_loopback_host(host) || self.is_proxied(host)
    }

    fn is_proxied(&self, host: &str) -> bool {
        self.proxied.iter().any(|proxied| proxied.is_of(host))
    }

    /// Returns the origins of the services for a web client opened by this host name; behind a proxy they are empty, which
    /// stands for the web client's own.
    fn service_origins(&self, host: &str) -> [String; 2] {
        if self.is_proxied(host) {
            return [String::new(), String::new()];
        }
        [of_service(self.services.user, host), of_service(self.services.message, host)]
    }
}

/// Returns the host name of the request, without the port; `None` unless there is exactly one, and it is a plain name or
/// address without characters that are special in a header or in JSON.
fn host<B>(request: &Request<B>) -> Option<String> {
    let mut hosts = request.headers().get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else { return None };
    let host: Authority = host.to_str().ok()?.parse().ok()?;
    if request.uri().authority().is_some_and(|named| *named != host) {
        return None;
    }
    let name = host.host();
    let is_plain = |character: char| character.is_ascii_alphanumeric() || ".-:[]".contains(character);
    (!host.as_str().contains('@') && !name.is_empty() && name.chars().all(is_plain)).then(|| name.to_owned())
}

fn has(headers: &HeaderMap, etag: &str) -> bool {
    let listed = headers.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    listed.flat_map(|value| value.split(',')).any(|value| value.trim().trim_start_matches("W/") == etag)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site() -> Site {
        let services = Services { user: "127.0.0.1:1".parse().unwrap(), message: "127.0.0.1:2".parse().unwrap() };
        Site::new("127.0.0.1:3".parse().unwrap(), services, vec!["chat.example".parse().unwrap()])
    }

    fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Response<Full<Bytes>> {
        let request = Request::builder().method(method).uri(path);
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        site().answer(&request.body(()).unwrap())
    }

    #[test]
    fn loopback_names_are_accepted_and_others_refused() {
        for name in ["localhost:3", "LOCALHOST", "127.0.0.1:3", "[::1]:3"] {
            assert_eq!(request("GET", "/", &[("host", name)]).status(), StatusCode::OK, "{name}");
        }
        for name in ["", "evil.example", "localhost.evil.example:3", "me@localhost:3", "10.0.0.1", "local host"] {
            assert_eq!(request("GET", "/", &[("host", name)]).status(), StatusCode::FORBIDDEN, "{name}");
        }
        let twice = [("host", "localhost:3"), ("host", "evil.example")];
        for headers in [&twice[..], &[]] {
            assert_eq!(request("GET", "/", headers).status(), StatusCode::FORBIDDEN, "{headers:?}");
        }
        assert_eq!(request("GET", "http://evil.example/", &twice[..1]).status(), StatusCode::FORBIDDEN);
    }

    #[test]
    fn behind_a_proxy_the_services_have_the_origin_of_the_web_client() {
        assert_eq!(site().service_origins("Chat.example"), ["", ""]);
        assert_eq!(site().service_origins("localhost"), ["http://localhost:1", "http://localhost:2"]);
        let answer = request("GET", "/config.json", &[("host", "chat.example:443")]);
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(answer.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap().contains("connect-src 'self'"));
    }

    #[test]
    fn a_cached_file_is_not_sent_again() {
        let host = ("host", "localhost:3");
        let first = request("GET", "/app.js", &[host]);
        let etag = first.headers()[ETAG].to_str().unwrap();
        for known in [etag, &format!("\"other\", W/{etag}")] {
            let again = request("GET", "/app.js", &[host, ("if-none-match", known)]);
            assert_eq!((again.status(), &again.headers()[ETAG]), (StatusCode::NOT_MODIFIED, &first.headers()[ETAG]));
            assert!(again.headers().contains_key(CONTENT_SECURITY_POLICY));
        }
        assert_eq!(request("GET", "/app.js", &[host, ("if-none-match", "\"other\"")]).status(), StatusCode::OK);
    }

    #[test]
    fn only_reads_are_supported() {
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            let answer = request(method, "/", &[("host", "localhost:3")]);
            assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{method}");
            assert_eq!(answer.headers()[ALLOW], "GET, HEAD");
        }
    }
}
