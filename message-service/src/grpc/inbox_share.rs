//! Shares of the inbox: listing it reads all conversations of its user, which takes long for a user in very many. Neither one
//! user nor all of them together may keep the database from everything else.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use service_kit::{failure::Failure, sync::lock};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::ids::UserId;

/// The most pages that are read at a time. Others wait, until their deadlines.
const MAX_READS: usize = 4;

/// The most pages of one user that are read or wait.
const MAX_OF_USER: usize = 8;

/// The pages of inboxes that are being read. Cheap to clone; clones share the counts.
#[derive(Debug, Clone)]
pub(super) struct InboxShares {
    reads: Arc<Semaphore>,
    by_user: Arc<Mutex<HashMap<UserId, usize>>>,
}

/// The turn of one page, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _read: OwnedSemaphorePermit,
    _counted: Counted,
}

#[derive(Debug)]
struct Counted {
    user_id: UserId,
    by_user: Arc<Mutex<HashMap<UserId, usize>>>,
}

impl Default for InboxShares {
    fn default() -> Self {
        Self { reads: Arc::new(Semaphore::new(MAX_READS)), by_user: Arc::default() }
    }
}

impl InboxShares {
    /// Waits for the turn of a page.
    ///
    /// # Errors
    /// `OVERLOADED` if too many pages of the user wait.
    pub(super) async fn turn(&self, user_id: &UserId) -> Result<Turn, Failure> {
        let counted = self.count(user_id)?;
        let read = self.reads.clone().acquire_owned().await.map_err(|_| Failure::not_ready())?;
        Ok(Turn { _read: read, _counted: counted })
    }

    fn count(&self, user_id: &UserId) -> Result<Counted, Failure> {
        let mut by_user = lock(&self.by_user);
        let count = by_user.entry(user_id.clone()).or_default();
        if *count >= MAX_OF_USER {
            let text = "too many pages of this user's inbox are being read";
            return Err(Failure::overloaded(text, "user", "pages of the inbox read at a time"));
        }
        *count += 1;
        Ok(Counted { user_id: user_id.clone(), by_user: self.by_user.clone() })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut by_user = lock(&self.by_user);
        if let Some(count) = by_user.get_mut(&self.user_id) {
            *count -= 1;
            if *count == 0 {
                by_user.remove(&self.user_id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn one_user_waits_for_turns_and_is_refused_beyond_a_share() {
        let shares = InboxShares::default();
        let (ann, ben) = ("ann".into(), "ben".into());
        let mut running = Vec::new();
        for _ in 0..MAX_READS {
            running.push(shares.turn(&ann).await.unwrap());
        }
        let mut waiting: Vec<_> = (MAX_READS..MAX_OF_USER).map(|_| Box::pin(shares.turn(&ann))).collect();
        for turn in &mut waiting {
            assert!(turn.now_or_never().is_none());
        }
        assert!(shares.turn(&ann).await.is_err());
        let other = Box::pin(shares.turn(&ben));
        drop((waiting, running));
        other.await.unwrap();
        assert!(lock(&shares.by_user).is_empty());
    }
}
