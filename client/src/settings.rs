//! The settings of a session.

use crate::replicas::Replicas;

/// The starting point of conversations without a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// After the user's own read mark.
    #[default]
    ReadMark,
    /// From the head: new entries only.
    Now,
    /// From the oldest entry kept.
    Beginning,
}

/// The RPCs that a session uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// `Chat`: one bidirectional stream.
    #[default]
    Chat,
    /// `Subscribe` and a unary call for each send, which is all that gRPC-Web offers.
    Subscribe,
}

/// The settings that the session's task needs for each connection.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) replicas: Replicas,
    pub(crate) actor_id: String,
    pub(crate) start: Start,
    pub(crate) transport: Transport,
    pub(crate) send_only: bool,
}
