//! The address of user-service.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use service_kit::tls::client::{ClientFiles, Connector};
use tonic::transport::{Endpoint, Uri};

/// The address of user-service: `http://host:port`, or `https://host:port` for TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    pub(super) uri: Uri,
    pub(super) host: String,
    pub(super) port: u16,
    /// TLS, for `https`.
    pub(super) tls: Option<ClientFiles>,
}

/// The error for a text that is no [`Address`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it must be http://host:port or https://host:port")]
pub struct NotAnAddress;

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let uri: Uri = text.parse().map_err(|_| NotAnAddress)?;
        let bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        let (Some(scheme), Some(host), Some(port), true) = (uri.scheme_str(), uri.host(), uri.port_u16(), bare) else {
            return Err(NotAnAddress);
        };
        let tls = match scheme {
            "http" => None,
            "https" => Some(ClientFiles::default()),
            _ => return Err(NotAnAddress),
        };
        // An IPv6 literal has brackets in a URL only.
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() || uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(NotAnAddress);
        }
        Ok(Self { uri, host, port, tls })
    }
}

impl Address {
    /// Returns the address of a service that listens on this socket, as in tests and in `parlance serve`.
    pub fn of_socket(socket: SocketAddr) -> Self {
        let authority = socket.to_string();
        let (host, port) = (socket.ip().to_string(), socket.port());
        let uri = Uri::builder().scheme("http").authority(authority).path_and_query("/").build();
        Self { uri: uri.unwrap_or_default(), host, port, tls: None }
    }

    /// Returns true if the address is `https`.
    pub fn is_secure(&self) -> bool {
        self.tls.is_some()
    }

    /// Returns the same address with these files for TLS, if it is `https`.
    #[must_use]
    pub fn with_files(self, files: ClientFiles) -> Self {
        let tls = self.tls.map(|_| files);
        Self { tls, ..self }
    }

    /// Returns the endpoint at one of the sockets of the host, or where the connector finds it. Calls name the configured
    /// host in any case.
    pub(super) fn endpoint(&self, socket: Option<SocketAddr>) -> Option<Endpoint> {
        let endpoint = match (socket, &self.tls) {
            (None, None) => return Some(Endpoint::from(self.uri.clone())),
            (Some(socket), _) => Endpoint::from_shared(format!("http://{socket}")),
            // The connector adds TLS, below what tonic sees.
            (None, Some(_)) => Endpoint::from_shared(format!("http://{}", self.uri.authority()?)),
        };
        Some(endpoint.ok()?.origin(self.uri.clone()))
    }

    /// Returns what connects by TLS to one of the sockets of the host, or to where its name is resolved to then. The
    /// certificate there must be for the host.
    pub(super) fn connector(&self, socket: Option<SocketAddr>) -> Option<Connector> {
        self.tls.clone().map(|files| Connector::new(&self.host, self.port, socket, files))
    }

    /// Returns true if the host needs no name resolution here: a literal, or `localhost`, which the connector resolves.
    pub(super) fn is_resolved(&self) -> bool {
        self.host == "localhost" || self.host.parse::<IpAddr>().is_ok()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.uri)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_scheme_a_host_and_a_port() {
        for (text, host, port) in [
            ("http://127.0.0.1:50051", "127.0.0.1", 50051),
            ("http://[::1]:1/", "::1", 1),
            ("http://users.chat.svc:50051", "users.chat.svc", 50051),
        ] {
            let address: Address = text.parse().unwrap();
            assert_eq!((address.host.as_str(), address.port, address.is_secure()), (host, port, false));
            let secure: Address = text.replace("http:", "https:").parse().unwrap();
            assert_eq!((secure.host.as_str(), secure.port, secure.is_secure()), (host, port, true));
        }
        for text in ["", "users:50051", "http://users", "ftp://users:1", "http://users:1/path", "http://a@b:1"] {
            assert!(text.parse::<Address>().is_err(), "{text:?}");
        }
    }
}
