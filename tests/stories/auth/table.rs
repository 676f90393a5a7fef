//! The table of methods and callers: what kind of caller each method is for, and a request of it.

use parlance::{
    message::v1::{self, Conversation, chat_request::Frame},
    original,
    user::v1::{self as user, User},
};
use prost::Message;
use tonic::Code;

use crate::support::group;

/// What kind of caller a method is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum For {
    Everybody,
    AnyCaller,
    /// Who acts for the user in the field: a user for itself, a backend for any.
    Actor,
    /// The user whose account the field names, or a backend.
    Account,
    Directory,
    Manager,
}

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Nobody,
    UserAsItself,
    UserNamingNobody,
    UserNamingAnother,
    UserThatIsMissing,
    Directory,
    ServiceNaming,
    ServiceNamingNobody,
    OperatorNaming,
    OperatorNamingNobody,
}

pub(super) const CALLERS: [Who; 10] = [
    Who::Nobody,
    Who::UserAsItself,
    Who::UserNamingNobody,
    Who::UserNamingAnother,
    Who::UserThatIsMissing,
    Who::Directory,
    Who::ServiceNaming,
    Who::ServiceNamingNobody,
    Who::OperatorNaming,
    Who::OperatorNamingNobody,
];

/// A method, and a request of it that names a user in its field.
pub(super) struct Row {
    pub(super) path: &'static str,
    /// The field that names the user for whom it acts; empty if there is none.
    pub(super) field: &'static str,
    pub(super) who: For,
    pub(super) request: fn(&str) -> Vec<u8>,
}

/// What must come of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    /// Not refused for its caller.
    Admitted,
    Refused(Code, &'static str),
    /// `INVALID_ARGUMENT` on the field.
    MustName,
}

const NO_TOKEN: Right = Right::Refused(Code::Unauthenticated, "TOKEN_MISSING");
const NOT_ALLOWED: Right = Right::Refused(Code::PermissionDenied, "CALLER_NOT_ALLOWED");
const NO_USER: Right = Right::Refused(Code::NotFound, "USER_NOT_FOUND");

impl Row {
    pub(super) fn right(&self, who: Who) -> Right {
        use {For as F, Who as W};
        match (self.who, who) {
            (F::Everybody, _)
            | (F::Directory, W::Directory)
            | (
                F::Directory | F::Manager,
                W::ServiceNaming | W::ServiceNamingNobody | W::OperatorNaming | W::OperatorNamingNobody,
            )
            | (F::Actor | F::Account, W::UserAsItself | W::UserNamingNobody | W::ServiceNaming | W::OperatorNaming) => {
                Right::Admitted
            }
            (_, W::Nobody) => NO_TOKEN,
            (F::AnyCaller | F::Actor | F::Account, W::UserThatIsMissing) => NO_USER,
            (F::AnyCaller, _) => Right::Admitted,
            (F::Actor | F::Account, W::ServiceNamingNobody | W::OperatorNamingNobody) => Right::MustName,
            (F::Actor | F::Account, W::UserNamingAnother | W::Directory)
            | (
                F::Directory | F::Manager,
                W::UserAsItself | W::UserNamingNobody | W::UserNamingAnother | W::UserThatIsMissing,
            )
            | (F::Manager, W::Directory) => NOT_ALLOWED,
        }
    }

    pub(super) fn is_of_message_service(&self) -> bool {
        self.path.starts_with("/parlance.message.v1.")
    }

    /// Returns the cells of the manual: no token, user, directory, service, operator.
    pub(super) fn cells(&self) -> [&'static str; 5] {
        match self.who {
            For::Everybody => ["✓"; 5],
            For::AnyCaller => ["16", "✓", "✓", "✓", "✓"],
            For::Actor => ["16", "self", "7", "named", "named"],
            For::Account => ["16", "self", "7", "any", "any"],
            For::Directory => ["16", "7", "✓", "✓", "✓"],
            For::Manager => ["16", "7", "7", "✓", "✓"],
        }
    }
}

