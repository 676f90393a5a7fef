//! The output of the benchmark: its result and, separately, its progress. A closed pipe is not an error.

use std::fmt;
use std::io::{self, Write};

/// Prints a line of the result on standard output.
pub(crate) fn out(line: impl fmt::Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// Prints a line about the progress on standard error, apart from the result.
pub(crate) fn aside(line: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
