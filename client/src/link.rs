//! One connection of a session: frames go in, items come out, over `Chat` or over what browsers have.

use futures_util::{StreamExt, stream, stream::BoxStream};
use parlance::message::v1::{
    Ack, ChatOpen, ChatRequest, ChatResponse, Nack, Opened, SubscribeRequest, SubscribeResponse, chat_request::Frame,
    chat_response::Item, conversation_service_client::ConversationServiceClient,
    message_service_client::MessageServiceClient, subscribe_response,
};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, transport::Channel};

use crate::session::Transport;

/// The most frames that wait to be taken by the connection.
const MAX_WAITING: usize = 64;

pub(crate) struct Link {
    /// Dropping it is the half-close.
    pub(crate) frames: Option<mpsc::Sender<ChatRequest>>,
    pub(crate) items: BoxStream<'static, Result<ChatResponse, Status>>,
}

/// Connects and opens; the first item is `opened`, or the connection has failed.
pub(crate) async fn open(
    channel: Channel,
    transport: Transport,
    frame_id: u64,
    open: ChatOpen,
) -> Result<Link, Status> {
    let mut client = MessageServiceClient::new(channel.clone());
    let (frames, waiting) = mpsc::channel(MAX_WAITING);
    match transport {
        Transport::Chat => {
            let first = ChatRequest { frame_id, frame: Some(Frame::Open(open)) };
            let requests = stream::once(async { first }).chain(ReceiverStream::new(waiting));
            let items = client.chat(requests).await?.into_inner().boxed();
            Ok(Link { frames: Some(frames), items })
        }
        Transport::Subscribe => {
            let actor_id = open.actor_id.clone();
            let request = SubscribeRequest { actor_id: open.actor_id, cursors: open.cursors, start: open.start };
            let items = if open.send_only {
                stream::pending().boxed()
            } else {
                client.subscribe(request).await?.into_inner().map(|item| item.map(to_chat)).boxed()
            };
            let opened = ChatResponse { item: Some(Item::Opened(Opened { frame_id })) };
            // One after the other, which keeps their order.
            let answers =
                ReceiverStream::new(waiting).then(move |request| call(channel.clone(), actor_id.clone(), request));
            // The half-close: what was asked for is answered, then the end.
            let answers = answers.map(Some).chain(stream::once(async { None }));
            let items = stream::select(items.map(Some), answers.map(|answer| answer.map(Ok)));
            let items = items.take_while(|item| std::future::ready(item.is_some())).filter_map(std::future::ready);
            Ok(Link { frames: Some(frames), items: stream::once(async { Ok(opened) }).chain(items).boxed() })
        }
    }
}

/// Does by a call what a frame asks for.
async fn call(channel: Channel, actor_id: String, request: ChatRequest) -> ChatResponse {
    let frame_id = request.frame_id;
    let mut messages = MessageServiceClient::new(channel.clone());
    let done = match request.frame {
        Some(Frame::Send(mut send)) => {
            send.sender_id = actor_id;
            messages.send_message(send).await.map(|answer| {
                let answer = answer.into_inner();
                let message = answer.message.unwrap_or_default();
                Ack {
                    frame_id,
                    conversation_id: message.conversation_id,
                    request_id: message.request_id,
                    sequence: message.sequence,
                    create_time: message.create_time,
                    duplicate: answer.duplicate,
                }
            })
        }
        Some(Frame::MarkRead(mut mark)) => {
            mark.actor_id = actor_id;
            ConversationServiceClient::new(channel).mark_read(mark).await.map(|member| {
                let member = member.into_inner();
                let (conversation_id, sequence) = (member.conversation_id, member.last_read_sequence);
                Ack { frame_id, conversation_id, sequence, ..Ack::default() }
            })
        }
        Some(Frame::Typing(mut typing)) => {
            typing.actor_id = actor_id;
            let conversation_id = typing.conversation_id.clone();
            messages.send_typing(typing).await.map(|_| Ack { frame_id, conversation_id, ..Ack::default() })
        }
        Some(Frame::Open(_)) | None => Err(Status::invalid_argument("nothing to do")),
    };
    let item = done.map_or_else(|status| Item::Nack(Nack { frame_id, status: Some(to_proto(&status)) }), Item::Ack);
    ChatResponse { item: Some(item) }
}

fn to_chat(response: SubscribeResponse) -> ChatResponse {
    let item = response.item.map(|item| match item {
        subscribe_response::Item::Event(event) => Item::Event(event),
        subscribe_response::Item::CaughtUp(mark) => Item::CaughtUp(mark),
        subscribe_response::Item::Heartbeat(beat) => Item::Heartbeat(beat),
        subscribe_response::Item::Draining(draining) => Item::Draining(draining),
        subscribe_response::Item::Closed(closed) => Item::Closed(closed),
        subscribe_response::Item::Truncated(truncated) => Item::Truncated(truncated),
    });
    ChatResponse { item }
}

fn to_proto(status: &Status) -> tonic_types::pb::Status {
    let told = tonic_types::pb::Status::decode(status.details()).ok().filter(|_| !status.details().is_empty());
    told.unwrap_or_else(|| tonic_types::pb::Status {
        code: status.code() as i32,
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}

/// A status that came as an item, as it would have been at the end of a call.
pub(crate) fn to_status(status: Option<tonic_types::pb::Status>) -> Status {
    let Some(status) = status else { return Status::new(Code::Unknown, "no reason was given") };
    let details = status.encode_to_vec();
    Status::with_details(status.code.into(), status.message, details.into())
}
