//! Tests of the checker: it accepts every correct history, and finds the fault in a broken one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, HashMap, HashSet};

use parlance::message::v1::{Event, MemberChange, Message, SendMessageRequest, event::Kind as Entry};
use parlance_checker::{Kind, Recorder, Sending, check};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};

/// The outcome of a send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Acknowledged,
    UnknownAndStored,
    UnknownAndAbsent,
    Refused,
}

/// A send of a round. Sends of one round overlap; those of later rounds begin after it.
#[derive(Debug, Clone)]
struct Plan {
    conversation: usize,
    session: Option<usize>,
    fate: Fate,
    /// Another client makes the same request in the same round.
    twice: bool,
    /// Its rank in the order of storage and of answers among the sends of its round.
    stored_at: u32,
    answered_at: u32,
}

#[derive(Debug, Clone)]
struct ReadPlan {
    conversation: usize,
    after: prop::sample::Index,
    received_up_to: Option<prop::sample::Index>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Begin(usize),
    Acknowledge(usize, i64),
    Refuse(usize),
}

#[derive(Debug, Clone)]
struct Reader {
    conversation_id: String,
    after: i64,
    received: Vec<Event>,
    must_have_all: bool,
}

/// A history in parts, so that one of them can be broken before the history is recorded.
#[derive(Debug, Clone, Default)]
struct Script {
    requests: Vec<(Option<String>, SendMessageRequest)>,
    steps: Vec<Step>,
    logs: BTreeMap<String, Vec<Event>>,
    readers: Vec<Reader>,
}

fn joined(conversation_id: &str, sequence: i64) -> Event {
    let change = MemberChange { user_id: format!("u{sequence}"), ..Default::default() };
    Event {
        conversation_id: conversation_id.to_owned(),
        sequence,
        kind: Some(Entry::MemberJoined(change)),
        ..Default::default()
    }
}

fn stored(request: &SendMessageRequest, sequence: i64) -> Event {
    let message = Message {
        conversation_id: request.conversation_id.clone(),
        sequence,
        sender_id: request.sender_id.clone(),
        request_id: request.request_id.clone(),
        text: request.text.clone(),
        change_sequence: sequence,
        ..Default::default()
    };
    Event {
        conversation_id: request.conversation_id.clone(),
        sequence,
        actor_id: request.sender_id.clone(),
        kind: Some(Entry::MessageSent(message)),
        ..Default::default()
    }
}

impl Script {
    fn good(rounds: &[Vec<Plan>], reads: &[ReadPlan]) -> Self {
        let mut script = Self::default();
        for conversation in 0..3 {
            let id = format!("c{conversation}");
            script.logs.insert(id.clone(), vec![joined(&id, 1)]);
        }
        for (round, plans) in rounds.iter().enumerate() {
            script.play_round(round, plans);
        }
        for read in reads {
            let conversation_id = format!("c{}", read.conversation);
            let log = &script.logs[&conversation_id];
            let after = read.after.index(log.len() + 1);
            let rest = &log[after..];
            let received = read.received_up_to.map_or(rest.len(), |index| index.index(rest.len() + 1));
            let (received, must_have_all) = (rest[..received].to_vec(), read.received_up_to.is_none());
            script.readers.push(Reader { conversation_id, after: after as i64, received, must_have_all });
        }
        script
    }

    fn play_round(&mut self, round: usize, plans: &[Plan]) {
        let mut begun = Vec::new();
        for (n, plan) in plans.iter().enumerate() {
            let request = SendMessageRequest {
                conversation_id: format!("c{}", plan.conversation),
                sender_id: format!("u{}", n % 2),
                request_id: format!("r{round}-{n}"),
                text: format!("text {round} {n}"),
                ..Default::default()
            };
            let session = plan.session.filter(|_| !plan.twice).map(|session| format!("s{session}"));
            let copies = 1 + usize::from(plan.twice);
            let first = self.requests.len();
            for _ in 0..copies {
                self.steps.push(Step::Begin(self.requests.len()));
                self.requests.push((session.clone(), request.clone()));
            }
            begun.push((plan, first, copies, request));
        }
        // Messages of a session to one conversation are stored in order, all others in any order.
        let mut storing: Vec<usize> = (0..begun.len()).collect();
        storing.sort_by_key(|n| match (plans[*n].session, plans[*n].twice) {
            (Some(session), false) => (0, session as u32, *n as u32),
            _ => (1, plans[*n].stored_at, 0),
        });
        let mut sequences = vec![None; begun.len()];
        for n in storing {
            let (plan, _, _, request) = &begun[n];
            if matches!(plan.fate, Fate::Acknowledged | Fate::UnknownAndStored) {
                let log = self.logs.get_mut(&request.conversation_id).unwrap();
                log.push(stored(request, log.len() as i64 + 1));
                sequences[n] = Some(log.len() as i64);
            }
        }
        let mut answering: Vec<usize> = (0..begun.len()).collect();
        answering.sort_by_key(|n| plans[*n].answered_at);
        for n in answering {
            let (plan, first, copies, _) = &begun[n];
            for index in *first..first + copies {
                match (plan.fate, sequences[n]) {
                    (Fate::Acknowledged, Some(sequence)) => self.steps.push(Step::Acknowledge(index, sequence)),
                    (Fate::Refused, _) => self.steps.push(Step::Refuse(index)),
                    _ => {}
                }
            }
        }
    }

