//! The results as a Markdown table.

use std::fmt;

use super::{Bus, Replica, pass::Times};
use crate::figures::{Figures, median};

type Interval = (&'static str, fn(&Times) -> f64);

const INTERVALS: [Interval; 3] = [
    ("sent → delivered", Times::sent_to_delivered),
    ("sent → acknowledged", Times::sent_to_acknowledged),
    ("acknowledged → delivered", Times::acknowledged_to_delivered),
];

/// One line about the machine, and rows in the order in which they were first measured.
pub(super) struct Table {
    facts: String,
    rows: Vec<Row>,
}

struct Row {
    bus: Bus,
    replica: Replica,
    interval: &'static str,
    rounds: Vec<Figures>,
}

impl Table {
    pub(super) fn new(facts: String) -> Self {
        Self { facts, rows: Vec::new() }
    }

    /// Adds the results of one round.
    pub(super) fn add(&mut self, bus: Bus, replica: Replica, times: &[Times]) {
        for (interval, time) in INTERVALS {
            let Some(figures) = Figures::of(times.iter().map(time).collect()) else { continue };
            match self.rows.iter_mut().find(|row| row.is(bus, replica, interval)) {
                Some(row) => row.rounds.push(figures),
                None => self.rows.push(Row { bus, replica, interval, rounds: vec![figures] }),
            }
        }
    }

    /// The ratio to the same replica: the median over the rounds.
    fn ratio(&self, row: &Row) -> Option<f64> {
        let same = self.rows.iter().find(|other| other.is(row.bus, Replica::Same, row.interval))?;
        median(row.rounds.iter().zip(&same.rounds).map(|(here, there)| here.p50 / there.p50).collect())
    }
}

impl Row {
    fn is(&self, bus: Bus, replica: Replica, interval: &str) -> bool {
        self.bus == bus && self.replica == replica && self.interval == interval
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}\n", self.facts)?;
        writeln!(formatter, "| bus | subscriber | ms | p50 | p90 | p99 | max | p50 against the same replica |")?;
        write!(formatter, "|---|---|---|---|---|---|---|---|")?;
        for row in &self.rows {
            let Some(Figures { p50, p90, p99, max }) = Figures::over(&row.rounds) else { continue };
            // The ratio of values that may be zero or negative is meaningless.
            let ratio = self.ratio(row).filter(|_| row.interval.starts_with("sent"));
            let ratio = ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
            // Adding 0.0 turns a rounded -0.0 into 0.0.
            let [p50, p90, p99, max] = [p50, p90, p99, max].map(|time| (time * 100.0).round() / 100.0 + 0.0);
            let (bus, replica, interval) = (row.bus, row.replica, row.interval);
            write!(
                formatter,
                "\n| {bus} | {replica} | {interval} | {p50:.2} | {p90:.2} | {p99:.2} | {max:.2} | {ratio} |"
            )?;
        }
        Ok(())
    }
}
