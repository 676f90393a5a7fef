//! What every RPC works with.

use std::sync::{Arc, OnceLock};

use service_kit::{failure::Failure, lifecycle::Lifecycle, page_token::PageTokens};

use super::{named_cursors::NamedCursors, read_share::ReadShare, refusals::AllRefusals, typing_limiter::TypingLimiter};
use crate::{
    bus::Exchange,
    directory::Directory,
    domain::ephemeral::Ephemeral,
    log::{live::LiveLogs, pages::Pages, writer::Writers},
    storage::{self, Store},
};

/// The parts that every RPC works with. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(super) store: Store,
    pub(super) writers: Writers,
    pub(super) directory: Directory,
    /// Followed by streams, which read pages when they are behind.
    pub(super) live: LiveLogs,
    pub(super) pages: Pages,
    /// Holds what is to be announced to other replicas.
    pub(super) exchange: Exchange,
    pub(super) typing: TypingLimiter,
    pub(super) inbox: ReadShare,
    pub(super) beginnings: ReadShare,
    pub(super) named_cursors: NamedCursors,
    pub(super) refusals: AllRefusals,
    /// Runs the sessions of `Chat`.
    pub(super) lifecycle: Lifecycle,
    /// Set once the schema is known to be this binary's. Until then every call is UNAVAILABLE.
    opened: Arc<OnceLock<PageTokens>>,
}

impl Context {
    /// Creates a context that answers nothing before [`open`](Self::open).
    pub(crate) fn new(
        store: Store,
        writers: Writers,
        directory: Directory,
        live: LiveLogs,
        pages: Pages,
        exchange: Exchange,
        lifecycle: Lifecycle,
    ) -> Self {
        let connections = store.database().settings().connections;
        Self {
            store,
            writers,
            directory,
            live,
            pages,
            exchange,
            typing: TypingLimiter::default(),
            inbox: ReadShare::of_inboxes(connections, &lifecycle),
            beginnings: ReadShare::of_streams(connections, &lifecycle),
            named_cursors: NamedCursors::default(),
            refusals: AllRefusals::default(),
            lifecycle,
            opened: Arc::default(),
        }
    }

    /// Reads the settings that all replicas share. Call it once the schema is migrated.
    pub(crate) async fn open(&self) -> Result<(), storage::Error> {
        let key = self.store.page_token_key().await?;
        // A second call reads the same key.
        self.opened.get_or_init(|| PageTokens::new(key));
        Ok(())
    }

    /// Delivers an ephemeral to subscribers here and at other replicas.
    pub(super) fn broadcast_ephemeral(&self, ephemeral: Ephemeral) {
        self.live.broadcast_ephemeral(&ephemeral);
        self.exchange.broadcast_ephemeral(ephemeral);
    }

    /// Returns the page tokens of this database.
    ///
    /// # Errors
    /// UNAVAILABLE before the context is open.
    pub(super) fn page_tokens(&self) -> Result<&PageTokens, Failure> {
        self.opened.get().ok_or_else(Failure::not_ready)
    }
}
