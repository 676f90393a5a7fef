//! Clients of `Subscribe` and `Chat` that check their streams: each conversation dense and in order, caught up once.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use futures_util::{Stream, StreamExt, stream::BoxStream};
use parlance::message::v1::{
    Ack, CaughtUp, ChatOpen, ChatRequest, ChatResponse, Closed, Cursor, Event, MarkReadRequest, Nack, Opened,
    SendMessageRequest, SendTypingRequest, SubscribeRequest, SubscribeResponse, SubscribeStart, Truncated,
    chat_request::Frame, chat_response, message_service_client::MessageServiceClient, subscribe_response,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Status, transport::Channel};

use super::PATIENCE;

/// One response of a stream, heartbeats left out.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly all of them are events")]
pub enum Received {
    Event(Event),
    CaughtUp(CaughtUp),
    Closed(Closed),
    Truncated(Truncated),
    Draining,
    Opened(Opened),
    Ack(Ack),
    Nack(Nack),
    /// The second since 1970 at which the token ends.
    TokenExpiring(i64),
}

/// A subscriber of all conversations of one user.
pub struct Inbox {
    items: BoxStream<'static, Result<Received, Status>>,
    /// The last sequence received for each conversation.
    pub positions: HashMap<String, i64>,
    marks: HashSet<String>,
    closed: HashSet<String>,
}

impl Inbox {
    /// Subscribes.
    pub async fn subscribe(
        client: &MessageServiceClient<Channel>,
        actor_id: &str,
        cursors: &[(&str, i64)],
        start: SubscribeStart,
    ) -> Result<Self, Status> {
        let request = SubscribeRequest {
            actor_id: actor_id.to_owned(),
            cursors: to_cursors(cursors),
            start: start.into(),
            ..Default::default()
        };
        let stream = client.clone().subscribe(request).await?.into_inner();
        Ok(Self::of(stream.filter_map(async |item| item.map(of_subscribe).transpose()), cursors))
    }

    fn of(items: impl Stream<Item = Result<Received, Status>> + Send + 'static, cursors: &[(&str, i64)]) -> Self {
        let positions = cursors.iter().map(|(id, after)| ((*id).to_owned(), *after)).collect();
        Self { items: items.boxed(), positions, marks: HashSet::new(), closed: HashSet::new() }
    }

    /// Receives the next response; `None` at an end without a status.
    pub async fn next(&mut self) -> Option<Result<Received, Status>> {
        self.within(PATIENCE).await.unwrap_or_else(|| panic!("silence after {:?}", self.positions))
    }

    async fn within(&mut self, patience: Duration) -> Option<Option<Result<Received, Status>>> {
        let received = tokio::time::timeout(patience, self.items.next()).await.ok()?;
        if let Some(Ok(received)) = &received {
            self.check(received);
        }
        Some(received)
    }

    fn check(&mut self, received: &Received) {
        match received {
            Received::Event(event) if event.sequence == 0 => {
                assert!(event.event_time.is_none() && !self.closed.contains(&event.conversation_id), "{event:?}");
            }
            Received::Event(event) => {
                let id = &event.conversation_id;
                if let Some(last) = self.positions.insert(id.clone(), event.sequence) {
                    assert_eq!(event.sequence, last + 1, "a gap or a duplicate in {id}");
                }
                if self.closed.remove(id) {
                    self.marks.remove(id);
                }
            }
            Received::CaughtUp(mark) => {
                assert!(self.marks.insert(mark.conversation_id.clone()), "caught up twice: {mark:?}");
                if !mark.conversation_id.is_empty() {
                    let position = self.positions.entry(mark.conversation_id.clone()).or_insert(mark.sequence);
                    assert_eq!(*position, mark.sequence, "caught up at another sequence: {mark:?}");
                }
            }
            Received::Closed(closed) => {
                assert!(self.closed.insert(closed.conversation_id.clone()), "closed twice: {closed:?}");
                self.positions.remove(&closed.conversation_id);
            }
            Received::Truncated(_)
            | Received::Draining
            | Received::Opened(_)
            | Received::Ack(_)
            | Received::Nack(_)
            | Received::TokenExpiring(_) => {}
        }
    }