    fn kinds(&self) -> HashSet<Kind> {
        let recorder = Recorder::default();
        let mut sendings: HashMap<usize, Sending> = HashMap::new();
        for step in &self.steps {
            match step {
                Step::Begin(index) => {
                    let (session, request) = &self.requests[*index];
                    let sending = match session {
                        Some(session) => recorder.sends_in(session, request),
                        None => recorder.sends(request),
                    };
                    sendings.insert(*index, sending);
                }
                Step::Acknowledge(index, sequence) => sendings.remove(index).unwrap().acknowledged(*sequence),
                Step::Refuse(index) => sendings.remove(index).unwrap().refused(),
            }
        }
        for (n, reader) in self.readers.iter().enumerate() {
            let reading = recorder.reads(&format!("reader {n}"), &reader.conversation_id, reader.after);
            reader.received.iter().for_each(|event| reading.received(event));
            if reader.must_have_all {
                reading.must_have_all();
            }
        }
        check(&recorder.history(), &self.logs).iter().map(|violation| violation.kind).collect()
    }

    /// Picks an acknowledged send: the index of its step, and its sequence.
    fn acknowledged(&self, any: prop::sample::Index) -> Option<(usize, String, i64)> {
        let all: Vec<_> =
            self.steps.iter().enumerate().filter(|(_, step)| matches!(step, Step::Acknowledge(..))).collect();
        let (at, step) = all.get(any.index(all.len().max(1)))?;
        let Step::Acknowledge(index, sequence) = step else { return None };
        Some((*at, self.requests[*index].1.conversation_id.clone(), *sequence))
    }

    /// Picks a reader that received at least this many entries.
    fn reader(&mut self, any: prop::sample::Index, least: usize) -> Option<&mut Reader> {
        let mut all: Vec<_> = self.readers.iter_mut().filter(|reader| reader.received.len() >= least).collect();
        let index = any.index(all.len().max(1));
        (index < all.len()).then(|| all.swap_remove(index))
    }

    fn text_of(&mut self, conversation_id: &str, sequence: i64) -> &mut String {
        let entry = &mut self.logs.get_mut(conversation_id).unwrap()[sequence as usize - 1];
        match &mut entry.kind {
            Some(Entry::MessageSent(message)) => &mut message.text,
            other => panic!("{other:?}"),
        }
    }

    /// Introduces one fault. Returns the kind that must be found, or `None` if the fault does not apply.
    fn break_one(&mut self, fault: usize, any: prop::sample::Index) -> Option<Kind> {
        match fault.checked_sub(READING_FAULTS) {
            None => self.break_reading(fault, any),
            Some(fault) => self.break_log(fault, any),
        }
    }

