//! Opens subscriptions, and begins with conversations: each is registered first and read from storage afterwards, so that
//! nothing is missed in between.

use std::collections::{HashMap, HashSet};

use super::{
    Ending, Followed, Item, Subscription,
    start::{Begin, Resumption, Span, Start, StartingPoint, starting_point},
};
use crate::{
    actor::Actor,
    domain::{
        conversation::Conversation,
        epoch::Epoch,
        ids::{ConversationId, UserId},
        sequence::{Position, Sequence},
    },
    log::{cursor::Cursor, live::LiveLogs, pages::Pages},
    storage::{
        Error,
        memberships::{MAX_LISTED, MembershipView},
    },
};

/// A subscription to one conversation that has no position yet.
pub(crate) struct PendingSubscription {
    subscription: Subscription,
    cursor: Cursor,
}

impl PendingSubscription {
    /// Returns how much survived of a position of an earlier stream, from the epoch of that one.
    ///
    /// # Errors
    /// Storage failed.
    pub(crate) fn resumption(
        &self,
        pages: &Pages,
        after: Position,
        epoch: Option<&Epoch>,
    ) -> impl Future<Output = Result<Resumption, Error>> + Send {
        let id = self.cursor.conversation_id().clone();
        let current = self.subscription.epoch().cloned();
        async move {
            let lost = find_lost(pages, current, epoch, &[(&id, after)]).await?;
            Ok(Resumption { after, survived: lost.get(&id).copied().unwrap_or(after) })
        }
    }

    /// Begins after a sequence. `join_sequence` is the entry by which the user joined, if reading takes membership.
    pub(crate) fn after(mut self, of: &Conversation, join_sequence: Option<Sequence>, after: Position) -> Subscription {
        let span = Span { oldest_sequence: of.oldest_sequence, last_sequence: of.last_sequence };
        self.subscription.begin(self.cursor, StartingPoint { span, join_sequence, after }, true);
        self.subscription.opened()
    }
}

impl Subscription {
    /// Subscribes to everything of a user: the user's conversations now, from `positions` or else from `start`, and those
    /// that the user joins later. `epoch` is that of the positions, if the client knows it. A subscription read to its end
    /// returns everything committed after this call began.
    ///
    /// # Errors
    /// Storage failed.
    pub(crate) async fn to_all(
        live: &LiveLogs,
        pages: &Pages,
        actor: &Actor,
        positions: &HashMap<ConversationId, Position>,
        epoch: Option<&Epoch>,
        start: Start,
    ) -> Result<Self, Error> {
        let user_id = actor.user_id();
        // Registered for joins before the list is read: later joins are notified.
        let mut new = Self::new(live, pages, user_id, true);
        let mut ids = list_all(pages, user_id).await?;
        let listed: HashSet<&ConversationId> = ids.iter().collect();
        let unlisted: Vec<ConversationId> = positions.keys().filter(|id| !listed.contains(id)).cloned().collect();
        ids.extend(new.admit(pages, user_id, unlisted).await?);
        for ids in ids.chunks(MAX_LISTED) {
            let cursors = new.register(ids);
            let places = pages.find_memberships(user_id, ids).await?;
            let given: Vec<_> = ids.iter().filter_map(|id| Some((id, *positions.get(id)?))).collect();
            let lost = find_lost(pages, new.epoch().cloned(), epoch, &given).await?;
            new.begin_all(cursors, places, |id| match positions.get(id) {
                Some(after) => {
                    let survived = lost.get(id).unwrap_or(after);
                    Begin::After(Resumption { after: *after, survived: *survived })
                }
                None => Begin::From(start),
            });
        }
        Ok(new.opened())
    }

    /// Ends it at once if the epoch got another name meanwhile: the client's positions were not checked in that one.
    fn opened(mut self) -> Self {
        if self.epoch.is_renamed() {
            self.notices.push_front(Item::EpochEnded);
        }
        self
    }