    /// Receives the next response, which must not be an end.
    pub async fn receive(&mut self) -> Received {
        self.next().await.expect("an open stream").unwrap()
    }

    /// Receives up to the caught-up response for all conversations, inclusive.
    pub async fn catch_up(&mut self) -> Vec<Received> {
        let all = |received: &Received| matches!(received, Received::CaughtUp(mark) if mark.conversation_id.is_empty());
        self.until(all).await
    }

    /// Receives up to the first match, inclusive.
    pub async fn until(&mut self, is_it: impl Fn(&Received) -> bool) -> Vec<Received> {
        let mut all = Vec::new();
        loop {
            let received = self.receive().await;
            let is_last = is_it(&received);
            all.push(received);
            if is_last {
                return all;
            }
        }
    }

    /// Receives the next event, skipping caught-up responses.
    pub async fn event(&mut self) -> Event {
        loop {
            match self.receive().await {
                Received::Event(event) => return event,
                Received::CaughtUp(_) => {}
                other => panic!("{other:?} in place of an event"),
            }
        }
    }

    /// Receives up to the next closed conversation; returns its id and status.
    pub async fn closed(&mut self) -> (String, Status) {
        let all = self.until(|received| matches!(received, Received::Closed(_))).await;
        let Some(Received::Closed(closed)) = all.into_iter().last() else { unreachable!() };
        (closed.conversation_id, to_status(closed.status))
    }

    /// Receives the rest, and the final status; OK where there is none.
    pub async fn end(&mut self) -> (Vec<Received>, Status) {
        let mut all = Vec::new();
        loop {
            match self.next().await {
                Some(Ok(received)) => all.push(received),
                Some(Err(status)) => return (all, status),
                None => return (all, Status::ok("")),
            }
        }
    }

    /// Checks that nothing is received for a while.
    pub async fn is_silent_for(&mut self, time: Duration) {
        let received = self.within(time).await;
        assert!(received.is_none(), "{received:?}");
    }
}

/// A session of one user.
pub struct Session {
    pub inbox: Inbox,
    frames: Option<mpsc::UnboundedSender<ChatRequest>>,
    next_frame_id: u64,
}

impl Session {
    /// Starts a stream without opening the session.
    pub async fn begin(client: &MessageServiceClient<Channel>) -> Result<Self, Status> {
        let (frames, requests) = mpsc::unbounded_channel();
        let stream = client.clone().chat(UnboundedReceiverStream::new(requests)).await?.into_inner();
        let inbox = Inbox::of(stream.filter_map(async |item| item.map(of_chat).transpose()), &[]);
        Ok(Self { inbox, frames: Some(frames), next_frame_id: 1 })
    }

    /// Starts, opens, and waits until the session is open.
    pub async fn open(
        client: &MessageServiceClient<Channel>,
        actor_id: &str,
        cursors: &[(&str, i64)],
        start: SubscribeStart,
    ) -> Result<Self, Status> {
        let mut session = Self::begin(client).await?;
        session.inbox.positions = cursors.iter().map(|(id, after)| ((*id).to_owned(), *after)).collect();
        let open = ChatOpen {
            actor_id: actor_id.to_owned(),
            cursors: to_cursors(cursors),
            start: start.into(),
            ..Default::default()
        };
        session.opened(open).await
    }

    /// Starts and opens a session that only sends.
    pub async fn send_only(client: &MessageServiceClient<Channel>, actor_id: &str) -> Result<Self, Status> {
        let open = ChatOpen { actor_id: actor_id.to_owned(), send_only: true, ..Default::default() };
        Self::begin(client).await?.opened(open).await
    }

    async fn opened(mut self, open: ChatOpen) -> Result<Self, Status> {
        let frame_id = self.frame(Frame::Open(open));
        match self.inbox.next().await {
            Some(Ok(Received::Opened(opened))) => assert_eq!(opened.frame_id, frame_id),
            Some(Err(status)) => return Err(status),
            other => panic!("{other:?} in place of opened"),
        }
        Ok(self)
    }

