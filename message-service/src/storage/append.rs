//! The write path: one batch of messages and changes, one call of `append_v1`, one transaction.

use std::collections::HashMap;

use service_kit::database::bounded;
use sqlx::types::Json;
use time::OffsetDateTime;

use super::{Error, WriterConnection, position, sequence};
use crate::domain::{
    change::{Change, Outcome, SendOutcome},
    ids::ConversationId,
    message::{NewMessage, StoredAt},
    sequence::{Position, Sequence},
};

/// The outcome of a batch.
#[derive(Debug)]
pub(crate) struct BatchOutcome {
    /// One for each send, in their order.
    pub(crate) sends: Vec<SendOutcome>,
    /// One for each change, in their order.
    pub(crate) changes: Vec<Outcome>,
    /// The head of each conversation that was found and not locked.
    pub(crate) heads: HashMap<ConversationId, Position>,
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

// Reads along primary keys, and `messages_request_id_key` for repeats.
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
    fn of(sends: &[&'b NewMessage], changes: &[&'b Change]) -> Self {
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

    /// Returns the position of a conversation of the batch, counted from 1 as PostgreSQL counts.
    fn position(&self, conversation_id: &str) -> i32 {
        self.conversations.partition_point(|id| *id < conversation_id) as i32 + 1
    }
}

impl WriterConnection {
    /// Stores a batch. Sends are numbered in their order, then changes in theirs. Each item has its own outcome. An error
    /// concerns the whole batch: nothing of it is stored, unless [`Error::outcome_is_unknown`]. Running the same batch again
    /// stores nothing twice.
    ///
    /// # Errors
    /// [`Error::LockTimeout`] when another transaction holds a row that the batch needs; with `skip_locked` only for rows
    /// other than the conversations'.
    pub(crate) async fn append(
        &mut self,
        sends: &[&NewMessage],
        changes: &[&Change],
        skip_locked: bool,
    ) -> Result<BatchOutcome, Error> {
        let columns = Columns::of(sends, changes);
        let change_list = changes.iter().map(|change| change.to_json(columns.position(&change.conversation_id)));
        let change_list = (!changes.is_empty()).then(|| Json(change_list.collect::<Vec<_>>()));
        let attributes = sends.iter().map(|send| (!send.attributes.is_empty()).then_some(Json(&send.attributes)));
        let replies = sends.iter().map(|send| send.reply_to_sequence.map(Sequence::get));
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
        let mut session = self.kept.take().await?;
        let answer = bounded(self.kept.settings().timeout, query.fetch_one(session.connection())).await;
        let row: AppendedRow = self.kept.settle(session, answer)?;
        row.into_outcome(&columns, sends, changes)
    }
}

impl AppendedRow {
    fn into_outcome(
        self,
        columns: &Columns<'_>,
        sends: &[&NewMessage],
        changes: &[&Change],
    ) -> Result<BatchOutcome, Error> {
        let n = sends.len();
        let whole = self.send_outcome.len() == n && self.send_sequence.len() == n && self.send_ordinal.len() == n;
        let all = columns.conversations.len();
        if !whole
            || self.change_outcome.len() != changes.len()
            || self.head.len() != all
            || self.entry_time.len() != all
        {
            return Err(Error::Corrupt("append_v1 did not return an outcome for every item".to_owned()));
        }
        let mut sent = Vec::with_capacity(n);
        for index in 0..n {
            let at = columns.pair_conversation[columns.send_pair[index] as usize - 1] as usize - 1;
            let stored = match (self.send_sequence[index], self.send_ordinal[index], self.entry_time[at]) {
                (Some(number), Some(ordinal), Some(created_at)) => {
                    Some(StoredAt { sequence: sequence(number, "append_v1.send_sequence")?, ordinal, created_at })
                }
                _ => None,
            };
            sent.push(SendOutcome { outcome: read_outcome(self.send_outcome[index])?, stored });
        }
        let outcomes = self.change_outcome.iter().map(|number| read_outcome(*number)).collect::<Result<_, _>>()?;
        let mut heads = HashMap::with_capacity(all);
        let ids = sends.iter().map(|send| &send.conversation_id).chain(changes.iter().map(|c| &c.conversation_id));
        for id in ids {
            if let Some(head) = self.head[columns.position(id) as usize - 1] {
                heads.entry(id.clone()).or_insert(position(head, "append_v1.head")?);
            }
        }
        Ok(BatchOutcome { sends: sent, changes: outcomes, heads })
    }
}

/// Reads an outcome that a function of the write path returned.
pub(super) fn read_outcome(number: i16) -> Result<Outcome, Error> {
    Outcome::from_number(number).ok_or_else(|| Error::Corrupt(format!("the write path returned the outcome {number}")))
}

#[cfg(test)]
mod tests {
    use crate::{
        domain::{
            conversation::Role,
            permission::{Verb, may},
        },
        storage::testing::TestDatabase,
    };

    const MAY: &str = "SELECT parlance_message.may_v1($1, $2, $3)";

    #[tokio::test]
    async fn sql_and_domain_allow_each_role_the_same() {
        let test = TestDatabase::new("roles").await;
        let targets = [None, Some(Role::Owner), Some(Role::Admin), Some(Role::Member)];
        for verb in Verb::ALL {
            for (actor, target) in Role::ALL.into_iter().flat_map(|actor| targets.map(|target| (actor, target))) {
                let query =
                    sqlx::query_as(MAY).bind(actor as i16).bind(verb.name()).bind(target.map(|target| target as i16));
                let (allowed,): (bool,) = test.store.database.fetch_one(query).await.unwrap();
                assert_eq!(allowed, may(actor, verb, target), "{actor:?} {verb:?} {target:?}");
            }
        }
        for (actor, verb) in [(0_i16, "read"), (4, "read"), (1, "fly")] {
            let query = sqlx::query_as(MAY).bind(actor).bind(verb).bind(None::<i16>);
            let (allowed,): (bool,) = test.store.database.fetch_one(query).await.unwrap();
            assert!(!allowed, "{actor} {verb}");
        }
        test.drop().await;
    }
}
