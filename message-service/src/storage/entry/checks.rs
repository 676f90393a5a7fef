//! The promises that single entries are checked against.

use service_kit::verify::Check;

/// Checked of entries that refer to messages.
pub(crate) const REFERENCES: Check =
    Check { name: "references", promise: "What is edited, deleted or answered is an earlier message of the log." };
/// Checked of messages and conversations, and the entries that changed them.
pub(crate) const CHANGES: Check = Check {
    name: "changes",
    promise: "A message names the last entry that changed it, and is what that entry made it; so is a conversation.",
};
/// Checked of entries that end a membership, and of members.
pub(crate) const MEMBERS: Check = Check {
    name: "members",
    promise: "Members joined by an entry of the log; a DIRECT conversation has two, any other that has some has an owner.",
};
