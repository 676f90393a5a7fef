//! A subscriber: a cursor for each conversation that it follows, and the set of those that have moved. Conversations take
//! turns, so that the backlog of one delays no other; there is no queue behind it but what was taken last.
//!
//! What is behind reads pages, one at a time, while what the rings have goes on. One who subscribes to everything of a user
//! hears of what the user joins and follows it from the join entry on.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    future::pending,
    sync::Arc,
    time::Duration,
    vec::IntoIter,
};

use bytes::Bytes;
use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::{Instant, sleep_until};

use super::{
    cursor::Cursor,
    live::{Ahead, Inbox, LiveLogs},
    pages::{LogPage, Pages},
    signal::Signal,
};
use crate::{
    actor::Actor,
    domain::{
        conversation::{Conversation, Kind},
        encoded::EncodedEntry,
        ids::{ConversationId, UserId},
        refusal::Refusal,
        sequence::{Position, Sequence},
    },
    metrics::Open,
    planted::{self, Bug},
    storage::{
        Error,
        memberships::{MAX_LISTED, MembershipView},
    },
};

/// What could not be read is read again after this long, at least; jittered up to twice as long.
const RETRY: Duration = Duration::from_millis(250);

/// The most conversations entered at a time, once the subscription has begun.
const MAX_ENTERED: usize = 1_000;

/// Where a conversation begins for which the subscriber has no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// After the member's own read mark.
    ReadMark,
    /// At the head.
    Now,
    /// At the first entry that is kept.
    Beginning,
}

/// What a subscriber is told.
#[derive(Debug)]
pub(crate) enum Item {
    /// An entry, or something that is live only, encoded.
    Event(Bytes),
    /// Everything is told that one conversation had when it was begun with.
    CaughtUp { conversation_id: ConversationId, position: Position },
    /// The same of all conversations that the subscription began with.
    AllCaughtUp,
    /// Entries before this one are no longer kept.
    Truncated { conversation_id: ConversationId, oldest_sequence: Sequence },
    /// Nothing more comes of one conversation.
    Closed { conversation_id: ConversationId, why: Ending },
}

/// Why a conversation has ended for a subscriber.
#[derive(Debug)]
pub(crate) enum Ending {
    Refused(Refusal),
    Failed(Error),
}

/// How a conversation is begun with.
#[derive(Debug, Clone, Copy)]
enum Begin {
    /// After this sequence, which the client has.
    After(Position),
    From(Start),
    /// The user has joined it since the subscription began.
    Joined,
}

/// What storage had of a log once it was followed.
#[derive(Debug, Clone, Copy)]
struct Span {
    oldest_sequence: Sequence,
    last_sequence: Position,
}

/// A conversation that is followed.
#[derive(Debug)]
struct Followed {
    cursor: Cursor,
    /// The entry by which the user joined: leaving after it ends it. `None` where reading takes no membership.
    join_sequence: Option<Sequence>,
    /// The head that makes it caught up; `None` once that is told.
    catch_up_to: Option<Position>,
    /// The subscription began with it.
    is_first: bool,
    /// It waits for its turn.
    is_due: bool,
    /// It waits for a page.
    is_behind: bool,
}

/// What was taken last and is not yet told.
#[derive(Debug, Default)]
struct Taken {
    conversation_id: Option<ConversationId>,
    frames: IntoIter<EncodedEntry>,
}

/// A page that was asked for: of which conversation, after which sequence.
type Reading = BoxFuture<'static, (ConversationId, Position, Result<Option<Arc<LogPage>>, Error>)>;
type Entering = BoxFuture<'static, (Vec<Cursor>, Result<Vec<MembershipView>, Error>)>;

/// What one client subscribes to: one conversation, or all of a user's.
pub(crate) struct Subscription {
    live: LiveLogs,
    pages: Pages,
    signal: Arc<Signal>,
    /// `None` where one conversation is all there is.
    inbox: Option<Inbox>,
    followed: HashMap<ConversationId, Followed>,
    /// Those whose turn it is, each once.
    due: VecDeque<ConversationId>,
    /// Those that wait for a page, each once.
    behind: VecDeque<ConversationId>,
    /// Those that the user may have joined.
    joined: HashSet<ConversationId>,
    /// Those that were closed while the user was in them, with the entry by which that was so: only another opens them.
    given_up: HashMap<ConversationId, Sequence>,
    notices: VecDeque<Item>,
    taken: Taken,
    ephemerals: Vec<(ConversationId, Bytes)>,
    reading: Option<Reading>,
    entering: Option<Entering>,
    /// Storage failed: nothing is asked for before this.
    retry_at: Option<Instant>,
    /// How many of the first are not caught up.
    first_left: usize,
    is_all_told: bool,
    _open: Open,
}

