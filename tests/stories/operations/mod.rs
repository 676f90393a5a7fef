//! What operators do, with the real binaries and scripts: checking what is stored, backing it up and bringing it back.

mod backup;
mod damage;
mod settings;
mod verify;

use std::process::Command;

use serde_json::Value;

use crate::support::binary;

/// What a check said.
#[derive(Debug)]
struct Checked {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Checked {
    /// The names of the checks that found something, from the report for machines, with the words of each finding.
    fn problems(&self) -> Vec<(String, Vec<String>)> {
        let report: Value = serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"));
        let checks = report["checks"].as_array().unwrap().iter();
        checks
            .filter(|check| check["problems"] != 0)
            .map(|check| {
                let examples = check["examples"].as_array().unwrap().iter().map(ToString::to_string).collect();
                (check["name"].as_str().unwrap().to_owned(), examples)
            })
            .collect()
    }
}

/// Runs a binary's `verify` on a database.
async fn verify(name: &str, database_url: &str, more: &[&str]) -> Checked {
    let mut command = Command::new(binary(name));
    command.args(["verify", "--database-url", database_url]).args(more);
    // Elsewhere, since what it checks may be under load from this very process.
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Checked { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}
