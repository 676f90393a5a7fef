//! Tokens as callers send them: which are taken, which refused, and where they may not be.

use std::time::Duration;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use parlance::{
    message::v1::{Conversation, ListConversationsRequest, ListConversationsResponse},
    user::v1::{
        CreateTokenRequest, CreateTokenResponse, DeactivateUserRequest, GetUserRequest, RevokeTokensRequest, User,
    },
};
use prost::Message;
use serde_json::{Value, json};
use tonic::{Code, Status};

use super::support::{Guarded, bearer, call, call_with, now};
use crate::support::{PATIENCE, code_and_reason, eventually, group, refused};

const GET_USER: &str = "/parlance.user.v1.UserService/GetUser";

fn get_user() -> Vec<u8> {
    GetUserRequest { user_id: "ann".to_owned(), ..Default::default() }.encode_to_vec()
}

/// Calls with this metadata and returns the reason, empty if the call was taken.
async fn reason(guarded: &Guarded, metadata: &[(&'static str, &str)]) -> String {
    match call_with(&guarded.world.user_service.channel(), GET_USER, get_user(), metadata).await {
        Ok(_) => String::new(),
        Err(status) => {
            let (code, reason) = code_and_reason(&status);
            assert_eq!(code, Code::Unauthenticated, "{status:?}");
            reason
        }
    }
}

async fn of_claims(guarded: &Guarded, claims: Value) -> String {
    let token = guarded.signer.sign(&claims);
    reason(guarded, &[("authorization", &bearer(&token))]).await
}

#[tokio::test]
async fn claims_are_taken_or_refused_as_the_manual_says() {
    let guarded = Guarded::new(&["ann"]).await;
    let with = |name: &str, value: Value| {
        let mut claims = json!({ "sub": "ann" });
        claims[name] = value;
        claims
    };
    let (now, invalid) = (now(), "TOKEN_INVALID");
    for (name, value, expected) in [
        ("iat", json!(now), ""),
        // Clocks may differ by 30 s.
        ("exp", json!(now - 25), ""),
        ("exp", json!(now - 40), "TOKEN_EXPIRED"),
        ("exp", Value::Null, invalid),
        ("exp", json!("never"), invalid),
        ("exp", json!("99999999999"), invalid),
        ("exp", json!(-1), invalid),
        ("exp", json!((now + 60) * 1_000), invalid),
        ("exp", json!(now + 24 * 3_600 + 60), invalid),
        ("nbf", json!(now + 25), ""),
        ("nbf", json!(now + 40), "TOKEN_NOT_YET_VALID"),
        ("nbf", json!("x"), invalid),
        ("iat", Value::Null, invalid),
        ("iat", json!(now + 40), invalid),
        ("aud", Value::Null, invalid),
        ("aud", json!("other"), invalid),
        ("aud", json!("Parlance"), invalid),
        ("aud", json!(["other", "parlance"]), ""),
        ("aud", json!(["other"]), invalid),
        ("aud", json!({ "parlance": true }), invalid),
        ("iss", json!("other"), invalid),
        ("iss", Value::Null, invalid),
        // Not our claims.
        ("role", json!("service"), ""),
        ("scope", json!("service"), ""),
        ("roles", json!(["service"]), ""),
        ("parlance_role", json!("user"), ""),
        ("parlance_role", json!("SERVICE"), invalid),
        ("parlance_role", json!(["service"]), invalid),
        ("parlance_role", json!(""), invalid),
        ("sub", Value::Null, invalid),
        ("sub", json!(""), invalid),
        ("sub", json!(1), invalid),
        ("sub", json!("ann\u{0}"), invalid),
        ("sub", json!(" ann"), invalid),
        ("sub", json!("\u{430}nn"), invalid),
        ("sub", json!("~dann"), invalid),
        ("sub", json!("a".repeat(65)), invalid),
        ("sub", json!("auth0|1"), invalid),
    ] {
        let got = of_claims(&guarded, with(name, value.clone())).await;
        assert_eq!(got, expected, "{name}: {value}");
    }
    // The id is good, and another one.
    let token = guarded.signer.user("Ann");
    let status = call(&guarded.world.user_service.channel(), GET_USER, get_user(), Some(&token)).await.unwrap_err();
    assert_eq!(code_and_reason(&status), (Code::NotFound, "USER_NOT_FOUND".to_owned()));
}

#[tokio::test]
async fn the_header_is_read_strictly_and_a_token_is_looked_for_nowhere_else() {
    let guarded = Guarded::new(&["ann"]).await;
    let token = guarded.signer.user("ann");
    let good = bearer(&token);
    let (lower, padded) = (format!("bearer {token}"), format!("Bearer  {token}"));
    let (long, parts) = (format!("Bearer {}", "a".repeat(8_193)), format!("Bearer {token}.a"));
    for (metadata, expected) in [
        (&[("authorization", &*good)][..], ""),
        (&[("authorization", &lower)], ""),
        (&[("authorization", &good), ("authorization", &good)], "TOKEN_INVALID"),
        (&[("authorization", "Bearer")], "TOKEN_INVALID"),
        (&[("authorization", "Basic YTpi")], "TOKEN_INVALID"),
        (&[("authorization", &padded)], "TOKEN_INVALID"),
        (&[("authorization", &long)], "TOKEN_INVALID"),
        (&[("authorization", &parts)], "TOKEN_INVALID"),
        (&[("authorization", &token)], "TOKEN_INVALID"),
        (&[("cookie", &good), ("x-authorization", &good)], "TOKEN_MISSING"),
        (&[], "TOKEN_MISSING"),
    ] {
        assert_eq!(reason(&guarded, metadata).await, expected, "{metadata:?}");
    }
    let in_query = format!("{GET_USER}?access_token={token}");
    let status = call(&guarded.world.user_service.channel(), &in_query, get_user(), None).await.unwrap_err();
    assert_eq!(code_and_reason(&status), (Code::Unauthenticated, "TOKEN_MISSING".to_owned()));
    // Who shows something bad should know, also where none is needed.
    let health =
        call(&guarded.world.user_service.channel(), "/grpc.health.v1.Health/Check", Vec::new(), Some("bad")).await;
    refused(health, Code::Unauthenticated, "TOKEN_INVALID");
}

#[tokio::test]
async fn a_token_of_another_secret_or_algorithm_is_refused() {
    let guarded = Guarded::new(&["ann"]).await;
    let claims = json!({ "iss": "parlance", "aud": "parlance", "sub": "ann", "iat": now(), "exp": now() + 60 });
    let other = EncodingKey::from_secret(&[7; 48]).unwrap();
    let of_another = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &other).unwrap();
    assert_eq!(reason(&guarded, &[("authorization", &bearer(&of_another))]).await, "TOKEN_INVALID");

    let good = guarded.signer.user("ann");
    let [_, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    for header in [
        r#"{"alg":"none"}"#,
        r#"{"alg":"nOnE"}"#,
        r#"{"alg":"HS512"}"#,
        r#"{"alg":"RS256"}"#,
        r#"{"alg":"HS256","crit":["x"]}"#,
        r#"{"alg":"HS256","b64":false}"#,
        r#"{"alg":"HS256","typ":"logout+jwt"}"#,
        r#"{"alg":"HS256","alg":"none"}"#,
        r#"{"alg":"HS256","kid":"../../../dev/null"}"#,
        r#"{"alg":"HS256","kid":1}"#,
    ] {
        for signature in ["", signature] {
            let forged = format!("{}.{payload}.{signature}", base64url(header.as_bytes()));
            assert_eq!(reason(&guarded, &[("authorization", &bearer(&forged))]).await, "TOKEN_INVALID", "{header}");
        }
    }
    let mut changed = good.clone().into_bytes();
    let last = changed.len() - 2;
    changed[last] = if changed[last] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(changed).unwrap();
    assert_eq!(reason(&guarded, &[("authorization", &bearer(&good))]).await, "");
    assert_eq!(reason(&guarded, &[("authorization", &bearer(&changed))]).await, "TOKEN_INVALID");
}

fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().fold(0u32, |all, byte| all << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(group >> (18 - 6 * at) & 63) as usize]));
        }
    }
    text
}

