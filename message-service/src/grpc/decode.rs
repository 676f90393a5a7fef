//! Fields that several requests share, read with every violation recorded.

use std::{collections::HashSet, fmt::Display};

use parlance::message::v1;
use service_kit::{
    bounds,
    fields::{Field, Fields},
};

use crate::domain::{
    attributes::{Attributes, check_attributes},
    conversation::{Kind, Role},
    ids::{ConversationId, UserId},
    message::check_text,
    sequence::{Position, Sequence},
};

/// The most users of one request, the actor or creator not counted.
pub(super) const MAX_USERS: usize = 1_000;

/// An existing conversation, which may have an id made by the service.
pub(super) fn conversation_id(fields: &mut Fields, text: &str) -> Field<ConversationId> {
    fields.parse("conversation_id", text, ConversationId::parse)
}

pub(super) fn actor_id(fields: &mut Fields, text: &str) -> Field<UserId> {
    fields.parse("actor_id", text, UserId::parse)
}

/// Several users, each once, in the order of the request.
pub(super) fn user_ids(fields: &mut Fields, field: &str, texts: &[String]) -> Field<Vec<UserId>> {
    if texts.len() > MAX_USERS {
        return fields.check(field, Err("must be at most 1,000 ids"));
    }
    let mut seen = HashSet::with_capacity(texts.len());
    let distinct = texts.iter().enumerate().filter(|(_, text)| seen.insert(text.as_str()));
    fields.parse_all(field, distinct, UserId::parse)
}

/// `None` if the client brought none.
pub(super) fn request_id(fields: &mut Fields, text: &str) -> Field<Option<String>> {
    fields.optional("request_id", text, |text| bounds::request_id(text).map(|()| text.to_owned()))
}

/// A sequence that names an entry: 1 or more.
pub(super) fn sequence(fields: &mut Fields, number: i64) -> Field<Sequence> {
    fields.check("sequence", Sequence::parse(number))
}

/// A position between entries: 0 or more.
pub(super) fn position(fields: &mut Fields, field: &str, number: i64) -> Field<Position> {
    fields.check(field, Position::parse(number))
}

/// A sequence that may be absent: 0 or more.
pub(super) fn optional_sequence(fields: &mut Fields, field: &str, number: i64) -> Field<Option<Sequence>> {
    fields.check(field, Position::parse(number)).map(|position| Sequence::new(position.get()))
}

pub(super) fn text(fields: &mut Fields, text: String) -> Field<String> {
    fields.check("text", check_text(&text).map(|()| text))
}

pub(super) fn attributes(fields: &mut Fields, attributes: Attributes) -> Field<Attributes> {
    fields.check("attributes", check_attributes(&attributes).map(|()| attributes))
}

/// A required role.
pub(super) fn role(fields: &mut Fields, number: i32) -> Field<Role> {
    if number == v1::MemberRole::Unspecified as i32 {
        return fields.check("role", Err("is required"));
    }
    fields.choice("role", number, Role::from_number, ROLES)
}

/// `None` if the client named none.
pub(super) fn optional_role(fields: &mut Fields, number: i32) -> Field<Option<Role>> {
    fields.optional_choice("role", number, Role::from_number, ROLES)
}

pub(super) fn kind(fields: &mut Fields, number: i32) -> Field<Kind> {
    fields.choice("kind", number, Kind::from_number, "must be DIRECT, GROUP or CHANNEL")
}

const ROLES: &str = "must be OWNER, ADMIN or MEMBER";

/// Records a violation that concerns a relation between fields.
pub(super) fn demand(fields: &mut Fields, holds: bool, field: &str, description: impl Display) {
    if !holds {
        fields.violation(field, description.to_string());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_count_once_and_each_wrong_one_is_named_by_its_index() {
        let mut fields = Fields::default();
        let texts = ["a", "b", "a", "b"].map(str::to_owned);
        let ids = user_ids(&mut fields, "user_ids", &texts);
        assert_eq!(fields.finish(ids).unwrap(), ["a".into(), "b".into()]);

        let mut fields = Fields::default();
        let texts = ["a", "b", "a", "~c", "b", ""].map(str::to_owned);
        let ids = user_ids(&mut fields, "user_ids", &texts);
        let refused = format!("{:?}", fields.finish(ids).unwrap_err());
        assert!(refused.contains("user_ids[3]") && refused.contains("user_ids[5]") && !refused.contains("user_ids[2]"));

        let mut fields = Fields::default();
        let ids = user_ids(&mut fields, "user_ids", &vec!["a".to_owned(); MAX_USERS + 1]);
        assert!(fields.finish(ids).is_err());
    }
}
