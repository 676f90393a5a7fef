//! The signals of a subscription: which of its conversations have moved, their ephemerals, and the conversations that its
//! user may have joined. It wakes once for many signals and keeps nothing that can be read again.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard},
};

use bytes::Bytes;
use service_kit::sync::lock;
use tokio::sync::Notify;

use crate::domain::{
    coalesced::Coalesced,
    ephemeral::Ephemeral,
    ids::{ConversationId, UserId},
};

/// The most ephemerals that wait for a subscription; excess ones are lost.
const MAX_EPHEMERALS: usize = 256;

/// The most conversations that wait to be checked because the user may have joined them. Those left out are found when
/// the user's conversations are listed again.
const MAX_JOINED: usize = 10_000;

/// Wakes one subscription and collects its signals.
#[derive(Debug)]
pub(super) struct Signal {
    user_id: UserId,
    signals: Mutex<Signals>,
    notify: Notify,
}

/// The signals since they were last taken.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// Followed conversations whose heads have moved, each once.
    pub(super) moved: Vec<ConversationId>,
    /// Conversations that the user may have joined.
    pub(super) joined: HashSet<ConversationId>,
    ephemerals: Coalesced<Bytes, MAX_EPHEMERALS>,
}

impl Signals {
    /// Takes the ephemerals with their conversations: of one member and kind only the newest.
    pub(super) fn take_ephemerals(&mut self) -> impl Iterator<Item = (ConversationId, Bytes)> + use<> {
        self.ephemerals.take()
    }
}

impl Signal {
    /// Creates the signal of a subscription of this user.
    pub(super) fn new(user_id: UserId) -> Self {
        Self { user_id, signals: Mutex::default(), notify: Notify::new() }
    }

    pub(super) fn user_id(&self) -> &UserId {
        &self.user_id
    }

    /// Signals that the head of a followed conversation has moved. The live log calls it once until the ring is read.
    pub(super) fn head_moved(&self, conversation_id: &ConversationId) {
        self.lock().moved.push(conversation_id.clone());
        self.notify.notify_one();
    }

    /// Signals that the user may have joined these.
    pub(super) fn joined(&self, conversation_ids: &[ConversationId]) {
        let mut signals = self.lock();
        for id in conversation_ids {
            if signals.joined.len() >= MAX_JOINED {
                break;
            }
            signals.joined.insert(id.clone());
        }
        drop(signals);
        self.notify.notify_one();
    }

    /// Adds an ephemeral of a followed conversation.
    pub(super) fn broadcast_ephemeral(&self, ephemeral: &Ephemeral, bytes: &Bytes) {
        if self.lock().ephemerals.insert(ephemeral, bytes.clone()) {
            self.notify.notify_one();
        }
    }

    /// Takes all signals since the last call.
    pub(super) fn take(&self) -> Signals {
        std::mem::take(&mut *self.lock())
    }

    /// Waits until a signal has arrived since this last returned. Only one task may wait at a time.
    pub(super) async fn notified(&self) {
        self.notify.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Signals> {
        lock(&self.signals)
    }
}