#[tokio::test]
async fn revoked_tokens_are_refused_by_both_services_and_a_new_one_is_taken_at_once() {
    let guarded = Guarded::new(&["ann", "ben"]).await;
    let replica = guarded.replica().await;
    let (old, backend) = (guarded.signer.user("ann"), guarded.signer.of_role("service"));
    let list = ListConversationsRequest::default().encode_to_vec();
    let inbox = "/parlance.message.v1.ConversationService/ListConversations";
    let everywhere = [
        (guarded.world.user_service.channel(), GET_USER, get_user()),
        (guarded.world.message_service.channel(), inbox, list.clone()),
        (replica.channel(), inbox, list),
    ];
    for (channel, path, request) in &everywhere {
        call(channel, path, request.clone(), Some(&old)).await.unwrap();
    }

    let revoke = RevokeTokensRequest { user_id: "ann".to_owned() };
    let revoked = guarded.user_service("RevokeTokens", &revoke, Some(&backend)).await.unwrap();
    assert!(revoked.tokens_valid_after.is_some_and(|after| after.seconds >= now()));
    for (channel, path, request) in &everywhere {
        let status = eventually(PATIENCE, || async {
            call(channel, path, request.clone(), Some(&old)).await.map_or_else(Ok, |_| Err("the old token is taken"))
        })
        .await;
        assert_eq!(code_and_reason(&status), (Code::Unauthenticated, "TOKEN_REVOKED".to_owned()), "{path}");
    }
    // Of Ann alone.
    call(&everywhere[1].0, inbox, everywhere[1].2.clone(), Some(&guarded.signer.user("ben"))).await.unwrap();

    let new = CreateTokenRequest { user_id: "ann".to_owned(), lifetime: None }.encode_to_vec();
    let path = "/parlance.user.v1.UserService/CreateToken";
    let answer = call(&guarded.world.user_service.channel(), path, new, Some(&backend)).await.unwrap();
    let new = CreateTokenResponse::decode(&*answer).unwrap();
    assert!((3_500..3_700).contains(&(new.expire_time.unwrap().seconds - now())));
    for (channel, path, request) in &everywhere {
        call(channel, path, request.clone(), Some(&new.token)).await.unwrap();
    }
}