impl Subscription {
    /// Follows nothing yet.
    fn new(live: &LiveLogs, pages: &Pages, user_id: &UserId, to_all: bool) -> Self {
        Self {
            live: live.clone(),
            pages: pages.clone(),
            signal: Arc::new(Signal::new(user_id.clone())),
            inbox: None,
            followed: HashMap::new(),
            due: VecDeque::new(),
            behind: VecDeque::new(),
            joined: HashSet::new(),
            given_up: HashMap::new(),
            notices: VecDeque::new(),
            taken: Taken::default(),
            ephemerals: Vec::new(),
            reading: None,
            entering: None,
            retry_at: None,
            first_left: 0,
            is_all_told: true,
            _open: live.counted().open(to_all),
        }
    }

    /// Everything of a user: what the user is in now, from the positions given or from `start`, and what the user joins
    /// later. Whoever reads this to its end has been told of everything that is committed after this call began.
    ///
    /// # Errors
    /// Storage failed.
    pub(crate) async fn to_all(
        live: &LiveLogs,
        pages: &Pages,
        actor: &Actor,
        positions: &HashMap<ConversationId, Position>,
        start: Start,
    ) -> Result<Self, Error> {
        let user_id = actor.user_id();
        let mut new = Self::new(live, pages, user_id, true);
        new.inbox = Some(live.open_inbox(&new.signal));
        new.is_all_told = false;
        // Listed after the inbox was opened: what is joined later is heard of.
        let mut ids: Vec<ConversationId> = Vec::new();
        loop {
            let more = pages.list_conversation_ids(user_id, ids.last()).await?;
            let is_last = more.len() < MAX_LISTED;
            ids.extend(more);
            if is_last {
                break;
            }
        }
        let known: HashSet<&ConversationId> = ids.iter().collect();
        let unknown: Vec<ConversationId> = positions.keys().filter(|id| !known.contains(id)).cloned().collect();
        ids.extend(unknown);
        for ids in ids.chunks(MAX_LISTED) {
            let cursors = new.register(ids);
            let places = pages.find_places(user_id, ids).await?;
            new.settle(cursors, places, |id| {
                positions.get(id).map_or(Begin::From(start), |after| Begin::After(*after))
            });
        }
        Ok(new)
    }

    /// One conversation, at no position yet. It is followed from here on: what is read from storage after this is complete.
    pub(crate) fn to_one(
        live: &LiveLogs,
        pages: &Pages,
        actor: &Actor,
        conversation_id: &ConversationId,
    ) -> PendingSubscription {
        let new = Self::new(live, pages, actor.user_id(), false);
        let cursor = Cursor::register(live, conversation_id, &new.signal);
        PendingSubscription { subscription: new, cursor }
    }

    /// What is told next. Waits for it; may be dropped at any time.
    pub(crate) async fn next(&mut self) -> Item {
        loop {
            if self.taken.frames.len() == 0 {
                self.ask();
            }
            if let Some(item) = self.ready() {
                return item;
            }
            // What was found to be behind meanwhile is asked for, too.
            self.ask();
            if self.is_at_hand() {
                continue;
            }
            let pause = self.retry_at;
            tokio::select! {
                () = self.signal.notified() => {}
                (id, after, page) = asked(&mut self.reading) => {
                    self.reading = None;
                    self.accept(&id, after, page);
                }
                (cursors, places) = asked(&mut self.entering) => {
                    self.entering = None;
                    self.entered(cursors, places);
                }
                () = sleep_until(pause.unwrap_or_else(Instant::now)), if pause.is_some() => self.retry_at = None,
            }
        }
    }

