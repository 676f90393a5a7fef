//! One connection of a session: sends frames and receives items, over `Chat` or over `Subscribe` and unary calls.

use futures_util::{StreamExt, stream, stream::BoxStream};
use parlance::message::v1::{
    Ack, ChatCursors, ChatOpen, ChatRequest, ChatResponse, MarkReadRequest, Nack, Opened, SendMessageRequest,
    SendTypingRequest, SubscribeRequest, SubscribeResponse, chat_request::Frame, chat_response::Item,
    conversation_service_client::ConversationServiceClient, message_service_client::MessageServiceClient,
    subscribe_response,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, transport::Channel};

use crate::{settings::Transport, status};

/// The most frames that the connection buffers.
const MAX_BUFFERED_FRAMES: usize = 64;

/// The most cursors of one request or frame.
const MAX_CURSORS: usize = 10_000;

pub(crate) struct Connection {
    /// Dropping the sender half-closes the connection.
    pub(crate) frames: Option<mpsc::Sender<ChatRequest>>,
    pub(crate) items: BoxStream<'static, Result<ChatResponse, Status>>,
}

/// Connects and sends `open`, whose cursors are in the order of their importance. The first item is `opened`, unless the
/// connection failed.
pub(crate) async fn connect(
    channel: Channel,
    transport: Transport,
    frame_id: u64,
    open: ChatOpen,
) -> Result<Connection, Status> {
    let (frames, queued) = mpsc::channel(MAX_BUFFERED_FRAMES);
    let queued = ReceiverStream::new(queued);
    let items = match transport {
        Transport::Chat => chat(channel, frame_id, open, queued).await?,
        Transport::Subscribe => subscribe(channel, frame_id, open, queued).await?,
    };
    Ok(Connection { frames: Some(frames), items })
}

async fn chat(
    channel: Channel,
    frame_id: u64,
    open: ChatOpen,
    queued: ReceiverStream<ChatRequest>,
) -> Result<BoxStream<'static, Result<ChatResponse, Status>>, Status> {
    let requests = stream::iter(opening(frame_id, open)).chain(queued);
    Ok(MessageServiceClient::new(channel).chat(requests).await?.into_inner().boxed())
}

/// Returns the frames that open a session: `open`, and further frames for cursors that do not fit into it.
fn opening(frame_id: u64, mut open: ChatOpen) -> Vec<ChatRequest> {
    let further = open.cursors.split_off(open.cursors.len().min(MAX_CURSORS));
    open.more_cursors = !further.is_empty();
    let parts = further.len().div_ceil(MAX_CURSORS);
    let further = further
        .chunks(MAX_CURSORS)
        .enumerate()
        .map(|(at, cursors)| Frame::Cursors(ChatCursors { cursors: cursors.to_vec(), more_cursors: at + 1 < parts }));
    std::iter::once(Frame::Open(open))
        .chain(further)
        .map(|frame| ChatRequest { frame_id, frame: Some(frame) })
        .collect()
}

async fn subscribe(
    channel: Channel,
    frame_id: u64,
    open: ChatOpen,
    queued: ReceiverStream<ChatRequest>,
) -> Result<BoxStream<'static, Result<ChatResponse, Status>>, Status> {
    let actor_id = open.actor_id.clone();
    let items = if open.send_only {
        stream::pending().boxed()
    } else {
        let ChatOpen { actor_id, mut cursors, start, epoch, .. } = open;
        // The others start at `start`: entries that were received already are ignored, and a missing one is noticed.
        cursors.truncate(MAX_CURSORS);
        let request = SubscribeRequest { actor_id, cursors, start, epoch };
        let response = MessageServiceClient::new(channel.clone()).subscribe(request).await?;
        response.into_inner().map(|item| item.map(to_chat)).boxed()
    };
    let opened = ChatResponse { item: Some(Item::Opened(Opened { frame_id })) };
    // One call at a time keeps the order of the frames.
    let answers = queued.then(move |request| call(channel.clone(), actor_id.clone(), request));
    // After the half-close the remaining frames are still answered, then the stream ends.
    let answers = answers.map(Some).chain(stream::once(async { None }));
    let items = stream::select(items.map(Some), answers.map(|answer| answer.map(Ok)));
    let items = items.take_while(|item| std::future::ready(item.is_some())).filter_map(std::future::ready);
    Ok(stream::once(async { Ok(opened) }).chain(items).boxed())
}

