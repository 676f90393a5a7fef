//! The write path: one batch of sends and changes, one call of `append_v1`, one transaction.

use std::collections::HashMap;

use service_kit::database::bounded;
use sqlx::types::Json;
use time::OffsetDateTime;

use super::{Error, WriterConnection};
use crate::domain::{
    conversation::{Id, Role},
    event::{Event, EventKind},
    hash::RequestHash,
    message::{Attributes, Message},
};

/// A message to be stored.
#[derive(Debug, Clone)]
pub(crate) struct Send {
    pub(crate) conversation_id: Id,
    pub(crate) sender_id: Id,
    pub(crate) request_id: String,
    pub(crate) request_hash: RequestHash,
    pub(crate) text: String,
    pub(crate) attributes: Attributes,
    /// 0 = none.
    pub(crate) reply_to_sequence: i64,
}

impl Send {
    /// The entry that a stored send is.
    pub(crate) fn to_event(&self, sent: &Sent) -> Event {
        Event {
            conversation_id: self.conversation_id.clone(),
            sequence: sent.sequence,
            created_at: sent.created_at,
            actor_id: self.sender_id.clone(),
            kind: EventKind::MessageSent(self.to_message(sent)),
        }
    }

    /// What it takes, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len() + attributes_bytes(&self.attributes)
    }

    /// The message that a stored send is.
    pub(crate) fn to_message(&self, sent: &Sent) -> Message {
        Message {
            conversation_id: self.conversation_id.clone(),
            sequence: sent.sequence,
            ordinal: sent.ordinal,
            sender_id: self.sender_id.clone(),
            request_id: self.request_id.clone(),
            text: self.text.clone(),
            attributes: self.attributes.clone(),
            reply_to_sequence: self.reply_to_sequence,
            created_at: sent.created_at,
            edited_at: None,
            deleted_at: None,
            change_sequence: sent.sequence,
        }
    }
}

/// Anything else that takes a sequence.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) conversation_id: Id,
    pub(crate) actor_id: Id,
    pub(crate) kind: ChangeKind,
}

impl Change {
    /// What it takes, in bytes; added users weigh what storing them takes.
    pub(crate) fn bytes(&self) -> usize {
        match &self.kind {
            ChangeKind::EditMessage { text, attributes, .. } => {
                text.as_ref().map_or(0, String::len) + attributes.as_ref().map_or(0, attributes_bytes)
            }
            ChangeKind::AddMembers { user_ids, .. } => user_ids.len() * ADDED_USER_BYTES,
            ChangeKind::UpdateTitle { title, .. } => title.len(),
            ChangeKind::DeleteMessage { .. } | ChangeKind::RemoveMember { .. } | ChangeKind::UpdateMember { .. } => 0,
        }
    }

    /// What a refusal means when an earlier try may have stored this change: a removal finds nobody to remove then.
    pub(crate) fn is_done_by(&self, refusal: Outcome) -> bool {
        match &self.kind {
            ChangeKind::RemoveMember { user_id } if *user_id == self.actor_id => {
                matches!(refusal, Outcome::ConversationNotFound | Outcome::NotAMember)
            }
            ChangeKind::RemoveMember { .. } => refusal == Outcome::MemberNotFound,
            ChangeKind::EditMessage { .. }
            | ChangeKind::DeleteMessage { .. }
            | ChangeKind::AddMembers { .. }
            | ChangeKind::UpdateMember { .. }
            | ChangeKind::UpdateTitle { .. } => false,
        }
    }
}

fn attributes_bytes(attributes: &Attributes) -> usize {
    attributes.iter().map(|(key, value)| key.len() + value.len()).sum()
}

/// What is to be changed. `None` = stays as it is.
#[derive(Debug, Clone)]
pub(crate) enum ChangeKind {
    EditMessage { sequence: i64, text: Option<String>, attributes: Option<Attributes> },
    DeleteMessage { sequence: i64 },
    AddMembers { user_ids: Vec<Id>, role: Role },
    RemoveMember { user_id: Id },
    UpdateMember { user_id: Id, role: Role },
    UpdateTitle { title: String, expected_version: Option<i64> },
}

