//! Maps the methods of `ConversationService` and `MessageService` to the files of the RPCs. Streams are served by
//! `streams.rs`.

use parlance::message::v1::{
    AddMembersRequest, AddMembersResponse, Conversation, CreateConversationRequest, DeleteMessageRequest,
    EditMessageRequest, GetConversationRequest, GetMessageRequest, ListConversationsRequest, ListConversationsResponse,
    ListEventsRequest, ListEventsResponse, ListMembersRequest, ListMembersResponse, ListMessagesRequest,
    ListMessagesResponse, MarkReadRequest, Member, Message, RemoveMemberRequest, RemoveMemberResponse,
    SendMessageRequest, SendMessageResponse, SendTypingRequest, SendTypingResponse, UpdateConversationRequest,
    UpdateMemberRequest, conversation_service_server::ConversationService, message_service_server::MessageService,
};
use tonic::{Request, Response, Status, async_trait};

use super::{
    add_members, context::Context, create_conversation, delete_message, edit_message, get_conversation, get_message,
    list_conversations, list_events, list_members, list_messages, mark_read, remove_member, rules::acting,
    send_message, send_typing, update_conversation, update_member,
};

#[async_trait]
impl ConversationService for Context {
    async fn create_conversation(
        &self,
        request: Request<CreateConversationRequest>,
    ) -> Result<Response<Conversation>, Status> {
        Ok(create_conversation::answer(self, acting(request)?).await.map(Response::new)?)
    }

    async fn get_conversation(
        &self,
        request: Request<GetConversationRequest>,
    ) -> Result<Response<Conversation>, Status> {
        Ok(get_conversation::answer(self, acting(request)?).await.map(Response::new)?)
    }

    async fn list_conversations(
        &self,
        request: Request<ListConversationsRequest>,
    ) -> Result<Response<ListConversationsResponse>, Status> {
        Ok(list_conversations::answer(self, acting(request)?).await.map(Response::new)?)
    }

    async fn update_conversation(
        &self,
        request: Request<UpdateConversationRequest>,
    ) -> Result<Response<Conversation>, Status> {
        Ok(update_conversation::answer(self, acting(request)?).await.map(Response::new)?)
    }

    async fn add_members(&self, request: Request<AddMembersRequest>) -> Result<Response<AddMembersResponse>, Status> {
        Ok(add_members::answer(self, acting(request)?).await.map(Response::new)?)
    }

    async fn remove_member(
        &self,
        request: Request<RemoveMemberRequest>,
    ) -> Result<Response<RemoveMemberResponse>, Status> {
        Ok(remove_member::answer(self, acting(request)?).await.map(Response::new)?)
    }

    async fn update_member(&self, request: Request<UpdateMemberRequest>) -> Result<Response<Member>, Status> {
        Ok(update_member::answer(self, acting(request)?).await.map(Response::new)?)
    }

    async fn list_members(
        &self,
        request: Request<ListMembersRequest>,
    ) -> Result<Response<ListMembersResponse>, Status> {
        Ok(list_members::answer(self, acting(request)?).await.map(Response::new)?)
    }

    async fn mark_read(&self, request: Request<MarkReadRequest>) -> Result<Response<Member>, Status> {
        Ok(mark_read::answer(self, acting(request)?).await.map(Response::new)?)
    }
}

#[async_trait]
impl MessageService for Context {
    async fn send_message(
        &self,
        request: Request<SendMessageRequest>,
    ) -> Result<Response<SendMessageResponse>, Status> {
        Ok(send_message::answer(self, acting(request)?).await.map(Response::new)?)
    }

    async fn get_message(&self, request: Request<GetMessageRequest>) -> Result<Response<Message>, Status> {
        Ok(get_message::answer(self, acting(request)?).await.map(Response::new)?)
    }

    async fn list_messages(
        &self,
        request: Request<ListMessagesRequest>,
    ) -> Result<Response<ListMessagesResponse>, Status> {
        Ok(list_messages::answer(self, acting(request)?).await.map(Response::new)?)
    }

    async fn list_events(&self, request: Request<ListEventsRequest>) -> Result<Response<ListEventsResponse>, Status> {
        Ok(list_events::answer(self, acting(request)?).await.map(Response::new)?)
    }

    async fn edit_message(&self, request: Request<EditMessageRequest>) -> Result<Response<Message>, Status> {
        Ok(edit_message::answer(self, acting(request)?).await.map(Response::new)?)
    }

    async fn send_typing(&self, request: Request<SendTypingRequest>) -> Result<Response<SendTypingResponse>, Status> {
        Ok(send_typing::answer(self, acting(request)?).await.map(Response::new)?)
    }

    async fn delete_message(&self, request: Request<DeleteMessageRequest>) -> Result<Response<Message>, Status> {
        Ok(delete_message::answer(self, acting(request)?).await.map(Response::new)?)
    }
}