fn text(id: &str) -> String {
    id.to_owned()
}

/// The group of Ann and Ben, of which Ann is the owner.
fn g() -> String {
    text("g")
}

macro_rules! row {
    ($path:literal, $field:literal, $who:ident, |$named:pat_param| $request:expr) => {
        Row { path: $path, field: $field, who: For::$who, request: |$named| $request.encode_to_vec() }
    };
}

/// Returns the rows of all methods.
pub(super) fn rows() -> Vec<Row> {
    let mut all = users();
    all.extend(conversations());
    all.extend(messages());
    all.extend(built_in());
    all
}

fn users() -> Vec<Row> {
    vec![
        row!("/parlance.user.v1.UserService/CreateUser", "", Manager, |_| user::CreateUserRequest {
            username: text("ann"),
            ..Default::default()
        }),
        row!("/parlance.user.v1.UserService/GetUser", "", AnyCaller, |_| user::GetUserRequest {
            user_id: text("ben"),
            ..Default::default()
        }),
        row!("/parlance.user.v1.UserService/BatchGetUsers", "", AnyCaller, |_| user::BatchGetUsersRequest {
            user_ids: vec![text("ben")],
        }),
        row!("/parlance.user.v1.UserService/ListUsers", "", Manager, |_| user::ListUsersRequest::default()),
        row!("/parlance.user.v1.UserService/UpdateUser", "user.user_id", Account, |named| user::UpdateUserRequest {
            user: Some(User { user_id: text(named), display_name: text("A"), ..Default::default() }),
            ..Default::default()
        }),
        row!("/parlance.user.v1.UserService/DeactivateUser", "", Manager, |_| user::DeactivateUserRequest {
            user_id: text("cat"),
        }),
        row!("/parlance.user.v1.UserService/ReactivateUser", "", Manager, |_| user::ReactivateUserRequest {
            user_id: text("cat"),
        }),
        row!("/parlance.user.v1.UserService/DeleteUser", "", Manager, |_| user::DeleteUserRequest {
            user_id: text("cat"),
            ..Default::default()
        }),
        row!("/parlance.user.v1.UserService/WatchUsers", "", Directory, |_| user::WatchUsersRequest {}),
        row!("/parlance.user.v1.UserService/RevokeTokens", "user_id", Account, |named| user::RevokeTokensRequest {
            user_id: text(named),
        }),
        row!("/parlance.user.v1.UserService/CreateToken", "", Manager, |_| user::CreateTokenRequest {
            user_id: text("ben"),
            lifetime: None,
        }),
    ]
}

fn conversations() -> Vec<Row> {
    vec![
        row!("/UserService/GetUser", "", AnyCaller, |_| original::UserInfo {
            user_id: text("ben"),
            ..Default::default()
        }),
        row!("/parlance.message.v1.ConversationService/CreateConversation", "creator_id", Actor, |named| group(
            "g",
            named,
            &[]
        )),
        row!("/parlance.message.v1.ConversationService/GetConversation", "actor_id", Actor, |named| {
            v1::GetConversationRequest { conversation_id: g(), actor_id: text(named) }
        }),
        row!("/parlance.message.v1.ConversationService/ListConversations", "actor_id", Actor, |named| {
            v1::ListConversationsRequest { actor_id: text(named), ..Default::default() }
        }),
        row!("/parlance.message.v1.ConversationService/UpdateConversation", "actor_id", Actor, |named| {
            v1::UpdateConversationRequest {
                conversation: Some(Conversation { conversation_id: g(), title: text("t"), ..Default::default() }),
                update_mask: None,
                actor_id: text(named),
            }
        }),
        row!("/parlance.message.v1.ConversationService/AddMembers", "actor_id", Actor, |named| {
            v1::AddMembersRequest {
                conversation_id: g(),
                actor_id: text(named),
                user_ids: vec![text("ben")],
                ..Default::default()
            }
        }),
        row!("/parlance.message.v1.ConversationService/RemoveMember", "actor_id", Actor, |named| {
            v1::RemoveMemberRequest { conversation_id: g(), actor_id: text(named), user_id: text("dan") }
        }),
        row!("/parlance.message.v1.ConversationService/UpdateMember", "actor_id", Actor, |named| {
            v1::UpdateMemberRequest {
                conversation_id: g(),
                actor_id: text(named),
                user_id: text("ben"),
                role: v1::MemberRole::Member.into(),
            }
        }),
        row!("/parlance.message.v1.ConversationService/ListMembers", "actor_id", Actor, |named| {
            v1::ListMembersRequest { conversation_id: g(), actor_id: text(named), ..Default::default() }
        }),
    ]
}

