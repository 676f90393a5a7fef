//! The cursors of streams that begin: each is kept, with what becomes of it, until the stream has begun and its client has
//! received which conversations it may not follow. Bounded for a user and for the process, since a client may name any ids,
//! and take nothing.

use service_kit::{
    bounded::{Bounded, Full, Part},
    failure::Failure,
};

use crate::domain::ids::UserId;

/// The cursors of a stream that do not count: as many as an ordinary client has.
const FREE: usize = 50;

/// The most cursors of one user: those of the largest session.
const MOST_OF_USER: usize = 100_000;

/// The most cursors of the process; one takes some 300 bytes.
const MOST: usize = 400_000;

const WHAT: &str = "cursors of streams that begin";

/// The cursors of this process. Cheap to clone; clones share them.
#[derive(Debug, Clone)]
pub(super) struct NamedCursors(Bounded<UserId>);

/// Those of one stream, until this is dropped.
#[derive(Debug)]
pub(super) struct Named(Part<UserId>);

impl Default for NamedCursors {
    fn default() -> Self {
        Self(Bounded::new(MOST, MOST_OF_USER))
    }
}

impl NamedCursors {
    /// Counts the cursors of a stream that begins.
    ///
    /// # Errors
    /// `OVERLOADED`.
    pub(super) fn take(&self, user_id: &UserId, cursors: usize) -> Result<Named, Failure> {
        self.0.take(user_id, counted(cursors)).map(Named).map_err(overloaded)
    }
}

impl Named {
    /// Counts more cursors of the stream: it has so many in all.
    ///
    /// # Errors
    /// `OVERLOADED`.
    pub(super) fn grow_to(&mut self, cursors: usize) -> Result<(), Failure> {
        self.0.grow_to(counted(cursors)).map_err(overloaded)
    }
}

fn counted(cursors: usize) -> usize {
    cursors.saturating_sub(FREE)
}

fn overloaded(full: Full) -> Failure {
    match full {
        Full::All => Failure::overloaded(format!("too many {WHAT}"), "server", WHAT),
        Full::Key => Failure::overloaded(format!("too many {WHAT} of this user"), "user", WHAT),
    }
}