    /// Asks for what is needed from storage, and takes what has come of it: also where there is always something else to tell.
    fn ask(&mut self) {
        if self.retry_at.is_some_and(|at| at <= Instant::now()) {
            self.retry_at = None;
        }
        if self.retry_at.is_none() {
            self.read();
            self.enter();
        }
        if let Some((id, after, page)) = self.reading.as_mut().and_then(FutureExt::now_or_never) {
            self.reading = None;
            self.accept(&id, after, page);
        }
        if let Some((cursors, places)) = self.entering.as_mut().and_then(FutureExt::now_or_never) {
            self.entering = None;
            self.entered(cursors, places);
        }
    }

    /// Something was taken that can be told at once.
    fn is_at_hand(&self) -> bool {
        self.taken.frames.len() > 0 || !self.notices.is_empty() || !self.due.is_empty()
    }

    /// What can be told at once.
    fn ready(&mut self) -> Option<Item> {
        loop {
            if let Some(notice) = self.notices.pop_front() {
                return Some(notice);
            }
            if let Some(frame) = self.taken.frames.next() {
                return Some(self.tell(frame));
            }
            if let Some((id, bytes)) = self.ephemerals.pop() {
                if self.followed.contains_key(&id) {
                    return Some(Item::Event(bytes));
                }
                continue;
            }
            if self.first_left == 0 && !self.is_all_told {
                self.is_all_told = true;
                return Some(Item::AllCaughtUp);
            }
            self.hear();
            match self.due.pop_front() {
                Some(id) => {
                    if let Some(item) = self.look(&id) {
                        return Some(item);
                    }
                }
                None if self.ephemerals.is_empty() => return None,
                None => {}
            }
        }
    }

    /// Takes what was heard.
    fn hear(&mut self) {
        let mut heard = self.signal.take();
        self.ephemerals.extend(heard.take_ephemerals());
        for id in heard.moved {
            self.is_due(&id);
        }
        for id in heard.joined {
            if !self.followed.contains_key(&id) {
                self.joined.insert(id);
            }
        }
    }

    fn is_due(&mut self, id: &ConversationId) {
        if let Some(followed) = self.followed.get_mut(id)
            && !followed.is_behind
            && !std::mem::replace(&mut followed.is_due, true)
        {
            self.due.push_back(id.clone());
        }
    }

    /// One conversation has its turn.
    fn look(&mut self, id: &ConversationId) -> Option<Item> {
        let followed = self.followed.get_mut(id)?;
        followed.is_due = false;
        let position = followed.cursor.position();
        if followed.catch_up_to.take_if(|head| position >= *head).is_some() {
            self.first_left -= usize::from(followed.is_first);
            self.is_due(id);
            return Some(Item::CaughtUp { conversation_id: id.clone(), position });
        }
        match followed.cursor.look() {
            Ahead::Nothing => {}
            Ahead::Frames(frames) => {
                self.live.counted().from_ring.increment(frames.len() as u64);
                self.take(id, frames);
            }
            Ahead::InStorage => {
                followed.is_behind = true;
                self.behind.push_back(id.clone());
            }
        }
        None
    }

    fn take(&mut self, id: &ConversationId, frames: Vec<EncodedEntry>) {
        self.taken = Taken { conversation_id: Some(id.clone()), frames: frames.into_iter() };
        self.is_due(id);
    }

    /// Tells an entry; the user's own end of membership is the last of its conversation.
    fn tell(&mut self, frame: EncodedEntry) -> Item {
        if let Some(left) = &frame.ends_membership_of
            && left == self.signal.user_id()
            && let Some(id) = self.taken.conversation_id.clone()
            && let Some(followed) = self.followed.get(&id)
            && followed.join_sequence.is_some_and(|joined| frame.sequence > joined)
        {
            self.taken = Taken::default();
            let user_id = self.signal.user_id().clone();
            self.close(&id, Ending::Refused(Refusal::NotAMember { conversation_id: id.clone(), user_id }));
            // Perhaps the user was added again, and said to be in while this was still being read.
            if self.inbox.is_some() {
                self.joined.insert(id);
            }
        }
        Item::Event(frame.bytes)
    }

