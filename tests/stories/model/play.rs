//! Plays operations against the real services and the model, side by side.

use parlance::message::v1::{
    AddMembersRequest, Conversation, CreateConversationRequest, DeleteMessageRequest, EditMessageRequest,
    ListConversationsRequest, ListMessagesRequest, MarkReadRequest, MessageOrder, RemoveMemberRequest,
    SendMessageRequest, UpdateConversationRequest, UpdateMemberRequest, event::Kind,
};
use prost_types::FieldMask;
use tonic::{Code, Status};

use super::{
    operation::{CONVERSATIONS, DEACTIVATED, DETAILS, DIRECT, Operation, USERS},
    reference::{Model, Predicted},
};
use crate::support::{World, code_and_reason, direct, send};

fn user(number: usize) -> String {
    format!("user{number}")
}

fn number(user_id: &str) -> usize {
    user_id.trim_start_matches("user").parse().unwrap()
}

fn text(number: u8) -> String {
    format!("text {number}")
}

const DETAIL_PATHS: [&str; DETAILS] = ["title", "description", "avatar_url", "attributes"];

fn with_details(values: [u8; DETAILS]) -> Conversation {
    let [title, description, avatar_url] = [values[0], values[1], values[2]].map(|value| match value {
        0 => String::new(),
        value => format!("https://example.com/{value}"),
    });
    let attribute = (values[3] != 0).then(|| ("value".to_owned(), values[3].to_string()));
    Conversation { title, description, avatar_url, attributes: attribute.into_iter().collect(), ..Default::default() }
}

/// Reads what `with_details` wrote.
fn details(conversation: &Conversation) -> [u8; DETAILS] {
    let value = |text: &str| text.trim_start_matches("https://example.com/").parse().unwrap_or(0);
    let Conversation { title, description, avatar_url, attributes, .. } = conversation;
    let attribute = attributes.get("value").map_or(0, |text| value(text));
    [value(title), value(description), value(avatar_url), attribute]
}

struct Play {
    world: World,
    direct_id: String,
}

/// Plays operations in a new world.
pub(super) async fn play(operations: &[Operation]) -> Result<(), String> {
    let world = World::new().await;
    for name in 0..USERS {
        world.user_service.create(&user(name)).await;
    }
    world.deactivate(&user(DEACTIVATED)).await;
    let direct_id = world.create(direct(&user(0), &user(1))).await.conversation_id;
    let play = Play { world, direct_id };
    let mut model = Model::new();
    for (step, operation) in operations.iter().enumerate() {
        let predicted = model.apply(operation);
        let answered = play.call(operation).await;
        let same = match (&predicted, &answered) {
            (Ok(_), Ok(None)) => true,
            (Ok(head), Ok(Some(sequence))) => head == sequence,
            (Err((code, reason)), Err(status)) => code_and_reason(status) == (*code, (*reason).to_owned()),
            _ => false,
        };
        if !same {
            return Err(format!("step {step}, {operation:?}: predicted {predicted:?}, answered {answered:?}"));
        }
        play.check_head(operation, &model, &predicted)
            .await
            .map_err(|wrong| format!("step {step}, {operation:?}: {wrong}"))?;
    }
    play.check_end(&model).await
}

impl Play {
    fn id(&self, conversation: usize) -> String {
        if conversation == DIRECT { self.direct_id.clone() } else { format!("c{conversation}") }
    }

    /// Makes the call; returns the sequence, where the response has one.
    async fn call(&self, operation: &Operation) -> Result<Option<i64>, Status> {
        use Operation as Op;
        let (mut conversations, mut messages) = (self.world.conversations(), self.world.messages());
        match operation.clone() {
            Op::Create { conversation, kind, creator, members } => {
                let request = CreateConversationRequest {
                    conversation_id: self.id(conversation),
                    kind,
                    creator_id: user(creator),
                    member_ids: members.into_iter().map(user).collect(),
                    ..Default::default()
                };
                Ok(Some(conversations.create_conversation(request).await?.into_inner().last_sequence))
            }
            Op::Send { conversation, sender, text: content, request, reply_to } => {
                let asked = SendMessageRequest {
                    request_id: request.map(|request| format!("r{request}")).unwrap_or_default(),
                    reply_to_sequence: reply_to,
                    ..send(&self.id(conversation), &user(sender), &text(content))
                };
                Ok(messages.send_message(asked).await?.into_inner().message.map(|message| message.sequence))
            }
            Op::Edit { conversation, actor, sequence, text: content } => {
                let request = EditMessageRequest {
                    conversation_id: self.id(conversation),
                    actor_id: user(actor),
                    sequence,
                    text: text(content),
                    ..Default::default()
                };
                messages.edit_message(request).await.map(|_| None)
            }
            Op::Delete { conversation, actor, sequence } => {
                let request =
                    DeleteMessageRequest { conversation_id: self.id(conversation), actor_id: user(actor), sequence };
                messages.delete_message(request).await.map(|_| None)
            }
            Op::Add { conversation, actor, users, role } => {
                let request = AddMembersRequest {
                    conversation_id: self.id(conversation),
                    actor_id: user(actor),
                    user_ids: users.into_iter().map(user).collect(),
                    role,
                };
                conversations.add_members(request).await.map(|_| None)
            }
            Op::Remove { conversation, actor, user: target } => {
                let request = RemoveMemberRequest {
                    conversation_id: self.id(conversation),
                    actor_id: user(actor),
                    user_id: user(target),
                };
                conversations.remove_member(request).await.map(|_| None)
            }
            Op::Role { conversation, actor, user: target, role } => {
                let request = UpdateMemberRequest {
                    conversation_id: self.id(conversation),
                    actor_id: user(actor),
                    user_id: user(target),
                    role,
                };
                conversations.update_member(request).await.map(|_| None)
            }
            Op::Update { conversation, actor, detail, value } => {
                let mut values = [0; DETAILS];
                values[detail] = value;
                let request = UpdateConversationRequest {
                    conversation: Some(Conversation { conversation_id: self.id(conversation), ..with_details(values) }),
                    update_mask: Some(FieldMask { paths: vec![DETAIL_PATHS[detail].to_owned()] }),
                    actor_id: user(actor),
                };
                Ok(Some(conversations.update_conversation(request).await?.into_inner().last_sequence))
            }
            Op::Mark { conversation, actor, sequence } => {
                let request =
                    MarkReadRequest { conversation_id: self.id(conversation), actor_id: user(actor), sequence };
                conversations.mark_read(request).await.map(|_| None)
            }
        }
    }

