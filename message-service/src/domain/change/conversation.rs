//! Changes of the conversation itself: `conversation_updated`.

use serde_json::{Value, json};

use super::details::ChangeDetails;
use crate::domain::permission::Verb;

/// A change of a conversation, as its entry shows it: the state after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConversationChange {
    pub(crate) title: String,
    pub(crate) version: i64,
}

/// Changes the title.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UpdateConversation {
    pub(crate) title: String,
    /// The version that the conversation must have.
    pub(crate) expected_version: Option<i64>,
}

impl ChangeDetails for UpdateConversation {
    fn to_json(&self) -> Value {
        json!({ "kind": "title", "title": self.title, "version": self.expected_version })
    }

    fn verbs(&self) -> &'static [Verb] {
        &[Verb::UpdateConversation]
    }

    fn bytes(&self) -> usize {
        self.title.len()
    }
}
