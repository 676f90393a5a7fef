//! The promises that single entries are checked against.

use service_kit::verify::Check;

/// Checked of entries that refer to messages.
pub(crate) const REFERENCES: Check =
    Check { name: "references", promise: "An edit, a deletion and a reply refer to an earlier message of the log." };
/// Checked of messages and conversations, and the entries that changed them.
pub(crate) const CHANGES: Check = Check {
    name: "changes",
    promise: "Messages and conversations are as the last entry that changed them left them; a message names that entry.",
};
/// Checked of entries that end a membership, and of members.
pub(crate) const MEMBERS: Check = Check {
    name: "members",
    promise: "Members joined by an entry of the log; a DIRECT conversation has two members, others that have members have an owner.",
};
