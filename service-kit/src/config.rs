//! The parsing of settings: turns the text of flags and environment variables into values and reports all problems at once.

use std::{
    fmt::{self, Display},
    ops::RangeInclusive,
    str::FromStr,
    time::Duration,
};

use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use crate::parts::Parts;

/// A text that must never be printed: its `Debug` is redacted and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the text, for code that must send it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[redacted]")
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

/// All problems of a configuration.
#[derive(Debug, Default, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Problems(Vec<String>);

impl Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the configuration has {} problem(s):", self.0.len())?;
        self.0.iter().try_for_each(|problem| write!(formatter, "\n  - {problem}"))
    }
}

impl Problems {
    /// Adds a problem.
    pub fn add(&mut self, problem: impl Into<String>) {
        self.0.push(problem.into());
    }

    /// Parses the text of a setting, or adds a problem. `name` is the name that the operator knows, such as `--listen`.
    pub fn parse<T: FromStr<Err: Display>>(&mut self, name: &str, text: &str) -> Option<T> {
        text.trim().parse().map_err(|error| self.add(format!("{name}: {text:?} is not valid: {error}"))).ok()
    }

    /// Parses a duration such as `250ms`, `30s` or `5m`.
    pub fn duration(&mut self, name: &str, text: &str) -> Option<Duration> {
        humantime::parse_duration(text.trim())
            .map_err(|error| self.add(format!("{name}: {text:?} is not a duration such as 250ms, 30s or 5m: {error}")))
            .ok()
    }

    /// Parses a duration and checks its bounds.
    pub fn duration_within(&mut self, name: &str, text: &str, bounds: RangeInclusive<Duration>) -> Option<Duration> {
        let value = self.duration(name, text)?;
        if bounds.contains(&value) {
            return Some(value);
        }
        let [least, most] = [bounds.start(), bounds.end()].map(|bound| humantime::format_duration(*bound));
        self.add(format!("{name}: {text:?} is not between {least} and {most}"));
        None
    }

    /// Parses a log level, or directives of the kind `target=level`. A word that is no level would be taken for a target, and
    /// turn everything else off.
    pub(crate) fn log_level(&mut self, text: &str) -> Option<String> {
        let directives: Vec<&str> = text.split(',').map(str::trim).map(level_or_directive).collect();
        let are_valid = directives.iter().all(|part| is_level(part) || part.contains('='));
        let directives = directives.join(",");
        if are_valid && EnvFilter::try_new(&directives).is_ok() {
            return Some(directives);
        }
        self.add(format!(
            "--log-level: {text:?} is neither a level (error, warn, info, debug, trace, off) nor a list of directives such \
             as info,message_service=debug"
        ));
        None
    }

    /// Parses a number and checks its bounds.
    pub fn number<T>(&mut self, name: &str, text: &str, bounds: RangeInclusive<T>) -> Option<T>
    where
        T: FromStr<Err: Display> + PartialOrd + Display,
    {
        let value = self.parse(name, text)?;
        if bounds.contains(&value) {
            return Some(value);
        }
        self.add(format!("{name}: {value} is not between {} and {}", bounds.start(), bounds.end()));
        None
    }

    /// Parses each text of a setting that may be repeated. An empty one counts as none.
    pub fn list<T: FromStr<Err: Display>>(&mut self, name: &str, texts: &[String]) -> Option<Vec<T>> {
        let set = texts.iter().filter(|text| !text.trim().is_empty());
        // To the end, so that every problem is reported.
        let parsed: Vec<Option<T>> = set.map(|text| self.parse(name, text)).collect();
        parsed.into_iter().collect()
    }

    /// Returns the values of the settings passed, which may be one setting or a tuple.
    ///
    /// # Errors
    /// The problems, if there are any.
    pub fn finish<P: Parts>(mut self, settings: P) -> Result<P::Values, Self> {
        let values = settings.into_values();
        match values {
            Some(values) if self.0.is_empty() => Ok(values),
            _ => {
                if self.0.is_empty() {
                    self.add("a setting is missing");
                }
                Err(self)
            }
        }
    }

    /// Fails with the problems, if there are any.
    ///
    /// # Errors
    /// The problems.
    pub fn into_result(self) -> Result<(), Self> {
        if self.0.is_empty() { Ok(()) } else { Err(self) }
    }
}

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// For people at a terminal.
    #[default]
    Human,
    /// One JSON object a line, for machines.
    Json,
}

/// True for the name of a level. The parser takes the empty text for one.
fn is_level(text: &str) -> bool {
    !text.is_empty() && text.parse::<LevelFilter>().is_ok()
}

/// Returns the name that the filter knows for a level by which other programs call it.
fn level_or_directive(text: &str) -> &str {
    if text.eq_ignore_ascii_case("warning") { "warn" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_printed() {
        let secret = Secret::new("postgres://parlance:topsecret@localhost/parlance");
        assert!(!format!("{secret:?}").contains("topsecret"));
    }

    #[test]
    fn values_are_returned_only_without_a_problem() {
        let mut problems = Problems::default();
        let (one, two) = (problems.parse::<u8>("--one", "1"), problems.parse::<u8>("--two", "2"));
        assert_eq!(problems.finish((one, two)), Ok((1, 2)));
        let mut problems = Problems::default();
        let one = problems.parse::<u8>("--one", "1");
        problems.add("--one and --two exclude each other");
        assert!(problems.finish(one).is_err());
    }
}
