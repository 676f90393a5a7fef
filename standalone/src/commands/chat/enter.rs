//! Coming in: the user and the channel are made when they are missing, the user becomes a member, and what was said lately is
//! fetched.

use std::time::Duration;

use anyhow::{Context, bail};
use parlance::{
    message::v1::{
        AddMembersRequest, Conversation, ConversationKind, CreateConversationRequest, GetConversationRequest,
        ListMembersRequest, ListMembersResponse, ListMessagesRequest, Message,
        conversation_service_client::ConversationServiceClient, message_service_client::MessageServiceClient,
    },
    user::v1::{CreateUserRequest, GetUserRequest, User, user_service_client::UserServiceClient},
};
use tonic::{
    Code, Request, Status,
    transport::{Channel, Endpoint},
};
use uuid::Uuid;

/// For each call, a connection included.
const CALL_LIMIT: Duration = Duration::from_secs(10);

/// The most members that `/who` names.
pub(super) const MOST_MEMBERS: i32 = 100;

/// The services, for the calls that are no part of a session.
#[derive(Clone)]
pub(super) struct Services {
    users: UserServiceClient<Channel>,
    conversations: ConversationServiceClient<Channel>,
    messages: MessageServiceClient<Channel>,
}

/// A conversation that has been come into.
pub(super) struct Entered {
    pub(super) user_id: String,
    pub(super) conversation: Conversation,
    /// The newest, oldest first.
    pub(super) history: Vec<Message>,
    /// Where the log goes on after them.
    pub(super) last_sequence: i64,
}

impl Services {
    /// Connects when it must. Errors: an address is none.
    pub(super) fn new(user_service: &str, message_service: &str) -> anyhow::Result<Self> {
        let messages = channel(message_service)?;
        Ok(Self {
            users: UserServiceClient::new(channel(user_service)?),
            conversations: ConversationServiceClient::new(messages.clone()),
            messages: MessageServiceClient::new(messages),
        })
    }

    /// Brings the user of this name into the conversation. Can be repeated. Errors are for the person to read.
    pub(super) async fn enter(
        &mut self,
        username: &str,
        conversation_id: &str,
        history: u16,
    ) -> anyhow::Result<Entered> {
        let user_id = self.user(username).await?.user_id;
        let conversation = self.conversation(&user_id, conversation_id).await?;
        if conversation.kind() == ConversationKind::Channel {
            self.join(&user_id, conversation_id).await?;
        }
        let (history, last_sequence) = self.history(&user_id, conversation_id, history).await?;
        Ok(Entered { user_id, conversation, history, last_sequence })
    }

    async fn user(&mut self, username: &str) -> anyhow::Result<User> {
        let request = GetUserRequest { username: username.to_owned(), ..GetUserRequest::default() };
        match self.users.get_user(timed(request.clone())).await {
            Err(status) if status.code() == Code::NotFound => {}
            got => return Ok(got.map_err(|status| told("cannot look up the user", &status))?.into_inner()),
        }
        let create = CreateUserRequest {
            user_id: username.to_owned(),
            username: username.to_owned(),
            request_id: Uuid::now_v7().to_string(),
            ..CreateUserRequest::default()
        };
        match self.users.create_user(timed(create)).await {
            // Somebody else made it just now; or another user has that id.
            Err(status) if status.code() == Code::AlreadyExists => {
                let got = self.users.get_user(timed(request)).await;
                Ok(got.map_err(|_| told("cannot make the user", &status))?.into_inner())
            }
            created => Ok(created.map_err(|status| told("cannot make the user", &status))?.into_inner()),
        }
    }

