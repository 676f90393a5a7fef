//! The log in motion: writers that gather what is waiting into one transaction, and the live logs that subscribers follow.
//!
//! Nothing here speaks gRPC or SQL. Writers hand committed batches to the live log, and what other replicas commit moves
//! its heads; subscribers read from it, or from storage where it does not reach.

mod batch;
mod create;
mod cursor;
mod lane;
pub(crate) mod live;
pub(crate) mod pages;
pub(crate) mod replicas;
mod shard;
mod signal;
mod sink;
pub(crate) mod subscription;
pub(crate) mod writer;
