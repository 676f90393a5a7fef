//! The reads from storage of one subscription: at most one page and one set of places at a time, and a pause after a
//! failure.

use std::{
    future::pending,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{FutureExt, future::BoxFuture};
use service_kit::{backoff::jittered, causes::causes};
use tokio::time::sleep_until;

use crate::{
    domain::{
        epoch::Epoch,
        ids::{ConversationId, UserId},
        sequence::Position,
    },
    log::{
        clock::Clock,
        cursor::Cursor,
        pages::{LogPage, Pages},
    },
    storage::{Error, memberships::MembershipView},
};

/// The least pause after a failed read, jittered up to twice as long.
const RETRY: Duration = Duration::from_millis(250);

/// The page after a position; `None` if the conversation does not exist.
pub(super) struct FetchedPage {
    pub(super) id: ConversationId,
    pub(super) after: Position,
    /// The epoch when the read began.
    pub(super) epoch: Option<Epoch>,
    pub(super) page: Result<Option<Arc<LogPage>>, Error>,
}

/// The user's places in conversations that were registered before they were read.
pub(super) struct FetchedPlaces {
    pub(super) cursors: Vec<Cursor>,
    pub(super) places: Result<Vec<MembershipView>, Error>,
}

/// A completed read, or the end of a pause.
pub(super) enum Fetched {
    Page(FetchedPage),
    Places(FetchedPlaces),
    PauseOver,
}

/// The reads under way.
pub(super) struct Fetches {
    pages: Pages,
    clock: Clock,
    page: Option<BoxFuture<'static, FetchedPage>>,
    places: Option<BoxFuture<'static, FetchedPlaces>>,
    /// No read starts before this.
    retry_at: Option<Instant>,
}

impl Fetches {
    /// Starts nothing yet.
    pub(super) fn new(pages: &Pages, clock: &Clock) -> Self {
        Self { pages: pages.clone(), clock: clock.clone(), page: None, places: None, retry_at: None }
    }

    /// Returns true if a read of a page may start.
    pub(super) fn may_fetch_page(&self) -> bool {
        self.page.is_none() && !self.is_pausing()
    }

    /// Returns true if a read of places may start.
    pub(super) fn may_fetch_places(&self) -> bool {
        self.places.is_none() && !self.is_pausing()
    }

    /// Starts to read the page after a position, in an epoch.
    pub(super) fn fetch_page(&mut self, id: ConversationId, after: Position, epoch: Option<Epoch>) {
        let pages = self.pages.clone();
        self.page = Some(Box::pin(async move {
            let page = pages.read(&id, after).await;
            FetchedPage { id, after, epoch, page }
        }));
    }

    /// Starts to read the user's places in the conversations of these cursors.
    pub(super) fn fetch_places(&mut self, cursors: Vec<Cursor>, user_id: UserId) {
        let pages = self.pages.clone();
        self.places = Some(Box::pin(async move {
            let ids: Vec<ConversationId> = cursors.iter().map(|cursor| cursor.conversation_id().clone()).collect();
            let places = pages.find_memberships(&user_id, &ids).await;
            FetchedPlaces { cursors, places }
        }));
    }

    /// Takes the page, if its read has completed.
    pub(super) fn take_page(&mut self) -> Option<FetchedPage> {
        take_completed(&mut self.page)
    }

    /// Takes the places, if their read has completed.
    pub(super) fn take_places(&mut self) -> Option<FetchedPlaces> {
        take_completed(&mut self.places)
    }

    /// Starts no read for a while.
    pub(super) fn pause(&mut self) {
        self.retry_at = Some(self.clock.now() + jittered(RETRY, 1.0..2.0));
    }

    fn is_pausing(&self) -> bool {
        self.retry_at.is_some_and(|at| at > self.clock.now())
    }

    /// Waits for a read to complete or the pause to end; never returns if there is neither. May be dropped at any time.
    pub(super) async fn next(&mut self) -> Fetched {
        let woken = tokio::select! {
            page = completed(&mut self.page) => Fetched::Page(page),
            places = completed(&mut self.places) => Fetched::Places(places),
            () = pause_end(self.retry_at) => Fetched::PauseOver,
        };
        match &woken {
            Fetched::Page(_) => self.page = None,
            Fetched::Places(_) => self.places = None,
            Fetched::PauseOver => self.retry_at = None,
        }
        woken
    }
}

/// Takes the result of a read, if it has completed.
fn take_completed<T>(read: &mut Option<BoxFuture<'static, T>>) -> Option<T> {
    let result = read.as_mut()?.now_or_never();
    if result.is_some() {
        *read = None;
    }
    result
}

/// Waits for a read, if one is under way; else for ever.
async fn completed<T>(read: &mut Option<BoxFuture<'static, T>>) -> T {
    match read {
        Some(read) => read.await,
        None => pending().await,
    }
}

/// Waits until then, if there is a pause; else for ever.
async fn pause_end(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at.into()).await,
        None => pending().await,
    }
}

/// Returns true if reading again would fail again.
pub(super) fn is_permanent(error: &Error) -> bool {
    matches!(error, Error::Corrupt(_) | Error::Driver(_) | Error::Data(_) | Error::Conflict { .. })
}

/// Notes that a read is repeated.
pub(super) fn log_wait(error: &Error) {
    tracing::debug!(cause = causes(error), "a stream waits for the database");
}
