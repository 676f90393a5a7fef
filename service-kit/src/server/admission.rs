//! Admission of connections: the limit in total, the limit per address, and the pauses after accepts that failed.

use std::{
    io,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use crate::{
    backoff::Backoff,
    bounded::{Bounded, Part},
};

/// The places of connections. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Admission(Bounded<IpAddr>);

/// One place, free again when it is dropped.
pub(super) type Place = Part<IpAddr>;

impl Admission {
    pub(super) fn new(most: usize, most_per_address: Option<usize>) -> Self {
        Self(Bounded::new(most, most_per_address.unwrap_or(most)))
    }

    /// Takes a place for a peer, if there is one.
    pub(super) fn admit(&self, ip: IpAddr) -> Option<Place> {
        self.0.take(&counted(ip), 1).ok()
    }
}

/// Returns the address under which a peer is counted. In IPv6 that is its network: a host may have any address in it.
pub(super) fn counted(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & NETWORK)),
        ip @ IpAddr::V4(_) => ip,
    }
}

/// The first 64 of 128 bits.
const NETWORK: u128 = u128::MAX << 64;

/// The pauses after accepts that failed. Without them, running out of file descriptors would spin a core.
pub(super) const ACCEPT_BACKOFF: Backoff = Backoff::new(Duration::from_millis(10), Duration::from_secs(1));

/// True unless the error concerns only the one connection that failed.
pub(super) fn needs_pause(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    !matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_over_all_and_per_address() {
        let (one, other) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let admission = Admission::new(3, Some(2));
        let first = admission.admit(one).unwrap();
        let _second = admission.admit(one).unwrap();
        assert!(admission.admit(one).is_none(), "two per address");
        let _third = admission.admit(other).unwrap();
        assert!(admission.admit(other).is_none(), "three over all");
        drop(first);
        assert!(admission.admit(one).is_some());
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let admission = Admission::new(10, Some(1));
        let _first = admission.admit("2001:db8::1".parse().unwrap()).unwrap();
        assert!(admission.admit("2001:db8::ffff:2".parse().unwrap()).is_none());
        let _other = admission.admit("2001:db8:0:1::1".parse().unwrap()).unwrap();
        let _mapped = admission.admit("::ffff:10.0.0.1".parse().unwrap()).unwrap();
        assert!(admission.admit("10.0.0.1".parse().unwrap()).is_none());
        assert!(admission.admit("::ffff:10.0.0.2".parse().unwrap()).is_some());
    }

    #[test]
    fn running_out_of_descriptors_makes_longer_and_longer_pauses() {
        assert!(needs_pause(&io::Error::from_raw_os_error(24)));
        assert!(!needs_pause(&io::ErrorKind::ConnectionAborted.into()));
        let mut backoff = ACCEPT_BACKOFF;
        let pauses: Vec<_> = (0..12).map(|_| backoff.next_pause_with(0.0)).collect();
        assert_eq!(pauses[0], Duration::from_millis(5));
        assert!(pauses.is_sorted());
        assert_eq!(pauses[11], Duration::from_millis(500));
    }
}
