//! What kind of caller each method is for, and the user for whom a call acts.

use parlance::message::v1;
use service_kit::{
    auth::{Caller, Rule, Rules},
    failure::Failure,
};
use tonic::Request;

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

/// A request that names the user for whom it acts.
pub(super) trait NamesActor {
    /// Returns the id of that user, which may be empty.
    fn named(&mut self) -> &mut String;
}

/// Names the user for whom a call acts, where the request names none: the subject of a user's token.
///
/// # Errors
/// `CALLER_NOT_ALLOWED` where it names a user for whom the caller may not act.
pub(super) fn acting<R: NamesActor>(request: Request<R>) -> Result<Request<R>, Failure> {
    let (metadata, extensions, mut message) = request.into_parts();
    Caller::of(&extensions).name_actor(message.named())?;
    Ok(Request::from_parts(metadata, extensions, message))
}

macro_rules! names_actor {
    ($($field:ident: $($request:ident),+);+ $(;)?) => {
        $($(impl NamesActor for v1::$request {
            fn named(&mut self) -> &mut String {
                &mut self.$field
            }
        })+)+
    };
}

names_actor! {
    creator_id: CreateConversationRequest;
    sender_id: SendMessageRequest;
    actor_id: GetConversationRequest, ListConversationsRequest, UpdateConversationRequest, AddMembersRequest,
        RemoveMemberRequest, UpdateMemberRequest, ListMembersRequest, MarkReadRequest, GetMessageRequest,
        ListMessagesRequest, ListEventsRequest, EditMessageRequest, DeleteMessageRequest, StreamMessagesRequest,
        SubscribeRequest, SendTypingRequest;
}
