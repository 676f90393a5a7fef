//! A client of `StreamMessages` that checks its stream: dense, in order, caught up once.

use std::time::Duration;

use parlance::message::v1::{
    Event, StreamMessagesRequest, StreamMessagesResponse, message_service_client::MessageServiceClient,
    stream_messages_response::Item,
};
use tonic::{Status, Streaming, transport::Channel};

use super::PATIENCE;

/// A subscriber of one conversation as one user.
pub struct Reader {
    conversation_id: String,
    stream: Streaming<StreamMessagesResponse>,
    /// The last sequence; unknown for a stream "from now" until it is caught up.
    position: Option<i64>,
    caught_up: Option<i64>,
    draining: bool,
}

impl Reader {
    /// Opens the stream after a sequence, or from now.
    pub async fn open(
        client: &MessageServiceClient<Channel>,
        conversation_id: &str,
        actor_id: &str,
        after_sequence: Option<i64>,
    ) -> Result<Self, Status> {
        let request = StreamMessagesRequest {
            conversation_id: conversation_id.to_owned(),
            actor_id: actor_id.to_owned(),
            after_sequence,
            ..Default::default()
        };
        let stream = client.clone().stream_messages(request).await?.into_inner();
        let conversation_id = conversation_id.to_owned();
        Ok(Self { conversation_id, stream, position: after_sequence, caught_up: None, draining: false })
    }

    /// Receives the next entry, or the end; `None` where the stream ends without a status.
    async fn next(&mut self) -> Result<Option<Event>, Status> {
        loop {
            let Some(item) = self.within(PATIENCE).await? else { return Ok(None) };
            match item.item.expect("a response with a kind") {
                Item::Event(event) => {
                    assert!(!self.draining, "an event after draining");
                    assert_eq!(event.conversation_id, self.conversation_id);
                    let expected = self.position.expect("a stream from now is caught up first") + 1;
                    assert_eq!(event.sequence, expected, "a gap or a duplicate");
                    self.position = Some(event.sequence);
                    return Ok(Some(event));
                }
                Item::CaughtUp(mark) => {
                    assert_eq!(mark.conversation_id, self.conversation_id);
                    assert_eq!(self.caught_up.replace(mark.sequence), None, "caught up twice");
                    assert_eq!(
                        *self.position.get_or_insert(mark.sequence),
                        mark.sequence,
                        "caught up at another sequence"
                    );
                }
                Item::Heartbeat(_) => {}
                Item::Draining(draining) => {
                    let delay = draining.retry_delay.expect("a delay");
                    assert!(delay.seconds >= 0 && delay.nanos >= 0 && delay.seconds < 60, "{delay:?}");
                    self.draining = true;
                }
                other @ (Item::Closed(_) | Item::Truncated(_) | Item::TokenExpiring(_)) => panic!("{other:?}"),
            }
        }
    }

    async fn within(&mut self, patience: Duration) -> Result<Option<StreamMessagesResponse>, Status> {
        let waiting = tokio::time::timeout(patience, self.stream.message());
        waiting.await.unwrap_or_else(|_| panic!("silence after {:?}", self.position))
    }

    /// Receives the next entry; fails if the stream ends.
    pub async fn event(&mut self) -> Event {
        self.next().await.unwrap().expect("an open stream")
    }

    /// Receives a heartbeat, which must be next.
    pub async fn heartbeat(&mut self) {
        let item = self.within(PATIENCE).await.unwrap().expect("an open stream").item;
        assert!(matches!(item, Some(Item::Heartbeat(_))), "{item:?}");
    }

    /// Receives everything up to a sequence.
    pub async fn up_to(&mut self, sequence: i64) -> Vec<Event> {
        let mut events = Vec::new();
        while self.position.is_none_or(|position| position < sequence) {
            events.push(self.event().await);
        }
        events
    }

    /// Receives everything up to the caught-up response; returns its sequence, too.
    pub async fn catch_up(&mut self) -> (Vec<Event>, i64) {
        let mut events = Vec::new();
        // Caught-up is no event, and reading the next event would skip it, so responses are read one by one.
        while self.caught_up.is_none() {
            let item = self.within(PATIENCE).await.unwrap().expect("an open stream").item;
            match item.expect("a response with a kind") {
                Item::Event(event) => {
                    assert_eq!(event.sequence, self.position.expect("a position") + 1, "a gap or a duplicate");
                    self.position = Some(event.sequence);
                    events.push(event);
                }
                Item::CaughtUp(mark) => {
                    assert_eq!(mark.conversation_id, self.conversation_id);
                    assert_eq!(
                        *self.position.get_or_insert(mark.sequence),
                        mark.sequence,
                        "caught up at another sequence"
                    );
                    self.caught_up = Some(mark.sequence);
                }
                Item::Heartbeat(_) => {}
                other => panic!("{other:?}"),
            }
        }
        (events, self.caught_up.expect("set above"))
    }

    /// Receives the rest, and the final status.
    pub async fn end(&mut self) -> (Vec<Event>, Status) {
        let mut events = Vec::new();
        loop {
            match self.next().await {
                Ok(Some(event)) => events.push(event),
                Ok(None) => panic!("ended without a status"),
                Err(status) => return (events, status),
            }
        }
    }

    /// Returns the sequence at which it was caught up, if it was.
    pub fn caught_up(&self) -> Option<i64> {
        self.caught_up
    }

    /// Returns true once the server has announced the end of the stream.
    pub fn received_draining(&self) -> bool {
        self.draining
    }
}
