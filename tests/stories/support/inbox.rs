//! Clients of `Subscribe` and `Chat` that prove what they are told: each conversation dense and in order, caught up once.

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

/// What a client is told, heartbeats left out.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly all of them are events")]
pub enum Told {
    Event(Event),
    CaughtUp(CaughtUp),
    Closed(Closed),
    Truncated(Truncated),
    Draining,
    Opened(Opened),
    Ack(Ack),
    Nack(Nack),
}

/// Follows everything of one user.
pub struct Inbox {
    items: BoxStream<'static, Result<Told, Status>>,
    /// The last sequence of each conversation that something was told of.
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
        let request =
            SubscribeRequest { actor_id: actor_id.to_owned(), cursors: to_cursors(cursors), start: start.into() };
        let stream = client.clone().subscribe(request).await?.into_inner();
        Ok(Self::of(stream.filter_map(async |item| item.map(of_subscribe).transpose()), cursors))
    }

    fn of(items: impl Stream<Item = Result<Told, Status>> + Send + 'static, cursors: &[(&str, i64)]) -> Self {
        let positions = cursors.iter().map(|(id, after)| ((*id).to_owned(), *after)).collect();
        Self { items: items.boxed(), positions, marks: HashSet::new(), closed: HashSet::new() }
    }

    /// What is told next; `None` at an end without a status.
    pub async fn next(&mut self) -> Option<Result<Told, Status>> {
        self.within(PATIENCE).await.unwrap_or_else(|| panic!("silence after {:?}", self.positions))
    }

    async fn within(&mut self, patience: Duration) -> Option<Option<Result<Told, Status>>> {
        let told = tokio::time::timeout(patience, self.items.next()).await.ok()?;
        if let Some(Ok(told)) = &told {
            self.check(told);
        }
        Some(told)
    }

    fn check(&mut self, told: &Told) {
        match told {
            Told::Event(event) if event.sequence == 0 => {
                assert!(event.event_time.is_none() && !self.closed.contains(&event.conversation_id), "{event:?}");
            }
            Told::Event(event) => {
                let id = &event.conversation_id;
                if let Some(last) = self.positions.insert(id.clone(), event.sequence) {
                    assert_eq!(event.sequence, last + 1, "a hole or a double in {id}");
                }
                if self.closed.remove(id) {
                    self.marks.remove(id);
                }
            }
            Told::CaughtUp(mark) => {
                assert!(self.marks.insert(mark.conversation_id.clone()), "caught up twice: {mark:?}");
                if !mark.conversation_id.is_empty() {
                    let position = self.positions.entry(mark.conversation_id.clone()).or_insert(mark.sequence);
                    assert_eq!(*position, mark.sequence, "caught up elsewhere: {mark:?}");
                }
            }
            Told::Closed(closed) => {
                assert!(self.closed.insert(closed.conversation_id.clone()), "closed twice: {closed:?}");
                self.positions.remove(&closed.conversation_id);
            }
            Told::Truncated(_) | Told::Draining | Told::Opened(_) | Told::Ack(_) | Told::Nack(_) => {}
        }
    }

    /// What is told next, which must not be an end.
    pub async fn told(&mut self) -> Told {
        self.next().await.expect("an open stream").unwrap()
    }

    /// Everything up to the mark of all, that included.
    pub async fn catch_up(&mut self) -> Vec<Told> {
        let all = |told: &Told| matches!(told, Told::CaughtUp(mark) if mark.conversation_id.is_empty());
        self.until(all).await
    }

    /// Everything up to something, that included.
    pub async fn until(&mut self, is_it: impl Fn(&Told) -> bool) -> Vec<Told> {
        let mut all = Vec::new();
        loop {
            let told = self.told().await;
            let is_last = is_it(&told);
            all.push(told);
            if is_last {
                return all;
            }
        }
    }

    /// The next event, whatever marks are told before it.
    pub async fn event(&mut self) -> Event {
        loop {
            match self.told().await {
                Told::Event(event) => return event,
                Told::CaughtUp(_) => {}
                other => panic!("{other:?} in place of an event"),
            }
        }
    }

    /// The next end of a conversation, whatever events and marks are told before it.
    pub async fn closed(&mut self) -> (String, Status) {
        let all = self.until(|told| matches!(told, Told::Closed(_))).await;
        let Some(Told::Closed(closed)) = all.into_iter().last() else { unreachable!() };
        (closed.conversation_id, to_status(closed.status))
    }

    /// Everything that still comes, and the status that ends it; OK where there is none.
    pub async fn end(&mut self) -> (Vec<Told>, Status) {
        let mut all = Vec::new();
        loop {
            match self.next().await {
                Some(Ok(told)) => all.push(told),
                Some(Err(status)) => return (all, status),
                None => return (all, Status::ok("")),
            }
        }
    }

    /// Makes sure that nothing is told for a while.
    pub async fn is_silent_for(&mut self, time: Duration) {
        let told = self.within(time).await;
        assert!(told.is_none(), "{told:?}");
    }
}

/// A session of one user.
pub struct Session {
    pub inbox: Inbox,
    frames: Option<mpsc::UnboundedSender<ChatRequest>>,
    next_frame_id: u64,
}

