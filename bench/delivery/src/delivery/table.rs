//! What was measured, as a Markdown table.

use std::fmt;

use super::{Bus, Place, pass::Times};
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
    place: Place,
    interval: &'static str,
    rounds: Vec<Figures>,
}

impl Table {
    pub(super) fn new(facts: String) -> Self {
        Self { facts, rows: Vec::new() }
    }

    /// Adds what one round has measured.
    pub(super) fn add(&mut self, bus: Bus, place: Place, times: &[Times]) {
        for (interval, time) in INTERVALS {
            let Some(figures) = Figures::of(times.iter().map(time).collect()) else { continue };
            match self.rows.iter_mut().find(|row| row.is(bus, place, interval)) {
                Some(row) => row.rounds.push(figures),
                None => self.rows.push(Row { bus, place, interval, rounds: vec![figures] }),
            }
        }
    }

    /// How many times as long as at the same replica: the median of what it was in each round.
    fn ratio(&self, row: &Row) -> Option<f64> {
        let same = self.rows.iter().find(|other| other.is(row.bus, Place::Same, row.interval))?;
        median(row.rounds.iter().zip(&same.rounds).map(|(here, there)| here.p50 / there.p50).collect())
    }
}

impl Row {
    fn is(&self, bus: Bus, place: Place, interval: &str) -> bool {
        self.bus == bus && self.place == place && self.interval == interval
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "{}\n", self.facts)?;
        writeln!(formatter, "| bus | subscriber | ms | p50 | p90 | p99 | max | p50 against the same replica |")?;
        write!(formatter, "|---|---|---|---|---|---|---|---|")?;
        for row in &self.rows {
            let Some(Figures { p50, p90, p99, max }) = Figures::over(&row.rounds) else { continue };
            // A ratio of what may be zero or less says nothing.
            let ratio = self.ratio(row).filter(|_| row.interval.starts_with("sent"));
            let ratio = ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
            // Without the sign of what is rounded to zero.
            let [p50, p90, p99, max] = [p50, p90, p99, max].map(|time| (time * 100.0).round() / 100.0 + 0.0);
            let (bus, place, interval) = (row.bus, row.place, row.interval);
            write!(
                formatter,
                "\n| {bus} | {place} | {interval} | {p50:.2} | {p90:.2} | {p99:.2} | {max:.2} | {ratio} |"
            )?;
        }
        Ok(())
    }
}
