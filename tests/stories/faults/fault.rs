//! How often a fault is injected, under which load, and the report of what it did.
//!
//! An ordinary run injects each fault a few times. `PARLANCE_FAULTS=kill-message-service=1000,lose-commit-reply=500` sets
//! counts, `PARLANCE_FAULTS_SENDERS` the senders, `PARLANCE_FAULTS_SEED` the seed of what is random, and with
//! `PARLANCE_FAULTS_REPORT` each fault adds lines of JSON to that file, of which the last counts. `PARLANCE_FAULTS_MINUTES` ends a
//! run early. `make faults` does all of this.

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
    injected: usize,
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
            injected: 0,
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

    /// Returns how often to inject it in all.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Returns how often to inject it in the next part; `None` at the end, or when the time of a limited run is up.
    pub fn next_part(&self) -> Option<usize> {
        let is_over =
            self.injected > 0 && number("PARLANCE_FAULTS_MINUTES").is_some_and(|limit| self.minutes() >= limit);
        let left = if is_over { 0 } else { self.count - self.injected };
        (left > 0).then_some(left.min(MAX_OF_PART))
    }

    fn minutes(&self) -> u64 {
        self.began.elapsed().as_secs() / 60
    }

    /// Returns the number of senders.
    pub fn senders(&self) -> usize {
        self.senders
    }

    /// Sets the number of senders of a fault whose load is its own.
    pub fn with_senders(self, senders: usize) -> Self {
        Self { senders, ..self }
    }

    /// Returns what is random in it.
    pub fn random(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// Takes the outcome of a part: how often the fault was injected, the number of acknowledged messages, and the broken
    /// promises. Reports what is known so far.
    pub fn add(&mut self, injected: usize, acknowledged: usize, violations: Vec<Violation>) {
        self.injected += injected;
        self.acknowledged += acknowledged;
        self.violations.extend(violations);
        self.report();
    }

    /// Counts something else that the report names.
    pub fn count_fact(&mut self, name: &'static str, count: u64) {
        *self.facts.entry(name).or_default() += count;
    }

    /// Takes the time from the end of a fault to the next acknowledgement.
    pub fn recovered(&mut self, after: Duration) {
        self.recovered_in = self.recovered_in.max(Some(after));
    }

    /// Fails if a promise was broken.
    pub fn end(self) {
        assert_kept(&self.violations);
    }

    fn report(&self) {
        let line = json!({
            "fault": self.name,
            "count": self.injected,
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
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}
