//! Streams and the end of their token: the notice, the renewal, the end, and what is not lost by it.

use std::time::Duration;

use futures_util::StreamExt;
use parlance::{
    message::v1::{
        ChatAuthenticate, ChatOpen, ChatRequest, ChatResponse, Conversation, SendMessageRequest, StreamMessagesRequest,
        SubscribeRequest, chat_request::Frame, chat_response::Item as ChatItem,
        message_service_client::MessageServiceClient, stream_messages_response::Item as LogItem,
        subscribe_response::Item,
    },
    user::v1::{RevokeTokensRequest, WatchUsersRequest, user_service_client::UserServiceClient, watch_users_response},
};
use serde_json::json;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};

use super::support::{Guarded, now, with_token};
use crate::support::{code_and_reason, group, to_status};

/// Longer than the skew and the grace together.
const PATIENCE: Duration = Duration::from_mins(1);

async fn guarded() -> Guarded {
    let flags = ["--auth", "required", "--token-clock-skew", "1s"];
    let guarded = Guarded::with(&["ann", "ben"], &flags, &[]).await;
    let new = group("g", "", &["ben"]);
    let _: Conversation = guarded
        .message_service("ConversationService/CreateConversation", &new, Some(&guarded.signer.user("ann")))
        .await
        .unwrap();
    guarded
}

fn messages(guarded: &Guarded) -> MessageServiceClient<Channel> {
    guarded.world.message_service.messages()
}

/// A session of Chat by hand.
struct Chat {
    frames: mpsc::Sender<ChatRequest>,
    items: Streaming<ChatResponse>,
}

impl Chat {
    async fn open(channel: Channel, token: &str) -> Self {
        let (frames, queued) = mpsc::channel(512);
        let requests = with_token(ReceiverStream::new(queued), token);
        let items = MessageServiceClient::new(channel).chat(requests).await.unwrap().into_inner();
        let mut chat = Self { frames, items };
        chat.send(1, Frame::Open(ChatOpen::default())).await;
        while !matches!(chat.next().await.unwrap(), Some(ChatItem::Opened(_))) {}
        chat
    }

    async fn send(&self, frame_id: u64, frame: Frame) {
        self.frames.send(ChatRequest { frame_id, frame: Some(frame) }).await.unwrap();
    }

    async fn message(&self, frame_id: u64, text: &str) {
        let request =
            SendMessageRequest { conversation_id: "g".to_owned(), text: text.to_owned(), ..Default::default() };
        self.send(frame_id, Frame::Send(request)).await;
    }

    async fn authenticate(&self, frame_id: u64, token: &str) {
        self.send(frame_id, Frame::Authenticate(ChatAuthenticate { token: token.to_owned() })).await;
    }

    async fn next(&mut self) -> Result<Option<ChatItem>, Status> {
        let item = timeout(PATIENCE, self.items.message()).await.expect("an item in time")?;
        Ok(item.and_then(|response| response.item))
    }

    /// Returns the answer to a frame.
    async fn answer(&mut self, frame_id: u64) -> Result<(), Status> {
        loop {
            match self.next().await? {
                Some(ChatItem::Ack(ack)) if ack.frame_id == frame_id => return Ok(()),
                Some(ChatItem::Nack(nack)) if nack.frame_id == frame_id => return Err(to_status(nack.status)),
                Some(_) => {}
                None => panic!("the stream ended without an answer to {frame_id}"),
            }
        }
    }

    /// Returns the frames that were answered before the end, and its status.
    async fn end(&mut self) -> (Vec<u64>, Status) {
        let mut answered = Vec::new();
        loop {
            match self.next().await {
                Ok(Some(ChatItem::Ack(ack))) => answered.push(ack.frame_id),
                Ok(Some(ChatItem::Nack(nack))) => answered.push(nack.frame_id),
                Ok(Some(_)) => {}
                Ok(None) => panic!("an end without a status"),
                Err(status) => return (answered, status),
            }
        }
    }
}

fn assert_expired(status: &Status) {
    assert_eq!(code_and_reason(status), (Code::Unauthenticated, "TOKEN_EXPIRED".to_owned()));
}