    /// Sends a frame; returns its id.
    pub fn frame(&mut self, frame: Frame) -> u64 {
        self.raw(Some(frame))
    }

    /// Sends a frame that may be empty; returns its id.
    pub fn raw(&mut self, frame: Option<Frame>) -> u64 {
        let frame_id = self.next_frame_id;
        self.next_frame_id += 1;
        let frames = self.frames.as_ref().expect("not half-closed");
        frames.send(ChatRequest { frame_id, frame }).unwrap();
        frame_id
    }

    /// Sends a text; returns the frame's id.
    pub fn send(&mut self, conversation_id: &str, text: &str) -> u64 {
        self.frame(Frame::Send(SendMessageRequest {
            conversation_id: conversation_id.to_owned(),
            text: text.to_owned(),
            ..Default::default()
        }))
    }

    /// Moves the read mark; returns the frame's id.
    pub fn mark_read(&mut self, conversation_id: &str, sequence: i64) -> u64 {
        let conversation_id = conversation_id.to_owned();
        self.frame(Frame::MarkRead(MarkReadRequest { conversation_id, sequence, ..Default::default() }))
    }

    /// Sends a typing signal; returns the frame's id.
    pub fn typing(&mut self, conversation_id: &str) -> u64 {
        let conversation_id = conversation_id.to_owned();
        self.frame(Frame::Typing(SendTypingRequest { conversation_id, ..Default::default() }))
    }

    /// Closes the sending half.
    pub fn half_close(&mut self) {
        self.frames = None;
    }

    /// Receives the next ack or nack, skipping everything else.
    pub async fn answer(&mut self) -> Result<Ack, (u64, Status)> {
        loop {
            match self.inbox.receive().await {
                Received::Ack(ack) => return Ok(ack),
                Received::Nack(nack) => return Err((nack.frame_id, to_status(nack.status))),
                Received::Event(_) | Received::CaughtUp(_) => {}
                other => panic!("{other:?} in place of an answer"),
            }
        }
    }
}

fn to_cursors(cursors: &[(&str, i64)]) -> Vec<Cursor> {
    let cursor = |(id, after): &(&str, i64)| Cursor { conversation_id: (*id).to_owned(), after_sequence: *after };
    cursors.iter().map(cursor).collect()
}

/// Converts a status inside a response to that of an ended call.
pub fn to_status(status: Option<tonic_types::pb::Status>) -> Status {
    let status = status.expect("a status");
    let details = prost::Message::encode_to_vec(&status);
    Status::with_details(status.code.into(), status.message, details.into())
}

fn of_subscribe(response: SubscribeResponse) -> Option<Received> {
    use subscribe_response::Item;
    Some(match response.item.expect("a response with a kind") {
        Item::Event(event) => Received::Event(event),
        Item::CaughtUp(mark) => Received::CaughtUp(mark),
        Item::Heartbeat(_) => return None,
        Item::Draining(_) => Received::Draining,
        Item::Closed(closed) => Received::Closed(closed),
        Item::Truncated(truncated) => Received::Truncated(truncated),
        Item::TokenExpiring(expiring) => Received::TokenExpiring(expiring.expire_time.expect("a time").seconds),
    })
}

fn of_chat(response: ChatResponse) -> Option<Received> {
    use chat_response::Item;
    Some(match response.item.expect("a response with a kind") {
        Item::Event(event) => Received::Event(event),
        Item::CaughtUp(mark) => Received::CaughtUp(mark),
        Item::Heartbeat(_) => return None,
        Item::Draining(_) => Received::Draining,
        Item::Closed(closed) => Received::Closed(closed),
        Item::Truncated(truncated) => Received::Truncated(truncated),
        Item::TokenExpiring(expiring) => Received::TokenExpiring(expiring.expire_time.expect("a time").seconds),
        Item::Opened(opened) => Received::Opened(opened),
        Item::Ack(ack) => Received::Ack(ack),
        Item::Nack(nack) => Received::Nack(nack),
    })
}
