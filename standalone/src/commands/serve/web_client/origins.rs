//! The origins of the web client and the services, as a browser names them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use service_kit::healthcheck::reachable;

/// The addresses of the services.
#[derive(Debug, Clone, Copy)]
pub(super) struct Services {
    pub(super) user: SocketAddr,
    pub(super) message: SocketAddr,
}

/// Returns the origins of the web client at this address.
pub(super) fn of_web_client(address: SocketAddr) -> [String; 2] {
    let address = reachable(address);
    // A browser omits the default port.
    let port = if address.port() == 80 { String::new() } else { format!(":{}", address.port()) };
    let name = match address.ip() {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => format!("[{ip}]"),
    };
    [format!("http://{name}{port}"), format!("http://localhost{port}")]
}

/// Returns the origin of a service for a web client opened by this host name: the same name, if it leads to the service.
pub(super) fn of_service(service: SocketAddr, host: &str) -> String {
    let is_name = host.parse::<Ipv4Addr>().is_err() && !host.starts_with('[');
    let name = match service.ip() {
        ip if ip.is_unspecified() && !host.starts_with('[') => host.to_owned(),
        IpAddr::V4(Ipv4Addr::LOCALHOST) if is_name => "localhost".to_owned(),
        IpAddr::V4(ip) if !ip.is_unspecified() => ip.to_string(),
        IpAddr::V6(ip) if !ip.is_unspecified() && ip != Ipv6Addr::LOCALHOST => format!("[{ip}]"),
        // A content security policy cannot express IPv6 addresses.
        _ => "localhost".to_owned(),
    };
    format!("http://{name}:{}", service.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_has_the_name_that_the_web_client_was_opened_by() {
        for (service, host, expected) in [
            ("127.0.0.1:5", "localhost", "http://localhost:5"),
            ("127.0.0.1:5", "127.0.0.1", "http://127.0.0.1:5"),
            ("127.0.0.1:5", "[::1]", "http://127.0.0.1:5"),
            ("[::1]:5", "[::1]", "http://localhost:5"),
            ("[::1]:5", "localhost", "http://localhost:5"),
            ("0.0.0.0:5", "chat.lan", "http://chat.lan:5"),
            ("0.0.0.0:5", "127.0.0.1", "http://127.0.0.1:5"),
            ("[::]:5", "[::1]", "http://localhost:5"),
            ("10.0.0.7:5", "localhost", "http://10.0.0.7:5"),
        ] {
            assert_eq!(of_service(service.parse().unwrap(), host), expected, "{service} for {host}");
        }
    }

    #[test]
    fn the_web_client_has_the_origins_that_lead_to_it() {
        let of = |address: &str| of_web_client(address.parse().unwrap());
        assert_eq!(of("127.0.0.1:8080"), ["http://127.0.0.1:8080", "http://localhost:8080"]);
        assert_eq!(of("0.0.0.0:80"), ["http://127.0.0.1", "http://localhost"]);
        assert_eq!(of("[::1]:8080")[0], "http://[::1]:8080");
    }
}
