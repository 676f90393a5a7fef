//! The fault matrix: each fault is injected at random moments under load, and the checker judges the run. `make faults` runs
//! it with other counts and reports; the name of each fault is that of its test.

use std::time::Duration;

use parlance_standalone::cluster::StopMode;

use super::{
    connections_killed::connections_killed,
    database_down::{Deployment, How},
    fault::Fault,
    flood::flood,
    many_processes::send_concurrently,
    process_killed::killed_under_load,
    run::{CONVERSATIONS, Run, prepare},
};
use crate::support::{Mode, PATIENCE, Process, Proxy, World, channel_to, eventually};

/// Starts both services with the conversations of a run.
async fn world() -> World {
    let world = World::new().await;
    prepare(&world).await;
    world
}

/// The same with a proxy between message-service and the database.
async fn world_through_a_proxy() -> (World, Proxy) {
    let (world, proxy) = World::with_proxied_database(&["--database-timeout", "2s"]).await;
    prepare(&world).await;
    (world, proxy)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_message_service() {
    let mut fault = Fault::begin(6);
    while let Some(kills) = fault.next_part() {
        let (acknowledged, violations) = killed_under_load(None, kills, fault.senders(), PATIENCE).await;
        fault.add(kills, acknowledged, violations);
    }
    fault.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_user_service() {
    let mut fault = Fault::begin(3);
    while let Some(kills) = fault.next_part() {
        let world = world().await;
        let url = world.database.url();
        let mut users = Process::user_service(&url).await;
        // Users are looked up again and again.
        let flags = ["--directory-fresh", "100ms"];
        let service = Process::message_service(&url, &users.address().to_string(), &flags).await;
        let run = Run::begin(&fault, channel_to(service.address()));
        run.inject(&mut fault, kills, async |_| {
            users.kill();
            run.load.wait_for(1).await;
            users = Process::user_service_on(users.address(), &url).await;
        })
        .await;
        run.end(&mut fault, kills, &world.messages()).await;
    }
    fault.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn end_database_connections() {
    let mut fault = Fault::begin(8);
    while let Some(rounds) = fault.next_part() {
        let (acknowledged, violations) = connections_killed(None, rounds, fault.senders(), PATIENCE).await;
        fault.add(rounds, acknowledged, violations);
    }
    fault.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_postgres() {
    restart_postgres(Fault::begin(1), How::Stop(StopMode::Fast)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stop_postgres_immediately() {
    restart_postgres(Fault::begin(1), How::Stop(StopMode::Immediate)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_postgres() {
    restart_postgres(Fault::begin(1), How::Kill).await;
}

/// PostgreSQL then ends all of its processes and recovers, as after a bug in one of them or for want of memory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kill_one_server_process() {
    let mut fault = Fault::begin(1);
    while let Some(rounds) = fault.next_part() {
        let deployment = Deployment::with(&CONVERSATIONS).await;
        let run = Run::begin(&fault, channel_to(deployment.message_service.address()));
        run.inject(&mut fault, rounds, async |_| deployment.kill_one_server_process().await).await;
        run.end(&mut fault, rounds, &deployment.message_service.messages()).await;
    }
    fault.end();
}

async fn restart_postgres(mut fault: Fault, how: How) {
    while let Some(rounds) = fault.next_part() {
        let mut deployment = Deployment::with(&CONVERSATIONS).await;
        let run = Run::begin(&fault, channel_to(deployment.message_service.address()));
        run.inject(&mut fault, rounds, async |_| {
            deployment.stop(how).await;
            deployment.cluster.start_again().await.unwrap();
        })
        .await;
        run.end(&mut fault, rounds, &deployment.message_service.messages()).await;
    }
    fault.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pause_postgres() {
    let mut fault = Fault::begin(1);
    while let Some(rounds) = fault.next_part() {
        let deployment = Deployment::with(&CONVERSATIONS).await;
        let run = Run::begin(&fault, channel_to(deployment.message_service.address()));
        run.inject(&mut fault, rounds, async |fault| {
            let paused = deployment.pause();
            tokio::time::sleep(Duration::from_millis(fault.random().u64(200..3_000))).await;
            drop(paused);
        })
        .await;
        run.end(&mut fault, rounds, &deployment.message_service.messages()).await;
    }
    fault.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pause_message_service() {
    use nix::sys::signal::Signal::{SIGCONT, SIGSTOP};
    let mut fault = Fault::begin(2);
    while let Some(rounds) = fault.next_part() {
        let world = world().await;
        let (url, users) = (world.database.url(), world.user_service.address().to_string());
        // Two: while one is paused, the other writes on.
        let replicas =
            [Process::message_service(&url, &users, &[]).await, Process::message_service(&url, &users, &[]).await];
        let run = Run::begin(&fault, channel_to(replicas[0].address()));
        let mut round = 0;
        run.inject(&mut fault, rounds, async |fault| {
            let (paused, other) = (&replicas[round % 2], &replicas[(round + 1) % 2]);
            paused.signal(SIGSTOP);
            run.moving.send_replace(channel_to(other.address()));
            tokio::time::sleep(Duration::from_millis(fault.random().u64(200..2_000))).await;
            paused.signal(SIGCONT);
            round += 1;
        })
        .await;
        run.end(&mut fault, rounds, &world.messages()).await;
    }
    fault.end();
}

/// A replica drains and ends while its clients go to another, and a new one takes its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restart_replicas() {
    let mut fault = Fault::begin(2);
    while let Some(rounds) = fault.next_part() {
        let world = world().await;
        let (url, users) = (world.database.url(), world.user_service.address().to_string());
        let mut replicas =
            [Process::message_service(&url, &users, &[]).await, Process::message_service(&url, &users, &[]).await];
        let run = Run::begin(&fault, channel_to(replicas[0].address()));
        let mut round = 0;
        run.inject(&mut fault, rounds, async |_| {
            run.moving.send_replace(channel_to(replicas[(round + 1) % 2].address()));
            let draining = &mut replicas[round % 2];
            draining.terminate();
            assert!(draining.ended().await.success(), "a drain ends well");
            *draining = Process::message_service(&url, &users, &[]).await;
            round += 1;
        })
        .await;
        run.end(&mut fault, rounds, &world.messages()).await;
    }
    fault.end();
}

/// The server has committed, and its answer is lost: the connection ends in its place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lose_commit_reply() {
    let mut fault = Fault::begin(10);
    while let Some(rounds) = fault.next_part() {
        let (world, proxy) = world_through_a_proxy().await;
        let run = Run::begin(&fault, channel_to(world.message_service.address()));
        run.inject(&mut fault, rounds, async |fault| {
            let before = proxy.lost();
            // The texts of messages are in the statement that stores them, and in no other.
            proxy.set(Mode::LosingReplies { to: b"text of " });
            eventually(PATIENCE, || async { if proxy.lost() > before { Ok(()) } else { Err("no reply was lost") } })
                .await;
            proxy.set(Mode::Open);
            fault.count_fact("replies lost", (proxy.lost() - before) as u64);
        })
        .await;
        run.end(&mut fault, rounds, &world.messages()).await;
    }
    fault.end();
}

/// Connections to the database are cut at a random byte, in either direction, with FIN or RST.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_database_connections() {
    let mut fault = Fault::begin(3);
    while let Some(rounds) = fault.next_part() {
        let (world, proxy) = world_through_a_proxy().await;
        let run = Run::begin(&fault, channel_to(world.message_service.address()));
        cut(&mut fault, &run, &proxy, rounds).await;
        run.end(&mut fault, rounds, &world.messages()).await;
    }
    fault.end();
}

/// The same between clients and message-service.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_client_connections() {
    let mut fault = Fault::begin(3);
    while let Some(rounds) = fault.next_part() {
        let world = world().await;
        let proxy = Proxy::before(world.message_service.address().to_string(), Mode::Open).await;
        let run = Run::begin(&fault, channel_to(([127, 0, 0, 1], proxy.port()).into()));
        cut(&mut fault, &run, &proxy, rounds).await;
        run.end(&mut fault, rounds, &world.messages()).await;
    }
    fault.end();
}

async fn cut(fault: &mut Fault, run: &Run, proxy: &Proxy, rounds: usize) {
    run.inject(fault, rounds, async |fault| {
        let random = fault.random();
        let (bytes, of_answers, by_reset) = (random.usize(1..4_000), random.bool(), random.bool());
        let before = proxy.lost();
        proxy.set(Mode::Cutting { after: bytes, of_answers, by_reset });
        eventually(PATIENCE, || async { if proxy.lost() > before { Ok(()) } else { Err("no connection was cut") } })
            .await;
        proxy.set(Mode::Open);
        fault.count_fact("connections cut", (proxy.lost() - before) as u64);
    })
    .await;
}

/// Open connections to the database fall silent and are never closed, as behind a NAT that has forgotten them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silence_database_connections() {
    let mut fault = Fault::begin(1);
    while let Some(rounds) = fault.next_part() {
        let (world, proxy) = world_through_a_proxy().await;
        let run = Run::begin(&fault, channel_to(world.message_service.address()));
        run.inject(&mut fault, rounds, async |fault| {
            proxy.set(Mode::Silent);
            tokio::time::sleep(Duration::from_millis(fault.random().u64(50..500))).await;
            proxy.set(Mode::Open);
        })
        .await;
        run.end(&mut fault, rounds, &world.messages()).await;
    }
    fault.end();
}

/// Two replicas get the same sends at the same time; the count is that of sends at each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn send_twice_at_two_replicas() {
    // Twelve at each.
    let mut fault = Fault::begin(200).with_senders(24);
    let (acknowledged, violations) = send_concurrently(None, fault.count(), PATIENCE).await;
    fault.add(acknowledged, acknowledged, violations);
    fault.end();
}

/// The count is that of rounds with every kind of hostile client.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "looks at the calls of another client: `make flood` runs it with nothing beside it"]
async fn flood_with_hostile_clients() {
    let mut fault = Fault::begin(1);
    for _ in 0..fault.count() {
        flood(&mut fault).await;
    }
    fault.end();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fail_over_synchronous() {
    super::failover_under_load::synchronous(Fault::begin(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fail_over_asynchronous() {
    super::failover_under_load::asynchronous(Fault::begin(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root; `make faults` runs it"]
async fn power_loss() {
    super::power_loss::power_loss(Fault::begin(3)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root; `make faults` runs it"]
async fn full_disk() {
    super::full_disk::full_disk(Fault::begin(3)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn read_only_postgres() {
    super::read_only::under_load(Fault::begin(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exhaust_connections() {
    super::connections_exhausted::exhaust_connections(Fault::begin(1)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_away() {
    super::nats::away(Fault::begin(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_partitioned() {
    super::nats::partitioned(Fault::begin(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_lies() {
    super::nats::lying(Fault::begin(2)).await;
}

/// The count is that of hundreds of sends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root; `make faults` runs it"]
async fn delay_and_loss() {
    super::bad_network::delay_and_loss(Fault::begin(10)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs libfaketime; `make faults` runs it"]
async fn clock_jumps() {
    super::clock_jumps::clock_jumps(Fault::begin(10)).await;
}