/// Executes a frame as a unary call.
async fn call(channel: Channel, actor_id: String, request: ChatRequest) -> ChatResponse {
    let frame_id = request.frame_id;
    let done = match request.frame {
        Some(Frame::Send(send)) => send_message(channel, SendMessageRequest { sender_id: actor_id, ..send }).await,
        Some(Frame::MarkRead(mark)) => mark_read(channel, MarkReadRequest { actor_id, ..mark }).await,
        Some(Frame::Typing(typing)) => send_typing(channel, SendTypingRequest { actor_id, ..typing }).await,
        Some(Frame::Open(_) | Frame::Cursors(_) | Frame::Authenticate(_)) | None => {
            Err(Status::invalid_argument("not a frame that can be executed"))
        }
    };
    let item = match done {
        Ok(ack) => Item::Ack(Ack { frame_id, ..ack }),
        Err(status) => Item::Nack(Nack { frame_id, status: Some(status::to_proto(&status)) }),
    };
    ChatResponse { item: Some(item) }
}

async fn send_message(channel: Channel, request: SendMessageRequest) -> Result<Ack, Status> {
    let response = MessageServiceClient::new(channel).send_message(request).await?.into_inner();
    let message = response.message.unwrap_or_default();
    Ok(Ack {
        conversation_id: message.conversation_id,
        request_id: message.request_id,
        sequence: message.sequence,
        create_time: message.create_time,
        duplicate: response.duplicate,
        ..Ack::default()
    })
}

async fn mark_read(channel: Channel, request: MarkReadRequest) -> Result<Ack, Status> {
    let member = ConversationServiceClient::new(channel).mark_read(request).await?.into_inner();
    let (conversation_id, sequence) = (member.conversation_id, member.last_read_sequence);
    Ok(Ack { conversation_id, sequence, ..Ack::default() })
}

async fn send_typing(channel: Channel, request: SendTypingRequest) -> Result<Ack, Status> {
    let conversation_id = request.conversation_id.clone();
    MessageServiceClient::new(channel).send_typing(request).await?;
    Ok(Ack { conversation_id, ..Ack::default() })
}

fn to_chat(response: SubscribeResponse) -> ChatResponse {
    let item = response.item.map(|item| match item {
        subscribe_response::Item::Event(event) => Item::Event(event),
        subscribe_response::Item::CaughtUp(mark) => Item::CaughtUp(mark),
        subscribe_response::Item::Heartbeat(beat) => Item::Heartbeat(beat),
        subscribe_response::Item::Draining(draining) => Item::Draining(draining),
        subscribe_response::Item::Closed(closed) => Item::Closed(closed),
        subscribe_response::Item::Truncated(truncated) => Item::Truncated(truncated),
        subscribe_response::Item::TokenExpiring(expiring) => Item::TokenExpiring(expiring),
    });
    ChatResponse { item }
}

#[cfg(test)]
mod tests {
    use parlance::message::v1::Cursor;

    use super::*;

    fn sizes(cursors: usize) -> Vec<(usize, bool)> {
        let open = ChatOpen { cursors: vec![Cursor::default(); cursors], ..ChatOpen::default() };
        let frames = opening(7, open).into_iter().inspect(|request| assert_eq!(request.frame_id, 7));
        let sizes = frames.map(|request| match request.frame {
            Some(Frame::Open(open)) => (open.cursors.len(), open.more_cursors),
            Some(Frame::Cursors(part)) => (part.cursors.len(), part.more_cursors),
            frame => panic!("{frame:?}"),
        });
        sizes.collect()
    }

    #[test]
    fn many_cursors_are_sent_in_several_frames() {
        assert_eq!(sizes(0), [(0, false)]);
        assert_eq!(sizes(MAX_CURSORS), [(MAX_CURSORS, false)]);
        assert_eq!(sizes(MAX_CURSORS + 1), [(MAX_CURSORS, true), (1, false)]);
        assert_eq!(sizes(3 * MAX_CURSORS), [(MAX_CURSORS, true), (MAX_CURSORS, true), (MAX_CURSORS, false)]);
    }
}