/// What became of one item of a batch. The numbers are those of `append_v1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Stored, or changed.
    Done = 1,
    /// Stored before, or nothing to change.
    Unchanged = 2,
    RequestIdReused = 3,
    ConversationNotFound = 4,
    NotAMember = 5,
    MessageNotFound = 6,
    /// Somebody else holds the conversation; only when told to skip what is locked.
    Locked = 7,
    ConversationIsDirect = 8,
    RoleInsufficient = 9,
    MemberNotFound = 10,
    LastOwner = 11,
    MessageDeleted = 12,
    NotTheSender = 13,
    EtagMismatch = 14,
    ConversationIdTaken = 15,
}

impl Outcome {
    pub(super) fn from_number(number: i16) -> Result<Self, Error> {
        Ok(match number {
            1 => Self::Done,
            2 => Self::Unchanged,
            3 => Self::RequestIdReused,
            4 => Self::ConversationNotFound,
            5 => Self::NotAMember,
            6 => Self::MessageNotFound,
            7 => Self::Locked,
            8 => Self::ConversationIsDirect,
            9 => Self::RoleInsufficient,
            10 => Self::MemberNotFound,
            11 => Self::LastOwner,
            12 => Self::MessageDeleted,
            13 => Self::NotTheSender,
            14 => Self::EtagMismatch,
            15 => Self::ConversationIdTaken,
            _ => return Err(Error::Corrupt(format!("append_v1 gave the outcome {number}"))),
        })
    }
}

/// Where a send ended up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) outcome: Outcome,
    /// 0 unless done or unchanged.
    pub(crate) sequence: i64,
    /// 0 unless done or unchanged.
    pub(crate) ordinal: i64,
    /// When, if done.
    pub(crate) created_at: OffsetDateTime,
}

/// What became of a batch.
#[derive(Debug)]
pub(crate) struct Appended {
    /// One for each send, in their order.
    pub(crate) sends: Vec<Sent>,
    /// One for each change, in their order.
    pub(crate) changes: Vec<Outcome>,
    /// The head of each conversation that was found and not locked.
    pub(crate) heads: HashMap<Id, i64>,
}

#[derive(sqlx::FromRow)]
struct AppendedRow {
    send_outcome: Vec<i16>,
    send_sequence: Vec<Option<i64>>,
    send_ordinal: Vec<Option<i64>>,
    change_outcome: Vec<i16>,
    head: Vec<Option<i64>>,
    entry_time: Vec<Option<OffsetDateTime>>,
}

/// A member, its entry and its place in the outbox row.
const ADDED_USER_BYTES: usize = 256;

const APPEND: &str = "
    SELECT send_outcome, send_sequence, send_ordinal, change_outcome, head, entry_time
    FROM parlance_message.append_v1($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";

/// The batch as `append_v1` takes it: each conversation once and in byte order, each pair of conversation and sender once.
#[derive(Default)]
struct Columns<'b> {
    conversations: Vec<&'b str>,
    pair_conversation: Vec<i32>,
    pair_sender: Vec<&'b str>,
    send_pair: Vec<i32>,
}

impl<'b> Columns<'b> {
    fn of(sends: &[&'b Send], changes: &[&'b Change]) -> Self {
        let ids = sends.iter().map(|send| &*send.conversation_id).chain(changes.iter().map(|c| &*c.conversation_id));
        let mut conversations: Vec<&str> = ids.collect();
        conversations.sort_unstable();
        conversations.dedup();
        let mut columns = Self { conversations, ..Self::default() };
        let mut pairs = HashMap::new();
        for send in sends {
            let next = columns.pair_sender.len() as i32 + 1;
            let pair = *pairs.entry((&*send.conversation_id, &*send.sender_id)).or_insert(next);
            if pair == next {
                columns.pair_conversation.push(columns.position(&send.conversation_id));
                columns.pair_sender.push(&send.sender_id);
            }
            columns.send_pair.push(pair);
        }
        columns
    }

    /// Counted from 1, as PostgreSQL counts. Every id of the batch is there.
    fn position(&self, conversation_id: &str) -> i32 {
        self.conversations.partition_point(|id| *id < conversation_id) as i32 + 1
    }
}

