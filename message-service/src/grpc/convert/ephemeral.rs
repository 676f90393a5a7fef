//! Ephemerals, which have no sequence.

use parlance::message::v1::{self, event::Kind};

use crate::domain::ephemeral::{Ephemeral, EphemeralKind};

pub(in crate::grpc) fn ephemeral(ephemeral: &Ephemeral) -> v1::Event {
    let user_id = ephemeral.user_id.to_string();
    let kind = match ephemeral.kind {
        EphemeralKind::ReadMarker { last_read_sequence } => {
            Kind::ReadMarker(v1::ReadMarker { user_id, last_read_sequence: last_read_sequence.get() })
        }
        EphemeralKind::Typing => Kind::Typing(v1::Typing { user_id }),
    };
    v1::Event {
        conversation_id: ephemeral.conversation_id.to_string(),
        actor_id: ephemeral.user_id.to_string(),
        kind: Some(kind),
        ..v1::Event::default()
    }
}
