//! Checks a history for each promise.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::{self, Display, Formatter},
};

use parlance::message::v1::{Event, Message, event::Kind as Entry};

use crate::history::{Answer, History, Read, Sent};

/// The kind of a broken promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Acknowledged and not stored; or stored, and never received by a reader that had enough time.
    Lost,
    /// Stored more than once, or received more than once by the same reader.
    Duplicate,
    /// Stored but never sent, or stored but refused; or received, and not stored in this form.
    Phantom,
    /// A sequence is missing before a later one.
    Gap,
    /// Stored before a message that was acknowledged before this one was sent, or before an earlier message of the same
    /// session; or received after a later entry.
    Reorder,
    /// Stored at another sequence than acknowledged, or with other content than sent.
    Inconsistent,
}

/// A broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// The promise.
    pub kind: Kind,
    /// A description of the violation.
    pub what: String,
}

impl Display for Violation {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}: {}", self.kind, self.what)
    }
}

/// The identity of a send: conversation, sender and `request_id`.
type Key<'h> = (&'h str, &'h str, &'h str);

/// Checks a history against the logs stored after all faults are over, each from its first entry. All sends to these
/// conversations must have been recorded. Returns every broken promise in no particular order; empty if all were kept.
pub fn check(history: &History, logs: &BTreeMap<String, Vec<Event>>) -> Vec<Violation> {
    let mut checker = Checker { violations: Vec::new() };
    for (conversation_id, log) in logs {
        checker.is_dense(&format!("the log of {conversation_id}"), 0, log);
    }
    let stored = checker.stored_once(logs);
    let mut sends: HashMap<Key<'_>, Vec<&Sent>> = HashMap::new();
    for sent in &history.sends {
        sends.entry(key_of(sent)).or_default().push(sent);
    }
    checker.nothing_unsent(&sends, &stored);
    checker.nothing_lost(history, &stored);
    checker.in_the_order_of_answers(&sends, &stored);
    checker.in_the_order_of_sessions(history, &sends, &stored);
    let none = Vec::new();
    for read in &history.readings {
        checker.received_what_is_stored(read, logs.get(&read.conversation_id).unwrap_or(&none));
    }
    checker.violations
}

fn key_of(sent: &Sent) -> Key<'_> {
    (&sent.request.conversation_id, &sent.request.sender_id, &sent.request.request_id)
}

struct Checker {
    violations: Vec<Violation>,
}

impl Checker {
    fn say(&mut self, kind: Kind, what: String) {
        self.violations.push(Violation { kind, what });
    }

    /// Checks that sequences are dense. A missing sequence that comes later is a reorder, one that never comes a gap.
    fn is_dense(&mut self, subject: &str, after_sequence: i64, events: &[Event]) {
        let mut position = after_sequence;
        let mut missing = BTreeSet::new();
        for sequence in events.iter().map(|event| event.sequence) {
            if sequence > position {
                missing.extend(position + 1..sequence);
                position = sequence;
            } else if missing.remove(&sequence) {
                self.say(Kind::Reorder, format!("{subject} has {sequence} after {position}"));
            } else {
                self.say(Kind::Duplicate, format!("{subject} has {sequence} again, after {position}"));
            }
        }
        for sequence in missing {
            self.say(Kind::Gap, format!("{subject} reaches {position} without {sequence}"));
        }
    }

