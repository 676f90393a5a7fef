//! Stories of what the real processes tell of themselves: metrics on the admin port, traces to a collector, logs that share
//! their ids.

mod collector;
mod metrics;
mod page;
mod traces;

use self::{collector::Collector, page::Page};
use crate::support::{Process, TestDatabase};

/// Both services as processes of their own, each with an admin port.
struct Told {
    user_service: Process,
    message_service: Process,
    _database: TestDatabase,
}

impl Told {
    async fn new(flags: &[&str]) -> Self {
        let database = TestDatabase::migrated().await;
        let flags = [&["--admin-listen", "127.0.0.1:0"][..], flags].concat();
        let user_service = Process::user_service_with(&database.url(), &flags).await;
        let address = user_service.address().to_string();
        let message_service = Process::message_service(&database.url(), &address, &flags).await;
        Self { user_service, message_service, _database: database }
    }
}
