//! `parlance token` and `parlance serve --auth`: from nothing to a call with a token.

use std::{
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
};

use parlance::{
    message::v1::{ListConversationsRequest, ListConversationsResponse},
    user::v1::CreateUserRequest,
};
use prost::Message;
use tonic::Code;

use super::support::{Guarded, call};
use crate::support::{Serve, TestDatabase, binary, channel_to, refused};

/// The output of `parlance token`.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

fn token(arguments: &[&str], input: &str) -> Said {
    let mut command = Command::new(binary("parlance"));
    command.arg("token").args(arguments).env_remove("DATA_DIR");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}

fn path(folder: &Path, name: &str) -> String {
    folder.join(name).to_str().unwrap().to_owned()
}

#[test]
fn a_new_secret_is_its_owners_alone_and_replaces_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let file = path(folder.path(), "secret");
    assert_eq!(token(&["--new-secret", &file], "").code, Some(0));
    let (mode, first) = (std::fs::metadata(&file).unwrap().permissions().mode(), std::fs::read(&file).unwrap());
    assert_eq!((mode & 0o777, first.len()), (0o600, 45));
    let again = token(&["--new-secret", &file], "");
    assert_eq!(again.code, Some(1));
    assert!(again.err.contains(&file), "{}", again.err);
    assert_eq!(std::fs::read(&file).unwrap(), first);
}

#[test]
fn a_token_is_explained_and_one_that_would_be_refused_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let (file, other) = (path(folder.path(), "secret"), path(folder.path(), "other"));
    for file in [&file, &other] {
        assert_eq!(token(&["--new-secret", file], "").code, Some(0));
    }
    let signed = token(&["ada", "--secret-file", &file, "--for", "10m"], "").out;
    let inspected = token(&["--inspect", "--secret-file", &file], &signed);
    assert_eq!(inspected.code, Some(0), "{}", inspected.err);
    for part in ["HS256", "\"sub\": \"ada\"", "It would be taken: ada of the role user."] {
        assert!(inspected.out.contains(part), "{part}: {}", inspected.out);
    }
    for (input, file, why) in [
        (&*signed, &other, "It would be refused"),
        ("no token", &file, "It would be refused"),
        ("", &file, "It would be refused"),
    ] {
        let inspected = token(&["--inspect", "--secret-file", file], input);
        assert_eq!(inspected.code, Some(1));
        assert!(inspected.out.contains(why), "{}", inspected.out);
    }
    let secret = std::fs::read_to_string(&file).unwrap();
    assert!(!inspected.out.contains(secret.trim()));
}

#[test]
fn what_is_wrong_with_a_request_for_a_token_is_said_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let (file, nowhere) = (path(folder.path(), "secret"), path(folder.path(), "nowhere"));
    assert_eq!(token(&["--new-secret", &file], "").code, Some(0));
    for (arguments, part) in [
        (&["ada", "--data-dir", &nowhere][..], "parlance serve --auth"),
        (&["ada", "--secret-file", &nowhere], &nowhere),
        (&["ada", "--secret-file", &file, "--role", "admin"], "--role"),
        (&["ada", "--secret-file", &file, "--for", "soon"], "--for"),
        (&["ada", "--secret-file", &file, "--for", "25h"], "1day"),
        (&["not an id", "--secret-file", &file], "subject"),
    ] {
        let said = token(arguments, "");
        assert_eq!((said.code, &*said.out), (Some(1), ""), "{arguments:?}: {}", said.err);
        assert!(said.err.contains(part), "{arguments:?}: {}", said.err);
    }
}

#[tokio::test]
async fn the_services_take_a_token_of_the_command() {
    let guarded = Guarded::new(&["ann"]).await;
    let signed = token(&["ann", "--secret-file", &guarded.signer.file()], "").out;
    let list = ListConversationsRequest::default();
    let inbox: ListConversationsResponse =
        guarded.message_service("ConversationService/ListConversations", &list, Some(signed.trim())).await.unwrap();
    assert_eq!(inbox.items, []);
}

#[tokio::test]
async fn serve_with_authentication_makes_a_secret_and_says_how_to_get_a_token() {
    let (database, folder) = (TestDatabase::migrated().await, tempfile::tempdir().unwrap());
    let data = path(folder.path(), "new");
    let mut serve = Serve::start(&database, &["--auth", "--data-dir", &data, "--no-web"]);
    let (users, messages) = (serve.address("user-service"), serve.address("message-service"));
    let hint = serve.wait_for_line("token ada");
    assert!(hint.contains(&format!("--secret-file {data}/token-secret")), "{hint}");

    let new = CreateUserRequest { user_id: "ada".to_owned(), username: "ada".to_owned(), ..Default::default() };
    let create = "/parlance.user.v1.UserService/CreateUser";
    let refusal = call(&channel_to(users), create, new.encode_to_vec(), None).await;
    refused(refusal, Code::Unauthenticated, "TOKEN_MISSING");
    let backend = token(&["backend", "--role", "service", "--data-dir", &data], "").out;
    call(&channel_to(users), create, new.encode_to_vec(), Some(backend.trim())).await.unwrap();
    let ada = token(&["ada", "--data-dir", &data, "--link"], "").out;
    let (page, ada) = ada.trim().split_once("#token=").expect("a link");
    assert_eq!(page, "http://127.0.0.1:8080/");
    let list = ListConversationsRequest::default().encode_to_vec();
    let inbox = "/parlance.message.v1.ConversationService/ListConversations";
    call(&channel_to(messages), inbox, list, Some(ada)).await.unwrap();
    assert_eq!(serve.stop().await, Some(0));
}
