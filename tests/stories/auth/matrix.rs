//! Every method × every kind of caller, over gRPC, gRPC-Web and in Chat; and the table in the manual, made of the same rows.

use std::collections::BTreeSet;

use parlance::message::v1::{ChatResponse, Conversation, chat_response::Item};
use prost::Message;
use prost_types::FileDescriptorSet;
use serde_json::json;
use tonic::{Code, Status, transport::Channel};
use tonic_types::StatusExt;

use super::{
    support::{Guarded, call, now, web_call},
    table::{CALLERS, For, Right, Row, Who, rows},
};
use crate::support::{code_and_reason, group, to_status, violated_fields};

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
        guarded.signer.sign(&json!({ "sub": subject, "parlance_role": role, "iat": now() + 25 }))
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

fn check(row: &Row, who: Who, outcome: &Result<(), Status>, how: &str) {
    let right = row.right(who);
    let context = || format!("{} by {who:?} over {how}: {outcome:?}, not {right:?}", row.path);
    match (right, outcome) {
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
                check(&row, who, &over_grpc(both[at], &row, named, token.as_deref()).await, "gRPC");
                // A stream that is admitted does not end.
                if !streaming.contains(row.path) {
                    let status = web_call(addresses[at], row.path, &(row.request)(named), token.as_deref()).await;
                    let outcome = if status.code() == Code::Ok { Ok(()) } else { Err(status) };
                    check(&row, who, &outcome, "gRPC-Web");
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