    /// Returns those of the conversations that the user is in, and closes the others. A client may name any ids, so these are
    /// looked up before any is followed.
    async fn admit(
        &mut self,
        pages: &Pages,
        user_id: &UserId,
        ids: Vec<ConversationId>,
    ) -> Result<Vec<ConversationId>, Error> {
        let from_start = Begin::After(Resumption { after: Position::START, survived: Position::START });
        let mut places = HashMap::new();
        for ids in ids.chunks(MAX_LISTED) {
            let found = pages.find_memberships(user_id, ids).await?;
            places.extend(found.into_iter().map(|place| (place.conversation_id.clone(), place)));
        }
        let mut admitted = Vec::new();
        for id in ids {
            match starting_point(&id, user_id, places.remove(&id), from_start) {
                Ok(_) => admitted.push(id),
                Err(refusal) => {
                    self.notices.push_back(Item::Closed { conversation_id: id, why: Ending::Refused(refusal) });
                }
            }
        }
        Ok(admitted)
    }

    /// Subscribes to one conversation, without a position yet. It is registered here: a read of storage after this misses
    /// nothing.
    pub(crate) fn to_one(
        live: &LiveLogs,
        pages: &Pages,
        actor: &Actor,
        conversation_id: &ConversationId,
    ) -> PendingSubscription {
        let subscription = Self::new(live, pages, actor.user_id(), false);
        let cursor = Cursor::register(live, conversation_id, &subscription.signal);
        PendingSubscription { subscription, cursor }
    }

    pub(super) fn register(&self, ids: &[ConversationId]) -> Vec<Cursor> {
        ids.iter().map(|id| Cursor::register(&self.live, id, &self.signal)).collect()
    }

    /// Begins with registered conversations; `places` were read after the registration.
    pub(super) fn begin_all(
        &mut self,
        cursors: Vec<Cursor>,
        places: Vec<MembershipView>,
        begin: impl Fn(&ConversationId) -> Begin,
    ) {
        let mut places: HashMap<ConversationId, MembershipView> =
            places.into_iter().map(|place| (place.conversation_id.clone(), place)).collect();
        for cursor in cursors {
            if !self.followed.contains_key(cursor.conversation_id()) {
                let place = places.remove(cursor.conversation_id());
                let begin = begin(cursor.conversation_id());
                self.begin_with(cursor, place, begin);
            }
        }
    }

    fn begin_with(&mut self, cursor: Cursor, place: Option<MembershipView>, begin: Begin) {
        let id = cursor.conversation_id().clone();
        let join_sequence = place.as_ref().and_then(|place| Some(place.membership.as_ref()?.join_sequence));
        // The notification was late: the join may be older than the end that was delivered.
        if join_sequence.is_some() && self.closed.get(&id).copied() >= join_sequence {
            return;
        }
        match starting_point(&id, self.signal.user_id(), place, begin) {
            Ok(Some(start)) => self.begin(cursor, start, !matches!(begin, Begin::Joined)),
            Ok(None) => {}
            Err(refusal) => {
                self.closed.extend(join_sequence.map(|joined| (id.clone(), joined)));
                self.notices.push_back(Item::Closed { conversation_id: id, why: Ending::Refused(refusal) });
            }
        }
    }

    fn begin(&mut self, mut cursor: Cursor, start: StartingPoint, is_initial: bool) {
        let id = cursor.conversation_id().clone();
        if start.is_truncated() {
            let oldest_sequence = start.span.oldest_sequence;
            self.notices.push_back(Item::Truncated { conversation_id: id.clone(), oldest_sequence });
        }
        cursor.begin(start.position(), start.span.last_sequence);
        self.initial_left += usize::from(is_initial);
        let (join_sequence, catch_up_to) = (start.join_sequence, Some(start.span.last_sequence));
        self.followed.insert(id.clone(), Followed { cursor, join_sequence, catch_up_to, is_initial });
        self.schedule(&id);
    }
}

/// Returns for those of the positions up to which entries were lost since their epoch the last one that survived.
async fn find_lost(
    pages: &Pages,
    current: Option<Epoch>,
    epoch: Option<&Epoch>,
    positions: &[(&ConversationId, Position)],
) -> Result<HashMap<ConversationId, Position>, Error> {
    let Some(earlier) = epoch.filter(|epoch| current.as_ref() != Some(epoch)) else { return Ok(HashMap::new()) };
    Ok(pages.find_surviving(earlier, positions).await?.into_iter().collect())
}

/// Lists all conversations of a user.
async fn list_all(pages: &Pages, user_id: &UserId) -> Result<Vec<ConversationId>, Error> {
    let mut ids: Vec<ConversationId> = Vec::new();
    loop {
        let more = pages.list_conversation_ids(user_id, ids.last()).await?;
        let is_last = more.len() < MAX_LISTED;
        ids.extend(more);
        if is_last {
            return Ok(ids);
        }
    }
}