#[tokio::test]
async fn a_user_does_not_see_since_when_tokens_are_valid_and_revokes_its_own() {
    let guarded = Guarded::new(&["ann", "ben"]).await;
    let own = RevokeTokensRequest::default();
    let answer = guarded.user_service("RevokeTokens", &own, Some(&guarded.signer.user("ann"))).await.unwrap();
    assert_eq!((answer.user_id.as_str(), answer.tokens_valid_after), ("ann", None));
    let get = GetUserRequest { user_id: "ann".to_owned(), ..Default::default() };
    let seen: User = guarded.user_service("GetUser", &get, Some(&guarded.signer.user("ben"))).await.unwrap();
    assert_eq!(seen.tokens_valid_after, None);
    let seen = guarded.user_service("GetUser", &get, Some(&guarded.signer.of_role("directory"))).await.unwrap();
    assert!(seen.tokens_valid_after.is_some());
}

#[tokio::test]
async fn tokens_are_made_for_active_users_by_a_service_with_a_secret() {
    let guarded = Guarded::new(&["ann"]).await;
    let backend = guarded.signer.of_role("service");
    let create = async |user_id: &str, seconds: Option<i64>| -> Result<(), Status> {
        let lifetime = seconds.map(|seconds| prost_types::Duration { seconds, nanos: 0 });
        let request = CreateTokenRequest { user_id: user_id.to_owned(), lifetime }.encode_to_vec();
        let path = "/parlance.user.v1.UserService/CreateToken";
        call(&guarded.world.user_service.channel(), path, request, Some(&backend)).await.map(drop)
    };
    create("ann", Some(1)).await.unwrap();
    create("ann", Some(24 * 3_600)).await.unwrap();
    for seconds in [0, -1, 24 * 3_600 + 1] {
        refused(create("ann", Some(seconds)).await, Code::InvalidArgument, "INVALID_ARGUMENT");
    }
    refused(create("bob", None).await, Code::NotFound, "USER_NOT_FOUND");
    let deactivate = DeactivateUserRequest { user_id: "ann".to_owned() };
    guarded.user_service("DeactivateUser", &deactivate, Some(&backend)).await.unwrap();
    refused(create("ann", None).await, Code::FailedPrecondition, "USER_DEACTIVATED");

    let open = crate::support::World::new().await;
    open.users(&["ann"]).await;
    let request = CreateTokenRequest { user_id: "ann".to_owned(), lifetime: None };
    let refusal = open.user_service.users().create_token(request).await;
    refused(refusal, Code::FailedPrecondition, "NO_SIGNING_KEY");
}

#[tokio::test]
async fn while_clients_move_over_a_token_that_is_shown_must_be_good_and_none_is_trusted() {
    let guarded = Guarded::with(&["ann"], &["--auth", "permissive"], &[]).await;
    let channel = guarded.world.user_service.channel();
    call(&channel, GET_USER, get_user(), None).await.unwrap();
    call(&channel, GET_USER, get_user(), Some(&guarded.signer.user("ann"))).await.unwrap();
    refused(call(&channel, GET_USER, get_user(), Some("x.y.z")).await, Code::Unauthenticated, "TOKEN_INVALID");
    let new = group("g", "ann", &[]);
    let made: Conversation =
        guarded.message_service("ConversationService/CreateConversation", &new, None).await.unwrap();
    assert_eq!(made.conversation_id, "g");
}

#[tokio::test]
async fn a_secret_that_is_replaced_takes_its_tokens_with_it() {
    let mut guarded = Guarded::new(&["ann"]).await;
    let old = guarded.signer.user("ann");
    guarded.signer.rotate();
    let channel = guarded.world.message_service.channel();
    let list = ListConversationsRequest::default().encode_to_vec();
    let path = "/parlance.message.v1.ConversationService/ListConversations";
    // Files are looked at every 10 s.
    let deadline = tokio::time::Instant::now() + Duration::from_secs(40);
    loop {
        let (old, new) = (
            call(&channel, path, list.clone(), Some(&old)).await,
            call(&channel, path, list.clone(), Some(&guarded.signer.user("ann"))).await,
        );
        if let (Err(old), Ok(answer)) = (&old, &new) {
            assert_eq!(code_and_reason(old), (Code::Unauthenticated, "TOKEN_INVALID".to_owned()));
            ListConversationsResponse::decode(&**answer).unwrap();
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "old: {old:?}, new: {new:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
