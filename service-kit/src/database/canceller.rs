//! Ends sessions whose call was given up. Closing the connection would not: a server process looks at its connection only
//! between statements, and one that waits for a synchronous standby waits without a limit.

use std::{sync::Arc, time::Duration};

use sqlx::Connection;
use tokio::{sync::Semaphore, time::timeout};

use super::{Error, Settings, bounded, session::Session};
use crate::causes::causes;

const CANCEL: &str = "SELECT pg_catalog.pg_cancel_backend($1)";

/// The time for a call to end by itself: the server has the same timeout.
const GRACE: Duration = Duration::from_millis(250);

/// The longest time to cancel a call, with the wait for others that are cancelled.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);

/// The longest time for the end of a call that was cancelled.
const END_TIMEOUT: Duration = Duration::from_millis(500);

/// Cancels calls at the server over a connection that is open only meanwhile: one at a time. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Canceller {
    settings: Settings,
    turn: Arc<Semaphore>,
}

impl Canceller {
    pub(super) fn new(settings: &Settings) -> Self {
        Self { settings: settings.clone(), turn: Arc::new(Semaphore::new(1)) }
    }

    /// Ends the call that a session is in. Returns the session if the call ended by itself; otherwise it is cancelled, and the
    /// session is closed. The outcome of the call stays unknown: a commit whose wait for the standby is cancelled is reported
    /// as done.
    pub(super) async fn end(&self, mut session: Session) -> Option<Session> {
        if session.answers_within(GRACE).await {
            return Some(session);
        }
        match timeout(CANCEL_TIMEOUT, self.cancel(session.process_id())).await {
            Ok(Ok(())) => drop(session.answers_within(END_TIMEOUT).await),
            Ok(Err(error)) => tracing::debug!(cause = causes(&error), "a call was not cancelled"),
            Err(_) => tracing::debug!("a call was not cancelled in time"),
        }
        session.close().await;
        None
    }

    async fn cancel(&self, process_id: i32) -> Result<(), Error> {
        // Never closed.
        let _turn = self.turn.acquire().await;
        let mut connection = self.settings.open().await?;
        bounded(CANCEL_TIMEOUT, sqlx::query(CANCEL).bind(process_id).execute(&mut connection)).await?;
        Ok(connection.close().await?)
    }
}