    fn close(&mut self, id: &ConversationId, why: Ending) {
        if let Some(followed) = self.followed.remove(id) {
            self.first_left -= usize::from(followed.is_first && followed.catch_up_to.is_some());
            self.given_up.extend(followed.join_sequence.map(|joined| (id.clone(), joined)));
        }
        self.notices.push_back(Item::Closed { conversation_id: id.clone(), why });
    }

    /// Asks for a page, if one is needed and none is asked for.
    fn read(&mut self) {
        while self.reading.is_none()
            && let Some(id) = self.behind.pop_front()
        {
            if let Some(followed) = self.followed.get(&id).filter(|followed| followed.is_behind) {
                let (pages, position) = (self.pages.clone(), followed.cursor.position());
                self.reading = Some(Box::pin(async move {
                    let page = pages.read(&id, position).await;
                    (id, position, page)
                }));
            }
        }
    }

    fn accept(&mut self, id: &ConversationId, after: Position, page: Result<Option<Arc<LogPage>>, Error>) {
        let waits = |followed: &&mut Followed| followed.is_behind && followed.cursor.position() == after;
        let Some(followed) = self.followed.get_mut(id).filter(waits) else { return };
        match page {
            Ok(Some(page)) => {
                let frames = followed.cursor.accept(&page);
                if frames.is_empty() {
                    // Something is said to be there that is not. Perhaps it comes; perhaps who said so was wrong.
                    self.retry(id);
                } else {
                    followed.is_behind = false;
                    let counted = self.live.counted();
                    counted.from_page.increment(frames.len() as u64);
                    counted.lag.record(after.entries_until(page.last_sequence) as f64);
                    self.take(id, frames);
                }
            }
            Ok(None) => {
                let conversation_id = id.clone();
                self.close(id, Ending::Refused(Refusal::ConversationNotFound { conversation_id }));
            }
            Err(error) if is_lasting(&error) => self.close(id, Ending::Failed(error)),
            // The database comes back; the position is where it was.
            Err(error) => {
                tracing::debug!(cause = &error as &dyn std::error::Error, "a stream waits for the database");
                self.retry(id);
            }
        }
    }

    fn retry(&mut self, id: &ConversationId) {
        self.behind.push_back(id.clone());
        self.pause();
    }

    fn pause(&mut self) {
        self.retry_at = Some(Instant::now() + RETRY.mul_f64(1.0 + fastrand::f64()));
    }

    /// Asks where the user stands in what may have been joined, unless that is being asked.
    fn enter(&mut self) {
        if self.entering.is_some() || self.joined.is_empty() {
            return;
        }
        let ids: Vec<ConversationId> = self.joined.iter().take(MAX_ENTERED).cloned().collect();
        for id in &ids {
            self.joined.remove(id);
        }
        let cursors = self.register(&ids);
        let (pages, user_id) = (self.pages.clone(), self.signal.user_id().clone());
        self.entering = Some(Box::pin(async move {
            let places = pages.find_places(&user_id, &ids).await;
            (cursors, places)
        }));
    }

    fn entered(&mut self, cursors: Vec<Cursor>, places: Result<Vec<MembershipView>, Error>) {
        match places {
            Ok(places) => self.settle(cursors, places, |_| Begin::Joined),
            Err(error) => {
                tracing::debug!(cause = &error as &dyn std::error::Error, "a stream waits for the database");
                self.joined.extend(cursors.iter().map(|cursor| cursor.conversation_id().clone()));
                self.pause();
            }
        }
    }

    fn register(&self, ids: &[ConversationId]) -> Vec<Cursor> {
        ids.iter().map(|id| Cursor::register(&self.live, id, &self.signal)).collect()
    }

    /// Begins with registered conversations, given where the user stands in them.
    fn settle(&mut self, cursors: Vec<Cursor>, places: Vec<MembershipView>, begin: impl Fn(&ConversationId) -> Begin) {
        let mut places: HashMap<ConversationId, MembershipView> =
            places.into_iter().map(|place| (place.conversation_id.clone(), place)).collect();
        for cursor in cursors {
            let id = cursor.conversation_id().clone();
            if self.followed.contains_key(&id) {
                continue;
            }
            let begin = begin(&id);
            let place = places.remove(&id);
            let join_sequence = place.as_ref().and_then(|place| Some(place.membership.as_ref()?.join_sequence));
            // Heard of late: a join may be older than the subscription.
            if join_sequence.is_some() && self.given_up.get(&id).copied() >= join_sequence {
                continue;
            }
            match position(&id, self.signal.user_id(), place, begin) {
                Ok(Some((span, join_sequence, after))) => {
                    let is_first = !matches!(begin, Begin::Joined);
                    self.begin(cursor, span, Some(join_sequence), after, is_first);
                }
                Ok(None) => {}
                Err(refusal) => {
                    self.given_up.extend(join_sequence.map(|joined| (id.clone(), joined)));
                    self.notices.push_back(Item::Closed { conversation_id: id, why: Ending::Refused(refusal) });
                }
            }
        }
    }