#[tokio::test]
async fn each_stream_tells_that_its_token_ends_and_ends_with_it() {
    let guarded = guarded().await;
    let token = guarded.signer.short("ann", 4);
    let end = now() + 4;
    let subscribe = async {
        let request = with_token(SubscribeRequest::default(), &token);
        let mut items = messages(&guarded).subscribe(request).await.unwrap().into_inner();
        let mut told = None;
        loop {
            match timeout(PATIENCE, items.message()).await.unwrap() {
                Ok(Some(response)) => {
                    if let Some(Item::TokenExpiring(expiring)) = response.item {
                        assert!(told.replace(expiring.expire_time.unwrap().seconds).is_none(), "told twice");
                    }
                }
                Ok(None) => panic!("an end without a status"),
                Err(status) => break (told, status),
            }
        }
    };
    let log = async {
        let request = StreamMessagesRequest { conversation_id: "g".to_owned(), ..Default::default() };
        let mut items = messages(&guarded).stream_messages(with_token(request, &token)).await.unwrap().into_inner();
        let mut told = None;
        loop {
            match timeout(PATIENCE, items.message()).await.unwrap() {
                Ok(Some(response)) => {
                    if let Some(LogItem::TokenExpiring(expiring)) = response.item {
                        told = Some(expiring.expire_time.unwrap().seconds);
                    }
                }
                Ok(None) => panic!("an end without a status"),
                Err(status) => break (told, status),
            }
        }
    };
    let chat = async {
        let mut chat = Chat::open(guarded.world.message_service.channel(), &token).await;
        let mut told = None;
        loop {
            match chat.next().await {
                Ok(Some(ChatItem::TokenExpiring(expiring))) => told = Some(expiring.expire_time.unwrap().seconds),
                Ok(_) => {}
                Err(status) => break (told, status),
            }
        }
    };
    let watch = async {
        let directory = guarded.signer.sign(&json!({ "sub": "other", "parlance_role": "directory", "exp": end }));
        let mut users = UserServiceClient::new(guarded.world.user_service.channel());
        let mut items = users.watch_users(with_token(WatchUsersRequest {}, &directory)).await.unwrap().into_inner();
        let mut told = None;
        loop {
            match timeout(PATIENCE, items.message()).await.unwrap() {
                Ok(Some(response)) => {
                    if let Some(watch_users_response::Item::TokenExpiring(expiring)) = response.item {
                        told = Some(expiring.expire_time.unwrap().seconds);
                    }
                }
                Ok(None) => panic!("an end without a status"),
                Err(status) => break (told, status),
            }
        }
    };
    let (subscribe, log, chat, watch) = tokio::join!(subscribe, log, chat, watch);
    for (told, status) in [subscribe, log, chat, watch] {
        assert_eq!(told, Some(end), "{status:?}");
        assert_expired(&status);
        assert!(now() >= end, "not before the token ends");
    }
}

#[tokio::test]
async fn a_stream_whose_handler_forgets_the_end_is_ended_from_outside() {
    let guarded = guarded().await;
    let token = guarded.signer.short("ann", 2);
    let mut health = tonic_health::pb::health_client::HealthClient::new(guarded.world.user_service.channel());
    let request = with_token(tonic_health::pb::HealthCheckRequest::default(), &token);
    let mut items = health.watch(request).await.unwrap().into_inner();
    let status = loop {
        match timeout(PATIENCE, items.message()).await.expect("an end in time") {
            Ok(Some(_)) => {}
            Ok(None) => panic!("an end without a status"),
            Err(status) => break status,
        }
    };
    assert_expired(&status);
}

#[tokio::test]
async fn a_session_goes_on_with_another_token_and_not_with_a_wrong_one() {
    let guarded = guarded().await;
    let mut chat = Chat::open(guarded.world.message_service.channel(), &guarded.signer.short("ann", 6)).await;
    for (frame_id, token, code, reason) in [
        (10, "garbage".to_owned(), Code::Unauthenticated, "TOKEN_INVALID"),
        (11, guarded.signer.user("ann"), Code::ResourceExhausted, "RATE_LIMITED"),
    ] {
        chat.authenticate(frame_id, &token).await;
        let refusal = chat.answer(frame_id).await.unwrap_err();
        assert_eq!(code_and_reason(&refusal), (code, reason.to_owned()));
    }
    tokio::time::sleep(Duration::from_millis(5_100)).await;
    chat.authenticate(12, &guarded.signer.user("ann")).await;
    chat.answer(12).await.unwrap();
    // Beyond the end of the first token.
    tokio::time::sleep(Duration::from_secs(4)).await;
    chat.message(13, "still here").await;
    chat.answer(13).await.unwrap();
}

