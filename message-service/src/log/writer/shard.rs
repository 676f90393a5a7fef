//! One writer: puts the writes that wait into one transaction, and while that runs the next batch gathers. No timer: an
//! idle system answers in one commit.

use std::collections::VecDeque;

use service_kit::lifecycle::Lifecycle;
use tokio::sync::mpsc;

use super::{batch::Batch, lane::Lane, storer::Storer, work::Work};
use crate::{bus::Exchange, log::live::LiveLogs, storage::Store};

/// The most waiting writes that are taken from the queue together.
const MAX_TAKEN: usize = 1024;

/// Starts one writer and its lane of locked conversations.
pub(super) fn start(
    store: &Store,
    live: &LiveLogs,
    exchange: &Exchange,
    lifecycle: &Lifecycle,
) -> mpsc::UnboundedSender<Work> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let storer = || Storer::new(store, live, exchange);
    let lane = Lane::default();
    let shard = Shard { storer: storer(), lane: lane.clone() };
    lifecycle.spawn("writer", shard.run(receiver, lifecycle.clone()));
    lifecycle.spawn("writer lane", lane.run(storer(), lifecycle.clone()));
    sender
}

struct Shard {
    storer: Storer,
    lane: Lane,
}

impl Shard {
    async fn run(mut self, mut receiver: mpsc::UnboundedReceiver<Work>, lifecycle: Lifecycle) {
        let killed = lifecycle.killed().clone();
        let work = async {
            let mut taken = Vec::new();
            loop {
                let count = tokio::select! {
                    biased;
                    count = receiver.recv_many(&mut taken, MAX_TAKEN) => count,
                    () = lifecycle.closing().cancelled(), if !receiver.is_closed() => {
                        // No new writes are accepted; those that wait are still stored.
                        receiver.close();
                        continue;
                    }
                };
                if count == 0 {
                    break;
                }
                self.store_all(taken.drain(..).collect()).await;
            }
        };
        killed.run_until_cancelled(Box::pin(work)).await;
        self.lane.close();
    }

    async fn store_all(&mut self, mut waiting: VecDeque<Work>) {
        while !waiting.is_empty() {
            self.lane.divert(&mut waiting);
            let batch = Batch::gather(&mut waiting);
            let locked = self.storer.store(batch, false).await;
            self.lane.take(locked);
        }
    }
}
