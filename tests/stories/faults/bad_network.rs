//! A bad network between clients, services and PostgreSQL: each packet is late by 50 ± 30 ms, 1 % are lost, 1 % arrive twice
//! and 5 % overtake others. Everything becomes slower, and nothing else happens.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use super::{
    fault::Fault,
    run::{Run, prepare},
};
use crate::support::{
    Mode, Proxy, RunningMessageService, RunningUserService, TestDatabase, World, channel_to, message_service_config,
    user_service_config,
};

/// The network, which ends with this value.
struct BadNetwork {
    relay: Child,
    number: u32,
    proxies: Vec<Proxy>,
}

impl BadNetwork {
    fn new(seed: u64) -> Self {
        let number = std::process::id() % 250 + 1;
        let program = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stories/faults/bad_network.py");
        let mut relay = Command::new("python3")
            .args([program, &number.to_string(), &seed.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = String::new();
        BufReader::new(relay.stdout.take().expect("a pipe")).read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n", "the network cannot be made; it needs root and /dev/net/tun");
        Self { relay, number, proxies: Vec::new() }
    }

    /// Returns the host behind which it leads to servers of this machine.
    fn host(&self) -> String {
        format!("198.18.{}.2", self.number)
    }

    /// Returns an address that leads to a server through the network.
    async fn to(&mut self, server: &str) -> SocketAddr {
        let own = format!("198.18.{}.1", self.number);
        let proxy = Proxy::at(&own, server.to_owned(), Mode::Open).await;
        let address = format!("{}:{}", self.host(), proxy.port());
        self.proxies.push(proxy);
        address.parse().unwrap()
    }
}

impl Drop for BadNetwork {
    fn drop(&mut self) {
        let _ = self.relay.kill();
        let _ = self.relay.wait();
    }
}

pub(super) async fn delay_and_loss(mut fault: Fault) {
    while let Some(hundreds) = fault.next_part() {
        let world = World::new().await;
        prepare(&world).await;
        let mut network = BadNetwork::new(fault.random().u64(..));
        let database = network.to(&TestDatabase::server_address()).await.to_string();
        let url = world.database.url().replacen(&TestDatabase::server_address(), &database, 1);
        assert!(url.contains(&database));
        // Both services are reached under a name that is not of loopback.
        let host = network.host();
        let allow = ["--allow-host", &*host];
        let far_users = RunningUserService::launch(user_service_config(&url, &allow)).await;
        far_users.wait_until_serving().await;
        let users = network.to(&far_users.address().to_string()).await.to_string();
        let far = RunningMessageService::start(message_service_config(&url, &users, &allow)).await;
        let run = Run::begin(&fault, channel_to(network.to(&far.address().to_string()).await));
        for _ in 0..hundreds {
            run.load.wait_for(100).await;
        }
        run.end(&mut fault, hundreds, &world.messages()).await;
    }
    fault.end();
}
