//! The fault matrix: how often each fault is injected, and the report of what it did.
//!
//! An ordinary run injects each fault a few times. `PARLANCE_FAULTS=kill-message-service=1000,lose-commit-reply=500` sets
//! counts, and with `PARLANCE_FAULTS_REPORT` each fault adds a line of JSON to that file. `make faults` does both.

use std::{fs::OpenOptions, io::Write, time::Instant};

use parlance_checker::Violation;
use serde_json::json;

use super::load::assert_kept;

/// A fault of the matrix, injected a number of times under load.
pub struct Fault {
    name: &'static str,
    count: usize,
    began: Instant,
}

impl Fault {
    /// Begins a fault, with the count of an ordinary run unless the environment has another.
    pub fn begin(name: &'static str, ordinary: usize) -> Self {
        let counts = std::env::var("PARLANCE_FAULTS").unwrap_or_default();
        let count = counts.split(',').filter_map(|entry| entry.split_once('=')).find(|(fault, _)| *fault == name);
        let count = count.map_or(ordinary, |(_, count)| count.parse().expect("PARLANCE_FAULTS has numbers"));
        Self { name, count, began: Instant::now() }
    }

    /// Returns how often to inject it.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Reports the broken promises, with the load in words and further facts of the run, and fails if there are any.
    pub fn end(self, load: &str, facts: &[(&str, u64)], violations: &[Violation]) {
        let facts: serde_json::Map<_, _> =
            facts.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
        let line = json!({
            "fault": self.name, "count": self.count, "load": load, "facts": facts, "violations": violations.len(),
            "seconds": self.began.elapsed().as_secs(),
        });
        eprintln!("{line}");
        if let Some(path) = std::env::var_os("PARLANCE_FAULTS_REPORT") {
            let mut file = OpenOptions::new().create(true).append(true).open(path).expect("the report can be opened");
            file.write_all(format!("{line}\n").as_bytes()).expect("the report can be written");
        }
        assert_kept(violations);
    }
}
