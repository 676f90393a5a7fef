//! `Subscribe`: streams all conversations of a user.

use std::collections::HashMap;

use parlance::message::v1;
use service_kit::{
    failure::Failure,
    fields::{Field, Fields},
};
use tonic::Request;

use super::{
    authorise,
    context::Context,
    decode,
    named_cursors::Named,
    outgoing::{Begun, Ends, Outgoing},
};
use crate::{
    actor::Actor,
    domain::{
        epoch::Epoch,
        ids::{ConversationId, UserId},
        rpc::Rpc,
        sequence::Position,
    },
    log::subscription::{Start, Subscription},
};

/// The most cursors of one request or frame.
const MAX_CURSORS: usize = 10_000;

/// The most cursors of one session, in several frames.
const MAX_CURSORS_OF_SESSION: usize = 100_000;

/// The starting points of a subscription to all conversations of a user.
pub(super) struct Params {
    positions: HashMap<ConversationId, Position>,
    /// The epoch of the positions, if the client knows it.
    epoch: Option<Epoch>,
    /// For conversations without a cursor.
    start: Start,
}

impl Params {
    /// Returns the number of cursors.
    pub(super) fn cursors(&self) -> usize {
        self.positions.len()
    }

    /// Adds a further part of the cursors.
    ///
    /// # Errors
    /// None of them was added: one is invalid or a repetition, or they are too many.
    pub(super) fn extend(&mut self, cursors: &[v1::Cursor]) -> Result<(), Failure> {
        let mut fields = Fields::default();
        let more = positions(&mut fields, cursors);
        let is_within = self.positions.len() + cursors.len() <= MAX_CURSORS_OF_SESSION;
        decode::demand(&mut fields, is_within, "cursors", "must be at most 100,000 in one session");
        let more = fields.finish(more)?;
        if more.keys().any(|id| self.positions.contains_key(id)) {
            return Err(Failure::invalid_field("cursors", "must not name a conversation of an earlier part"));
        }
        self.positions.extend(more);
        Ok(())
    }
}

pub(super) async fn answer(context: &Context, request: Request<v1::SubscribeRequest>) -> Result<Outgoing, Failure> {
    let (_, extensions, request) = request.into_parts();
    let mut fields = Fields::default();
    let actor_id = decode::actor_id(&mut fields, &request.actor_id);
    // Before they are read: a refusal must be cheap.
    let named = UserId::parse(&request.actor_id).ok().map(|id| context.named_cursors.take(&id, request.cursors.len()));
    let named = named.transpose()?;
    let params = decode(&mut fields, &request.cursors, request.start, &request.epoch);
    let (actor_id, params): (UserId, Params) = fields.finish((actor_id, params))?;
    // It takes as much memory as what was read from it.
    drop(request);
    let actor = authorise::actor(context, Rpc::Subscribe, &extensions, actor_id).await?;

    let begun = begin(context, &actor, params, named).await?;
    let open_stream = context.directory.open_stream(actor.user_id(), actor.tenure().clone());
    Ok(Outgoing::of_all(begun, open_stream, Ends::of(&extensions)))
}

/// Starts the subscription.
pub(super) async fn begin(
    context: &Context,
    actor: &Actor,
    params: Params,
    named: Option<Named>,
) -> Result<Begun, Failure> {
    let (live, pages, subscriber) = (context.live.clone(), context.pages.clone(), actor.clone());
    let begin = async move {
        let Params { positions, epoch, start } = &params;
        let subscription = Subscription::to_all(&live, &pages, &subscriber, positions, epoch.as_ref(), *start).await?;
        Ok(Begun { subscription, named })
    };
    context.beginnings.read(actor.user_id(), Box::pin(begin)).await
}

/// Reads the starting points.
pub(super) fn decode(fields: &mut Fields, cursors: &[v1::Cursor], start: i32, epoch: &str) -> Field<Params> {
    let positions = positions(fields, cursors);
    let start = match v1::SubscribeStart::try_from(start) {
        Ok(v1::SubscribeStart::Unspecified | v1::SubscribeStart::ReadMark) => Ok(Start::ReadMark),
        Ok(v1::SubscribeStart::Now) => Ok(Start::Now),
        Ok(v1::SubscribeStart::Beginning) => Ok(Start::Beginning),
        Err(_) => Err("must be READ_MARK, NOW or BEGINNING"),
    };
    let start = fields.check("start", start);
    let epoch = fields.parse("epoch", epoch, Epoch::parse);
    positions.and(epoch).and(start).map(|((positions, epoch), start)| Params { positions, epoch, start })
}

fn positions(fields: &mut Fields, cursors: &[v1::Cursor]) -> Field<HashMap<ConversationId, Position>> {
    if cursors.len() > MAX_CURSORS {
        return fields.check("cursors", Err("must be at most 10,000"));
    }
    let mut positions = HashMap::with_capacity(cursors.len());
    for (at, cursor) in cursors.iter().enumerate() {
        let id = ConversationId::parse(&cursor.conversation_id);
        let is_first = !id.as_ref().is_ok_and(|id| positions.contains_key(id));
        match (id, Position::parse(cursor.after_sequence)) {
            (Ok(id), Ok(after)) if is_first => drop(positions.insert(id, after)),
            (id, after) => {
                // Only here: to write the names of fields takes longer than all else.
                let field = |name| format!("cursors[{at}].{name}");
                decode::demand(fields, is_first, &field("conversation_id"), "must not be named twice");
                drop(fields.check(&field("conversation_id"), id));
                drop(fields.check(&field("after_sequence"), after));
            }
        }
    }
    fields.check("cursors", Ok::<_, &str>(positions))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursors(ids: std::ops::Range<usize>) -> Vec<v1::Cursor> {
        ids.map(|n| v1::Cursor { conversation_id: format!("c{n}"), after_sequence: 1 }).collect()
    }

    #[test]
    fn the_parts_of_the_cursors_are_bounded_together_and_all_or_none_is_added() {
        let mut params = Params { positions: HashMap::new(), epoch: None, start: Start::Now };
        for part in 0..9 {
            params.extend(&cursors(part * MAX_CURSORS..(part + 1) * MAX_CURSORS)).unwrap();
        }
        params.extend(&cursors(90_000..90_001)).unwrap();
        for refused in [cursors(90_001..100_001), cursors(90_000..90_002)] {
            assert!(params.extend(&refused).is_err());
            assert_eq!(params.positions.len(), 90_001);
        }
        params.extend(&cursors(90_001..100_000)).unwrap();
        assert_eq!(params.positions.len(), MAX_CURSORS_OF_SESSION);
    }
}
