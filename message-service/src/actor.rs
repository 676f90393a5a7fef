//! The only way to act for a user: [`authorise`] returns an [`Actor`], and writers, reads and subscriptions demand one. An
//! RPC that forgets to ask does not compile.

use std::time::Instant;

use service_kit::{
    auth::{Caller, Tenure},
    failure::Failure,
};
use tonic::Extensions;

use crate::{
    directory::{Directory, DirectoryError},
    domain::{ids::UserId, rpc::Rpc},
};

/// A user for whom the caller may act and whom user-service reported as active, authorised for one RPC. What the rule of
/// that RPC demands in a conversation is checked where the conversation is read or written.
#[derive(Debug, Clone)]
pub(crate) struct Actor {
    user_id: UserId,
    rpc: Rpc,
    deadline: Instant,
    /// Of the call or stream.
    tenure: Tenure,
}

impl Actor {
    /// Returns an actor without asking anybody.
    #[cfg(test)]
    pub(crate) fn unchecked(user_id: UserId, rpc: Rpc) -> Self {
        Self { user_id, rpc, deadline: Instant::now(), tenure: Tenure::default() }
    }

    /// The user.
    pub(crate) fn user_id(&self) -> &UserId {
        &self.user_id
    }

    /// The RPC that it is authorised for.
    pub(crate) fn rpc(&self) -> Rpc {
        self.rpc
    }

    /// The moment after which nothing waits for the result any more.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Asks again whether the user is active, for one step of a session: a frame that is handled as `rpc` until `deadline`.
    ///
    /// # Errors
    /// Those of [`Directory::check_actor`].
    pub(crate) async fn recheck(
        &self,
        directory: &Directory,
        rpc: Rpc,
        deadline: Instant,
    ) -> Result<Self, DirectoryError> {
        directory.check_actor(&self.user_id, self.tenure.issued_at(), &[], deadline).await?;
        Ok(Self { user_id: self.user_id.clone(), rpc, deadline, tenure: self.tenure.clone() })
    }

    /// How long the call or stream may go on.
    pub(crate) fn tenure(&self) -> &Tenure {
        &self.tenure
    }

    /// Returns the same actor with another deadline.
    pub(crate) fn with_deadline(self, deadline: Instant) -> Self {
        Self { deadline, ..self }
    }
}

/// The reason why a call may not act.
#[derive(Debug)]
pub(crate) enum NotAuthorised {
    /// The caller may not act for this user.
    Caller(Box<Failure>),
    /// A user is not active, or user-service cannot be reached.
    Directory(DirectoryError),
}

/// Checks that the caller of a call with these extensions may act for a user, and that this user and all `others` named by the
/// request are active.
///
/// # Errors
/// [`NotAuthorised`]; nothing was done.
pub(crate) async fn authorise(
    directory: &Directory,
    extensions: &Extensions,
    rpc: Rpc,
    user_id: UserId,
    others: &[UserId],
    deadline: Instant,
) -> Result<Actor, NotAuthorised> {
    Caller::of(extensions).acting_user(&user_id).map_err(|refusal| NotAuthorised::Caller(refusal.into()))?;
    let tenure = Tenure::of(extensions);
    let checked = directory.check_actor(&user_id, tenure.issued_at(), others, deadline).await;
    checked.map_err(NotAuthorised::Directory)?;
    Ok(Actor { user_id, rpc, deadline, tenure })
}