    fn begin(
        &mut self,
        mut cursor: Cursor,
        span: Span,
        join_sequence: Option<Sequence>,
        after: Position,
        is_first: bool,
    ) {
        let conversation_id = cursor.conversation_id().clone();
        let Span { oldest_sequence, last_sequence } = span;
        if after < oldest_sequence.before() {
            let conversation_id = conversation_id.clone();
            self.notices.push_back(Item::Truncated { conversation_id, oldest_sequence });
        }
        let is_late = planted::is(Bug::ResumeOffByOne) && after > Position::START;
        let after = if is_late { after.next().into() } else { after };
        cursor.begin(after.max(oldest_sequence.before()), last_sequence);
        self.first_left += usize::from(is_first);
        let catch_up_to = Some(last_sequence);
        let followed = Followed { cursor, join_sequence, catch_up_to, is_first, is_due: false, is_behind: false };
        self.followed.insert(conversation_id.clone(), followed);
        self.is_due(&conversation_id);
    }
}

/// A subscription to one conversation that has yet to be told where it begins.
pub(crate) struct PendingSubscription {
    subscription: Subscription,
    cursor: Cursor,
}

impl PendingSubscription {
    /// Begins after a sequence. `join_sequence` is the entry by which the user joined, if reading takes membership.
    pub(crate) fn after(mut self, of: &Conversation, join_sequence: Option<Sequence>, after: Position) -> Subscription {
        let span = Span { oldest_sequence: of.oldest_sequence, last_sequence: of.last_sequence };
        self.subscription.begin(self.cursor, span, join_sequence, after, true);
        self.subscription
    }
}

/// Where to begin, if anywhere: the entry by which the user joined, and the sequence after which to begin.
fn position(
    id: &ConversationId,
    user_id: &UserId,
    place: Option<MembershipView>,
    begin: Begin,
) -> Result<Option<(Span, Sequence, Position)>, Refusal> {
    let conversation_id = id.clone();
    let asked_for = matches!(begin, Begin::After(_));
    let Some(place) = place else {
        return if asked_for { Err(Refusal::ConversationNotFound { conversation_id }) } else { Ok(None) };
    };
    let Some(membership) = place.membership else {
        return match place.kind {
            _ if !asked_for => Ok(None),
            Kind::Channel => Err(Refusal::NotAMember { conversation_id, user_id: user_id.clone() }),
            Kind::Direct | Kind::Group => Err(Refusal::ConversationNotFound { conversation_id }),
        };
    };
    let last_sequence = place.last_sequence;
    let after = match begin {
        Begin::After(sequence) if sequence > last_sequence => {
            return Err(Refusal::SequenceAhead { conversation_id, sequence, last_sequence });
        }
        Begin::After(sequence) => sequence,
        Begin::From(Start::ReadMark) => membership.last_read_sequence,
        Begin::From(Start::Now) => last_sequence,
        Begin::From(Start::Beginning) => Position::START,
        Begin::Joined => membership.join_sequence.before(),
    };
    let span = Span { oldest_sequence: place.oldest_sequence, last_sequence };
    Ok(Some((span, membership.join_sequence, after)))
}

/// The answer to a question, if one is asked; else it never comes.
async fn asked<T>(question: &mut Option<BoxFuture<'static, T>>) -> T {
    match question {
        Some(question) => question.await,
        None => pending().await,
    }
}

/// Reading again would not help.
fn is_lasting(error: &Error) -> bool {
    matches!(error, Error::Corrupt(_) | Error::Driver(_) | Error::Data(_) | Error::Conflict { .. })
}
