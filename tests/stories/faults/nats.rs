//! The bus between replicas is away, silent or lies, under load: its hints only make delivery faster, so that the other
//! replica delivers everything once and in order without them.

use async_nats::Client;
use futures_util::StreamExt;
use tokio::task::JoinHandle;

use super::{
    fault::Fault,
    run::{Run, prepare},
};
use crate::support::{Mode, NatsServer, Proxy, RunningMessageService, World, channel_to};

/// Two replicas, with senders at one and subscribers at the other.
struct Pair {
    world: World,
    _replica: RunningMessageService,
    run: Run,
}

impl Pair {
    /// Starts them, each with its URL of the bus.
    async fn new(fault: &Fault, here: &str, there: &str) -> Self {
        let world = World::with(&["--bus-url", here]).await;
        prepare(&world).await;
        let replica = world.replica_with(&["--bus-url", there]).await;
        let run = Run::between(fault, channel_to(world.message_service.address()), channel_to(replica.address()));
        Self { world, _replica: replica, run }
    }

    /// Waits until sends are acknowledged at the one and delivered at the other.
    async fn goes_on(&self, fault: &mut Fault) {
        self.run.at_a_random_moment(fault).await;
        self.run.delivers().await;
    }
}

pub(super) async fn away(mut fault: Fault) {
    while let Some(rounds) = fault.next_part() {
        let mut nats = NatsServer::start().await;
        let pair = Pair::new(&fault, &nats.url(), &nats.url()).await;
        for _ in 0..rounds {
            pair.goes_on(&mut fault).await;
            let port = nats.kill();
            pair.goes_on(&mut fault).await;
            nats = NatsServer::start_again(port).await;
        }
        pair.run.end(&mut fault, rounds, &pair.world.messages()).await;
    }
    fault.end();
}

/// Each replica is cut off in turn, without a close.
pub(super) async fn partitioned(mut fault: Fault) {
    while let Some(rounds) = fault.next_part() {
        let nats = NatsServer::start().await;
        let address = nats.url().trim_start_matches("nats://").to_owned();
        let proxies = [Proxy::before(address.clone(), Mode::Open).await, Proxy::before(address, Mode::Open).await];
        let [here, there] = [&proxies[0], &proxies[1]].map(|proxy| format!("nats://127.0.0.1:{}", proxy.port()));
        let pair = Pair::new(&fault, &here, &there).await;
        for round in 0..rounds {
            pair.goes_on(&mut fault).await;
            proxies[round % 2].set(Mode::Silent);
            pair.goes_on(&mut fault).await;
            proxies[round % 2].set(Mode::Open);
        }
        pair.run.end(&mut fault, rounds, &pair.world.messages()).await;
    }
    fault.end();
}

pub(super) async fn lying(mut fault: Fault) {
    while let Some(rounds) = fault.next_part() {
        let nats = NatsServer::start().await;
        let pair = Pair::new(&fault, &nats.url(), &nats.url()).await;
        for _ in 0..rounds {
            let lying = lie(async_nats::connect(nats.url()).await.unwrap());
            pair.goes_on(&mut fault).await;
            lying.abort();
        }
        pair.run.end(&mut fault, rounds, &pair.world.messages()).await;
    }
    fault.end();
}

/// Publishes falsehoods for each hint, under its subject: cut short, altered, again, and of another hint.
fn lie(outside: Client) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut heard = outside.subscribe("parlance.>").await.unwrap();
        let mut last = Vec::new();
        let mut n = 0;
        while let Some(hint) = heard.next().await {
            n += 1;
            // Its own lies come back, and would multiply.
            if n % 20 != 1 {
                continue;
            }
            let mut altered = hint.payload.to_vec();
            let place = n % altered.len().max(1);
            altered.iter_mut().skip(place).take(1).for_each(|byte| *byte ^= 1);
            let short = hint.payload[..hint.payload.len() / 2].to_vec();
            let lies = [short, altered, hint.payload.to_vec(), std::mem::replace(&mut last, hint.payload.to_vec())];
            for lie in lies {
                let _ = outside.publish(hint.subject.clone(), lie.into()).await;
            }
        }
    })
}
