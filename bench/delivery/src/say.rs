//! What the benchmark says: its result and, apart from that, what it is doing. A reader that went away is no reason to stop.

use std::fmt;
use std::io::{self, Write};

/// A line of the result, on standard output.
pub(crate) fn out(line: impl fmt::Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// A line about what is going on, on standard error: out of the way of whoever reads the result.
pub(crate) fn aside(line: impl fmt::Display) {
    let _ = writeln!(io::stderr(), "{line}");
}
