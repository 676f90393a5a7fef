//! What clients saw, in the order in which they saw it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use parlance::message::v1::{Event, SendMessageRequest};

/// Keeps account for any number of clients. Cheap to clone; all clones write to one history.
#[derive(Debug, Clone, Default)]
pub struct Recorder {
    history: Arc<Mutex<History>>,
}

/// Everything that was recorded.
#[derive(Debug, Clone, Default)]
pub struct History {
    pub(crate) sends: Vec<Sent>,
    pub(crate) readings: Vec<Read>,
    /// Grows with all that is recorded of sends, so that their times can be compared.
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
    /// None came, or one that leaves it open.
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
    pub(crate) told: Vec<Event>,
    pub(crate) must_have_all: bool,
}

/// A send that was recorded before it was sent. Without a further word its outcome is unknown, which claims nothing.
#[derive(Debug)]
#[must_use = "what became of it is to be told"]
pub struct Sending {
    recorder: Recorder,
    index: usize,
}

/// What one reader is told of one conversation.
#[derive(Debug)]
pub struct Reading {
    recorder: Recorder,
    index: usize,
}

impl Recorder {
    /// To be called before the first attempt. Requests with the same conversation, sender and `request_id` are the same send,
    /// whoever makes them; a retry by the same client is not recorded again.
    pub fn sends(&self, request: &SendMessageRequest) -> Sending {
        self.send(request, None)
    }

    /// The same for a session that pipelines: what it sends to one conversation is stored in the order of these calls.
    pub fn sends_in(&self, session: &str, request: &SendMessageRequest) -> Sending {
        self.send(request, Some(session.to_owned()))
    }

    fn send(&self, request: &SendMessageRequest, session: Option<String>) -> Sending {
        let mut history = self.lock();
        let began = history.tick();
        history.sends.push(Sent { request: request.clone(), session, began, answer: Answer::Unknown });
        Sending { recorder: self.clone(), index: history.sends.len() - 1 }
    }

    /// A reader begins with what comes after this sequence. Reconnecting with the own position goes on with the same reading.
    pub fn reads(&self, reader: &str, conversation_id: &str, after_sequence: i64) -> Reading {
        let (reader, conversation_id) = (reader.to_owned(), conversation_id.to_owned());
        let mut history = self.lock();
        let read = Read { reader, conversation_id, after_sequence, told: Vec::new(), must_have_all: false };
        history.readings.push(read);
        Reading { recorder: self.clone(), index: history.readings.len() - 1 }
    }

    /// Everything so far.
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
    /// The answer says that it is stored there.
    pub fn acknowledged(self, sequence: i64) {
        let mut history = self.recorder.lock();
        let at = history.tick();
        history.sends[self.index].answer = Answer::Acknowledged { sequence, at };
    }

    /// The answer says that nothing was or will be stored.
    pub fn refused(self) {
        self.recorder.lock().sends[self.index].answer = Answer::Refused;
    }
}

impl Reading {
    /// The reader was told this.
    pub fn told(&self, event: &Event) {
        self.recorder.lock().readings[self.index].told.push(event.clone());
    }

    /// Claims that the reader had time enough to be told everything that is in the log at the end.
    pub fn must_have_all(&self) {
        self.recorder.lock().readings[self.index].must_have_all = true;
    }
}
