//! Refusals: errors of a request that is understood and not allowed, with the values concerned. Faults are not here.

use super::{
    ids::{ConversationId, UserId},
    sequence::{Position, Sequence},
};

/// The reason for refusing a request. `grpc/status.rs` chooses codes and details.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("no user with id {}", list(.user_ids))]
    UserNotFound { user_ids: Vec<UserId> },
    #[error("user {} is deactivated", list(.user_ids))]
    UserDeactivated { user_ids: Vec<UserId> },
    #[error("user {} is deleted", list(.user_ids))]
    UserDeleted { user_ids: Vec<UserId> },
    #[error("the token was issued before the tokens of user {user_id} were revoked")]
    TokenRevoked { user_id: UserId },
    #[error("conversation {conversation_id} not found")]
    ConversationNotFound { conversation_id: ConversationId },
    #[error("conversation id {conversation_id} is taken")]
    ConversationIdTaken { conversation_id: ConversationId },
    #[error("conversation {conversation_id} is direct: its details, members and roles never change")]
    ConversationIsDirect { conversation_id: ConversationId },
    #[error("user {user_id} is not a member of conversation {conversation_id}")]
    NotAMember { conversation_id: ConversationId, user_id: UserId },
    #[error("conversation {conversation_id} has no member {user_id}")]
    MemberNotFound { conversation_id: ConversationId, user_id: UserId },
    #[error("the role of user {user_id} in conversation {conversation_id} does not allow this")]
    RoleInsufficient { conversation_id: ConversationId, user_id: UserId },
    #[error("user {user_id} is the last owner of conversation {conversation_id}, which has other members")]
    LastOwner { conversation_id: ConversationId, user_id: UserId },
    #[error("sequence {sequence} is beyond the head {last_sequence} of conversation {conversation_id}")]
    SequenceAhead { conversation_id: ConversationId, sequence: Position, last_sequence: Position },
    #[error("conversation {conversation_id} has no message {sequence}")]
    MessageNotFound { conversation_id: ConversationId, sequence: Sequence },
    #[error("message {sequence} of conversation {conversation_id} is deleted")]
    MessageDeleted { conversation_id: ConversationId, sequence: Sequence },
    #[error("message {sequence} of conversation {conversation_id} was sent by another user")]
    NotTheSender { conversation_id: ConversationId, sequence: Sequence },
    #[error("request_id {request_id} was used before with other content")]
    RequestIdReused { request_id: String },
    #[error("the etag is not the current one; read the resource again")]
    EtagMismatch,
    #[error("conversation {conversation_id} is locked by another change for too long; nothing was stored")]
    ConversationBusy { conversation_id: ConversationId },
    #[error("too many writes are waiting; nothing was stored")]
    QueueFull,
    #[error("too many writes of this user are waiting; nothing was stored")]
    ShareFull,
    #[error("the service is shutting down")]
    Draining,
}

fn list(ids: &[UserId]) -> String {
    ids.iter().map(UserId::as_str).collect::<Vec<_>>().join(", ")
}
