//! Operators' tasks, with the real binaries and scripts: starting, verifying, backing up and restoring.

mod backup;
mod damage;
mod pooler;
mod settings;
mod start;
mod tls;
mod tls_services;
mod verify;

use std::process::Command;

use serde_json::Value;

use crate::support::binary;

/// The output of a command.
#[derive(Debug)]
struct Checked {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Checked {
    /// The names of the checks that found problems, from the JSON report, with the text of each finding.
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
    command(name, "verify", database_url, more).await
}

/// Runs a binary's command on a database, to its end.
async fn command(name: &str, word: &str, database_url: &str, more: &[&str]) -> Checked {
    let mut command = Command::new(binary(name));
    command.args([word, "--database-url", database_url]).args(more);
    // On a blocking thread, since the database may be under load from this very process.
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Checked { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
}
