//! The entry point of the fuzz target of frames.

#![expect(clippy::expect_used, reason = "a broken law ends the fuzzer")]

use std::time::Instant;

use parlance::message::v1::{ChatOpen, ChatRequest, ChatResponse, chat_request::Frame};
use prost::Message;
use service_kit::{
    failure::Failure,
    fuzzing::{is_id, is_own_id, is_request_id},
};

use super::{super::named_cursors::NamedCursors, frame, opening::Partial, order::Order, side_request::SideRequest};
use crate::domain::ids::UserId;

/// Reads length-delimited frames as a session does, up to one that cannot be decoded.
///
/// # Panics
/// If a frame is accepted that breaks the contract, or its answer cannot be decoded.
pub fn frames(mut input: &[u8]) {
    let (mut order, now) = (Order::default(), Instant::now());
    let mut actor_id = UserId::from_storage("ada".to_owned());
    while let Ok(ChatRequest { frame_id, frame }) = ChatRequest::decode_length_delimited(&mut input) {
        if let Err(failure) = handle(frame, &mut actor_id, &mut order, now) {
            service_kit::fuzzing::refusal(failure.clone());
            let nack = ChatResponse::decode(frame::nack(frame_id, failure)).expect("a nack is decoded");
            assert!(nack.encoded_len() <= 8 * 1024);
        }
    }
}

fn handle(frame: Option<Frame>, actor_id: &mut UserId, order: &mut Order, now: Instant) -> Result<(), Failure> {
    match frame {
        Some(Frame::Open(request)) => {
            let open = frame::open(&request)?;
            assert!(is_own_id(&open.actor_id) && open.subscribe.is_none() == request.send_only);
            *actor_id = open.actor_id;
        }
        Some(Frame::Send(request)) => {
            let (new, is_repeatable) = frame::send(request.clone(), actor_id)?;
            assert!(new.sender_id == *actor_id && is_id(&new.conversation_id) && is_request_id(&new.request_id));
            assert_eq!(is_repeatable, !request.request_id.is_empty());
            let place = order.place(&new, is_repeatable);
            match order.check(&place, now) {
                // Every other one is refused, so that later ones wait for its repeat.
                Ok(()) if new.text.len() % 2 == 1 => order.refused(&place, &Failure::database_unavailable(), now),
                Ok(()) | Err(_) => {}
            }
        }
        Some(Frame::MarkRead(request)) => match frame::mark_read(&request, actor_id)? {
            SideRequest::MarkRead { conversation_id, up_to } => {
                assert!(is_id(&conversation_id) && up_to.get() == request.sequence && up_to.get() >= 0);
            }
            SideRequest::Typing { .. } => panic!("another request"),
        },
        Some(Frame::Typing(request)) => {
            frame::typing(&request, actor_id)?;
        }
        Some(Frame::Cursors(part)) => {
            let open = ChatOpen { actor_id: actor_id.to_string(), more_cursors: true, ..ChatOpen::default() };
            let mut partial = Partial::new(1, frame::open(&open)?, &NamedCursors::default())?;
            partial.add(&part)?;
            assert!(part.cursors.iter().all(|cursor| is_id(&cursor.conversation_id) && cursor.after_sequence >= 0));
            assert_eq!(partial.is_complete(), !part.more_cursors);
        }
        // Tokens have a target of their own.
        Some(Frame::Authenticate(_)) => {}
        None => return Err(frame::empty()),
    }
    Ok(())
}
