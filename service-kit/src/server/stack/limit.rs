//! Limits the number of unary calls that run at a time, in all and of one connection, and of open streams. A call beyond that
//! is refused at once, with a retry delay: a queue would only turn overload into timeouts.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::failure::Failure;

/// One connection may take one of this many parts of all places.
const CONNECTION_PART: usize = 4;

/// The places of all calls.
#[derive(Debug)]
pub(super) struct Limit {
    places: Arc<Semaphore>,
    most: usize,
}

/// The places that one connection may take.
#[derive(Debug, Clone)]
pub(super) struct Share(Arc<Semaphore>);

/// A place taken, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _of_connection: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl Limit {
    pub(super) fn new(most: usize) -> Self {
        let most = most.min(Semaphore::MAX_PERMITS);
        Self { places: Arc::new(Semaphore::new(most)), most }
    }

    /// Returns the share of a new connection.
    pub(super) fn share(&self) -> Share {
        Share(Arc::new(Semaphore::new((self.most / CONNECTION_PART).max(1))))
    }

    /// Takes a place for a call, which it holds until its response begins.
    pub(super) fn enter(&self, share: &Share) -> Result<Place, Failure> {
        let of_connection = take(&share.0, "too many calls at a time on one connection", "connection")?;
        let of_all = take(&self.places, "too many calls at a time", "server")?;
        Ok(Place { _of_connection: of_connection, _of_all: of_all })
    }
}

/// The places of all open streams.
#[derive(Debug)]
pub(super) struct Streams(Arc<Semaphore>);

/// The place of an open stream, until it is dropped.
#[derive(Debug)]
pub(super) struct Open(#[expect(dead_code, reason = "held until it is dropped")] OwnedSemaphorePermit);

impl Streams {
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS))))
    }

    /// Takes a place for a stream, which it holds until its end.
    pub(super) fn open(&self) -> Result<Open, Failure> {
        let place = Arc::clone(&self.0).try_acquire_owned();
        place.map(Open).map_err(|_| Failure::overloaded("too many open streams", "server", "streams open at a time"))
    }
}

fn take(places: &Arc<Semaphore>, message: &str, subject: &str) -> Result<OwnedSemaphorePermit, Failure> {
    let place = Arc::clone(places).try_acquire_owned();
    place.map_err(|_| Failure::overloaded(message, subject, "calls running at a time"))
}
