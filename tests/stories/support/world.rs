//! Both services on one database, and the calls that most stories start with.

use parlance::{
    message::v1::{
        AddMembersRequest, Conversation, ConversationKind, CreateConversationRequest, Event, GetConversationRequest,
        ListEventsRequest, ListMembersRequest, Member, MemberRole, Message, RemoveMemberRequest, SendMessageRequest,
        SendMessageResponse, conversation_service_client::ConversationServiceClient,
        message_service_client::MessageServiceClient,
    },
    user::v1::{DeactivateUserRequest, DeleteUserRequest},
};
use tonic::{Status, transport::Channel};

use super::{Mode, Proxy, RunningMessageService, RunningUserService, TestDatabase, message_service_config};

/// Both services on one database.
pub struct World {
    pub message_service: RunningMessageService,
    pub user_service: RunningUserService,
    pub database: TestDatabase,
}

impl World {
    /// Starts both and waits until they serve.
    pub async fn new() -> Self {
        Self::with(&[]).await
    }

    /// The same, with more flags for message-service.
    pub async fn with(flags: &[&str]) -> Self {
        let database = TestDatabase::migrated().await;
        let user_service = RunningUserService::start(&database).await;
        let address = user_service.address().to_string();
        let config = message_service_config(&database.url(), &address, flags);
        let message_service = RunningMessageService::start(config).await;
        Self { message_service, user_service, database }
    }

    /// Starts both, with a proxy through which message-service reaches user-service.
    pub async fn with_proxied_user_service(flags: &[&str]) -> (Self, Proxy) {
        let database = TestDatabase::migrated().await;
        let user_service = RunningUserService::start(&database).await;
        let proxy = Proxy::before(user_service.address().to_string(), Mode::Open).await;
        let config = message_service_config(&database.url(), &format!("127.0.0.1:{}", proxy.port()), flags);
        let message_service = RunningMessageService::start(config).await;
        (Self { message_service, user_service, database }, proxy)
    }

    /// Starts both, with a proxy through which message-service reaches the database.
    pub async fn with_proxied_database(flags: &[&str]) -> (Self, Proxy) {
        let database = TestDatabase::migrated().await;
        let user_service = RunningUserService::start(&database).await;
        let proxy = Proxy::start(Mode::Open).await;
        let address = user_service.address().to_string();
        let config = message_service_config(&database.url_through(proxy.port()), &address, flags);
        let message_service = RunningMessageService::start(config).await;
        (Self { message_service, user_service, database }, proxy)
    }

    /// Creates the world of most stories: users `ann`, `ben`, `cat`, `dan`, and a group `g` created by Ann with Ben in
    /// it.
    pub async fn with_group() -> Self {
        let world = Self::new().await;
        world.users(&["ann", "ben", "cat", "dan"]).await;
        world.create(group("g", "ann", &["ben"])).await;
        world
    }

    /// Starts a second message-service on the same database.
    pub async fn replica(&self) -> RunningMessageService {
        self.replica_with(&[]).await
    }

    /// The same, with more flags.
    pub async fn replica_with(&self, flags: &[&str]) -> RunningMessageService {
        let address = self.user_service.address().to_string();
        RunningMessageService::start(message_service_config(&self.database.url(), &address, flags)).await
    }

    /// Returns a client of conversations.
    pub fn conversations(&self) -> ConversationServiceClient<Channel> {
        self.message_service.conversations()
    }

    /// Returns a client of messages.
    pub fn messages(&self) -> MessageServiceClient<Channel> {
        self.message_service.messages()
    }

    /// Creates users whose id and name are the same.
    pub async fn users(&self, names: &[&str]) {
        for name in names {
            self.user_service.create(name).await;
        }
    }

    /// Creates users `u0` to `u{count - 1}` in one statement, since single calls would take long.
    pub async fn many_users(&self, count: i32) {
        const SQL: &str = "
            INSERT INTO parlance_user.users
                (user_id, username, username_key, display_name, state, version, created_at, updated_at)
            SELECT 'u' || n, 'u' || n, 'u' || n, '', 'active', 1, now(), now() FROM generate_series(0, $1 - 1) AS n";
        sqlx::query(SQL).bind(count).execute(&mut self.database.connect().await).await.unwrap();
    }

    /// Deactivates a user.
    pub async fn deactivate(&self, user_id: &str) {
        let request = DeactivateUserRequest { user_id: user_id.to_owned() };
        self.user_service.users().deactivate_user(request).await.unwrap();
    }

    /// Deletes a user.
    pub async fn delete_user(&self, user_id: &str) {
        let request = DeleteUserRequest { user_id: user_id.to_owned(), ..Default::default() };
        self.user_service.users().delete_user(request).await.unwrap();
    }

    /// Creates a conversation; must succeed.
    pub async fn create(&self, request: CreateConversationRequest) -> Conversation {
        self.conversations().create_conversation(request).await.unwrap().into_inner()
    }

    /// Returns the conversation as a user sees it.
    pub async fn conversation(&self, conversation_id: &str, actor_id: &str) -> Result<Conversation, Status> {
        let request =
            GetConversationRequest { conversation_id: conversation_id.to_owned(), actor_id: actor_id.to_owned() };
        Ok(self.conversations().get_conversation(request).await?.into_inner())
    }

