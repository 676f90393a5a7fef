//! Fields of requests, read with every violation noted. A field that is out of bounds still gives a value, so that the
//! others are read, too; [`Violations::into_result`] stands before the first use of any of them.

use std::collections::BTreeMap;

use parlance::message::v1;
use service_kit::{bounds, failure::Violations};

use crate::domain::{
    conversation::{Id, Kind, Role},
    message,
};

/// The most users of one request, the actor or creator not counted.
pub(super) const MAX_USERS: usize = 1_000;

/// A conversation, which may be one whose id the service made.
pub(super) fn conversation_id(violations: &mut Violations, field: &str, text: &str) -> Id {
    violations.check(field, bounds::id(text));
    text.into()
}

pub(super) fn user_id(violations: &mut Violations, field: &str, text: &str) -> Id {
    violations.check(field, bounds::own_id(text));
    text.into()
}

/// Several users, each once, in the order given.
pub(super) fn user_ids(violations: &mut Violations, field: &str, texts: &[String]) -> Vec<Id> {
    if texts.len() > MAX_USERS {
        violations.add(field, "must be at most 1,000 ids");
        return Vec::new();
    }
    let mut seen = std::collections::HashSet::with_capacity(texts.len());
    let ids = texts.iter().enumerate().filter(|(_, text)| seen.insert(text.as_str()));
    ids.map(|(at, text)| user_id(violations, &format!("{field}[{at}]"), text)).collect()
}

/// `None` for an absent one.
pub(super) fn request_id(violations: &mut Violations, text: &str) -> Option<String> {
    if text.is_empty() {
        return None;
    }
    violations.check("request_id", bounds::request_id(text));
    Some(text.to_owned())
}

pub(super) fn page_size(violations: &mut Violations, asked: i32) -> i64 {
    violations.check("page_size", bounds::page_size(asked)).unwrap_or_default()
}

/// A sequence that names an entry: 1 or more.
pub(super) fn sequence(violations: &mut Violations, field: &str, sequence: i64) -> i64 {
    if sequence < 1 {
        violations.add(field, "must be 1 or more");
    }
    sequence
}

/// A position between entries, or none: 0 or more.
pub(super) fn position(violations: &mut Violations, field: &str, position: i64) -> i64 {
    if position < 0 {
        violations.add(field, "must not be negative");
    }
    position
}

pub(super) fn text(violations: &mut Violations, text: String) -> String {
    violations.check("text", message::check_text(&text));
    text
}

pub(super) fn attributes(violations: &mut Violations, attributes: BTreeMap<String, String>) -> message::Attributes {
    violations.check("attributes", message::check_attributes(&attributes));
    attributes
}

/// `None` for an absent one.
pub(super) fn role(violations: &mut Violations, number: i32) -> Option<Role> {
    if number == v1::MemberRole::Unspecified as i32 {
        return None;
    }
    let role = Role::from_number(number);
    if role.is_none() {
        violations.add("role", "must be OWNER, ADMIN or MEMBER");
    }
    role
}

pub(super) fn kind(violations: &mut Violations, number: i32) -> Option<Kind> {
    let kind = Kind::from_number(number);
    if kind.is_none() {
        violations.add("kind", "must be DIRECT, GROUP or CHANNEL");
    }
    kind
}

/// Which of the fields a mask names; `*` names all. `None` for an absent or empty mask.
pub(super) fn mask<const N: usize>(
    violations: &mut Violations,
    mask: Option<&prost_types::FieldMask>,
    fields: [&str; N],
) -> Option<[bool; N]> {
    let paths = mask.map(|mask| &mask.paths).filter(|paths| !paths.is_empty())?;
    let mut named = [false; N];
    for (at, path) in paths.iter().enumerate() {
        match fields.iter().position(|field| field == path) {
            Some(field) => named[field] = true,
            None if path == "*" => named = [true; N],
            None => {
                violations.add(format!("update_mask.paths[{at}]"), format!("must be {} or *", fields.join(", ")));
            }
        }
    }
    Some(named)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(violations: &Violations) -> String {
        format!("{violations:?}")
    }

    #[test]
    fn users_count_once_and_each_wrong_one_is_named_by_its_place() {
        let mut violations = Violations::default();
        let texts = ["a", "b", "a", "~c", "b", ""].map(str::to_owned);
        let ids = user_ids(&mut violations, "user_ids", &texts);
        assert_eq!(&ids[..2], ["a".into(), "b".into()]);
        let noted = noted(&violations);
        assert!(noted.contains("user_ids[3]") && noted.contains("user_ids[5]") && !noted.contains("user_ids[2]"));

        let mut violations = Violations::default();
        assert!(user_ids(&mut violations, "user_ids", &vec![String::new(); MAX_USERS + 1]).is_empty());
        assert!(violations.into_result().is_err());
    }

    #[test]
    fn ids_of_the_service_are_good_for_conversations_only() {
        let mut violations = Violations::default();
        conversation_id(&mut violations, "conversation_id", "~dabc");
        assert_eq!(noted(&violations), noted(&Violations::default()));
        let mut violations = Violations::default();
        user_id(&mut violations, "actor_id", "~dabc");
        assert!(violations.into_result().is_err());
    }

    #[test]
    fn a_mask_names_fields_and_nothing_else() {
        let fields = ["text", "attributes"];
        let read = |paths: &[&str]| {
            let mut violations = Violations::default();
            let paths = paths.iter().map(|path| (*path).to_owned()).collect();
            let named = mask(&mut violations, Some(&prost_types::FieldMask { paths }), fields);
            violations.into_result().map(|()| named)
        };
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(read(&["attributes"]).unwrap(), Some([false, true]));
        assert_eq!(read(&["text", "attributes"]).unwrap(), Some([true, true]));
        assert_eq!(read(&["*"]).unwrap(), Some([true, true]));
        assert!(read(&["text", "sender_id"]).is_err());
        assert!(read(&["text", "*", ""]).is_err());
    }
}
