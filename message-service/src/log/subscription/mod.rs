//! A subscriber: a cursor for each conversation that it follows, and a schedule of those that have moved. There is no
//! queue behind it but the entries that it took last.
//!
//! The reading loop ([`Subscription::next`]):
//!
//! ```text
//! loop
//!     if no entry is buffered: return that the epoch has ended, if it has; start the reads that are needed, take those that have completed
//!     return that the epoch has another name, else a notice (truncated, closed), else the next buffered entry, else an ephemeral,
//!         else, once all initial conversations are caught up, that they are
//!     take the signals; for each conversation that is due
//!         at the head that it began with: return that it is caught up
//!         the ring continues its position: buffer those entries and start over
//!         only storage does: it is behind, and a page is fetched for it
//!         nothing is after its position: it waits for its head to move
//!         the head was set back to before its position: return that it is closed
//!     wait for a signal, a page, places in joined conversations, or the end of a pause after a failed read
//! ```
//!
//! Invariants: a position moves forward only, without a hole, and never past the head; the ring is dense; each
//! conversation has one turn in the schedule. Only storage that has lost entries moves a head to before a position.

mod fetch;
mod item;
pub(crate) mod open;
mod schedule;
mod start;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    vec::IntoIter,
};

use bytes::Bytes;

use self::{
    fetch::{Fetched, FetchedPage, FetchedPlaces, Fetches, is_permanent, log_wait},
    schedule::Schedule,
    start::Begin,
};
use super::{
    cursor::Cursor,
    epoch::OpenEpoch,
    live::LiveLogs,
    membership_feed::FeedRegistration,
    metrics::SubscriptionGuard,
    pages::{LogPage, Pages},
    ring::Ahead,
    signals::Signal,
};
use crate::domain::{
    encoded::EncodedEntry,
    epoch::Epoch,
    ids::{ConversationId, UserId},
    refusal::Refusal,
    sequence::{Position, Sequence},
};

pub(crate) use self::{
    item::{Ending, Item},
    start::Start,
};

/// The most joined conversations whose places are read at a time, once the subscription has begun.
const MAX_ENTERED: usize = 1_000;

/// A conversation that is followed.
#[derive(Debug)]
struct Followed {
    cursor: Cursor,
    /// The entry by which the user joined: leaving after it ends it. `None` if reading takes no membership.
    join_sequence: Option<Sequence>,
    /// The head that makes it caught up; `None` once that is reported.
    catch_up_to: Option<Position>,
    /// The subscription began with it.
    is_initial: bool,
}

/// The entries of one conversation that were taken last and not returned yet.
#[derive(Debug, Default)]
struct Buffered {
    conversation_id: Option<ConversationId>,
    entries: IntoIter<EncodedEntry>,
}

/// The subscription of one client: to one conversation, or to all of a user's.
pub(crate) struct Subscription {
    live: LiveLogs,
    /// The epoch of everything that is followed.
    epoch: OpenEpoch,
    signal: Arc<Signal>,
    /// `None` in a subscription to one conversation.
    feed: Option<FeedRegistration>,
    followed: HashMap<ConversationId, Followed>,
    schedule: Schedule,
    /// Conversations that the user may have joined.
    joined: HashSet<ConversationId>,
    /// Conversations that were closed while the user was a member, with the join entry: only a later one opens them.
    closed: HashMap<ConversationId, Sequence>,
    notices: VecDeque<Item>,
    buffered: Buffered,
    ephemerals: Vec<(ConversationId, Bytes)>,
    fetches: Fetches,
    /// The number of initial conversations that are not caught up.
    initial_left: usize,
    is_all_caught_up_reported: bool,
    _guard: SubscriptionGuard,
}

impl Subscription {
    /// Creates a subscription that follows nothing yet.
    fn new(live: &LiveLogs, pages: &Pages, user_id: &UserId, to_all: bool) -> Self {
        let signal = Arc::new(Signal::new(user_id.clone()));
        Self {
            live: live.clone(),
            // Before anything is followed: what is followed later is of this epoch or a later one.
            epoch: live.epoch(),
            feed: to_all.then(|| live.follow_joins(&signal)),
            signal,
            followed: HashMap::new(),
            schedule: Schedule::default(),
            joined: HashSet::new(),
            closed: HashMap::new(),
            notices: VecDeque::new(),
            buffered: Buffered::default(),
            ephemerals: Vec::new(),
            fetches: Fetches::new(pages, live.clock()),
            initial_left: 0,
            is_all_caught_up_reported: !to_all,
            _guard: live.metrics().open_subscription(to_all),
        }
    }

