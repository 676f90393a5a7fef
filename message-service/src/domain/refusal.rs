//! A business no: what the caller is told, with the values it is about. What broke is not here.

use super::conversation::Id;

/// Why a request is refused. Codes and reasons are chosen in `grpc/status.rs`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("no user with id {}", list(.user_ids))]
    UserNotFound { user_ids: Vec<Id> },
    #[error("user {} is deactivated", list(.user_ids))]
    UserDeactivated { user_ids: Vec<Id> },
    #[error("user {} is deleted", list(.user_ids))]
    UserDeleted { user_ids: Vec<Id> },
    #[error("conversation {conversation_id} not found")]
    ConversationNotFound { conversation_id: Id },
    #[error("conversation id {conversation_id} is taken")]
    ConversationIdTaken { conversation_id: Id },
    #[error("conversation {conversation_id} is direct: its title, members and roles never change")]
    ConversationIsDirect { conversation_id: Id },
    #[error("user {user_id} is not a member of conversation {conversation_id}")]
    NotAMember { conversation_id: Id, user_id: Id },
    #[error("conversation {conversation_id} has no member {user_id}")]
    MemberNotFound { conversation_id: Id, user_id: Id },
    #[error("the role of user {user_id} in conversation {conversation_id} does not allow this")]
    RoleInsufficient { conversation_id: Id, user_id: Id },
    #[error("user {user_id} is the last owner of conversation {conversation_id}, which has other members")]
    LastOwner { conversation_id: Id, user_id: Id },
    #[error("sequence {sequence} is beyond the head {last_sequence} of conversation {conversation_id}")]
    SequenceAhead { conversation_id: Id, sequence: i64, last_sequence: i64 },
    #[error("conversation {conversation_id} has no message {sequence}")]
    MessageNotFound { conversation_id: Id, sequence: i64 },
    #[error("message {sequence} of conversation {conversation_id} is deleted")]
    MessageDeleted { conversation_id: Id, sequence: i64 },
    #[error("message {sequence} of conversation {conversation_id} was sent by somebody else")]
    NotTheSender { conversation_id: Id, sequence: i64 },
    #[error("request_id {request_id} was used before with other content")]
    RequestIdReused { request_id: String },
    #[error("the etag is not the current one; read the resource again")]
    EtagMismatch,
    #[error("conversation {conversation_id} is locked by another change for too long; nothing was stored")]
    ConversationBusy { conversation_id: Id },
    #[error("too many writes are waiting; nothing was stored")]
    QueueFull,
    #[error("the service is shutting down")]
    Draining,
}

fn list(ids: &[Id]) -> String {
    ids.join(", ")
}
