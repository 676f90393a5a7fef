//! The order of a session's sends to one conversation when one of them is refused and will be repeated: those that its
//! client had sent behind it before it knew are refused, too, or they would be stored first.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use service_kit::failure::Failure;
use tonic::Code;

use crate::domain::{ids::ConversationId, message::NewMessage};

/// The time in which frames arrive that the client sent before it received the refusal.
const IN_FLIGHT: Duration = Duration::from_secs(1);

/// The most conversations that are held at a time.
const MAX_HELD: usize = 256;

/// The place of a send in its session.
#[derive(Debug, Clone)]
pub(super) struct Place {
    number: u64,
    conversation_id: ConversationId,
    /// `None` if the client cannot repeat the send.
    request_id: Option<String>,
}

/// The first send to a conversation that was refused and not repeated yet.
#[derive(Debug)]
struct Held {
    number: u64,
    request_id: String,
    failure: Failure,
    until: Instant,
}

/// The conversations of a session whose sends wait for a repeat.
#[derive(Debug, Default)]
pub(super) struct Order {
    next_number: u64,
    held: HashMap<ConversationId, Held>,
}

impl Order {
    /// Returns the place of the send that was read last.
    pub(super) fn place(&mut self, new: &NewMessage, is_repeatable: bool) -> Place {
        self.next_number += 1;
        let request_id = is_repeatable.then(|| new.request_id.clone());
        Place { number: self.next_number, conversation_id: new.conversation_id.clone(), request_id }
    }

    /// Accepts a send unless it would overtake one that the client has to repeat.
    ///
    /// # Errors
    /// The failure of the other one.
    pub(super) fn check(&mut self, place: &Place, now: Instant) -> Result<(), Failure> {
        let Some(held) = self.held.get(&place.conversation_id) else { return Ok(()) };
        let is_repeat = place.number > held.number && place.request_id.as_ref() == Some(&held.request_id);
        if is_repeat || held.until <= now {
            self.held.remove(&place.conversation_id);
        } else if place.number > held.number {
            return Err(held.failure.clone());
        }
        Ok(())
    }

    /// Notes that a send was refused.
    pub(super) fn refused(&mut self, place: &Place, failure: &Failure, now: Instant) {
        let Some(request_id) = place.request_id.clone().filter(|_| is_retryable(failure)) else { return };
        if self.held.get(&place.conversation_id).is_some_and(|held| held.number <= place.number && held.until > now) {
            return;
        }
        if self.held.len() >= MAX_HELD {
            self.held.retain(|_, held| held.until > now);
        }
        if self.held.len() < MAX_HELD || self.held.contains_key(&place.conversation_id) {
            let held = Held { number: place.number, request_id, failure: failure.clone(), until: now + IN_FLIGHT };
            self.held.insert(place.conversation_id.clone(), held);
        }
    }
}

fn is_retryable(failure: &Failure) -> bool {
    matches!(failure.code(), Code::Unavailable | Code::Aborted | Code::DeadlineExceeded | Code::ResourceExhausted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn send(order: &mut Order, request_id: &str) -> Place {
        let (conversation_id, sender_id) = ("c".into(), "ann".into());
        let request_id = request_id.to_owned();
        let (text, attributes) = (String::new(), std::collections::BTreeMap::new());
        let request_hash = crate::domain::hash::of_message(&text, &attributes, None);
        let reply_to_sequence = None;
        let new =
            NewMessage { conversation_id, sender_id, request_id, request_hash, text, attributes, reply_to_sequence };
        order.place(&new, true)
    }

    #[test]
    fn sends_behind_a_refused_one_are_refused_until_it_is_repeated() {
        let (mut order, now) = (Order::default(), Instant::now());
        let places = ["a", "b", "c", "d"].map(|request_id| send(&mut order, request_id));
        for at in [2, 1] {
            order.refused(&places[at], &Failure::database_unavailable(), now);
        }
        assert!(order.check(&places[0], now).is_ok());
        assert_eq!(order.check(&places[2], now).unwrap_err().code(), Code::Unavailable);
        assert!(order.check(&places[3], now).is_err());
        let repeats = ["c", "b", "c", "d"].map(|request_id| send(&mut order, request_id));
        assert!(order.check(&repeats[0], now).is_err());
        assert!(repeats[1..].iter().all(|place| order.check(place, now).is_ok()));
    }

    #[test]
    fn nothing_is_held_for_a_final_refusal_or_for_long() {
        let (mut order, now) = (Order::default(), Instant::now());
        let places = ["a", "b"].map(|request_id| send(&mut order, request_id));
        order.refused(&places[0], &Failure::internal("a bug"), now);
        assert!(order.check(&places[1], now).is_ok());
        order.refused(&places[0], &Failure::database_unavailable(), now);
        assert!(order.check(&places[1], now).is_err());
        assert!(order.check(&places[1], now + IN_FLIGHT).is_ok());
    }
}
