//! What a check of a database found, told to people in plain words and to machines as JSON. Knows nothing of what is
//! checked: the services say that (`verify/`).

use std::{
    fmt::{self, Display, Write as _},
    io::{self, Write as _},
    process::ExitCode,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// What is said on standard error while it goes on, at most this often.
const SAY_EVERY: Duration = Duration::from_secs(2);

/// One kind of check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// A word for it, the same for ever: scripts look for it.
    pub name: &'static str,
    /// What holds in a database that is whole, as a sentence.
    pub promise: &'static str,
}

/// One place where a promise is broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    place: Vec<(&'static str, Value)>,
    expected: String,
    found: String,
}

impl Finding {
    /// Says what should be there and what is.
    pub fn new(expected: impl Display, found: impl Display) -> Self {
        Self { place: Vec::new(), expected: expected.to_string(), found: found.to_string() }
    }

    /// Says where; `key` is the name of a column, such as `conversation_id`. More than one call makes the place narrower.
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

/// What a check of one service's tables found so far.
#[derive(Debug)]
pub struct Report {
    service: &'static str,
    tallies: Vec<Tally>,
    /// What was looked at, and how much of it.
    counted: Vec<(&'static str, u64)>,
    max_examples: usize,
    begun: Instant,
    said: Instant,
}

#[derive(Debug)]
struct Tally {
    check: Check,
    problems: u64,
    examples: Vec<Finding>,
}

impl Report {
    /// Begins one in which `checks` are told of in this order, each with at most this many examples.
    pub fn new(service: &'static str, checks: &[Check], max_examples: usize) -> Self {
        let tallies = checks.iter().map(|check| Tally { check: *check, problems: 0, examples: Vec::new() }).collect();
        let begun = Instant::now();
        Self { service, tallies, counted: Vec::new(), max_examples, begun, said: begun }
    }

    /// Notes a broken promise.
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

    /// Notes how much more was looked at, and says so on standard error when it takes long.
    pub fn counted(&mut self, what: &'static str, more: usize) {
        match self.counted.iter_mut().find(|(known, _)| *known == what) {
            Some((_, count)) => *count += more as u64,
            None => self.counted.push((what, more as u64)),
        }
        if self.said.elapsed() >= SAY_EVERY {
            self.said = Instant::now();
            // With nobody left to read it there is nobody to tell.
            let _ =
                writeln!(io::stderr(), "{}: {} so far, {} problem(s)", self.service, self.looked_at(), self.problems());
        }
    }

    /// How many promises are broken.
    pub fn problems(&self) -> u64 {
        self.tallies.iter().map(|tally| tally.problems).sum()
    }

    /// For machines: one object on one line.
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

    fn looked_at(&self) -> String {
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

/// For people: a line for each kind of check, its examples below it, and a closing line.
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
        write!(formatter, "{service}: {problems} in {}; looked at within {seconds:.1} s", self.looked_at())
    }
}

/// How a check of a database ended, from good to bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Everything was checked, and nothing is wrong: exit code 0.
    Fine,
    /// Everything was checked, and something is wrong: exit code 1.
    Problems,
    /// Not everything could be checked, which is neither good news nor bad: exit code 2.
    Unchecked,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(outcome as u8)
    }
}

/// What every check of a database can be told.
#[derive(Debug, Clone, clap::Args)]
pub struct ReportArgs {
    /// How many examples of each kind of problem to show.
    #[arg(long, value_name = "N", default_value_t = 5)]
    pub examples: usize,

    /// One line of JSON instead of words.
    #[arg(long)]
    pub json: bool,

    /// How many rows to read at a time: fewer are gentler, more are faster.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(10..=100_000))]
    pub slice: u32,
}

impl ReportArgs {
    /// Tells what was found on standard output.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn tell(&self, report: &Report) -> io::Result<()> {
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
    const DOUBLES: Check = Check { name: "doubles", promise: "Everything is there once." };

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
        let told = report().to_string();
        let lines: Vec<_> = told.lines().collect();
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
        assert!(lines[5].starts_with("a-service: 3 PROBLEMS in 42 entries"), "{told}");
    }

    #[test]
    fn machines_read_the_same() {
        let told: Value = serde_json::from_str(&report().to_json()).unwrap();
        assert_eq!((&told["service"], &told["problems"]), (&json!("a-service"), &json!(3)));
        assert_eq!(told["counted"], json!({ "entries": 42 }));
        assert_eq!(told["checks"][1]["problems"], json!(0));
        let first = json!({ "conversation_id": "g", "sequence": 3, "expected": "an entry", "found": "none" });
        assert_eq!(told["checks"][0]["examples"][0], first);
    }
}
