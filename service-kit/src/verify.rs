//! The report of a check of a database, as text for people and as JSON for programs. The checks themselves are in the
//! services (`verify`).

use std::{
    fmt::{self, Display, Write as _},
    io::{self, Write as _},
    process::ExitCode,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// The time between progress messages on standard error.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// One kind of check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// Its name, which never changes, since scripts use it.
    pub name: &'static str,
    /// The invariant, as a sentence.
    pub promise: &'static str,
}

/// A violation of an invariant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    place: Vec<(&'static str, Value)>,
    expected: String,
    found: String,
}

impl Finding {
    /// Describes the expected and the actual state.
    pub fn new(expected: impl Display, found: impl Display) -> Self {
        Self { place: Vec::new(), expected: expected.to_string(), found: found.to_string() }
    }

    /// Adds the place; `key` is the name of a column, such as `conversation_id`. Several calls make it more precise.
    #[must_use]
    pub fn at(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.place.push((key, value.into()));
        self
    }

    fn to_json(&self) -> Value {
        let mut object: serde_json::Map<_, _> =
            self.place.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        object.insert("expected".to_owned(), json!(self.expected));
        object.insert("found".to_owned(), json!(self.found));
        Value::Object(object)
    }
}

impl Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (key, value)) in self.place.iter().enumerate() {
            let word = key.strip_suffix("_id").unwrap_or(key);
            let separator = if at == 0 { "" } else { ", " };
            match value {
                Value::String(text) => write!(formatter, "{separator}{word} {text}")?,
                other => write!(formatter, "{separator}{word} {other}")?,
            }
        }
        let separator = if self.place.is_empty() { "" } else { ": " };
        write!(formatter, "{separator}expected {}, found {}", self.expected, self.found)
    }
}

/// The findings of a check so far.
#[derive(Debug)]
pub struct Report {
    service: &'static str,
    tallies: Vec<Tally>,
    /// The number of rows of each kind that were checked.
    counted: Vec<(&'static str, u64)>,
    max_examples: usize,
    begun: Instant,
    progress_at: Instant,
}

#[derive(Debug)]
struct Tally {
    check: Check,
    problems: u64,
    examples: Vec<Finding>,
}

impl Report {
    /// Starts a report of `checks` in this order, each with at most this many examples.
    pub fn new(service: &'static str, checks: &[Check], max_examples: usize) -> Self {
        let tallies = checks.iter().map(|check| Tally { check: *check, problems: 0, examples: Vec::new() }).collect();
        let begun = Instant::now();
        Self { service, tallies, counted: Vec::new(), max_examples, begun, progress_at: begun }
    }

    /// Adds a finding.
    pub fn found(&mut self, check: Check, finding: Finding) {
        let at = self.tallies.iter().position(|tally| tally.check == check).unwrap_or_else(|| {
            self.tallies.push(Tally { check, problems: 0, examples: Vec::new() });
            self.tallies.len() - 1
        });
        let tally = &mut self.tallies[at];
        tally.problems += 1;
        if tally.examples.len() < self.max_examples {
            tally.examples.push(finding);
        }
    }

    /// Counts rows that were checked, and reports progress on standard error when it takes long.
    pub fn counted(&mut self, what: &'static str, more: usize) {
        match self.counted.iter_mut().find(|(known, _)| *known == what) {
            Some((_, count)) => *count += more as u64,
            None => self.counted.push((what, more as u64)),
        }
        if self.progress_at.elapsed() >= PROGRESS_EVERY {
            self.progress_at = Instant::now();
            // A closed standard error is ignored.
            let _ =
                writeln!(io::stderr(), "{}: {} so far, {} problem(s)", self.service, self.checked(), self.problems());
        }
    }

    /// Returns the number of findings.
    pub fn problems(&self) -> u64 {
        self.tallies.iter().map(|tally| tally.problems).sum()
    }

