//! Connections outside the pool, each of which one task keeps.

use tokio::{runtime::Handle, task::JoinHandle};

use super::{Error, Settings, canceller::Canceller, session::Session};

/// A session that one task keeps: opened when it is needed, and replaced after an error that leaves it in doubt. There is
/// never more than one.
#[derive(Debug)]
pub struct Kept {
    settings: Settings,
    canceller: Canceller,
    session: Option<Session>,
    /// The end of the last session, whose call was given up.
    ending: Option<JoinHandle<Option<Session>>>,
}

impl Kept {
    pub(super) fn new(settings: Settings, canceller: Canceller) -> Self {
        Self { settings, canceller, session: None, ending: None }
    }

    /// Returns the settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Makes sure that there is a session, and returns true if it is a new one.
    ///
    /// # Errors
    /// Nothing was sent.
    pub async fn open(&mut self) -> Result<bool, Error> {
        if let Some(ending) = &mut self.ending {
            // It is bounded.
            self.session = ending.await.unwrap_or_default();
            self.ending = None;
        }
        if let Some(mut session) = self.session.take()
            && session.is_usable().await
        {
            self.session = Some(session);
            return Ok(false);
        }
        self.session = Some(Box::pin(self.settings.session()).await?);
        Ok(true)
    }

    /// Takes the session out for one call. Whatever ends it must be followed by [`settle`](Self::settle).
    ///
    /// # Errors
    /// Nothing was sent.
    pub async fn take(&mut self) -> Result<Session, Error> {
        loop {
            if let Some(session) = self.session.take() {
                return Ok(session);
            }
            self.open().await?;
        }
    }

    /// Keeps the session after a call, unless the call leaves it in doubt.
    ///
    /// # Errors
    /// That of the call.
    pub fn settle<T>(&mut self, mut session: Session, answer: Result<T, Error>) -> Result<T, Error> {
        match &answer {
            Err(Error::Timeout { .. }) => {
                // Outside of the lifecycle: it ends by itself.
                let canceller = self.canceller.clone();
                self.ending = Some(Handle::current().spawn(async move { canceller.end(session).await }));
            }
            Err(error) if error.ends_session() => {}
            _ => {
                session.mark_used();
                self.session = Some(session);
            }
        }
        answer
    }
}
