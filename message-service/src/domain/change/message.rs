//! Changes of a message: `message_edited` and `message_deleted`.

use serde_json::{Value, json};

use super::details::ChangeDetails;
use crate::domain::{
    attributes::{Attributes, attributes_bytes},
    sequence::Sequence,
};

/// Replaces the contents of the actor's own message. `None` stays as it is.
#[derive(Debug, Clone)]
pub(crate) struct EditMessage {
    pub(crate) sequence: Sequence,
    pub(crate) text: Option<String>,
    pub(crate) attributes: Option<Attributes>,
}

impl ChangeDetails for EditMessage {
    fn to_json(&self) -> Value {
        let mut value = json!({ "kind": "edit", "sequence": self.sequence.get() });
        if let Some(text) = &self.text {
            value["text"] = json!(text);
        }
        if let Some(attributes) = &self.attributes {
            value["attributes"] = json!(attributes);
        }
        value
    }

    fn bytes(&self) -> usize {
        self.text.as_ref().map_or(0, String::len) + self.attributes.as_ref().map_or(0, attributes_bytes)
    }
}

/// Turns a message into a tombstone.
#[derive(Debug, Clone)]
pub(crate) struct DeleteMessage {
    pub(crate) sequence: Sequence,
}

impl ChangeDetails for DeleteMessage {
    fn to_json(&self) -> Value {
        json!({ "kind": "delete", "sequence": self.sequence.get() })
    }
}