fn messages() -> Vec<Row> {
    vec![
        row!("/parlance.message.v1.ConversationService/MarkRead", "actor_id", Actor, |named| v1::MarkReadRequest {
            conversation_id: g(),
            actor_id: text(named),
            sequence: 1,
        }),
        row!("/parlance.message.v1.MessageService/SendMessage", "sender_id", Actor, |named| v1::SendMessageRequest {
            conversation_id: g(),
            sender_id: text(named),
            text: text("hello"),
            ..Default::default()
        }),
        row!("/parlance.message.v1.MessageService/GetMessage", "actor_id", Actor, |named| {
            v1::GetMessageRequest { conversation_id: g(), sequence: 1, actor_id: text(named) }
        }),
        row!("/parlance.message.v1.MessageService/ListMessages", "actor_id", Actor, |named| {
            v1::ListMessagesRequest { conversation_id: g(), actor_id: text(named), ..Default::default() }
        }),
        row!("/parlance.message.v1.MessageService/ListEvents", "actor_id", Actor, |named| {
            v1::ListEventsRequest { conversation_id: g(), actor_id: text(named), ..Default::default() }
        }),
        row!("/parlance.message.v1.MessageService/EditMessage", "actor_id", Actor, |named| v1::EditMessageRequest {
            conversation_id: g(),
            sequence: 1,
            actor_id: text(named),
            text: text("other"),
            ..Default::default()
        }),
        row!("/parlance.message.v1.MessageService/DeleteMessage", "actor_id", Actor, |named| {
            v1::DeleteMessageRequest { conversation_id: g(), sequence: 1, actor_id: text(named) }
        }),
        row!("/parlance.message.v1.MessageService/StreamMessages", "actor_id", Actor, |named| {
            v1::StreamMessagesRequest { conversation_id: g(), actor_id: text(named), ..Default::default() }
        }),
        row!("/parlance.message.v1.MessageService/Subscribe", "actor_id", Actor, |named| v1::SubscribeRequest {
            actor_id: text(named),
            ..Default::default()
        }),
        row!("/parlance.message.v1.MessageService/SendTyping", "actor_id", Actor, |named| v1::SendTypingRequest {
            conversation_id: g(),
            actor_id: text(named),
        }),
    ]
}

fn built_in() -> Vec<Row> {
    vec![
        row!("/parlance.message.v1.MessageService/Chat", "open.actor_id", Actor, |named| v1::ChatRequest {
            frame_id: 1,
            frame: Some(Frame::Open(v1::ChatOpen { actor_id: text(named), ..Default::default() })),
        }),
        row!("/grpc.health.v1.Health/Check", "", Everybody, |_| tonic_health::pb::HealthCheckRequest::default()),
        row!("/grpc.health.v1.Health/Watch", "", Everybody, |_| tonic_health::pb::HealthCheckRequest::default()),
        row!("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "", Everybody, |_| {
            use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_request::MessageRequest};
            let message_request = Some(MessageRequest::ListServices(String::new()));
            ServerReflectionRequest { message_request, ..Default::default() }
        }),
        row!("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "", Everybody, |_| {
            use tonic_reflection::pb::v1alpha::{ServerReflectionRequest, server_reflection_request::MessageRequest};
            let message_request = Some(MessageRequest::ListServices(String::new()));
            ServerReflectionRequest { message_request, ..Default::default() }
        }),
    ]
}
