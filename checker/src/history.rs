//! The history of clients: their sends and received events, in order.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use parlance::message::v1::{Event, SendMessageRequest};

/// Records the history of any number of clients. Cheap to clone; all clones write to one history.
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    history: Arc<Mutex<History>>,
}

/// A recorded history.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub(crate) sends: Vec<Sent>,
    pub(crate) readings: Vec<Read>,
    /// A logical clock that advances with each recorded send and acknowledgement, so that their times can be compared.
    clock: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) request: SendMessageRequest,
    pub(crate) session: Option<String>,
    pub(crate) began: u64,
    pub(crate) answer: Answer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// No answer, or one that leaves the outcome open.
    Unknown,
    Acknowledged {
        sequence: i64,
        at: u64,
    },
    Refused,
}

#[derive(Debug, Clone)]
pub(crate) struct Read {
    pub(crate) reader: String,
    pub(crate) conversation_id: String,
    pub(crate) after_sequence: i64,
    pub(crate) received: Vec<Event>,
    pub(crate) must_have_all: bool,
}

/// A send recorded before it was sent. Its outcome is unknown, which asserts nothing, until it is recorded.
#[derive(Debug)]
#[must_use = "its outcome must be recorded"]
pub struct Sending {
    recorder: Recorder,
    index: usize,
}

/// The recording of the events that one reader receives of one conversation.
#[derive(Debug)]
pub struct Reading {
    recorder: Recorder,
    index: usize,
}

impl Recorder {
    /// Records a send; call it before the first attempt. Requests with the same conversation, sender and `request_id` are the
    /// same send, even from different clients; a retry by the same client must not be recorded again.
    pub fn sends(&self, request: &SendMessageRequest) -> Sending {
        self.send(request, None)
    }

    /// Records a send of a session that pipelines: its messages to one conversation must be stored in the order of these
    /// calls.
    pub fn sends_in(&self, session: &str, request: &SendMessageRequest) -> Sending {
        self.send(request, Some(session.to_owned()))
    }

    fn send(&self, request: &SendMessageRequest, session: Option<String>) -> Sending {
        let mut history = self.lock();
        let began = history.tick();
        history.sends.push(Sent { request: request.clone(), session, began, answer: Answer::Unknown });
        Sending { recorder: self.clone(), index: history.sends.len() - 1 }
    }

    /// Starts the recording of a reader that begins after this sequence. A reader that reconnects from its own position
    /// continues the same recording.
    pub fn reads(&self, reader: &str, conversation_id: &str, after_sequence: i64) -> Reading {
        let (reader, conversation_id) = (reader.to_owned(), conversation_id.to_owned());
        let mut history = self.lock();
        let read = Read { reader, conversation_id, after_sequence, received: Vec::new(), must_have_all: false };
        history.readings.push(read);
        Reading { recorder: self.clone(), index: history.readings.len() - 1 }
    }

    /// Returns the history so far.
    pub fn history(&self) -> History {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl History {
    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}

impl Sending {
    /// Records that the message was acknowledged at this sequence.
    pub fn acknowledged(self, sequence: i64) {
        let mut history = self.recorder.lock();
        let at = history.tick();
        history.sends[self.index].answer = Answer::Acknowledged { sequence, at };
    }

    /// Records that the message was refused: it was not and will not be stored.
    pub fn refused(self) {
        self.recorder.lock().sends[self.index].answer = Answer::Refused;
    }
}

impl Reading {
    /// Records an event that the reader received.
    pub fn received(&self, event: &Event) {
        self.recorder.lock().readings[self.index].received.push(event.clone());
    }

    /// Asserts that the reader had enough time to receive every entry of the log.
    pub fn must_have_all(&self) {
        self.recorder.lock().readings[self.index].must_have_all = true;
    }
}
