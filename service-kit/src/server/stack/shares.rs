//! The quotas of the server, and the parts of them that each address and each connection has.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{Arc, Mutex},
};

use super::{
    super::settings::{MAX_REQUEST_BYTES, Settings},
    quota::{Of, Quota},
};
use crate::{sync::lock, time_share::TimeShare};

/// The part of all processors for what costs much.
const WORK: f64 = 0.25;

/// The quotas that calls count against.
#[derive(Debug)]
pub(super) struct Quotas {
    pub(super) calls: Quota,
    pub(super) streams: Quota,
    pub(super) requests: Quota,
    pub(super) responses: Quota,
    /// The processor time of what costs much.
    pub(super) work: TimeShare,
}

/// The quotas of a server.
#[derive(Debug)]
pub(super) struct Shares {
    all: Arc<Quotas>,
    /// The addresses with open connections. Empty where they do not tell clients apart.
    by_address: Arc<Mutex<HashMap<IpAddr, OfAddress>>>,
    is_by_address: bool,
}

#[derive(Debug)]
struct OfAddress {
    quotas: Quotas,
    connections: usize,
}

/// The quotas of one connection. Clones share them; those of its address are forgotten with the last connection.
#[derive(Debug, Clone)]
pub(super) struct Share {
    pub(super) quotas: Arc<Quotas>,
    _address: Option<Arc<Address>>,
}

#[derive(Debug)]
struct Address {
    ip: IpAddr,
    by_address: Arc<Mutex<HashMap<IpAddr, OfAddress>>>,
}

impl Quotas {
    /// Returns parts of them: each a fraction, but of bytes enough for any message.
    fn part(&self, of: Of, parts: usize) -> Self {
        Self {
            calls: self.calls.part(of, parts, 1),
            streams: self.streams.part(of, parts, 1),
            requests: self.requests.part(of, parts, MAX_REQUEST_BYTES),
            responses: self.responses.part(of, parts, MAX_REQUEST_BYTES),
            work: self.work.part(parts),
        }
    }
}

impl Shares {
    pub(super) fn new(settings: &Settings) -> Self {
        let processors = std::thread::available_parallelism().map_or(1.0, |count| count.get() as f64);
        let all = Quotas {
            calls: Quota::new(settings.max_unary_calls, "calls running at a time"),
            streams: Quota::new(settings.max_streams, "streams open at a time"),
            requests: Quota::new(settings.max_request_bytes_held, "bytes of requests held"),
            responses: Quota::new(settings.max_response_bytes_held, "bytes of responses held"),
            work: TimeShare::new(processors * WORK),
        };
        Self {
            all: Arc::new(all),
            by_address: Arc::default(),
            is_by_address: settings.max_connections_per_address.is_some(),
        }
    }

    /// Returns the quotas of all connections together.
    pub(super) fn all(&self) -> Arc<Quotas> {
        self.all.clone()
    }

    /// Returns the share of a new connection: a quarter. All connections of one address have half of everything, unless all
    /// clients come through a proxy.
    pub(super) fn of_connection(&self, ip: IpAddr) -> Share {
        if !self.is_by_address {
            return Share { quotas: Arc::new(self.all.part(Of::Connection, 4)), _address: None };
        }
        let quotas = {
            let mut by_address = lock(&self.by_address);
            let of_address = by_address
                .entry(ip)
                .or_insert_with(|| OfAddress { quotas: self.all.part(Of::Address, 2), connections: 0 });
            of_address.connections += 1;
            Arc::new(of_address.quotas.part(Of::Connection, 2))
        };
        Share { quotas, _address: Some(Arc::new(Address { ip, by_address: self.by_address.clone() })) }
    }
}

impl Drop for Address {
    fn drop(&mut self) {
        if let Entry::Occupied(mut of_address) = lock(&self.by_address).entry(self.ip) {
            of_address.get_mut().connections -= 1;
            if of_address.get().connections == 0 {
                of_address.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_of_one_address_share_a_half_which_is_forgotten_with_the_last() {
        let settings = Settings { max_unary_calls: 16, max_connections_per_address: Some(10), ..Settings::default() };
        let shares = Shares::new(&settings);
        let (near, far) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let near: Vec<_> = (0..3).map(|_| shares.of_connection(near)).collect();
        let taken: Vec<_> = near[..2].iter().map(|share| share.quotas.calls.take(4).unwrap()).collect();
        assert!(near[0].quotas.calls.take(1).is_err() && near[2].quotas.calls.take(1).is_err());
        shares.of_connection(far).quotas.calls.take(4).unwrap();
        drop((near, taken));
        assert!(lock(&shares.by_address).is_empty());
    }
}