    /// Returns the name of the epoch that the stream has received, if it is known.
    pub(crate) fn epoch(&self) -> Option<&Epoch> {
        self.epoch.name()
    }

    /// Returns the next notice, if there is one. Those of the beginning are there from the beginning.
    pub(crate) fn take_notice(&mut self) -> Option<Item> {
        self.notices.pop_front()
    }

    /// Waits for the next item. May be dropped at any time.
    pub(crate) async fn next(&mut self) -> Item {
        loop {
            if self.buffered.is_empty() {
                if self.epoch.has_ended() {
                    return Item::EpochEnded;
                }
                self.fetch();
            }
            if let Some(item) = self.poll_item() {
                return item;
            }
            // Reads pages also for conversations found behind just now.
            self.fetch();
            if self.is_ready() {
                continue;
            }
            tokio::select! {
                () = self.signal.notified() => {}
                () = self.epoch.changed() => {}
                fetched = self.fetches.next() => match fetched {
                    Fetched::Page(page) => self.accept_page(page),
                    Fetched::Places(places) => self.accept_places(places),
                    Fetched::PauseOver => {}
                },
            }
        }
    }

    /// Starts the reads that are needed and takes those that have completed, also while other items are always ready.
    fn fetch(&mut self) {
        self.fetch_page();
        self.fetch_places();
        if let Some(page) = self.fetches.take_page() {
            self.accept_page(page);
        }
        if let Some(places) = self.fetches.take_places() {
            self.accept_places(places);
        }
    }

    /// Returns true if an item may be returned without waiting.
    fn is_ready(&self) -> bool {
        !self.buffered.is_empty() || !self.notices.is_empty() || self.schedule.has_due()
    }

    /// Returns the next item, if there is one without waiting.
    fn poll_item(&mut self) -> Option<Item> {
        loop {
            if let Some(item) = self.poll_waiting() {
                return Some(item);
            }
            self.take_signals();
            match self.schedule.take_due() {
                Some(id) => {
                    if let Some(item) = self.take_turn(&id) {
                        return Some(item);
                    }
                }
                None if self.ephemerals.is_empty() => return None,
                None => {}
            }
        }
    }

    /// Returns the next item of those that need no reading.
    fn poll_waiting(&mut self) -> Option<Item> {
        // Entries of an epoch are taken after it has its name, and so returned after its name.
        if self.epoch.is_renamed() {
            self.epoch.take_name();
            return Some(Item::EpochRenamed);
        }
        if let Some(notice) = self.take_notice() {
            return Some(notice);
        }
        if let Some(entry) = self.buffered.entries.next() {
            return Some(self.deliver(entry));
        }
        while let Some((id, bytes)) = self.ephemerals.pop() {
            if self.followed.contains_key(&id) {
                return Some(Item::Event(bytes));
            }
        }
        let is_caught_up = self.initial_left == 0 && !std::mem::replace(&mut self.is_all_caught_up_reported, true);
        is_caught_up.then_some(Item::AllCaughtUp)
    }

    fn take_signals(&mut self) {
        let mut signals = self.signal.take();
        self.ephemerals.extend(signals.take_ephemerals());
        for id in signals.moved {
            self.schedule(&id);
        }
        self.joined.extend(signals.joined.into_iter().filter(|id| !self.followed.contains_key(id)));
    }

    /// Makes a followed conversation due.
    fn schedule(&mut self, id: &ConversationId) {
        if self.followed.contains_key(id) {
            self.schedule.schedule(id);
        }
    }

    /// Gives one conversation its turn: reads its ring.
    fn take_turn(&mut self, id: &ConversationId) -> Option<Item> {
        let followed = self.followed.get_mut(id)?;
        let position = followed.cursor.position();
        if followed.catch_up_to.take_if(|head| position >= *head).is_some() {
            self.initial_left -= usize::from(followed.is_initial);
            self.schedule(id);
            return Some(Item::CaughtUp { conversation_id: id.clone(), position });
        }
        match followed.cursor.read_ring() {
            Ahead::Nothing => {}
            Ahead::Entries(entries) => {
                self.live.metrics().from_ring.increment(entries.len() as u64);
                self.buffer(id, entries);
                self.schedule(id);
            }
            Ahead::InStorage => self.schedule.fall_behind(id),
            Ahead::SetBack(last_sequence) => {
                let conversation_id = id.clone();
                let refusal = Refusal::SequenceAhead { conversation_id, sequence: position, last_sequence };
                self.close(id, Ending::Refused(refusal));
                return self.take_notice();
            }
        }
        None
    }

