//! One writer: puts the writes that wait into one transaction, and while that runs the next batch gathers. No timer: an
//! idle system answers in one commit.

use std::{collections::VecDeque, future::Future};

use service_kit::lifecycle::Lifecycle;
use tokio::sync::mpsc;

use super::{
    batch::Batch,
    given_up::GivenUp,
    lane::Lane,
    queue,
    storer::Storer,
    work::{Stamps, Work},
};
use crate::{bus::Exchange, log::live::LiveLogs, storage::Store};

/// The most waiting writes that are taken from the queue together.
const MAX_TAKEN: usize = 1024;

/// Starts one writer and its lane of locked conversations.
pub(super) fn start(
    store: &Store,
    live: &LiveLogs,
    exchange: &Exchange,
    stamps: &Stamps,
    lifecycle: &Lifecycle,
) -> mpsc::UnboundedSender<Work> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let given_up = GivenUp::new(stamps);
    let storer = || Storer::new(store, live, exchange, &given_up);
    let lane = Lane::new(&given_up);
    let shard = Shard { storer: storer(), lane: lane.clone(), given_up: given_up.clone() };
    lifecycle.spawn("writer", registered(exchange, shard.run(receiver, lifecycle.clone())));
    lifecycle.spawn("writer lane", registered(exchange, lane.run(storer(), lifecycle.clone())));
    sender
}

/// Keeps the bus from ending before the task.
fn registered<F: Future<Output = ()> + Send>(exchange: &Exchange, task: F) -> impl Future<Output = ()> + Send + use<F> {
    let registration = exchange.register_writer();
    async move {
        task.await;
        drop(registration);
    }
}

struct Shard {
    storer: Storer,
    lane: Lane,
    given_up: GivenUp,
}

impl Shard {
    async fn run(mut self, mut receiver: mpsc::UnboundedReceiver<Work>, lifecycle: Lifecycle) {
        let killed = lifecycle.killed().clone();
        let work = async {
            loop {
                let taken = queue::take(&mut receiver, MAX_TAKEN, &lifecycle).await;
                if taken.is_empty() {
                    break;
                }
                self.store_all(taken.into()).await;
            }
        };
        killed.run_until_cancelled(Box::pin(work)).await;
        self.lane.close();
    }

    async fn store_all(&mut self, mut waiting: VecDeque<Work>) {
        while !waiting.is_empty() {
            let now = self.storer.now();
            self.given_up.refuse(&mut waiting, now);
            self.lane.divert(&mut waiting, now);
            let batch = Batch::gather(&mut waiting);
            let locked = self.storer.store(batch, false).await;
            self.lane.take(locked, self.storer.now());
        }
    }
}
