//! The log in motion: writers that commit waiting writes in batches, and the live logs that subscribers follow.
//!
//! Nothing here knows gRPC or SQL. Writers hand committed batches to the live logs, and commits of other replicas move
//! their heads; subscribers read from the ring, or from storage where the ring does not reach.

pub(crate) mod clock;
mod cursor;
pub(crate) mod epoch;
pub(crate) mod live;
mod membership_feed;
mod metrics;
mod new_messages;
pub(crate) mod pages;
pub(crate) mod replicas;
mod ring;
mod signals;
mod sink;
mod subscriber_count;
pub(crate) mod subscription;
pub(crate) mod writer;