    async fn conversation(&mut self, user_id: &str, conversation_id: &str) -> anyhow::Result<Conversation> {
        let get =
            || GetConversationRequest { conversation_id: conversation_id.to_owned(), actor_id: user_id.to_owned() };
        match self.conversations.get_conversation(timed(get())).await {
            Err(status) if status.code() == Code::NotFound => {}
            got => return Ok(got.map_err(|status| told("cannot look up the conversation", &status))?.into_inner()),
        }
        let create = CreateConversationRequest {
            conversation_id: conversation_id.to_owned(),
            kind: ConversationKind::Channel.into(),
            creator_id: user_id.to_owned(),
            request_id: Uuid::now_v7().to_string(),
            ..CreateConversationRequest::default()
        };
        match self.conversations.create_conversation(timed(create)).await {
            Err(status) if status.code() == Code::AlreadyExists => {
                match self.conversations.get_conversation(timed(get())).await {
                    Ok(made_just_now) => Ok(made_just_now.into_inner()),
                    Err(_) => {
                        bail!("{conversation_id} is a group that {user_id} is not a member of: ask one of its admins")
                    }
                }
            }
            created => Ok(created.map_err(|status| told("cannot make the channel", &status))?.into_inner()),
        }
    }

    async fn join(&mut self, user_id: &str, conversation_id: &str) -> anyhow::Result<()> {
        let add = AddMembersRequest {
            conversation_id: conversation_id.to_owned(),
            actor_id: user_id.to_owned(),
            user_ids: vec![user_id.to_owned()],
            ..AddMembersRequest::default()
        };
        self.conversations.add_members(timed(add)).await.map_err(|status| told("cannot join the channel", &status))?;
        Ok(())
    }

    async fn history(
        &mut self,
        user_id: &str,
        conversation_id: &str,
        count: u16,
    ) -> anyhow::Result<(Vec<Message>, i64)> {
        let list = ListMessagesRequest {
            conversation_id: conversation_id.to_owned(),
            actor_id: user_id.to_owned(),
            // The head is wanted even where no message is, and 0 would mean the usual number.
            page_size: i32::from(count.max(1)),
            ..ListMessagesRequest::default()
        };
        let page = self.messages.list_messages(timed(list)).await;
        let mut page = page.map_err(|status| told("cannot read the history", &status))?.into_inner();
        page.messages.truncate(usize::from(count));
        page.messages.reverse();
        Ok((page.messages, page.last_sequence))
    }

    /// At most [`MOST_MEMBERS`] members, and whether there are more.
    pub(super) async fn members(
        &mut self,
        user_id: &str,
        conversation_id: &str,
    ) -> Result<ListMembersResponse, Status> {
        let list = ListMembersRequest {
            conversation_id: conversation_id.to_owned(),
            actor_id: user_id.to_owned(),
            page_size: MOST_MEMBERS,
            ..ListMembersRequest::default()
        };
        Ok(self.conversations.list_members(timed(list)).await?.into_inner())
    }
}

fn channel(address: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(address.to_owned());
    let endpoint =
        endpoint.with_context(|| format!("{address:?} is no address: it must look like http://host:port"))?;
    Ok(endpoint.connect_timeout(CALL_LIMIT / 2).connect_lazy())
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_LIMIT);
    request
}

fn told(what: &str, status: &Status) -> anyhow::Error {
    anyhow::anyhow!("{what}: {}", reason(status))
}

/// Why, for a person.
pub(super) fn reason(status: &Status) -> String {
    use tonic_types::StatusExt;
    let violations = status.get_details_bad_request().map(|details| details.field_violations).unwrap_or_default();
    if !violations.is_empty() {
        let each: Vec<String> = violations.iter().map(|it| format!("{} {}", it.field, it.description)).collect();
        return each.join("; ");
    }
    match std::error::Error::source(status) {
        // Nobody answered at all: the transport's own words say which part of it failed.
        Some(cause) => format!("{} ({})", status.message(), innermost(cause)),
        None => status.message().to_owned(),
    }
}

fn innermost(cause: &dyn std::error::Error) -> &dyn std::error::Error {
    cause.source().map_or(cause, innermost)
}
