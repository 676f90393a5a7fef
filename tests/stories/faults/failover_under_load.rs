//! Failovers under load, there and back. To a synchronous standby, nothing that was acknowledged is lost; of what an
//! asynchronous one lacks, every client learns.

use std::{collections::BTreeMap, time::Duration};

use futures_util::future::join_all;
use parlance::message::v1::event::Kind as Entry;
use parlance_checker::{Kind, Recorder, Violation};
use parlance_client::{Client, Session, Update, Updates};
use sqlx::{Connection, PgConnection};
use tokio::{sync::watch, time::timeout};
use tonic_health::pb::health_check_response::ServingStatus;

use super::{
    failover::Deployment,
    fault::Fault,
    load::{self, Account, Load, check_history, read_logs},
    run::{CONVERSATIONS, Run},
};
use crate::support::{PATIENCE, channel_to, code_and_reason, eventually, metadata};

/// The promise: writes go on this soon after a primary accepts them.
const RESUMED: Duration = Duration::from_secs(5);

/// The failovers of an ordinary run.
const THERE_AND_BACK: usize = 2;

impl Deployment {
    /// Waits until both services report this health.
    async fn wait_until_both(&self, expected: ServingStatus) {
        eventually(PATIENCE, || async {
            let seen = tokio::join!(self.user_service.health(), self.message_service.health());
            match &seen {
                (Ok(users), Ok(messages)) if (*users, *messages) == (expected, expected) => Ok(()),
                _ => Err(format!("{seen:?}\n{}\n{}", self.user_service.log(), self.message_service.log())),
            }
        })
        .await;
    }
}

/// The primary is killed and its synchronous standby promoted, again and again; a new standby takes the place of the lost
/// server each time.
pub(super) async fn synchronous(mut fault: Fault) {
    while let Some(rounds) = fault.next_part() {
        let mut deployment = Deployment::with(&CONVERSATIONS).await;
        deployment.replicate_synchronously().await;
        let run = Run::begin(&fault, channel_to(deployment.message_service.address()));
        for round in 0..rounds {
            // Each sender has waited for the standby.
            run.load.wait_for(2 * fault.senders()).await;
            run.at_a_random_moment(&mut fault).await;
            deployment.primary.kill().await;
            // Health reports an outage after 12 s: an ordinary run leaves that to the story of a read-only server.
            if round == THERE_AND_BACK {
                deployment.wait_until_both(ServingStatus::NotServing).await;
            }
            deployment.promote().await;
            run.recovers_within(RESUMED, &mut fault).await;
            deployment.wait_until_both(ServingStatus::Serving).await;
            deployment.rejoin().await;
            deployment.replicate_synchronously().await;
        }
        run.end(&mut fault, rounds, &deployment.message_service.messages()).await;
    }
    fault.end();
}

/// The primary is killed and a standby promoted that lacks its last commits.
pub(super) async fn asynchronous(mut fault: Fault) {
    for _ in 0..fault.count() {
        let Outcome { acknowledged, lost, others } = lose_commits(&fault).await;
        fault.count_fact("lost and announced", lost as u64);
        fault.add(1, acknowledged, others);
    }
    fault.end();
}

/// The outcome of a failover that loses commits.
struct Outcome {
    acknowledged: usize,
    lost: usize,
    /// The promises broken beside the announced loss.
    others: Vec<Violation>,
}

/// Fails over to a standby that lacks commits, and checks that 8 sessions learn of each loss.
async fn lose_commits(fault: &Fault) -> Outcome {
    let mut deployment = Deployment::with(&CONVERSATIONS).await;
    let address = deployment.message_service.address();
    let (_moving, at) = watch::channel(channel_to(address));
    let client = Client::new([format!("http://{address}")]).unwrap();
    let mut sessions: Vec<_> = (0..8).map(|_| client.session("ben").open()).collect();
    let recorder = Recorder::default();
    let load = Load::begin(&recorder, "load", fault.senders(), &CONVERSATIONS, &at);
    load.wait_for(100).await;
    deployment.cut_off().await;
    let survived = heads(&deployment.standby.url("parlance")).await;
    load.wait_for(200).await;
    for (session, updates) in &mut sessions {
        receive_until_ahead(session, updates, &survived).await;
    }
    deployment.fail_over().await;
    load.wait_for(100).await;
    let account = load.end().await;
    let logs = read_logs(&deployment.message_service.messages(), &CONVERSATIONS).await;
    join_all(sessions.iter_mut().map(|(_, updates)| wait_until_closed(updates, &survived))).await;

    let lost = count_lost(&account, &logs, &survived);
    assert!(lost > 0, "nothing was lost: this shows nothing");
    let violations = check_history(&recorder, Vec::new(), &logs, PATIENCE).await;
    let (losses, others): (Vec<_>, Vec<_>) = violations.into_iter().partition(|broken| broken.kind == Kind::Lost);
    assert_eq!(losses.len(), lost, "{losses:?}");
    Outcome { acknowledged: account.len(), lost, others }
}

/// The last sequences of the conversations in a database.
async fn heads(url: &str) -> BTreeMap<String, i64> {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let heads = "SELECT conversation_id, last_sequence FROM parlance_message.conversations";
    sqlx::query_as(heads).fetch_all(&mut connection).await.unwrap().into_iter().collect()
}

/// Receives until a session has entries of each conversation that the standby lacks.
async fn receive_until_ahead(session: &Session, updates: &mut Updates, survived: &BTreeMap<String, i64>) {
    let is_ahead = |(id, last): (&String, &i64)| session.cursors().get(id).is_some_and(|cursor| cursor > last);
    while !survived.iter().all(is_ahead) {
        timeout(PATIENCE, updates.next()).await.expect("an update in time");
    }
}

/// Waits until the session has reported each conversation as set back to what survived.
async fn wait_until_closed(updates: &mut Updates, survived: &BTreeMap<String, i64>) {
    let mut waiting = survived.clone();
    while !waiting.is_empty() {
        let update = timeout(PATIENCE, updates.next()).await.expect("an update in time").expect("an open session");
        if let Update::Closed { conversation_id, status } = update {
            assert_eq!(code_and_reason(&status).1, "SEQUENCE_AHEAD");
            let last = waiting.remove(&conversation_id).expect("one end of each conversation");
            assert_eq!(metadata(&status, "last_sequence"), last.to_string());
        }
    }
}

/// Counts the acknowledged messages that are not stored. All of them are beyond what survived.
fn count_lost(account: &Account, logs: &load::Logs, survived: &BTreeMap<String, i64>) -> usize {
    let mut lost = 0;
    for (request_id, message) in account {
        // The new log may not be as long yet.
        let stored =
            logs[&message.conversation_id].get(message.sequence as usize - 1).and_then(|event| event.kind.as_ref());
        let is_kept = matches!(stored, Some(Entry::MessageSent(kept)) if kept.request_id == *request_id);
        if !is_kept {
            assert!(message.sequence > survived[&message.conversation_id], "{message:?} is lost and not announced");
            lost += 1;
        }
    }
    lost
}
