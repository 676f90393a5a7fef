//! `Subscribe`: streams all conversations of a user.

use std::collections::{HashMap, HashSet};

use parlance::message::v1;
use service_kit::{
    failure::Failure,
    fields::{Field, Fields},
    server::Leaving,
};
use tonic::Request;

use super::{authorise, context::Context, decode, outgoing::Outgoing};
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

/// The most cursors that a client may bring.
const MAX_CURSORS: usize = 10_000;

/// The starting points of a subscription to all conversations of a user.
pub(super) struct Params {
    positions: HashMap<ConversationId, Position>,
    /// The epoch of the positions, if the client knows it.
    epoch: Option<Epoch>,
    /// For conversations without a cursor.
    start: Start,
}

pub(super) async fn answer(context: &Context, request: Request<v1::SubscribeRequest>) -> Result<Outgoing, Failure> {
    let (_, extensions, request) = request.into_parts();
    let mut fields = Fields::default();
    let actor_id = decode::actor_id(&mut fields, &request.actor_id);
    let params = decode(&mut fields, &request.cursors, request.start, &request.epoch);
    let (actor_id, params): (UserId, Params) = fields.finish((actor_id, params))?;
    let actor = authorise::actor(context, Rpc::Subscribe, &extensions, actor_id).await?;

    let subscription = begin(context, &actor, &params).await?;
    let open_stream = context.directory.open_stream(actor.user_id());
    Ok(Outgoing::of_all(Some(subscription), open_stream, Leaving::of(&extensions)))
}

/// Starts the subscription.
pub(super) async fn begin(context: &Context, actor: &Actor, params: &Params) -> Result<Subscription, Failure> {
    let Params { positions, epoch, start } = params;
    let _turn = context.beginnings.turn(actor.user_id()).await?;
    Ok(Subscription::to_all(&context.live, &context.pages, actor, positions, epoch.as_ref(), *start).await?)
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
    let mut named = HashSet::with_capacity(cursors.len());
    let mut positions = fields.check("cursors", Ok::<_, &str>(HashMap::with_capacity(cursors.len())));
    for (at, cursor) in cursors.iter().enumerate() {
        let field = |name| format!("cursors[{at}].{name}");
        let id = fields.parse(&field("conversation_id"), &cursor.conversation_id, ConversationId::parse);
        let after = decode::position(fields, &field("after_sequence"), cursor.after_sequence);
        let is_first = named.insert(&cursor.conversation_id);
        decode::demand(fields, is_first, &field("conversation_id"), "must not be named twice");
        positions = positions.and(id.and(after)).map(|(mut positions, (id, after))| {
            positions.insert(id, after);
            positions
        });
    }
    positions
}