impl Session {
    /// Begins a stream without opening the session.
    pub async fn begin(client: &MessageServiceClient<Channel>) -> Result<Self, Status> {
        let (frames, requests) = mpsc::unbounded_channel();
        let stream = client.clone().chat(UnboundedReceiverStream::new(requests)).await?.into_inner();
        let inbox = Inbox::of(stream.filter_map(async |item| item.map(of_chat).transpose()), &[]);
        Ok(Self { inbox, frames: Some(frames), next_frame_id: 1 })
    }

    /// Begins, opens, and waits until it is open.
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
            send_only: false,
        };
        session.opened(open).await
    }

    /// Begins and opens a session that only sends.
    pub async fn to_send(client: &MessageServiceClient<Channel>, actor_id: &str) -> Result<Self, Status> {
        let open = ChatOpen { actor_id: actor_id.to_owned(), send_only: true, ..Default::default() };
        Self::begin(client).await?.opened(open).await
    }

    async fn opened(mut self, open: ChatOpen) -> Result<Self, Status> {
        let frame_id = self.frame(Frame::Open(open));
        match self.inbox.next().await {
            Some(Ok(Told::Opened(opened))) => assert_eq!(opened.frame_id, frame_id),
            Some(Err(status)) => return Err(status),
            other => panic!("{other:?} in place of opened"),
        }
        Ok(self)
    }

    /// Sends a frame; gives its id.
    pub fn frame(&mut self, frame: Frame) -> u64 {
        self.raw(Some(frame))
    }

    /// Sends a frame that may hold nothing; gives its id.
    pub fn raw(&mut self, frame: Option<Frame>) -> u64 {
        let frame_id = self.next_frame_id;
        self.next_frame_id += 1;
        let frames = self.frames.as_ref().expect("not half-closed");
        frames.send(ChatRequest { frame_id, frame }).unwrap();
        frame_id
    }

    /// Sends a text; gives the frame's id.
    pub fn send(&mut self, conversation_id: &str, text: &str) -> u64 {
        self.frame(Frame::Send(SendMessageRequest {
            conversation_id: conversation_id.to_owned(),
            text: text.to_owned(),
            ..Default::default()
        }))
    }

    /// Moves the read mark; gives the frame's id.
    pub fn mark_read(&mut self, conversation_id: &str, sequence: i64) -> u64 {
        let conversation_id = conversation_id.to_owned();
        self.frame(Frame::MarkRead(MarkReadRequest { conversation_id, sequence, ..Default::default() }))
    }

    /// Says that the user is typing; gives the frame's id.
    pub fn typing(&mut self, conversation_id: &str) -> u64 {
        let conversation_id = conversation_id.to_owned();
        self.frame(Frame::Typing(SendTypingRequest { conversation_id, ..Default::default() }))
    }

    /// Sends no more frames.
    pub fn half_close(&mut self) {
        self.frames = None;
    }

    /// The next answer, whatever else is told before it.
    pub async fn answer(&mut self) -> Result<Ack, (u64, Status)> {
        loop {
            match self.inbox.told().await {
                Told::Ack(ack) => return Ok(ack),
                Told::Nack(nack) => return Err((nack.frame_id, to_status(nack.status))),
                Told::Event(_) | Told::CaughtUp(_) => {}
                other => panic!("{other:?} in place of an answer"),
            }
        }
    }
}

fn to_cursors(cursors: &[(&str, i64)]) -> Vec<Cursor> {
    let cursor = |(id, after): &(&str, i64)| Cursor { conversation_id: (*id).to_owned(), after_sequence: *after };
    cursors.iter().map(cursor).collect()
}

/// A status that travelled as an item, as it would have been at the end of a call.
pub fn to_status(status: Option<tonic_types::pb::Status>) -> Status {
    let status = status.expect("a status");
    let details = prost::Message::encode_to_vec(&status);
    Status::with_details(status.code.into(), status.message, details.into())
}

fn of_subscribe(response: SubscribeResponse) -> Option<Told> {
    use subscribe_response::Item;
    Some(match response.item.expect("an item that says something") {
        Item::Event(event) => Told::Event(event),
        Item::CaughtUp(mark) => Told::CaughtUp(mark),
        Item::Heartbeat(_) => return None,
        Item::Draining(_) => Told::Draining,
        Item::Closed(closed) => Told::Closed(closed),
        Item::Truncated(truncated) => Told::Truncated(truncated),
    })
}

fn of_chat(response: ChatResponse) -> Option<Told> {
    use chat_response::Item;
    Some(match response.item.expect("an item that says something") {
        Item::Event(event) => Told::Event(event),
        Item::CaughtUp(mark) => Told::CaughtUp(mark),
        Item::Heartbeat(_) => return None,
        Item::Draining(_) => Told::Draining,
        Item::Closed(closed) => Told::Closed(closed),
        Item::Truncated(truncated) => Told::Truncated(truncated),
        Item::Opened(opened) => Told::Opened(opened),
        Item::Ack(ack) => Told::Ack(ack),
        Item::Nack(nack) => Told::Nack(nack),
    })
}
