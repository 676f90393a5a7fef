//! How often a fault is injected, under which load, and the report of what it did.
//!
//! An ordinary run injects each fault a few times. `PARLANCE_FAULTS=kill-message-service=1000,lose-commit-reply=500` sets
//! counts, `PARLANCE_FAULTS_SENDERS` the senders, `PARLANCE_FAULTS_SEED` the seed of what is random, and with
//! `PARLANCE_FAULTS_REPORT` each fault adds a line of JSON to that file. `make faults` does all of this.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::Write,
    time::{Duration, Instant},
};

use fastrand::Rng;
use parlance_checker::Violation;
use serde_json::json;

use super::load::assert_kept;

/// A long run is made of parts of this many faults, each with its own world, so that histories fit into memory.
const MAX_OF_PART: usize = 50;

/// The senders of an ordinary run, each with one send in flight.
const SENDERS: usize = 48;

/// A fault that is injected a number of times under load. Its name is that of the test.
pub struct Fault {
    name: String,
    count: usize,
    senders: usize,
    seed: u64,
    rng: Rng,
    began: Instant,
    acknowledged: usize,
    /// The longest recovery, if it is measured.
    recovered_in: Option<Duration>,
    facts: BTreeMap<&'static str, u64>,
    violations: Vec<Violation>,
}

impl Fault {
    /// Begins the fault that the running test is named after, with the count of an ordinary run unless the environment has
    /// another.
    pub fn begin(ordinary: usize) -> Self {
        let thread = std::thread::current();
        let test = thread.name().expect("a test's thread has its name");
        let name = test.rsplit("::").next().unwrap_or_default().replace('_', "-");
        let counts = std::env::var("PARLANCE_FAULTS").unwrap_or_default();
        let count = counts.split(',').filter_map(|entry| entry.split_once('=')).find(|(fault, _)| *fault == name);
        let count = count.map_or(ordinary, |(_, count)| count.parse().expect("PARLANCE_FAULTS has numbers"));
        let seed = number("PARLANCE_FAULTS_SEED").unwrap_or_else(|| fastrand::u64(..));
        eprintln!("{name}: {count} times, PARLANCE_FAULTS_SEED={seed}");
        Self {
            name,
            count,
            senders: number("PARLANCE_FAULTS_SENDERS").map_or(SENDERS, |senders| senders as usize),
            seed,
            rng: Rng::with_seed(seed),
            began: Instant::now(),
            acknowledged: 0,
            recovered_in: None,
            facts: BTreeMap::new(),
            violations: Vec::new(),
        }
    }

    /// Returns how often to inject it.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns how often to inject it, in parts.
    pub fn parts(&self) -> impl Iterator<Item = usize> + use<> {
        let count = self.count;
        (0..count.div_ceil(MAX_OF_PART)).map(move |part| (count - part * MAX_OF_PART).min(MAX_OF_PART))
    }

    /// Returns the number of senders.
    pub fn senders(&self) -> usize {
        self.senders
    }

    /// Returns what is random in it.
    pub fn random(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// Takes the outcome of a part: the number of acknowledged messages, and the broken promises.
    pub fn add(&mut self, acknowledged: usize, violations: Vec<Violation>) {
        self.acknowledged += acknowledged;
        self.violations.extend(violations);
    }

    /// Counts something else that the report names.
    pub fn count_fact(&mut self, name: &'static str, count: u64) {
        *self.facts.entry(name).or_default() += count;
    }

    /// Takes the time from the end of a fault to the next acknowledgement.
    pub fn recovered(&mut self, after: Duration) {
        self.recovered_in = self.recovered_in.max(Some(after));
    }

    /// Reports, and fails if a promise was broken.
    pub fn end(self) {
        let line = json!({
            "fault": self.name,
            "count": self.count,
            "senders": self.senders,
            "acknowledged": self.acknowledged,
            "longest_recovery_ms": self.recovered_in.map(|time| time.as_millis() as u64),
            "facts": self.facts,
            "violations": self.violations.len(),
            "seconds": self.began.elapsed().as_secs(),
            "seed": self.seed,
        });
        eprintln!("{line}");
        if let Some(path) = std::env::var_os("PARLANCE_FAULTS_REPORT") {
            let mut file = OpenOptions::new().create(true).append(true).open(path).expect("the report can be opened");
            file.write_all(format!("{line}\n").as_bytes()).expect("the report can be written");
        }
        assert_kept(&self.violations);
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}