    /// Introduces a fault in the entries that a reader received.
    fn break_reading(&mut self, fault: usize, any: prop::sample::Index) -> Option<Kind> {
        match fault {
            0 => {
                let reader = self.reader(any, 1).filter(|reader| reader.must_have_all)?;
                reader.received.pop();
                Some(Kind::Lost)
            }
            1 => {
                let reader = self.reader(any, 1)?;
                let at = any.index(reader.received.len());
                reader.received.insert(at, reader.received[at].clone());
                Some(Kind::Duplicate)
            }
            2 => {
                let reader = self.reader(any, 1)?;
                let at = any.index(reader.received.len());
                reader.received[at].actor_id = "another user".into();
                Some(Kind::Phantom)
            }
            3 => {
                let reader = self.readers.iter_mut().find(|reader| reader.must_have_all)?;
                let next = reader.after + reader.received.len() as i64 + 1;
                reader.received.push(joined(&reader.conversation_id, next));
                Some(Kind::Phantom)
            }
            4 => {
                let reader = self.reader(any, 2)?;
                reader.received.remove(any.index(reader.received.len() - 1));
                Some(Kind::Gap)
            }
            _ => {
                let reader = self.reader(any, 2)?;
                let at = any.index(reader.received.len() - 1);
                reader.received.swap(at, at + 1);
                Some(Kind::Reorder)
            }
        }
    }

    /// Introduces a fault in the stored logs, or in the answers.
    fn break_log(&mut self, fault: usize, any: prop::sample::Index) -> Option<Kind> {
        match fault {
            0 => {
                let (_, id, sequence) = self.acknowledged(any)?;
                self.logs.get_mut(&id)?[sequence as usize - 1] = joined(&id, sequence);
                Some(Kind::Lost)
            }
            1 => {
                let (_, id, sequence) = self.acknowledged(any)?;
                let log = self.logs.get_mut(&id)?;
                let mut again = log[sequence as usize - 1].clone();
                again.sequence = log.len() as i64 + 1;
                if let Some(Entry::MessageSent(message)) = &mut again.kind {
                    message.sequence = again.sequence;
                }
                log.push(again);
                Some(Kind::Duplicate)
            }
            2 => {
                let log = self.logs.get_mut("c0")?;
                let request = SendMessageRequest { conversation_id: "c0".into(), ..Default::default() };
                log.push(stored(&request, log.len() as i64 + 1));
                Some(Kind::Phantom)
            }
            3 => {
                let (at, ..) = self.acknowledged(any)?;
                let Step::Acknowledge(index, _) = self.steps[at] else { return None };
                let request = self.requests[index].1.clone();
                let of_it: Vec<usize> = (0..self.requests.len()).filter(|n| self.requests[*n].1 == request).collect();
                for step in &mut self.steps {
                    if let Step::Acknowledge(index, _) = step
                        && of_it.contains(index)
                    {
                        *step = Step::Refuse(*index);
                    }
                }
                Some(Kind::Phantom)
            }
            4 => {
                let log = self.logs.values_mut().find(|log| log.len() > 1)?;
                log.remove(any.index(log.len() - 1));
                Some(Kind::Gap)
            }
            5 => {
                // Acknowledged before a later one of the same conversation was even sent.
                let (at, id, sequence) = self.acknowledged(any)?;
                let later = self.steps[at..].iter().find_map(|step| match step {
                    Step::Acknowledge(index, later)
                        if self.requests[*index].1.conversation_id == id
                            && self.steps[at..].contains(&Step::Begin(*index)) =>
                    {
                        Some(*later)
                    }
                    _ => None,
                })?;
                self.swap_everywhere(&id, sequence, later);
                Some(Kind::Reorder)
            }
            6 => {
                // Of one session, never answered.
                let of_session = |n: &usize| self.requests[*n].0.is_some();
                let pairs = (0..self.requests.len()).filter(of_session).collect::<Vec<_>>();
                let (id, first, second) = pairs.iter().find_map(|first| {
                    let second = pairs.iter().find(|second| {
                        **second > *first
                            && self.requests[**second].0 == self.requests[*first].0
                            && self.requests[**second].1.conversation_id == self.requests[*first].1.conversation_id
                    })?;
                    let (first, second) = (&self.requests[*first].1, &self.requests[*second].1);
                    Some((first.conversation_id.clone(), self.place(first)?, self.place(second)?))
                })?;
                self.swap_everywhere(&id, first, second);
                self.steps.retain(|step| matches!(step, Step::Begin(_)));
                Some(Kind::Reorder)
            }
            7 => {
                let (at, ..) = self.acknowledged(any)?;
                if let Step::Acknowledge(_, sequence) = &mut self.steps[at] {
                    *sequence += 1;
                }
                Some(Kind::Inconsistent)
            }
            _ => {
                let (_, id, sequence) = self.acknowledged(any)?;
                self.text_of(&id, sequence).push('!');
                Some(Kind::Inconsistent)
            }
        }
    }

