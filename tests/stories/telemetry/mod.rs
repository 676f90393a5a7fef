//! Stories about observability of the real processes: metrics on the admin port, traces to a collector, logs with trace
//! ids.

mod collector;
mod metrics;
mod replicas;
mod scrape;
mod traces;

use self::{collector::Collector, scrape::Scrape};
use crate::support::{Process, TestDatabase};

/// Both services as separate processes, each with an admin port.
struct Services {
    user_service: Process,
    message_service: Process,
    database: TestDatabase,
}

impl Services {
    async fn new(flags: &[&str]) -> Self {
        let database = TestDatabase::migrated().await;
        let flags = [&["--admin-listen", "127.0.0.1:0"][..], flags].concat();
        let user_service = Process::user_service_with(&database.url(), &flags).await;
        let address = user_service.address().to_string();
        let message_service = Process::message_service(&database.url(), &address, &flags).await;
        Self { user_service, message_service, database }
    }
}
