//! What kind of caller each method is for, and the user for whom a call acts.

use service_kit::auth::{Rule, Rules};

/// The paths of all methods. Each acts for a user.
const PATHS: [&str; 19] = [
    "/parlance.message.v1.ConversationService/CreateConversation",
    "/parlance.message.v1.ConversationService/GetConversation",
    "/parlance.message.v1.ConversationService/ListConversations",
    "/parlance.message.v1.ConversationService/UpdateConversation",
    "/parlance.message.v1.ConversationService/AddMembers",
    "/parlance.message.v1.ConversationService/RemoveMember",
    "/parlance.message.v1.ConversationService/UpdateMember",
    "/parlance.message.v1.ConversationService/ListMembers",
    "/parlance.message.v1.ConversationService/MarkRead",
    "/parlance.message.v1.MessageService/SendMessage",
    "/parlance.message.v1.MessageService/GetMessage",
    "/parlance.message.v1.MessageService/ListMessages",
    "/parlance.message.v1.MessageService/ListEvents",
    "/parlance.message.v1.MessageService/EditMessage",
    "/parlance.message.v1.MessageService/DeleteMessage",
    "/parlance.message.v1.MessageService/StreamMessages",
    "/parlance.message.v1.MessageService/Subscribe",
    "/parlance.message.v1.MessageService/SendTyping",
    "/parlance.message.v1.MessageService/Chat",
];

/// Returns the rule of each method.
pub(crate) fn rules() -> Rules {
    PATHS.map(|path| (path, Rule::Actor)).into()
}
