//! Every method × every kind of caller, over gRPC, gRPC-Web and in Chat; and the table in the manual, made of the same rows.

use std::collections::BTreeSet;

use parlance::{
    message::v1::{self, ChatResponse, Conversation, chat_request::Frame, chat_response::Item},
    original,
    user::v1::{self as user, User},
};
use prost::Message;
use prost_types::FileDescriptorSet;
use serde_json::json;
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt;

use super::support::{Guarded, call, now, web_call};
use crate::support::{code_and_reason, group, to_status, violated_fields};

/// What kind of caller a method is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum For {
    Everybody,
    AnyCaller,
    /// Who acts for the user in the field: a user for itself, a backend for any.
    Actor,
    /// As `Actor`, and an operator has the rights of an owner.
    ActorOrOwner,
    /// The user whose account the field names, or a backend.
    Account,
    Directory,
    Manager,
}

/// Who calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Who {
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

const CALLERS: [Who; 10] = [
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
struct Row {
    path: &'static str,
    /// The field that names the user for whom it acts; empty if there is none.
    field: &'static str,
    who: For,
    request: fn(&str) -> Vec<u8>,
}

/// What must come of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    /// Not refused for its caller.
    Admitted,
    Refused(Code, &'static str),
    /// INVALID_ARGUMENT on the field.
    MustName,
}

const NO_TOKEN: Right = Right::Refused(Code::Unauthenticated, "TOKEN_MISSING");
const NOT_ALLOWED: Right = Right::Refused(Code::PermissionDenied, "CALLER_NOT_ALLOWED");
const NO_USER: Right = Right::Refused(Code::NotFound, "USER_NOT_FOUND");

impl Row {
    fn right(&self, who: Who) -> Right {
        use {For as F, Who as W};
        match (self.who, who) {
            (F::Everybody, _) => Right::Admitted,
            (_, W::Nobody) => NO_TOKEN,
            (F::AnyCaller, W::UserThatIsMissing) => NO_USER,
            (F::AnyCaller, _) => Right::Admitted,
            (F::Actor | F::ActorOrOwner | F::Account, W::UserThatIsMissing) => NO_USER,
            (F::Actor | F::ActorOrOwner | F::Account, W::UserAsItself | W::UserNamingNobody) => Right::Admitted,
            (F::Actor | F::ActorOrOwner | F::Account, W::UserNamingAnother | W::Directory) => NOT_ALLOWED,
            (F::Actor | F::ActorOrOwner | F::Account, W::ServiceNaming | W::OperatorNaming) => Right::Admitted,
            (F::Actor | F::ActorOrOwner | F::Account, W::ServiceNamingNobody | W::OperatorNamingNobody) => {
                Right::MustName
            }
            (F::Directory, W::Directory) => Right::Admitted,
            (
                F::Directory | F::Manager,
                W::UserAsItself | W::UserNamingNobody | W::UserNamingAnother | W::UserThatIsMissing,
            )
            | (F::Manager, W::Directory) => NOT_ALLOWED,
            (
                F::Directory | F::Manager,
                W::ServiceNaming | W::ServiceNamingNobody | W::OperatorNaming | W::OperatorNamingNobody,
            ) => Right::Admitted,
        }
    }

    fn is_of_message_service(&self) -> bool {
        self.path.starts_with("/parlance.message.v1.")
    }

    /// Returns the cells of the manual: no token, user, directory, service, operator.
    fn cells(&self) -> [&'static str; 5] {
        match self.who {
            For::Everybody => ["✓"; 5],
            For::AnyCaller => ["16", "✓", "✓", "✓", "✓"],
            For::Actor => ["16", "self", "7", "named", "named"],
            For::ActorOrOwner => ["16", "self", "7", "named", "named+"],
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

fn rows() -> Vec<Row> {
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
        row!("/UserService/GetUser", "", AnyCaller, |_| original::UserInfo {
            user_id: text("ben"),
            ..Default::default()
        }),
        row!("/parlance.message.v1.ConversationService/CreateConversation", "creator_id", Actor, |named| group(
            "g",
            named,
            &[]
        )),
        row!("/parlance.message.v1.ConversationService/GetConversation", "actor_id", ActorOrOwner, |named| {
            v1::GetConversationRequest { conversation_id: g(), actor_id: text(named) }
        }),
        row!("/parlance.message.v1.ConversationService/ListConversations", "actor_id", Actor, |named| {
            v1::ListConversationsRequest { actor_id: text(named), ..Default::default() }
        }),
        row!("/parlance.message.v1.ConversationService/UpdateConversation", "actor_id", ActorOrOwner, |named| {
            v1::UpdateConversationRequest {
                conversation: Some(Conversation { conversation_id: g(), title: text("t"), ..Default::default() }),
                update_mask: None,
                actor_id: text(named),
            }
        }),
        row!("/parlance.message.v1.ConversationService/AddMembers", "actor_id", ActorOrOwner, |named| {
            v1::AddMembersRequest {
                conversation_id: g(),
                actor_id: text(named),
                user_ids: vec![text("ben")],
                ..Default::default()
            }
        }),
        row!("/parlance.message.v1.ConversationService/RemoveMember", "actor_id", ActorOrOwner, |named| {
            v1::RemoveMemberRequest { conversation_id: g(), actor_id: text(named), user_id: text("dan") }
        }),
        row!("/parlance.message.v1.ConversationService/UpdateMember", "actor_id", ActorOrOwner, |named| {
            v1::UpdateMemberRequest {
                conversation_id: g(),
                actor_id: text(named),
                user_id: text("ben"),
                role: v1::MemberRole::Member.into(),
            }
        }),
        row!("/parlance.message.v1.ConversationService/ListMembers", "actor_id", ActorOrOwner, |named| {
            v1::ListMembersRequest { conversation_id: g(), actor_id: text(named), ..Default::default() }
        }),
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
        row!("/parlance.message.v1.MessageService/GetMessage", "actor_id", ActorOrOwner, |named| {
            v1::GetMessageRequest { conversation_id: g(), sequence: 1, actor_id: text(named) }
        }),
        row!("/parlance.message.v1.MessageService/ListMessages", "actor_id", ActorOrOwner, |named| {
            v1::ListMessagesRequest { conversation_id: g(), actor_id: text(named), ..Default::default() }
        }),
        row!("/parlance.message.v1.MessageService/ListEvents", "actor_id", ActorOrOwner, |named| {
            v1::ListEventsRequest { conversation_id: g(), actor_id: text(named), ..Default::default() }
        }),
        row!("/parlance.message.v1.MessageService/EditMessage", "actor_id", Actor, |named| v1::EditMessageRequest {
            conversation_id: g(),
            sequence: 1,
            actor_id: text(named),
            text: text("other"),
            ..Default::default()
        }),
        row!("/parlance.message.v1.MessageService/DeleteMessage", "actor_id", ActorOrOwner, |named| {
            v1::DeleteMessageRequest { conversation_id: g(), sequence: 1, actor_id: text(named) }
        }),
        row!("/parlance.message.v1.MessageService/StreamMessages", "actor_id", ActorOrOwner, |named| {
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
        row!("/parlance.message.v1.MessageService/Chat", "open.actor_id", Actor, |named| v1::ChatRequest {
            frame_id: 1,
            frame: Some(Frame::Open(v1::ChatOpen { actor_id: text(named), ..Default::default() })),
        }),
        row!("/grpc.health.v1.Health/Check", "", Everybody, |_| tonic_health::pb::HealthCheckRequest::default()),
        row!("/grpc.health.v1.Health/Watch", "", Everybody, |_| tonic_health::pb::HealthCheckRequest::default()),
        row!("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "", Everybody, |_| {
            tonic_reflection::pb::v1::ServerReflectionRequest::default()
        }),
        row!("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "", Everybody, |_| {
            tonic_reflection::pb::v1alpha::ServerReflectionRequest::default()
        }),
    ]
}

/// Returns the paths of all methods that the services serve, and of those that stream.
fn methods() -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut all, mut streaming) = (BTreeSet::new(), BTreeSet::new());
    for encoded in [
        parlance::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ] {
        for file in FileDescriptorSet::decode(encoded).unwrap().file {
            for service in &file.service {
                let name = [file.package(), service.name()].join(".");
                for method in &service.method {
                    let path = format!("/{}/{}", name.trim_start_matches('.'), method.name());
                    if method.client_streaming() || method.server_streaming() {
                        streaming.insert(path.clone());
                    }
                    all.insert(path);
                }
            }
        }
    }
    (all, streaming)
}

#[test]
fn every_method_that_is_served_has_a_row() {
    let paths: BTreeSet<String> = rows().iter().map(|row| row.path.to_owned()).collect();
    assert_eq!(paths, methods().0);
    assert_eq!(paths.len(), rows().len());
}

/// Returns the id that a request names for this caller, and the caller's token.
fn credentials(guarded: &Guarded, who: Who) -> (&'static str, Option<String>) {
    // In the future within the clock skew: calls of this test revoke tokens.
    let sign = |subject: &str, role: Option<&str>| {
        guarded.signer.sign(json!({ "sub": subject, "parlance_role": role, "iat": now() + 25 }))
    };
    match who {
        Who::Nobody => ("ann", None),
        Who::UserAsItself => ("ann", Some(sign("ann", None))),
        Who::UserNamingNobody => ("", Some(sign("ann", None))),
        Who::UserNamingAnother => ("ben", Some(sign("ann", None))),
        Who::UserThatIsMissing => ("", Some(sign("nobody", None))),
        Who::Directory => ("ann", Some(sign("message-service", Some("directory")))),
        Who::ServiceNaming => ("ann", Some(sign("backend", Some("service")))),
        Who::ServiceNamingNobody => ("", Some(sign("ann", Some("service")))),
        Who::OperatorNaming => ("ann", Some(sign("admin", Some("operator")))),
        Who::OperatorNamingNobody => ("", Some(sign("ann", Some("operator")))),
    }
}

fn check(row: &Row, who: Who, outcome: Result<(), Status>, how: &str) {
    let right = row.right(who);
    let context = || format!("{} by {who:?} over {how}: {outcome:?}, not {right:?}", row.path);
    match (right, &outcome) {
        (Right::Admitted, Ok(())) => {}
        (Right::Admitted, Err(status)) => {
            let (code, reason) = code_and_reason(status);
            let is_admitted = code != Code::Unauthenticated && reason != "CALLER_NOT_ALLOWED";
            assert!(is_admitted && !matches!(code, Code::Internal | Code::Unimplemented), "{}", context());
        }
        (Right::Refused(code, reason), Err(status)) => {
            assert_eq!(code_and_reason(status), (code, reason.to_owned()), "{}", context());
        }
        (Right::MustName, Err(status)) => {
            assert_eq!(status.code(), Code::InvalidArgument, "{}", context());
            let field = row.field.trim_start_matches("open.");
            assert_eq!(violated_fields(status), [field], "{}", context());
        }
        (Right::Refused(..) | Right::MustName, Ok(())) => panic!("{}", context()),
    }
}

async fn over_grpc(channel: &Channel, row: &Row, named: &str, token: Option<&str>) -> Result<(), Status> {
    let answer = call(channel, row.path, (row.request)(named), token).await?;
    if row.path.ends_with("/Chat")
        && let Some(Item::Nack(nack)) = ChatResponse::decode(&*answer).unwrap().item
    {
        return Err(to_status(nack.status));
    }
    Ok(())
}

#[tokio::test]
async fn every_method_admits_exactly_the_callers_of_the_table() {
    let guarded = Guarded::new(&["ann", "ben", "cat", "dan"]).await;
    let creator = guarded.signer.user("ann");
    let new = group("g", "", &["ben"]);
    let _: Conversation =
        guarded.message_service("ConversationService/CreateConversation", &new, Some(&creator)).await.unwrap();
    let streaming = methods().1;
    for row in rows() {
        let both = [&guarded.world.user_service.channel(), &guarded.world.message_service.channel()];
        let addresses = [guarded.world.user_service.address(), guarded.world.message_service.address()];
        let first = usize::from(row.is_of_message_service());
        // Health and reflection are at both.
        let last = if row.who == For::Everybody { 1 } else { first };
        for at in first..=last {
            for who in CALLERS {
                let (named, token) = credentials(&guarded, who);
                check(&row, who, over_grpc(both[at], &row, named, token.as_deref()).await, "gRPC");
                // A stream that is admitted does not end.
                if !streaming.contains(row.path) {
                    let status = web_call(addresses[at], row.path, &(row.request)(named), token.as_deref()).await;
                    let outcome = if status.code() == Code::Ok { Ok(()) } else { Err(status) };
                    check(&row, who, outcome, "gRPC-Web");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_users_token_reads_and_changes_nothing_of_conversations_of_others() {
    let guarded = Guarded::new(&["ann", "ben", "dan"]).await;
    let (ann, dan) = (guarded.signer.user("ann"), guarded.signer.user("dan"));
    let new = group("g", "", &["ben"]);
    let _: Conversation =
        guarded.message_service("ConversationService/CreateConversation", &new, Some(&ann)).await.unwrap();
    let channel = guarded.world.message_service.channel();
    for row in rows().iter().filter(|row| row.is_of_message_service()) {
        let name = row.path.rsplit('/').next().unwrap();
        if ["CreateConversation", "ListConversations", "Subscribe", "Chat"].contains(&name) {
            continue;
        }
        let status = over_grpc(&channel, row, "", Some(&dan)).await.unwrap_err();
        assert_eq!(code_and_reason(&status), (Code::NotFound, "CONVERSATION_NOT_FOUND".to_owned()), "{name}");
    }
}

#[tokio::test]
async fn a_method_that_nobody_serves_is_hidden_from_those_without_a_token() {
    let guarded = Guarded::new(&["ann"]).await;
    let token = guarded.signer.user("ann");
    for channel in [guarded.world.user_service.channel(), guarded.world.message_service.channel()] {
        for path in
            ["/parlance.user.v1.UserService/createUser", "/a.B/C", "/parlance.message.v1.MessageService/Nothing"]
        {
            let status = call(&channel, path, Vec::new(), None).await.unwrap_err();
            assert_eq!(code_and_reason(&status), (Code::Unauthenticated, "TOKEN_MISSING".to_owned()), "{path}");
            let status = call(&channel, path, Vec::new(), Some(&token)).await.unwrap_err();
            assert_eq!(status.code(), Code::Unimplemented, "{path}");
            assert_eq!(status.get_details_error_info().unwrap().reason, "UNIMPLEMENTED", "{path}");
        }
    }
}

#[test]
fn the_manual_has_the_table() {
    let manual = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/AUTH.md")).unwrap();
    let lines: Vec<String> = rows()
        .iter()
        .map(|row| {
            let field = if row.field.is_empty() { "–".to_owned() } else { format!("`{}`", row.field) };
            format!("| `{}` | {field} | {} |", row.path.trim_start_matches('/'), row.cells().join(" | "))
        })
        .collect();
    let is_row = |line: &&str| line.starts_with("| `") && line.contains('/');
    let found: Vec<&str> = manual.lines().filter(is_row).collect();
    assert_eq!(found, lines, "docs/AUTH.md must have these rows:\n{}", lines.join("\n"));
}