impl WriterConnection {
    /// Stores a batch. Sends are numbered in their order, then changes in theirs. Each item has its own outcome; an error
    /// is of the whole batch, and then nothing of it is stored, unless [`Error::outcome_is_unknown`]. Running the same batch
    /// again stores nothing twice.
    ///
    /// # Errors
    /// [`Error::LockTimeout`] when somebody holds a row that the batch needs; with `skip_locked` only for rows other than the
    /// conversations'.
    pub(crate) async fn append(
        &mut self,
        sends: &[&Send],
        changes: &[&Change],
        skip_locked: bool,
    ) -> Result<Appended, Error> {
        let columns = Columns::of(sends, changes);
        let change_list = changes.iter().map(|change| to_json(change, columns.position(&change.conversation_id)));
        let change_list = (!changes.is_empty()).then(|| Json(change_list.collect::<Vec<_>>()));
        let attributes = sends.iter().map(|send| (!send.attributes.is_empty()).then_some(Json(&send.attributes)));
        let replies = sends.iter().map(|send| (send.reply_to_sequence != 0).then_some(send.reply_to_sequence));
        let query = sqlx::query_as(APPEND)
            .bind(&columns.conversations)
            .bind(&columns.pair_conversation)
            .bind(&columns.pair_sender)
            .bind(&columns.send_pair)
            .bind(sends.iter().map(|send| &*send.request_id).collect::<Vec<_>>())
            .bind(sends.iter().map(|send| &send.request_hash[..]).collect::<Vec<_>>())
            .bind(sends.iter().map(|send| &*send.text).collect::<Vec<_>>())
            .bind(attributes.collect::<Vec<_>>())
            .bind(replies.collect::<Vec<_>>())
            .bind(change_list)
            .bind(skip_locked);
        let limit = self.settings.timeout;
        let answer = bounded(limit, query.fetch_one(self.connection().await?)).await;
        let row: AppendedRow = self.settle(answer)?;
        row.into_appended(&columns, sends, changes)
    }
}

impl AppendedRow {
    fn into_appended(self, columns: &Columns<'_>, sends: &[&Send], changes: &[&Change]) -> Result<Appended, Error> {
        let n = sends.len();
        let whole = self.send_outcome.len() == n && self.send_sequence.len() == n && self.send_ordinal.len() == n;
        let all = columns.conversations.len();
        if !whole
            || self.change_outcome.len() != changes.len()
            || self.head.len() != all
            || self.entry_time.len() != all
        {
            return Err(Error::Corrupt("append_v1 did not answer for every item".to_owned()));
        }
        let mut sent = Vec::with_capacity(n);
        for index in 0..n {
            let at = columns.pair_conversation[columns.send_pair[index] as usize - 1] as usize - 1;
            sent.push(Sent {
                outcome: Outcome::from_number(self.send_outcome[index])?,
                sequence: self.send_sequence[index].unwrap_or_default(),
                ordinal: self.send_ordinal[index].unwrap_or_default(),
                created_at: self.entry_time[at].unwrap_or(OffsetDateTime::UNIX_EPOCH),
            });
        }
        let outcomes =
            self.change_outcome.iter().map(|number| Outcome::from_number(*number)).collect::<Result<_, _>>()?;
        let mut heads = HashMap::with_capacity(all);
        let ids = sends.iter().map(|send| &send.conversation_id).chain(changes.iter().map(|c| &c.conversation_id));
        for id in ids {
            if let Some(head) = self.head[columns.position(id) as usize - 1] {
                heads.entry(id.clone()).or_insert(head);
            }
        }
        Ok(Appended { sends: sent, changes: outcomes, heads })
    }
}

fn to_json(change: &Change, position: i32) -> serde_json::Value {
    let mut value = match &change.kind {
        ChangeKind::EditMessage { sequence, text, attributes } => {
            let mut value = serde_json::json!({ "kind": "edit", "sequence": sequence });
            if let Some(text) = text {
                value["text"] = text.as_str().into();
            }
            if let Some(attributes) = attributes {
                value["attributes"] = serde_json::json!(attributes);
            }
            value
        }
        ChangeKind::DeleteMessage { sequence } => serde_json::json!({ "kind": "delete", "sequence": sequence }),
        ChangeKind::AddMembers { user_ids, role } => {
            let users: Vec<&str> = user_ids.iter().map(|id| &**id).collect();
            serde_json::json!({ "kind": "add", "users": users, "role": *role as i16 })
        }
        ChangeKind::RemoveMember { user_id } => serde_json::json!({ "kind": "remove", "user": &**user_id }),
        ChangeKind::UpdateMember { user_id, role } => {
            serde_json::json!({ "kind": "role", "user": &**user_id, "role": *role as i16 })
        }
        ChangeKind::UpdateTitle { title, expected_version } => {
            serde_json::json!({ "kind": "title", "title": title, "version": expected_version })
        }
    };
    value["c"] = position.into();
    value["actor"] = (&*change.actor_id).into();
    value
}
