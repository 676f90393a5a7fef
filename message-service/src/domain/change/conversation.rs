//! Changes of the conversation itself: `conversation_updated`.

use serde_json::{Value, json};

use super::details::ChangeDetails;
use crate::domain::attributes::{Attributes, attributes_bytes};

/// A change of a conversation, as its entry shows it: the state after it. Entries from before there was more than a title
/// have nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConversationChange {
    pub(crate) title: String,
    pub(crate) description: String,
    pub(crate) avatar_url: String,
    pub(crate) attributes: Attributes,
    pub(crate) version: i64,
}

/// Changes a conversation. `None` stays as it is.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct UpdateConversation {
    pub(crate) title: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) avatar_url: Option<String>,
    pub(crate) attributes: Option<Attributes>,
    /// The version that the conversation must have.
    pub(crate) expected_version: Option<i64>,
}

impl UpdateConversation {
    /// Reports whether there is nothing to change.
    pub(crate) fn is_empty(&self) -> bool {
        let Self { title, description, avatar_url, attributes, expected_version: _ } = self;
        title.is_none() && description.is_none() && avatar_url.is_none() && attributes.is_none()
    }
}

impl ChangeDetails for UpdateConversation {
    fn to_json(&self) -> Value {
        json!({
            "kind": "conversation",
            "title": self.title,
            "description": self.description,
            "avatar_url": self.avatar_url,
            "attributes": self.attributes,
            "version": self.expected_version,
        })
    }

    fn bytes(&self) -> usize {
        let texts = [&self.title, &self.description, &self.avatar_url];
        texts.into_iter().flatten().map(String::len).sum::<usize>()
            + self.attributes.as_ref().map_or(0, attributes_bytes)
    }
}
