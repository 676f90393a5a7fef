//! How a subscription hears: which of its conversations have moved, what is told live only, and what its user has joined.
//! It wakes once for many, and keeps nothing that could be read again.

use std::{
    collections::{HashMap, HashSet},
    mem::{Discriminant, discriminant},
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::Notify;

use crate::domain::{
    ephemeral::{Ephemeral, EphemeralKind},
    ids::{ConversationId, UserId},
};

/// The most things told live only that wait for a subscription; what comes beyond that is lost.
const MAX_EPHEMERALS: usize = 256;

/// The most conversations that wait to be looked at because the user may have joined them. Those that are left out are found
/// when all that the user is in is listed again.
const MAX_JOINED: usize = 10_000;

/// What one subscription hears.
#[derive(Debug)]
pub(super) struct Signal {
    user_id: UserId,
    heard: Mutex<Heard>,
    notify: Notify,
}

/// What was heard since the last time.
#[derive(Debug, Default)]
pub(super) struct Heard {
    /// Followed conversations whose heads have moved, each once.
    pub(super) moved: Vec<ConversationId>,
    /// Conversations that the user may have joined.
    pub(super) joined: HashSet<ConversationId>,
    ephemerals: HashMap<(ConversationId, UserId, Discriminant<EphemeralKind>), Bytes>,
}

impl Heard {
    /// What was told live only, with its conversation: of one member and kind only the newest.
    pub(super) fn take_ephemerals(&mut self) -> impl Iterator<Item = (ConversationId, Bytes)> + use<> {
        std::mem::take(&mut self.ephemerals).into_iter().map(|((conversation_id, ..), bytes)| (conversation_id, bytes))
    }
}

impl Signal {
    /// Of a subscription of this user.
    pub(super) fn new(user_id: UserId) -> Self {
        Self { user_id, heard: Mutex::default(), notify: Notify::new() }
    }

    pub(super) fn user_id(&self) -> &UserId {
        &self.user_id
    }

    /// A followed conversation has moved. Whoever says so takes care to say it once until it was looked at.
    pub(super) fn moved(&self, conversation_id: &ConversationId) {
        self.lock().moved.push(conversation_id.clone());
        self.notify.notify_one();
    }

    /// The user may have joined these.
    pub(super) fn joined(&self, conversation_ids: &[ConversationId]) {
        let mut heard = self.lock();
        for id in conversation_ids {
            if heard.joined.len() >= MAX_JOINED {
                break;
            }
            heard.joined.insert(id.clone());
        }
        drop(heard);
        self.notify.notify_one();
    }

    /// Something was told in a followed conversation.
    pub(super) fn broadcast_ephemeral(&self, ephemeral: &Ephemeral, bytes: &Bytes) {
        let key = (ephemeral.conversation_id.clone(), ephemeral.user_id.clone(), discriminant(&ephemeral.kind));
        let mut heard = self.lock();
        if heard.ephemerals.len() < MAX_EPHEMERALS || heard.ephemerals.contains_key(&key) {
            heard.ephemerals.insert(key, bytes.clone());
            drop(heard);
            self.notify.notify_one();
        }
    }

    /// Everything since the last time, at once.
    pub(super) fn take(&self) -> Heard {
        std::mem::take(&mut *self.lock())
    }

    /// Waits until something was heard since this last returned. For one who waits at a time.
    pub(super) async fn notified(&self) {
        self.notify.notified().await;
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