    /// Returns the report for programs: one object on one line.
    pub fn to_json(&self) -> String {
        let checks: Vec<_> = self
            .tallies
            .iter()
            .map(|Tally { check, problems, examples }| {
                let examples: Vec<_> = examples.iter().map(Finding::to_json).collect();
                json!({ "name": check.name, "promise": check.promise, "problems": problems, "examples": examples })
            })
            .collect();
        let counted: serde_json::Map<_, _> =
            self.counted.iter().map(|(what, count)| ((*what).to_owned(), json!(count))).collect();
        json!({
            "service": self.service,
            "problems": self.problems(),
            "counted": counted,
            "seconds": self.begun.elapsed().as_secs_f64(),
            "checks": checks,
        })
        .to_string()
    }

    fn checked(&self) -> String {
        if self.counted.is_empty() {
            return "nothing".to_owned();
        }
        let mut text = String::new();
        for (at, (what, count)) in self.counted.iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            let _ = write!(text, "{separator}{count} {what}");
        }
        text
    }
}

/// The report for people: a line for each check with its examples below, and a summary.
impl Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Tally { check, problems, examples } in &self.tallies {
            if *problems == 0 {
                writeln!(formatter, "{}: none", check.name)?;
                continue;
            }
            writeln!(formatter, "{}: {problems}. {}", check.name, check.promise)?;
            for example in examples {
                writeln!(formatter, "  {example}")?;
            }
            let more = problems - examples.len() as u64;
            if more > 0 {
                writeln!(formatter, "  and {more} more")?;
            }
        }
        let problems = match self.problems() {
            0 => "no problems".to_owned(),
            1 => "1 PROBLEM".to_owned(),
            more => format!("{more} PROBLEMS"),
        };
        let (service, seconds) = (self.service, self.begun.elapsed().as_secs_f64());
        write!(formatter, "{service}: {problems} in {}; checked in {seconds:.1} s", self.checked())
    }
}

/// The result of a check of a database, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Everything was checked, without findings: exit code 0.
    Fine,
    /// Everything was checked, with findings: exit code 1.
    Problems,
    /// Not everything could be checked: exit code 2.
    Unchecked,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(outcome as u8)
    }
}

/// The flags of every check of a database.
#[derive(Debug, Clone, clap::Args)]
pub struct ReportArgs {
    /// Number of examples of each kind of problem to show.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub examples: usize,

    /// Print one line of JSON instead of text.
    #[arg(long)]
    pub json: bool,

    /// Number of rows to read at a time: fewer are gentler, more are faster.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    pub slice: u32,
}

impl ReportArgs {
    /// Prints the report to standard output.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn print(&self, report: &Report) -> io::Result<()> {
        if self.json {
            return writeln!(io::stdout(), "{}", report.to_json());
        }
        writeln!(io::stdout(), "{report}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOLES: Check = Check { name: "holes", promise: "Nothing is missing." };
    const DOUBLES: Check = Check { name: "doubles", promise: "Every entry exists once." };

    fn report() -> Report {
        let mut report = Report::new("a-service", &[HOLES, DOUBLES], 2);
        for sequence in [3, 5, 9] {
            let finding = Finding::new("an entry", "none").at("conversation_id", "g").at("sequence", sequence);
            report.found(HOLES, finding);
        }
        report.counted("entries", 40);
        report.counted("entries", 2);
        report
    }

    #[test]
    fn people_read_a_line_for_each_check_and_some_examples() {
        let text = report().to_string();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[..5],
            [
                "holes: 3. Nothing is missing.",
                "  conversation g, sequence 3: expected an entry, found none",
                "  conversation g, sequence 5: expected an entry, found none",
                "  and 1 more",
                "doubles: none",
            ]
        );
        assert!(lines[5].starts_with("a-service: 3 PROBLEMS in 42 entries"), "{text}");
    }

    #[test]
    fn programs_read_the_same() {
        let json: Value = serde_json::from_str(&report().to_json()).unwrap();
        assert_eq!((&json["service"], &json["problems"]), (&json!("a-service"), &json!(3)));
        assert_eq!(json["counted"], json!({ "entries": 42 }));
        assert_eq!(json["checks"][1]["problems"], json!(0));
        let first = json!({ "conversation_id": "g", "sequence": 3, "expected": "an entry", "found": "none" });
        assert_eq!(json["checks"][0]["examples"][0], first);
    }
}