    /// Compares the head with the model's after a successful change.
    async fn check_head(&self, operation: &Operation, model: &Model, predicted: &Predicted) -> Result<(), String> {
        let (Operation::Edit { conversation, .. }
        | Operation::Delete { conversation, .. }
        | Operation::Add { conversation, .. }
        | Operation::Remove { conversation, .. }
        | Operation::Role { conversation, .. }) = operation
        else {
            return Ok(());
        };
        let modelled = &model.conversations[*conversation];
        let (Ok(expected), Some(member)) = (predicted, modelled.members.keys().next()) else { return Ok(()) };
        let seen = self.world.conversation(&self.id(*conversation), &user(*member)).await;
        let head = seen.map_err(|status| format!("{status:?}"))?.last_sequence;
        if head == *expected { Ok(()) } else { Err(format!("predicted head {expected}, found {head}")) }
    }

    async fn check_end(&self, model: &Model) -> Result<(), String> {
        for (conversation, modelled) in model.conversations.iter().enumerate() {
            let id = self.id(conversation);
            let Some(&member) = modelled.members.keys().next() else {
                // Without members: unknown, unless it is a channel.
                let seen = self.world.conversation(&id, &user(0)).await.map_err(|status| status.code());
                let expected = if modelled.kind == 3 { None } else { Some(Code::NotFound) };
                equal("an empty conversation", &seen.err(), &expected)?;
                continue;
            };
            let log = self.world.log(&id, &user(member)).await;
            let received: Vec<String> = log.iter().map(summarize).collect();
            equal(&format!("the log of {id}"), &received, &modelled.log)?;

            let request = ListMessagesRequest {
                conversation_id: id.clone(),
                actor_id: user(member),
                page_size: 1000,
                order: MessageOrder::OldestFirst.into(),
                ..Default::default()
            };
            let page = self.world.messages().list_messages(request).await.map_err(|status| format!("{status:?}"))?;
            let listed = page.into_inner().messages.into_iter().enumerate();
            let listed: Vec<_> = listed
                .map(|(at, message)| {
                    (message.sequence, message.ordinal - at as i64, number(&message.sender_id), message.text)
                })
                .collect();
            let expected: Vec<_> = modelled
                .messages
                .iter()
                .map(|(sequence, message)| (*sequence, 1, message.sender, message.text.map(text).unwrap_or_default()))
                .collect();
            equal(&format!("the messages of {id}"), &listed, &expected)?;
        }
        for actor in 0..DEACTIVATED {
            self.check_inbox(model, actor).await?;
        }
        Ok(())
    }

    async fn check_inbox(&self, model: &Model, actor: usize) -> Result<(), String> {
        let request = ListConversationsRequest { actor_id: user(actor), ..Default::default() };
        let inbox = self.world.conversations().list_conversations(request).await;
        let items = inbox.map_err(|status| format!("{status:?}"))?.into_inner().items;
        let mut seen: Vec<_> = items
            .into_iter()
            .map(|item| {
                let (conversation, member) = (item.conversation.unwrap(), item.membership.unwrap());
                let at = (0..CONVERSATIONS).find(|at| self.id(*at) == conversation.conversation_id).unwrap();
                let last = item.last_message.map(|message| message.sequence);
                (at, member.role, member.last_read_sequence, member.unread_count, details(&conversation), last)
            })
            .collect();
        seen.sort();
        let expected: Vec<_> = (0..CONVERSATIONS)
            .filter_map(|at| {
                let modelled = &model.conversations[at];
                let member = modelled.members.get(&actor)?;
                let last = modelled.messages.keys().last().copied();
                Some((at, member.role, member.read, modelled.unread(actor), modelled.details, last))
            })
            .collect();
        equal(&format!("the inbox of {actor}"), &seen, &expected)
    }
}

fn summarize(event: &parlance::message::v1::Event) -> String {
    let about = match event.kind.as_ref().unwrap() {
        Kind::MessageSent(_) => "sent".to_owned(),
        Kind::MessageEdited(message) => format!("edited {}", message.sequence),
        Kind::MessageDeleted(message) => format!("deleted {}", message.sequence),
        Kind::MemberJoined(change) => format!("joined {} {}", number(&change.user_id), change.role),
        Kind::MemberLeft(change) => format!("left {} {}", number(&change.user_id), change.role),
        Kind::MemberUpdated(change) => format!("role {} {}", number(&change.user_id), change.role),
        Kind::ConversationUpdated(conversation) => format!("updated {:?}", details(conversation)),
        Kind::ReadMarker(_) | Kind::Typing(_) => panic!("{event:?} is in no log"),
    };
    format!("{}: {about}", number(&event.actor_id))
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, seen: &T, expected: &T) -> Result<(), String> {
    if seen == expected { Ok(()) } else { Err(format!("{what} is {seen:?}, the model has {expected:?}")) }
}
