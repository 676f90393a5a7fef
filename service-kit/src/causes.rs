//! Formats errors for logs and for the last line of a command.

use std::{error::Error, iter};

/// Formats an error and its sources on one line. A log field that holds the error itself loses the sources in JSON.
#[must_use]
pub fn causes(error: &(dyn Error + 'static)) -> String {
    let chain = iter::successors(Some(error), |error| (*error).source());
    let mut texts: Vec<String> = chain.map(ToString::to_string).collect();
    // Many errors repeat their source in their own text.
    texts.dedup_by(|inner, outer| outer.ends_with(inner.as_str()));
    texts.join(": ")
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Outer {
        text: &'static str,
        source: io::Error,
    }

    #[test]
    fn sources_are_named_once() {
        let error = |text| Outer { text, source: io::Error::other("refused") };
        assert_eq!(causes(&error("the database went away")), "the database went away: refused");
        assert_eq!(causes(&error("the database went away: refused")), "the database went away: refused");
    }
}
