//! The table of contents: what `ConversationService` and `MessageService` answer, each in the file named after it. Streams
//! are not here: they stand in front of the generated server (`streams.rs`).

use std::sync::{Arc, OnceLock};

use moka::future::Cache;
use parlance::message::v1::{
    AddMembersRequest, AddMembersResponse, Conversation, CreateConversationRequest, DeleteMessageRequest,
    EditMessageRequest, GetConversationRequest, GetMessageRequest, ListConversationsRequest, ListConversationsResponse,
    ListEventsRequest, ListEventsResponse, ListMembersRequest, ListMembersResponse, ListMessagesRequest,
    ListMessagesResponse, MarkReadRequest, Member, Message, RemoveMemberRequest, RemoveMemberResponse,
    SendMessageRequest, SendMessageResponse, SendTypingRequest, SendTypingResponse, UpdateConversationRequest,
    UpdateMemberRequest, conversation_service_server::ConversationService, message_service_server::MessageService,
};
use service_kit::{failure::Failure, lifecycle::Lifecycle, page_token::PageTokens};
use tonic::{Request, Response, Status, async_trait};

use super::{
    add_members, create_conversation, delete_message, edit_message, get_conversation, get_message, list_conversations,
    list_events, list_members, list_messages, mark_read, remove_member, send_message, send_typing, status,
    update_conversation, update_member,
};
use crate::{
    bus::Exchange,
    directory::Directory,
    domain::{conversation::Id, ephemeral::Ephemeral},
    log::{live::LiveLogs, pages::Pages, writer::Writers},
    storage::{self, Store},
};

/// What every RPC works with. Cheap to clone; clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Context {
    pub(super) store: Store,
    pub(super) writers: Writers,
    pub(super) directory: Directory,
    /// What streams follow, and read when they are behind.
    pub(super) live: LiveLogs,
    pub(super) pages: Pages,
    /// Where what other replicas are told waits.
    pub(super) exchange: Exchange,
    /// Who was passed on as typing a moment ago, and where.
    pub(super) typing: Cache<(Id, Id), ()>,
    /// Where sessions live.
    pub(super) lifecycle: Lifecycle,
    /// Set once the schema is known to be this binary's. Until then every call is UNAVAILABLE.
    opened: Arc<OnceLock<PageTokens>>,
}

impl Context {
    /// Makes a context that answers nothing before [`open`](Self::open).
    pub(crate) fn new(
        store: Store,
        writers: Writers,
        directory: Directory,
        live: LiveLogs,
        pages: Pages,
        exchange: Exchange,
        lifecycle: Lifecycle,
    ) -> Self {
        let typing = send_typing::limiter();
        Self { store, writers, directory, live, pages, exchange, typing, lifecycle, opened: Arc::default() }
    }

    /// Reads what all replicas share. Call it when the schema is migrated.
    pub(crate) async fn open(&self) -> Result<(), storage::Error> {
        let key = self.store.page_token_key().await?;
        // A second call reads the same key.
        self.opened.get_or_init(|| PageTokens::new(key));
        Ok(())
    }

    /// Tells those who look, here and at other replicas.
    pub(super) fn pass_on(&self, ephemeral: Ephemeral) {
        self.live.pass_on(&ephemeral);
        self.exchange.pass_on(ephemeral);
    }

    /// The page tokens of this database.
    ///
    /// # Errors
    /// UNAVAILABLE before the context is open.
    pub(super) fn page_tokens(&self) -> Result<&PageTokens, Failure> {
        self.opened.get().ok_or_else(status::not_ready)
    }
}

#[async_trait]
impl ConversationService for Context {
    async fn create_conversation(
        &self,
        request: Request<CreateConversationRequest>,
    ) -> Result<Response<Conversation>, Status> {
        Ok(create_conversation::answer(self, request).await.map(Response::new)?)
    }

    async fn get_conversation(
        &self,
        request: Request<GetConversationRequest>,
    ) -> Result<Response<Conversation>, Status> {
        Ok(get_conversation::answer(self, request).await.map(Response::new)?)
    }

    async fn list_conversations(
        &self,
        request: Request<ListConversationsRequest>,
    ) -> Result<Response<ListConversationsResponse>, Status> {
        Ok(list_conversations::answer(self, request).await.map(Response::new)?)
    }

    async fn update_conversation(
        &self,
        request: Request<UpdateConversationRequest>,
    ) -> Result<Response<Conversation>, Status> {
        Ok(update_conversation::answer(self, request).await.map(Response::new)?)
    }

    async fn add_members(&self, request: Request<AddMembersRequest>) -> Result<Response<AddMembersResponse>, Status> {
        Ok(add_members::answer(self, request).await.map(Response::new)?)
    }

    async fn remove_member(
        &self,
        request: Request<RemoveMemberRequest>,
    ) -> Result<Response<RemoveMemberResponse>, Status> {
        Ok(remove_member::answer(self, request).await.map(Response::new)?)
    }

    async fn update_member(&self, request: Request<UpdateMemberRequest>) -> Result<Response<Member>, Status> {
        Ok(update_member::answer(self, request).await.map(Response::new)?)
    }

    async fn list_members(
        &self,
        request: Request<ListMembersRequest>,
    ) -> Result<Response<ListMembersResponse>, Status> {
        Ok(list_members::answer(self, request).await.map(Response::new)?)
    }

    async fn mark_read(&self, request: Request<MarkReadRequest>) -> Result<Response<Member>, Status> {
        Ok(mark_read::answer(self, request).await.map(Response::new)?)
    }
}

#[async_trait]
impl MessageService for Context {
    async fn send_message(
        &self,
        request: Request<SendMessageRequest>,
    ) -> Result<Response<SendMessageResponse>, Status> {
        Ok(send_message::answer(self, request).await.map(Response::new)?)
    }

    async fn get_message(&self, request: Request<GetMessageRequest>) -> Result<Response<Message>, Status> {
        Ok(get_message::answer(self, request).await.map(Response::new)?)
    }

    async fn list_messages(
        &self,
        request: Request<ListMessagesRequest>,
    ) -> Result<Response<ListMessagesResponse>, Status> {
        Ok(list_messages::answer(self, request).await.map(Response::new)?)
    }

    async fn list_events(&self, request: Request<ListEventsRequest>) -> Result<Response<ListEventsResponse>, Status> {
        Ok(list_events::answer(self, request).await.map(Response::new)?)
    }

    async fn edit_message(&self, request: Request<EditMessageRequest>) -> Result<Response<Message>, Status> {
        Ok(edit_message::answer(self, request).await.map(Response::new)?)
    }

    async fn send_typing(&self, request: Request<SendTypingRequest>) -> Result<Response<SendTypingResponse>, Status> {
        Ok(send_typing::answer(self, request).await.map(Response::new)?)
    }

    async fn delete_message(&self, request: Request<DeleteMessageRequest>) -> Result<Response<Message>, Status> {
        Ok(delete_message::answer(self, request).await.map(Response::new)?)
    }
}