    /// Returns the sequence at which a request is stored.
    fn place(&self, request: &SendMessageRequest) -> Option<i64> {
        let is_it = |event: &&Event| match &event.kind {
            Some(Entry::MessageSent(message)) => message.request_id == request.request_id,
            _ => false,
        };
        self.logs[&request.conversation_id].iter().find(is_it).map(|event| event.sequence)
    }

    /// Swaps two entries in the log, and in the entries that all readers received.
    fn swap_everywhere(&mut self, id: &str, one: i64, other: i64) {
        let swapped = |sequence: i64| match sequence {
            sequence if sequence == one => other,
            sequence if sequence == other => one,
            sequence => sequence,
        };
        let log = self.logs.get_mut(id).unwrap();
        for event in log.iter_mut() {
            event.sequence = swapped(event.sequence);
            if let Some(Entry::MessageSent(message)) = &mut event.kind {
                message.sequence = event.sequence;
            }
        }
        log.sort_by_key(|event| event.sequence);
        let log = log.clone();
        for reader in self.readers.iter_mut().filter(|reader| reader.conversation_id == id) {
            for received in &mut reader.received {
                *received = log[received.sequence as usize - 1].clone();
            }
        }
        for step in &mut self.steps {
            if let Step::Acknowledge(index, sequence) = step
                && self.requests[*index].1.conversation_id == id
            {
                *sequence = swapped(*sequence);
            }
        }
    }
}

/// The number of faults of [`Script::break_reading`], and of [`Script::break_one`].
const READING_FAULTS: usize = 6;
const FAULTS: usize = 15;

fn plan() -> impl Strategy<Value = Plan> {
    let fate = prop_oneof![
        6 => Just(Fate::Acknowledged),
        1 => Just(Fate::UnknownAndStored),
        1 => Just(Fate::UnknownAndAbsent),
        1 => Just(Fate::Refused),
    ];
    let session = prop::option::weighted(0.4, 0..2usize);
    (0..3usize, session, fate, prop::bool::weighted(0.2), any::<u32>(), any::<u32>()).prop_map(
        |(conversation, session, fate, twice, stored_at, answered_at)| Plan {
            conversation,
            session,
            fate,
            twice,
            stored_at,
            answered_at,
        },
    )
}

fn read_plan() -> impl Strategy<Value = ReadPlan> {
    (0..3usize, any::<prop::sample::Index>(), prop::option::weighted(0.3, any::<prop::sample::Index>()))
        .prop_map(|(conversation, after, received_up_to)| ReadPlan { conversation, after, received_up_to })
}

fn script() -> impl Strategy<Value = Script> {
    let rounds = prop::collection::vec(prop::collection::vec(plan(), 1..6), 1..6);
    (rounds, prop::collection::vec(read_plan(), 1..6)).prop_map(|(rounds, reads)| Script::good(&rounds, &reads))
}

proptest! {
    #[test]
    fn a_good_history_is_good(script in script()) {
        prop_assert_eq!(script.kinds(), HashSet::new());
    }

    #[test]
    fn what_is_broken_is_found(script in script(), any in any::<prop::sample::Index>()) {
        for fault in 0..FAULTS {
            let mut broken = script.clone();
            if let Some(kind) = broken.break_one(fault, any) {
                let found = broken.kinds();
                prop_assert!(found.contains(&kind), "fault {} is not found: {:?}", fault, found);
            }
        }
    }
}

#[test]
fn every_fault_can_be_made() {
    let plan = |session, fate| Plan { conversation: 0, session, fate, twice: false, stored_at: 0, answered_at: 0 };
    let round =
        vec![plan(Some(0), Fate::Acknowledged), plan(Some(0), Fate::Acknowledged), plan(None, Fate::Acknowledged)];
    let any = any::<prop::sample::Index>();
    let mut runner = TestRunner::deterministic();
    let index = any.new_tree(&mut runner).unwrap().current();
    for fault in 0..FAULTS {
        let all = ReadPlan { conversation: 0, after: index, received_up_to: None };
        let mut script = Script::good(&vec![round.clone(); 3], &[all]);
        script.readers[0] = Reader { after: 0, received: script.logs["c0"].clone(), ..script.readers[0].clone() };
        // Not every choice is a fault that applies.
        let made = (0..64).any(|_| {
            let index = any.new_tree(&mut runner).unwrap().current();
            script.clone().break_one(fault, index).is_some()
        });
        assert!(made, "fault {fault}");
    }
}
