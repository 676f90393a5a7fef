//! `Subscribe`: all conversations of a user on one stream.

use std::collections::HashMap;

use parlance::message::v1;
use service_kit::{
    failure::{Failure, Violations},
    server::Leaving,
};
use tonic::Request;

use super::{authorise, decode, outgoing::Outgoing, service::Context};
use crate::{
    domain::conversation::Id,
    log::subscription::{Start, Subscription},
};

/// The most positions that a client may bring.
const MAX_CURSORS: usize = 10_000;

/// What of a user is subscribed to, and from where.
pub(super) struct Asked {
    actor_id: Id,
    positions: HashMap<Id, i64>,
    start: Start,
}

impl Asked {
    pub(super) fn actor_id(&self) -> &Id {
        &self.actor_id
    }
}

pub(super) async fn answer(context: &Context, request: Request<v1::SubscribeRequest>) -> Result<Outgoing, Failure> {
    let (_, extensions, request) = request.into_parts();
    let mut violations = Violations::default();
    let asked = decode(&mut violations, &request.actor_id, &request.cursors, request.start);
    violations.into_result()?;
    authorise::actor(context, &extensions, &asked.actor_id).await?;

    let subscription = begin(context, &asked).await?;
    let attendance = context.directory.attend(&asked.actor_id);
    Ok(Outgoing::of_all(Some(subscription), attendance, Leaving::of(&extensions)))
}

/// Begins, on behalf of a user who may act.
pub(super) async fn begin(context: &Context, asked: &Asked) -> Result<Subscription, Failure> {
    let Asked { actor_id, positions, start } = asked;
    Ok(Subscription::to_all(&context.live, &context.pages, actor_id, positions, *start).await?)
}

pub(super) fn decode(violations: &mut Violations, actor_id: &str, cursors: &[v1::Cursor], start: i32) -> Asked {
    let actor_id = decode::user_id(violations, "actor_id", actor_id);
    let mut positions = HashMap::with_capacity(cursors.len().min(MAX_CURSORS));
    if cursors.len() > MAX_CURSORS {
        violations.add("cursors", "must be at most 10,000");
    } else {
        for (at, cursor) in cursors.iter().enumerate() {
            let field = |name| format!("cursors[{at}].{name}");
            let id = decode::conversation_id(violations, &field("conversation_id"), &cursor.conversation_id);
            let after = decode::position(violations, &field("after_sequence"), cursor.after_sequence);
            if positions.insert(id, after).is_some() {
                violations.add(field("conversation_id"), "must not be named twice");
            }
        }
    }
    let start = match v1::SubscribeStart::try_from(start) {
        Ok(v1::SubscribeStart::Unspecified | v1::SubscribeStart::ReadMark) => Start::ReadMark,
        Ok(v1::SubscribeStart::Now) => Start::Now,
        Ok(v1::SubscribeStart::Beginning) => Start::Beginning,
        Err(_) => {
            violations.add("start", "must be READ_MARK, NOW or BEGINNING");
            Start::ReadMark
        }
    };
    Asked { actor_id, positions, start }
}
