//! The client side of health: checks that a running service is serving. For container images without a shell, whose health
//! check is a subcommand of the service itself.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::time::timeout;
use tonic::{Code, Status, transport::Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::tls::client::Connector;

/// The timeout for connecting and answering together.
const LIMIT: Duration = Duration::from_secs(2);

/// The reason why a service does not count as serving, on one line.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It reports that it is not serving.
    #[error("{address} is not serving")]
    NotServing {
        /// The address.
        address: SocketAddr,
    },
    /// It cannot be reached.
    #[error("{address} cannot be reached: {cause}")]
    Unreachable {
        /// The address.
        address: SocketAddr,
        /// The cause.
        cause: String,
    },
    /// It does not answer.
    #[error("{address} did not answer within {LIMIT:?}")]
    Silent {
        /// The address.
        address: SocketAddr,
    },
}

/// Calls `grpc.health.v1.Health/Check` for the whole process, once, within 2 s.
///
/// # Errors
/// A [`Problem`] unless the answer is SERVING.
pub async fn ask(listen: SocketAddr) -> Result<(), Problem> {
    ask_over(Over::Plain, listen).await
}

/// How a service is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// Without TLS.
    Plain,
    /// By TLS. Its certificate is not verified: it is for the name by which others know the service.
    Tls,
}

/// Does the same as [`ask`], also by TLS.
///
/// # Errors
/// A [`Problem`] unless the answer is SERVING.
pub async fn ask_over(over: Over, listen: SocketAddr) -> Result<(), Problem> {
    let address = reachable(listen);
    match timeout(LIMIT, check(over, address)).await {
        Ok(Ok(ServingStatus::Serving)) => Ok(()),
        Ok(Ok(_)) => Err(Problem::NotServing { address }),
        Ok(Err(status)) => Err(Problem::Unreachable { address, cause: cause_of(&status) }),
        Err(_) => Err(Problem::Silent { address }),
    }
}

async fn check(over: Over, address: SocketAddr) -> Result<ServingStatus, Status> {
    let unavailable = |error: tonic::transport::Error| Status::from_error(Box::new(error));
    let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(unavailable)?;
    let channel = match over {
        Over::Plain => endpoint.connect().await,
        Over::Tls => endpoint.connect_with_connector(Connector::unverified(address)).await,
    };
    let channel = channel.map_err(unavailable)?;
    let response = HealthClient::new(channel).check(HealthCheckRequest::default()).await?;
    Ok(response.into_inner().status())
}

/// Returns the address for a client on this machine: loopback if it listens on all addresses.
pub fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn cause_of(status: &Status) -> String {
    let causes = std::iter::successors(std::error::Error::source(status), |error| error.source());
    match (status.code(), causes.last()) {
        (Code::Unknown | Code::Unavailable, Some(root)) => root.to_string(),
        (code, _) => format!("{code:?}: {}", status.message()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unspecified_address_is_asked_on_loopback() {
        let cases =
            [("0.0.0.0:1", "127.0.0.1:1"), ("[::]:1", "[::1]:1"), ("10.0.0.7:1", "10.0.0.7:1"), ("[::1]:1", "[::1]:1")];
        for (listen, asked) in cases {
            assert_eq!(reachable(listen.parse().unwrap()), asked.parse().unwrap());
        }
    }

    #[tokio::test]
    async fn a_refused_connection_is_one_clear_line() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = ask(free).await.unwrap_err().to_string();
        assert!(text.contains(&free.to_string()) && text.contains("refused") && !text.contains('\n'), "{text}");
    }
}
