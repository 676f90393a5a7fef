//! The only mapping from refusals and errors to statuses: code, reason, metadata, details. Without a catch-all arm, so
//! that a new refusal or error does not compile before it has a row. The proto explains the reasons.

use service_kit::failure::{Failure, Reason};
use tonic::Code;

use crate::{
    actor::{Actor, NotAuthorised},
    directory::DirectoryError,
    domain::{
        change::Outcome,
        ids::{ConversationId, UserId},
        refusal::Refusal,
        sequence::Sequence,
    },
    log::writer::WriteError,
};

/// Resource types in `google.rpc.ResourceInfo`.
const USER: &str = "parlance.user.v1.User";
const CONVERSATION: &str = "parlance.message.v1.Conversation";
const MEMBER: &str = "parlance.message.v1.Member";
const MESSAGE: &str = "parlance.message.v1.Message";

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        let refuse = |reason| Self::of(reason, text);
        match refusal {
            Refusal::UserNotFound { user_ids } => {
                let ids = joined(&user_ids);
                refuse(Reason::UserNotFound).with("user_ids", &*ids).resource(USER, ids)
            }
            Refusal::UserDeactivated { user_ids } => {
                let ids = joined(&user_ids);
                refuse(Reason::UserDeactivated)
                    .with("user_ids", &*ids)
                    .precondition(ids, "the user must be active; reactivate it first")
            }
            Refusal::UserDeleted { user_ids } => {
                let ids = joined(&user_ids);
                refuse(Reason::UserDeleted)
                    .with("user_ids", &*ids)
                    .precondition(ids, "the user must not be deleted, and deletion is final")
            }
            Refusal::TokenRevoked { user_id } => refuse(Reason::TokenRevoked).with("user_id", &*user_id),
            Refusal::ConversationNotFound { conversation_id } => refuse(Reason::ConversationNotFound)
                .with("conversation_id", &*conversation_id)
                .resource(CONVERSATION, &*conversation_id),
            Refusal::ConversationIdTaken { conversation_id } => refuse(Reason::ConversationIdTaken)
                .with("conversation_id", &*conversation_id)
                .resource(CONVERSATION, &*conversation_id),
            Refusal::ConversationIsDirect { conversation_id } => refuse(Reason::ConversationIsDirect)
                .with("conversation_id", &*conversation_id)
                .precondition(&*conversation_id, "the conversation must not be direct, and its kind never changes"),
            Refusal::NotAMember { conversation_id, user_id } => {
                refuse(Reason::NotAMember).with("conversation_id", &*conversation_id).with("user_id", &*user_id)
            }
            Refusal::MemberNotFound { conversation_id, user_id } => refuse(Reason::MemberNotFound)
                .with("conversation_id", &*conversation_id)
                .with("user_id", &*user_id)
                .resource(MEMBER, format!("{conversation_id}/{user_id}")),
            Refusal::RoleInsufficient { conversation_id, user_id } => {
                refuse(Reason::RoleInsufficient).with("conversation_id", &*conversation_id).with("user_id", &*user_id)
            }
            Refusal::LastOwner { conversation_id, user_id } => refuse(Reason::LastOwner)
                .with("conversation_id", &*conversation_id)
                .with("user_id", &*user_id)
                .precondition(&*conversation_id, "the conversation must have another owner first"),
            Refusal::SequenceAhead { conversation_id, last_sequence, .. } => refuse(Reason::SequenceAhead)
                .with("conversation_id", &*conversation_id)
                .with("last_sequence", last_sequence.to_string())
                .precondition(&*conversation_id, "the sequence must not be beyond the head of the log"),
            Refusal::MessageNotFound { conversation_id, sequence } => refuse(Reason::MessageNotFound)
                .with("conversation_id", &*conversation_id)
                .with("sequence", sequence.to_string())
                .resource(MESSAGE, format!("{conversation_id}/{sequence}")),
            Refusal::MessageDeleted { conversation_id, sequence } => refuse(Reason::MessageDeleted)
                .with("conversation_id", &*conversation_id)
                .with("sequence", sequence.to_string())
                .precondition(
                    format!("{conversation_id}/{sequence}"),
                    "the message must not be deleted, and deletion is final",
                ),
            Refusal::NotTheSender { conversation_id, sequence } => refuse(Reason::NotTheSender)
                .with("conversation_id", &*conversation_id)
                .with("sequence", sequence.to_string()),
            Refusal::RequestIdReused { request_id } => refuse(Reason::RequestIdReused)
                .with("request_id", request_id)
                .violating("request_id", "must be a new one for new content"),
            Refusal::EtagMismatch => refuse(Reason::EtagMismatch),
            Refusal::ConversationBusy { conversation_id } => {
                refuse(Reason::ConversationBusy).with("conversation_id", &*conversation_id)
            }
            Refusal::QueueFull => refuse(Reason::Overloaded).quota("writes", "bytes of waiting writes"),
            Refusal::ShareFull => refuse(Reason::Overloaded).quota("user", "bytes of a user's waiting writes"),
            Refusal::Draining => refuse(Reason::Draining),
        }
    }
}

