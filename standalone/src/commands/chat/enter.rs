//! Enters a conversation: creates the user and the channel if they are missing, joins the channel, and reads the latest
//! messages.

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

/// The time limit of each call, including the connection.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// The most members that `/who` lists.
pub(super) const MAX_MEMBERS: i32 = 100;

/// The clients of the services, for unary calls outside the session.
#[derive(Clone)]
pub(super) struct Services {
    users: UserServiceClient<Channel>,
    conversations: ConversationServiceClient<Channel>,
    messages: MessageServiceClient<Channel>,
}

/// The user and the conversation of a chat.
#[derive(Clone)]
pub(super) struct Participant {
    pub(super) user_id: String,
    pub(super) conversation_id: String,
}

/// The conversation as the user finds it on entering.
pub(super) struct Entered {
    pub(super) participant: Participant,
    pub(super) conversation: Conversation,
    /// The latest messages, oldest first.
    pub(super) history: Vec<Message>,
    /// The head of the log after them.
    pub(super) last_sequence: i64,
}

impl Services {
    /// Creates the clients, which connect on first use. Errors: an address is invalid.
    pub(super) fn new(user_service: &str, message_service: &str) -> anyhow::Result<Self> {
        let messages = channel(message_service)?;
        Ok(Self {
            users: UserServiceClient::new(channel(user_service)?),
            conversations: ConversationServiceClient::new(messages.clone()),
            messages: MessageServiceClient::new(messages),
        })
    }

    /// Lets the user of this name enter the conversation. Creates both if they are missing. Idempotent. Errors are worded
    /// for the user.
    pub(super) async fn enter(
        &mut self,
        username: &str,
        conversation_id: &str,
        history: u16,
    ) -> anyhow::Result<Entered> {
        let user_id = self.user(username).await?.user_id;
        let participant = Participant { user_id, conversation_id: conversation_id.to_owned() };
        let conversation = self.conversation(&participant).await?;
        if conversation.kind() == ConversationKind::Channel {
            self.join(&participant).await?;
        }
        let (history, last_sequence) = self.history(&participant, history).await?;
        Ok(Entered { participant, conversation, history, last_sequence })
    }

    async fn user(&mut self, username: &str) -> anyhow::Result<User> {
        let request = GetUserRequest { username: username.to_owned(), ..GetUserRequest::default() };
        match self.users.get_user(timed(request.clone())).await {
            Err(status) if status.code() == Code::NotFound => {}
            got => return Ok(got.map_err(|status| failed("cannot look up the user", &status))?.into_inner()),
        }
        let create = CreateUserRequest {
            user_id: username.to_owned(),
            username: username.to_owned(),
            request_id: Uuid::now_v7().to_string(),
            ..CreateUserRequest::default()
        };
        match self.users.create_user(timed(create)).await {
            // Another client has created it concurrently, or another user has that id.
            Err(status) if status.code() == Code::AlreadyExists => {
                let got = self.users.get_user(timed(request)).await;
                Ok(got.map_err(|_| failed("cannot create the user", &status))?.into_inner())
            }
            created => Ok(created.map_err(|status| failed("cannot create the user", &status))?.into_inner()),
        }
    }

    async fn conversation(&mut self, participant: &Participant) -> anyhow::Result<Conversation> {
        let Participant { user_id, conversation_id } = participant;
        let get = || GetConversationRequest { conversation_id: conversation_id.clone(), actor_id: user_id.clone() };
        match self.conversations.get_conversation(timed(get())).await {
            Err(status) if status.code() == Code::NotFound => {}
            got => return Ok(got.map_err(|status| failed("cannot look up the conversation", &status))?.into_inner()),
        }
        let create = CreateConversationRequest {
            conversation_id: conversation_id.clone(),
            kind: ConversationKind::Channel.into(),
            creator_id: user_id.clone(),
            request_id: Uuid::now_v7().to_string(),
            ..CreateConversationRequest::default()
        };
        match self.conversations.create_conversation(timed(create)).await {
            Err(status) if status.code() == Code::AlreadyExists => {
                match self.conversations.get_conversation(timed(get())).await {
                    Ok(created_concurrently) => Ok(created_concurrently.into_inner()),
                    Err(_) => {
                        bail!("{conversation_id} is a group that {user_id} is not a member of: ask one of its admins")
                    }
                }
            }
            created => Ok(created.map_err(|status| failed("cannot create the channel", &status))?.into_inner()),
        }
    }

    async fn join(&mut self, participant: &Participant) -> anyhow::Result<()> {
        let add = AddMembersRequest {
            conversation_id: participant.conversation_id.clone(),
            actor_id: participant.user_id.clone(),
            user_ids: vec![participant.user_id.clone()],
            ..AddMembersRequest::default()
        };
        self.conversations
            .add_members(timed(add))
            .await
            .map_err(|status| failed("cannot join the channel", &status))?;
        Ok(())
    }

    async fn history(&mut self, participant: &Participant, count: u16) -> anyhow::Result<(Vec<Message>, i64)> {
        let list = ListMessagesRequest {
            conversation_id: participant.conversation_id.clone(),
            actor_id: participant.user_id.clone(),
            // At least 1, since 0 means the default; the head is needed in any case.
            page_size: i32::from(count.max(1)),
            ..ListMessagesRequest::default()
        };
        let page = self.messages.list_messages(timed(list)).await;
        let mut page = page.map_err(|status| failed("cannot read the history", &status))?.into_inner();
        page.messages.truncate(usize::from(count));
        page.messages.reverse();
        Ok((page.messages, page.last_sequence))
    }

    /// Returns at most [`MAX_MEMBERS`] members; `next_page_token` is empty if there are no more.
    pub(super) async fn members(&mut self, participant: &Participant) -> Result<ListMembersResponse, Status> {
        let list = ListMembersRequest {
            conversation_id: participant.conversation_id.clone(),
            actor_id: participant.user_id.clone(),
            page_size: MAX_MEMBERS,
            ..ListMembersRequest::default()
        };
        Ok(self.conversations.list_members(timed(list)).await?.into_inner())
    }
}

fn channel(address: &str) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(address.to_owned());
    let endpoint = endpoint.with_context(|| format!("invalid address {address:?}: expected http://host:port"))?;
    Ok(endpoint.connect_timeout(CALL_TIMEOUT / 2).connect_lazy())
}

fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(CALL_TIMEOUT);
    request
}

fn failed(action: &str, status: &Status) -> anyhow::Error {
    anyhow::anyhow!("{action}: {}", reason(status))
}

/// Returns the reason of a failure, worded for the user.
pub(super) fn reason(status: &Status) -> String {
    use tonic_types::StatusExt;
    let violations = status.get_details_bad_request().map(|details| details.field_violations).unwrap_or_default();
    if !violations.is_empty() {
        let each: Vec<String> = violations.iter().map(|it| format!("{} {}", it.field, it.description)).collect();
        return each.join("; ");
    }
    match std::error::Error::source(status) {
        // The server was not reached: the transport's error names the step that failed.
        Some(cause) => format!("{} ({})", status.message(), innermost(cause)),
        None => status.message().to_owned(),
    }
}

fn innermost(cause: &dyn std::error::Error) -> &dyn std::error::Error {
    cause.source().map_or(cause, innermost)
}
