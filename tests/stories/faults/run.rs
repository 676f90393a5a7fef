//! A run of the fault matrix: a load with subscribers, and the check at its end.

use std::time::{Duration, Instant};

use parlance::message::v1::message_service_client::MessageServiceClient;
use parlance_checker::{Recorder, Violation};
use tokio::sync::watch;
use tonic::transport::Channel;

use super::{
    fault::Fault,
    load::{Load, Subscriber, check_history, read_logs},
};
use crate::support::{PATIENCE, World, eventually, group};

/// The conversations of a run.
pub const CONVERSATIONS: [&str; 4] = ["g", "h", "i", "j"];

/// Creates the users and the conversations of a run.
pub async fn prepare(world: &World) {
    world.users(&["ann", "ben"]).await;
    for id in CONVERSATIONS {
        world.create(group(id, "ann", &["ben"])).await;
    }
}

/// A load with subscribers, over one channel or a changing one.
pub struct Run {
    recorder: Recorder,
    subscribers: Vec<(&'static str, Subscriber)>,
    pub load: Load,
    pub moving: watch::Sender<Channel>,
}

impl Run {
    /// Begins one with senders and subscribers at the same service.
    pub fn begin(fault: &Fault, channel: Channel) -> Self {
        let (moving, at) = watch::channel(channel);
        Self::with(fault, moving, &at, &at)
    }

    /// Begins one with subscribers at another replica.
    pub fn between(fault: &Fault, senders: Channel, readers: Channel) -> Self {
        let (moving, at) = watch::channel(senders);
        Self::with(fault, moving, &at, &watch::channel(readers).1)
    }

    fn with(
        fault: &Fault,
        moving: watch::Sender<Channel>,
        at: &watch::Receiver<Channel>,
        readers: &watch::Receiver<Channel>,
    ) -> Self {
        let recorder = Recorder::default();
        let subscribers = CONVERSATIONS.map(|id| (id, Subscriber::begin(&recorder, "ben", id, readers)));
        let load = Load::begin(&recorder, "load", fault.senders(), &CONVERSATIONS, at);
        Self { recorder, subscribers: subscribers.into(), load, moving }
    }

    /// Injects a fault so often, each time at a random moment, and waits until it is over.
    pub async fn inject(&self, fault: &mut Fault, rounds: usize, mut once: impl AsyncFnMut(&mut Fault)) {
        for _ in 0..rounds {
            self.at_a_random_moment(fault).await;
            once(fault).await;
            self.recovers(fault).await;
        }
    }

    /// Waits for a random moment at which the load is running.
    pub async fn at_a_random_moment(&self, fault: &mut Fault) {
        let acknowledged = fault.random().usize(20..120);
        self.load.wait_for(acknowledged).await;
        let pause = Duration::from_micros(fault.random().u64(0..30_000));
        tokio::time::sleep(pause).await;
    }

    /// Waits for the next acknowledgement after a fault is over.
    pub async fn recovers(&self, fault: &mut Fault) {
        let began = Instant::now();
        self.load.wait_for(1).await;
        fault.recovered(began.elapsed());
    }

    /// The same after a fault for whose end there is a promise.
    pub async fn recovers_within(&self, promise: Duration, fault: &mut Fault) {
        let (began, before) = (Instant::now(), self.load.acknowledged());
        eventually(promise, || async {
            if self.load.acknowledged() > before { Ok(()) } else { Err("no send is acknowledged") }
        })
        .await;
        fault.recovered(began.elapsed());
    }

    /// Waits until each subscriber has received more.
    pub async fn delivers(&self) {
        let positions = || self.subscribers.iter().map(|(_, subscriber)| subscriber.position()).collect::<Vec<_>>();
        let before = positions();
        eventually(PATIENCE, || async {
            let now = positions();
            let have_more = now.iter().zip(&before).all(|(now, before)| now > before);
            if have_more { Ok(()) } else { Err(format!("at {before:?}, then at {now:?}")) }
        })
        .await;
    }

    /// Ends the load and checks everything against the stored logs.
    pub async fn end(self, fault: &mut Fault, rounds: usize, messages: &MessageServiceClient<Channel>) {
        self.load.wait_for(20).await;
        let acknowledged = self.load.end().await.len();
        let logs = read_logs(messages, &CONVERSATIONS).await;
        let violations: Vec<Violation> = check_history(&self.recorder, self.subscribers, &logs, PATIENCE).await;
        fault.add(rounds, acknowledged, violations);
    }
}
