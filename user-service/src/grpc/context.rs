//! The state that every RPC works with.

use service_kit::auth::Issuer;

use crate::{
    changes::Changes,
    storage::{Lookups, Store},
};

/// The state of the gRPC services. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(super) store: Store,
    pub(super) lookups: Lookups,
    pub(super) changes: Changes,
    /// Signs tokens, if there is a secret.
    pub(super) issuer: Option<Issuer>,
}

impl Context {
    /// Combines the parts.
    pub(crate) fn new(store: Store, lookups: Lookups, changes: Changes, issuer: Option<Issuer>) -> Self {
        Self { store, lookups, changes, issuer }
    }
}