impl From<DirectoryError> for Failure {
    fn from(error: DirectoryError) -> Self {
        match error {
            DirectoryError::Refused(refusal) => refusal.into(),
            DirectoryError::Unavailable(cause) => {
                let text = "the user cannot be checked: user-service cannot be reached";
                Self::of(Reason::UserServiceUnavailable, text).caused_by(cause)
            }
        }
    }
}

impl From<NotAuthorised> for Failure {
    fn from(error: NotAuthorised) -> Self {
        match error {
            NotAuthorised::Caller(refusal) => *refusal,
            NotAuthorised::Directory(error) => error.into(),
        }
    }
}

fn joined(user_ids: &[UserId]) -> String {
    user_ids.iter().map(UserId::as_str).collect::<Vec<_>>().join(",")
}

/// Returns the failure of a write without an outcome. `is_repeatable` means that the same call again stores nothing twice.
pub(super) fn of_write(error: WriteError, conversation_id: &ConversationId, is_repeatable: bool) -> Failure {
    match error {
        WriteError::QueueFull => Refusal::QueueFull.into(),
        WriteError::ShareFull => Refusal::ShareFull.into(),
        WriteError::Draining => Refusal::Draining.into(),
        WriteError::Busy => Refusal::ConversationBusy { conversation_id: conversation_id.clone() }.into(),
        // The writers have repeated it until its deadline.
        WriteError::NotStored(cause) if cause.is_lost_race() => Failure::database_unavailable().caused_by(cause),
        WriteError::NotStored(cause) => cause.into(),
        // The write may be stored; a retry finds out if it can be repeated.
        WriteError::OutcomeUnknown(cause) if is_repeatable => Failure::database_unavailable().caused_by(cause),
        WriteError::OutcomeUnknown(cause) => Failure::outcome_unknown().caused_by(cause),
    }
}

/// Returns the failure of a creation or a send without a request id that is stored but could not be read back because of `failure`.
pub(super) fn of_unseen_creation(failure: Failure) -> Failure {
    let may_be_retried = matches!(failure.code(), Code::Unavailable | Code::Aborted);
    if may_be_retried { failure.replaced_by(Failure::outcome_unknown()) } else { failure }
}

/// The resources of a write, which name its refusal.
#[derive(Debug, Clone)]
pub(super) struct Subject<'a> {
    pub(super) conversation_id: &'a ConversationId,
    pub(super) actor: &'a Actor,
    /// The member that the write concerns; the actor if there is none.
    pub(super) user_id: &'a UserId,
    /// The message that is changed or replied to, if any.
    pub(super) sequence: Option<Sequence>,
    /// Empty if there is none.
    pub(super) request_id: &'a str,
}

impl<'a> Subject<'a> {
    /// Creates the subject of a write of the actor in the conversation.
    pub(super) fn new(conversation_id: &'a ConversationId, actor: &'a Actor) -> Self {
        Self { conversation_id, actor, user_id: actor.user_id(), sequence: None, request_id: "" }
    }

    /// Accepts the outcome of a write that is done, or that was done before.
    ///
    /// # Errors
    /// The refusal for every other outcome.
    pub(super) fn check(&self, outcome: Outcome) -> Result<(), Failure> {
        let conversation_id = self.conversation_id.clone();
        let user_id = self.actor.user_id().clone();
        let sequence =
            || self.sequence.ok_or_else(|| Failure::internal("the outcome concerns a message, but the write did not"));
        let refusal = match outcome {
            Outcome::Done | Outcome::Unchanged => return Ok(()),
            Outcome::RequestIdReused => Refusal::RequestIdReused { request_id: self.request_id.to_owned() },
            Outcome::ConversationNotFound => Refusal::ConversationNotFound { conversation_id },
            Outcome::NotAMember => Refusal::NotAMember { conversation_id, user_id },
            Outcome::MessageNotFound => Refusal::MessageNotFound { conversation_id, sequence: sequence()? },
            // Writers retry locked conversations until the deadline.
            Outcome::Locked => Refusal::ConversationBusy { conversation_id },
            Outcome::ConversationIsDirect => Refusal::ConversationIsDirect { conversation_id },
            Outcome::RoleInsufficient => Refusal::RoleInsufficient { conversation_id, user_id },
            Outcome::MemberNotFound => Refusal::MemberNotFound { conversation_id, user_id: self.user_id.clone() },
            Outcome::LastOwner => Refusal::LastOwner { conversation_id, user_id: self.user_id.clone() },
            Outcome::MessageDeleted => Refusal::MessageDeleted { conversation_id, sequence: sequence()? },
            Outcome::NotTheSender => Refusal::NotTheSender { conversation_id, sequence: sequence()? },
            Outcome::EtagMismatch => Refusal::EtagMismatch,
            Outcome::ConversationIdTaken => Refusal::ConversationIdTaken { conversation_id },
        };
        Err(refusal.into())
    }
}

#[cfg(test)]
mod tests;