    fn buffer(&mut self, id: &ConversationId, entries: Vec<EncodedEntry>) {
        debug_assert!(self.buffered.is_empty(), "taken entries are returned first");
        self.buffered = Buffered { conversation_id: Some(id.clone()), entries: entries.into_iter() };
    }

    /// Returns an entry as an item. The end of the user's own membership is the last entry of its conversation.
    fn deliver(&mut self, entry: EncodedEntry) -> Item {
        if let Some(id) = self.buffered.conversation_id.clone().filter(|id| self.ends_membership(id, &entry)) {
            self.buffered = Buffered::default();
            let user_id = self.signal.user_id().clone();
            self.close(&id, Ending::Refused(Refusal::NotAMember { conversation_id: id.clone(), user_id }));
            // The user may have been added again while this was still being read.
            if self.feed.is_some() {
                self.joined.insert(id);
            }
        }
        Item::Event(entry.bytes)
    }

    /// Returns true if the entry ends the membership that the conversation is followed by.
    fn ends_membership(&self, id: &ConversationId, entry: &EncodedEntry) -> bool {
        let joined = self.followed.get(id).and_then(|followed| followed.join_sequence);
        entry.ends_membership_of.as_ref() == Some(self.signal.user_id())
            && joined.is_some_and(|joined| entry.sequence > joined)
    }

    fn close(&mut self, id: &ConversationId, why: Ending) {
        if let Some(followed) = self.followed.remove(id) {
            self.schedule.remove(id);
            self.initial_left -= usize::from(followed.is_initial && followed.catch_up_to.is_some());
            self.closed.extend(followed.join_sequence.map(|joined| (id.clone(), joined)));
        }
        self.notices.push_back(Item::Closed { conversation_id: id.clone(), why });
    }

    /// Starts to read the page of the next conversation that is behind.
    fn fetch_page(&mut self) {
        while self.fetches.may_fetch_page()
            && let Some(id) = self.schedule.take_behind()
        {
            if let Some(position) = self.followed.get(&id).map(|followed| followed.cursor.position()) {
                self.fetches.fetch_page(id, position, self.epoch.latest_name());
            }
        }
    }

    fn accept_page(&mut self, fetched: FetchedPage) {
        let FetchedPage { id, after, epoch, page } = fetched;
        let is_current = |followed: &Followed| followed.cursor.position() == after;
        if !self.schedule.is_fetching(&id) || !self.followed.get(&id).is_some_and(is_current) {
            return;
        }
        if epoch != self.epoch.latest_name() {
            // Whether what was read then has survived is not known.
            return self.retry(&id);
        }
        match page {
            Ok(Some(page)) => self.take_page(&id, after, &page),
            Ok(None) => {
                let conversation_id = id.clone();
                self.close(&id, Ending::Refused(Refusal::ConversationNotFound { conversation_id }));
            }
            Err(error) if is_permanent(&error) => self.close(&id, Ending::Failed(error)),
            // The position stays until the database is back.
            Err(error) => {
                log_wait(&error);
                self.retry(&id);
            }
        }
    }

    fn take_page(&mut self, id: &ConversationId, after: Position, page: &LogPage) {
        let Some(followed) = self.followed.get_mut(id) else { return };
        let entries = followed.cursor.accept(page);
        if entries.is_empty() {
            // A head was reported that storage does not have: it may come, or the report was wrong.
            return self.retry(id);
        }
        let metrics = self.live.metrics();
        metrics.from_page.increment(entries.len() as u64);
        metrics.lag.record(after.entries_until(page.last_sequence) as f64);
        self.buffer(id, entries);
        self.schedule.page_arrived(id);
    }

    fn retry(&mut self, id: &ConversationId) {
        self.schedule.retry(id);
        self.fetches.pause();
    }

    /// Starts to read the user's places in conversations that the user may have joined.
    fn fetch_places(&mut self) {
        if self.joined.is_empty() || !self.fetches.may_fetch_places() {
            return;
        }
        let ids: Vec<ConversationId> = self.joined.iter().take(MAX_ENTERED).cloned().collect();
        for id in &ids {
            self.joined.remove(id);
        }
        let cursors = self.register(&ids);
        self.fetches.fetch_places(cursors, self.signal.user_id().clone());
    }

    fn accept_places(&mut self, fetched: FetchedPlaces) {
        let FetchedPlaces { cursors, places } = fetched;
        match places {
            Ok(places) => self.begin_all(cursors, places, |_| Begin::Joined),
            Err(error) => {
                log_wait(&error);
                self.joined.extend(cursors.iter().map(|cursor| cursor.conversation_id().clone()));
                self.fetches.pause();
            }
        }
    }
}

impl Buffered {
    fn is_empty(&self) -> bool {
        self.entries.len() == 0
    }
}