    fn stored_once<'h>(&mut self, logs: &'h BTreeMap<String, Vec<Event>>) -> HashMap<Key<'h>, &'h Message> {
        let mut stored: HashMap<Key<'h>, &Message> = HashMap::new();
        for (conversation_id, event) in logs.iter().flat_map(|(id, log)| log.iter().map(move |event| (id, event))) {
            let Some(Entry::MessageSent(message)) = &event.kind else { continue };
            if message.sequence != event.sequence || message.conversation_id != *conversation_id {
                self.say(Kind::Inconsistent, format!("entry {} of {conversation_id} is {message:?}", event.sequence));
            }
            let key = (&**conversation_id, &*message.sender_id, &*message.request_id);
            if let Some(before) = stored.insert(key, message) {
                self.say(
                    Kind::Duplicate,
                    format!("{key:?} is stored at {} and at {}", before.sequence, message.sequence),
                );
            }
        }
        stored
    }

    fn nothing_unsent(&mut self, sends: &HashMap<Key<'_>, Vec<&Sent>>, stored: &HashMap<Key<'_>, &Message>) {
        for (key, message) in stored {
            let Some(sent) = sends.get(key) else {
                self.say(Kind::Phantom, format!("{message:?} was never sent"));
                continue;
            };
            if sent.iter().all(|sent| sent.answer == Answer::Refused) {
                self.say(Kind::Phantom, format!("{key:?} was refused and is stored at {}", message.sequence));
            }
            let is_changed = message.edit_time.is_some() || message.delete_time.is_some();
            let is_as_sent = |sent: &&Sent| {
                sent.request.text == message.text
                    && sent.request.attributes == message.attributes
                    && sent.request.reply_to_sequence == message.reply_to_sequence
            };
            if !is_changed && !sent.iter().any(is_as_sent) {
                self.say(Kind::Inconsistent, format!("{key:?} was not sent as {message:?}"));
            }
        }
    }

    fn nothing_lost(&mut self, history: &History, stored: &HashMap<Key<'_>, &Message>) {
        for sent in &history.sends {
            let Answer::Acknowledged { sequence, .. } = sent.answer else { continue };
            let key = key_of(sent);
            match stored.get(&key) {
                None => self.say(Kind::Lost, format!("{key:?} was acknowledged at {sequence} and is not stored")),
                Some(message) if message.sequence != sequence => self.say(
                    Kind::Inconsistent,
                    format!("{key:?} was acknowledged at {sequence} and is stored at {}", message.sequence),
                ),
                Some(_) => {}
            }
        }
    }

    /// Checks that a message acknowledged before another one was sent is stored before it.
    fn in_the_order_of_answers(&mut self, sends: &HashMap<Key<'_>, Vec<&Sent>>, stored: &HashMap<Key<'_>, &Message>) {
        enum Moment {
            Began,
            Acknowledged,
        }
        let mut moments: HashMap<&str, Vec<(u64, Moment, i64)>> = HashMap::new();
        for (key, sent) in sends {
            let Some(message) = stored.get(key) else { continue };
            let of_it = moments.entry(key.0).or_default();
            of_it.extend(sent.iter().map(|sent| sent.began).min().map(|at| (at, Moment::Began, message.sequence)));
            let acknowledged = sent.iter().filter_map(|sent| match sent.answer {
                Answer::Acknowledged { at, .. } => Some(at),
                Answer::Unknown | Answer::Refused => None,
            });
            of_it.extend(acknowledged.min().map(|at| (at, Moment::Acknowledged, message.sequence)));
        }
        for (conversation_id, mut moments) in moments {
            moments.sort_unstable_by_key(|(at, ..)| *at);
            let mut newest = 0;
            for (_, moment, sequence) in moments {
                match moment {
                    Moment::Acknowledged => newest = newest.max(sequence),
                    Moment::Began if sequence < newest => self.say(
                        Kind::Reorder,
                        format!("{sequence} of {conversation_id} was sent after {newest} was acknowledged"),
                    ),
                    Moment::Began => {}
                }
            }
        }
    }

    fn in_the_order_of_sessions(
        &mut self,
        history: &History,
        sends: &HashMap<Key<'_>, Vec<&Sent>>,
        stored: &HashMap<Key<'_>, &Message>,
    ) {
        let mut newest: HashMap<(&str, &str), i64> = HashMap::new();
        for sent in &history.sends {
            let key = key_of(sent);
            // A message that another client sends too may have been stored for that client.
            let is_only = sends.get(&key).is_some_and(|all| all.len() == 1);
            let (Some(session), true, Some(message)) = (&sent.session, is_only, stored.get(&key)) else { continue };
            let newest = newest.entry((session, key.0)).or_default();
            if message.sequence < *newest {
                self.say(Kind::Reorder, format!("{key:?} of {session} is stored before what it sent earlier"));
            }
            *newest = message.sequence.max(*newest);
        }
    }

    fn received_what_is_stored(&mut self, read: &Read, log: &[Event]) {
        let subject = format!("{} of {}", read.reader, read.conversation_id);
        self.is_dense(&subject, read.after_sequence, &read.received);
        let by_sequence: HashMap<i64, &Event> = log.iter().map(|event| (event.sequence, event)).collect();
        for event in &read.received {
            match by_sequence.get(&event.sequence) {
                Some(stored) if is_same(event, stored) => {}
                Some(stored) => {
                    self.say(Kind::Phantom, format!("{subject} received {event:?}, but stored is {stored:?}"));
                }
                None => self.say(Kind::Phantom, format!("{subject} received {event:?}, which is not stored")),
            }
        }
        if read.must_have_all {
            let last = read.received.iter().map(|event| event.sequence).max().unwrap_or(read.after_sequence);
            for event in log.iter().filter(|event| event.sequence > last) {
                self.say(Kind::Lost, format!("{subject} received entries up to {last} but never {}", event.sequence));
            }
        }
    }
}

/// Returns true if both are the same entry, apart from later edits and deletions.
fn is_same(received: &Event, stored: &Event) -> bool {
    received == stored
        || message(received).zip(message(stored)).is_some_and(|(before, now)| {
            (now.edit_time.is_some() || now.delete_time.is_some())
                && (before.sequence, before.ordinal, &before.sender_id) == (now.sequence, now.ordinal, &now.sender_id)
                && (&received.actor_id, received.event_time) == (&stored.actor_id, stored.event_time)
        })
}

fn message(event: &Event) -> Option<&Message> {
    match &event.kind {
        Some(Entry::MessageSent(message) | Entry::MessageEdited(message) | Entry::MessageDeleted(message)) => {
            Some(message)
        }
        _ => None,
    }
}