#[tokio::test]
async fn a_session_takes_no_token_of_another_subject_or_role() {
    let guarded = guarded().await;
    let others = [
        guarded.signer.user("ben"),
        guarded.signer.sign(&json!({ "sub": "ann", "parlance_role": "service" })),
        guarded.signer.sign(&json!({ "sub": "ann", "parlance_role": "operator" })),
    ];
    for token in others {
        let mut chat = Chat::open(guarded.world.message_service.channel(), &guarded.signer.user("ann")).await;
        chat.authenticate(2, &token).await;
        let refusal = chat.answer(2).await.unwrap_err();
        assert_eq!(code_and_reason(&refusal), (Code::PermissionDenied, "CALLER_NOT_ALLOWED".to_owned()));
        chat.message(3, "as before").await;
        chat.answer(3).await.unwrap();
    }
    let (frames, queued) = mpsc::channel(4);
    let requests = with_token(ReceiverStream::new(queued), &guarded.signer.user("ann"));
    let items = messages(&guarded).chat(requests).await.unwrap().into_inner();
    let mut unopened = Chat { frames, items };
    unopened.authenticate(1, &guarded.signer.user("ann")).await;
    let refusal = unopened.answer(1).await.unwrap_err();
    assert_eq!(code_and_reason(&refusal), (Code::FailedPrecondition, "SESSION_NOT_OPEN".to_owned()));
}

#[tokio::test]
async fn what_a_session_has_sent_is_stored_once_and_answered_before_its_token_ends_it() {
    let guarded = guarded().await;
    let mut chat = Chat::open(guarded.world.message_service.channel(), &guarded.signer.short("ann", 3)).await;
    let (mut sent, mut acknowledged) = (0, 0);
    let status = loop {
        sent += 1;
        let request =
            SendMessageRequest { conversation_id: "g".to_owned(), text: "x".to_owned(), ..Default::default() };
        // Refused once the stream has ended.
        let _ = chat.frames.try_send(ChatRequest { frame_id: sent + 1, frame: Some(Frame::Send(request)) });
        match timeout(Duration::from_millis(20), chat.items.next()).await {
            Ok(Some(Err(status))) => break status,
            Ok(Some(Ok(ChatResponse { item: Some(ChatItem::Ack(_)) }))) => acknowledged += 1,
            Ok(Some(Ok(_))) | Err(_) => {}
            Ok(None) => panic!("an end without a status"),
        }
    };
    assert_expired(&status);
    let request =
        parlance::message::v1::GetConversationRequest { conversation_id: "g".to_owned(), ..Default::default() };
    let conversation: Conversation = guarded
        .message_service("ConversationService/GetConversation", &request, Some(&guarded.signer.user("ann")))
        .await
        .unwrap();
    assert!(acknowledged > 0);
    assert_eq!(conversation.last_sequence, 3 + acknowledged - 1, "each stored message was acknowledged");
}

#[tokio::test]
async fn a_revocation_ends_open_streams_on_every_replica_and_spares_those_of_others() {
    let guarded = guarded().await;
    let replica = guarded.replica().await;
    let token = guarded.signer.user("ann");
    let mut here = Chat::open(guarded.world.message_service.channel(), &token).await;
    let mut there = Chat::open(replica.channel(), &token).await;
    let mut of_ben = Chat::open(replica.channel(), &guarded.signer.user("ben")).await;
    // A backend that acts for Ann has no token of hers.
    let backend = guarded.signer.of_role("service");
    let request = with_token(SubscribeRequest { actor_id: "ann".to_owned(), ..Default::default() }, &backend);
    let mut of_backend = messages(&guarded).subscribe(request).await.unwrap().into_inner();

    here.message(2, "acknowledged").await;
    let revoke = RevokeTokensRequest { user_id: "ann".to_owned() };
    guarded.user_service("RevokeTokens", &revoke, Some(&backend)).await.unwrap();
    let (answered, status) = here.end().await;
    assert_eq!(answered, [2]);
    assert_eq!(code_and_reason(&status), (Code::Unauthenticated, "TOKEN_REVOKED".to_owned()));
    let (_, status) = there.end().await;
    assert_eq!(code_and_reason(&status), (Code::Unauthenticated, "TOKEN_REVOKED".to_owned()));

    of_ben.message(2, "still here").await;
    of_ben.answer(2).await.unwrap();
    loop {
        let item = timeout(PATIENCE, of_backend.message()).await.unwrap().unwrap().unwrap().item;
        if matches!(item, Some(Item::Event(event)) if event.sequence == 4) {
            break;
        }
    }
}