    /// Adds members in a role.
    pub async fn add(
        &self,
        conversation_id: &str,
        actor_id: &str,
        user_ids: &[&str],
        role: MemberRole,
    ) -> Result<Vec<Member>, Status> {
        let request = AddMembersRequest {
            conversation_id: conversation_id.to_owned(),
            actor_id: actor_id.to_owned(),
            user_ids: strings(user_ids),
            role: role.into(),
        };
        Ok(self.conversations().add_members(request).await?.into_inner().members)
    }

    /// Removes a member; the actor itself leaves.
    pub async fn remove(&self, conversation_id: &str, actor_id: &str, user_id: &str) -> Result<(), Status> {
        let request = RemoveMemberRequest {
            conversation_id: conversation_id.to_owned(),
            actor_id: actor_id.to_owned(),
            user_id: user_id.to_owned(),
        };
        self.conversations().remove_member(request).await.map(drop)
    }

    /// Returns all members, as one of them sees them.
    pub async fn members(&self, conversation_id: &str, actor_id: &str) -> Vec<Member> {
        let request = ListMembersRequest {
            conversation_id: conversation_id.to_owned(),
            actor_id: actor_id.to_owned(),
            page_size: 1000,
            ..Default::default()
        };
        self.conversations().list_members(request).await.unwrap().into_inner().members
    }

    /// Sends a text, without a request id; must succeed.
    pub async fn send(&self, conversation_id: &str, sender_id: &str, text: &str) -> Message {
        self.try_send(send(conversation_id, sender_id, text)).await.unwrap().message.unwrap()
    }

    /// Sends a message.
    pub async fn try_send(&self, request: SendMessageRequest) -> Result<SendMessageResponse, Status> {
        Ok(self.messages().send_message(request).await?.into_inner())
    }

    /// Returns the whole log, as a user sees it.
    pub async fn log(&self, conversation_id: &str, actor_id: &str) -> Vec<Event> {
        read_log(&mut self.messages(), conversation_id, actor_id, 1000).await
    }
}

/// Reads a whole log in pages, and checks that it is dense, ends at its head, and that its times never go backwards.
pub async fn read_log(
    client: &mut MessageServiceClient<Channel>,
    conversation_id: &str,
    actor_id: &str,
    page_size: i32,
) -> Vec<Event> {
    try_read_log(client, conversation_id, actor_id, page_size).await.unwrap()
}

/// The same, for a service that may refuse.
pub async fn try_read_log(
    client: &mut MessageServiceClient<Channel>,
    conversation_id: &str,
    actor_id: &str,
    page_size: i32,
) -> Result<Vec<Event>, Status> {
    let mut log: Vec<Event> = Vec::new();
    loop {
        let request = ListEventsRequest {
            conversation_id: conversation_id.to_owned(),
            actor_id: actor_id.to_owned(),
            after_sequence: log.len() as i64,
            page_size,
        };
        let page = client.list_events(request).await?.into_inner();
        assert!(page.events.len() as i32 <= page_size);
        for event in page.events {
            assert_eq!((&*event.conversation_id, event.sequence), (conversation_id, log.len() as i64 + 1));
            log.push(event);
        }
        if log.len() as i64 >= page.last_sequence {
            assert_eq!(log.len() as i64, page.last_sequence);
            let time = |event: &Event| event.event_time.map(|time| (time.seconds, time.nanos)).unwrap();
            assert!(log.windows(2).all(|pair| time(&pair[0]) <= time(&pair[1])), "times go backwards");
            return Ok(log);
        }
    }
}

/// A request to create a group.
pub fn group(conversation_id: &str, creator_id: &str, member_ids: &[&str]) -> CreateConversationRequest {
    new_conversation(ConversationKind::Group, conversation_id, creator_id, member_ids)
}

/// A request to create a channel.
pub fn channel(conversation_id: &str, creator_id: &str, member_ids: &[&str]) -> CreateConversationRequest {
    new_conversation(ConversationKind::Channel, conversation_id, creator_id, member_ids)
}

/// A request to create a DIRECT conversation.
pub fn direct(creator_id: &str, other_id: &str) -> CreateConversationRequest {
    new_conversation(ConversationKind::Direct, "", creator_id, &[other_id])
}

fn new_conversation(
    kind: ConversationKind,
    conversation_id: &str,
    creator_id: &str,
    member_ids: &[&str],
) -> CreateConversationRequest {
    CreateConversationRequest {
        conversation_id: conversation_id.to_owned(),
        kind: kind.into(),
        creator_id: creator_id.to_owned(),
        member_ids: strings(member_ids),
        ..Default::default()
    }
}

/// A request to send a text.
pub fn send(conversation_id: &str, sender_id: &str, text: &str) -> SendMessageRequest {
    SendMessageRequest {
        conversation_id: conversation_id.to_owned(),
        sender_id: sender_id.to_owned(),
        text: text.to_owned(),
        ..Default::default()
    }
}

/// A request to send a text under a request id.
pub fn send_as(request_id: &str, conversation_id: &str, sender_id: &str, text: &str) -> SendMessageRequest {
    SendMessageRequest { request_id: request_id.to_owned(), ..send(conversation_id, sender_id, text) }
}

/// Owned copies.
pub fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}
