//! The table of settings in docs/OPERATIONS.md matches `--help` of the binaries. `make settings-docs` rewrites it.

use std::{fmt::Write as _, fs, process::Command};

use crate::support::binary;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/OPERATIONS.md");
const BEGIN: &str = "<!-- settings: made by `make settings-docs` from --help, and checked by `make test` -->\n";
const END: &str = "<!-- /settings -->\n";

/// The columns of the table, in order.
const BINARIES: [(&str, &[&str]); 3] = [("user-service", &[]), ("message-service", &[]), ("parlance", &["serve"])];

/// One flag, from `--help`.
#[derive(Debug, Default, Clone, PartialEq)]
struct Setting {
    flag: String,
    variable: Option<String>,
    default: Option<String>,
    /// The description, with the possible values.
    text: String,
}

/// Returns all flags of a command. Indented paragraphs are joined.
fn settings(name: &str, words: &[&str]) -> Vec<Setting> {
    // Help shows the values of variables that are set.
    let output = Command::new(binary(name)).args(words).arg("--help").env_clear().output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let (_, options) = help.split_once("\nOptions:\n").expect("a list of options");
    let mut settings: Vec<Setting> = Vec::new();
    for line in options.lines() {
        let (indent, line) = (line.len() - line.trim_start().len(), line.trim());
        if indent <= 6 && line.starts_with('-') {
            let flag = line.split_whitespace().find(|word| word.starts_with("--")).expect("a long flag");
            settings.push(Setting { flag: flag.to_owned(), ..Setting::default() });
            continue;
        }
        let Some(setting) = settings.last_mut() else { continue };
        if let Some(variable) = line.strip_prefix("[env: ") {
            setting.variable = Some(variable.trim_end_matches([']', '=']).to_owned());
        } else if let Some(default) = line.strip_prefix("[default: ") {
            setting.default = Some(default.trim_end_matches(']').to_owned());
        } else if !line.is_empty() && !line.starts_with("Possible values:") {
            let words = line.split_whitespace().collect::<Vec<_>>().join(" ");
            let value = words.strip_prefix("- ").map(|value| format!("; {value}"));
            let separator = if setting.text.is_empty() || value.is_some() { "" } else { " " };
            let _ = write!(setting.text, "{separator}{}", value.as_deref().unwrap_or(&words));
        }
    }
    settings.retain(|setting| !["--help", "--version"].contains(&&*setting.flag));
    for setting in &mut settings {
        // A variable read by our own code is named in the text.
        if let Some((text, rest)) = setting.text.clone().split_once(" [env: ") {
            (setting.text, setting.variable) = (text.to_owned(), Some(rest.trim_end_matches(']').to_owned()));
        }
    }
    assert!(settings.len() > 5, "{name}: {help}");
    settings
}

/// Formats a row for each flag, or more where the help of binaries differs; a column for the default of each binary.
fn table() -> String {
    let columns = BINARIES.map(|(name, words)| settings(name, words));
    let mut rows: Vec<(Setting, [Option<String>; BINARIES.len()])> = Vec::new();
    for (column, settings) in columns.iter().enumerate() {
        let mut after = None;
        for setting in settings {
            let default = setting.default.clone().map_or_else(|| "none".to_owned(), |default| format!("`{default}`"));
            let key = Setting { default: None, ..setting.clone() };
            let at = rows.iter().position(|(known, _)| *known == key).unwrap_or_else(|| {
                let at = after.map_or(rows.len(), |after: usize| after + 1);
                rows.insert(at, (key, Default::default()));
                at
            });
            rows[at].1[column] = Some(default);
            after = Some(at);
        }
    }
    let mut table = String::from("| flag | variable | what it is |");
    let names = BINARIES.map(|(name, words)| [&[name], words].concat().join(" "));
    for name in &names {
        let _ = write!(table, " {name} |");
    }
    table.push_str("\n|---|---|---|---|---|---|\n");
    for (Setting { flag, variable, text, .. }, defaults) in rows {
        let variable = variable.map_or_else(|| "–".to_owned(), |variable| format!("`{variable}`"));
        let text = text.replace('|', "\\|");
        let _ = write!(table, "| `{flag}` | {variable} | {text} |");
        for default in defaults {
            let _ = write!(table, " {} |", default.as_deref().unwrap_or("–"));
        }
        table.push('\n');
    }
    table
}

#[test]
fn the_settings_table_matches_the_help_of_the_binaries() {
    let document = fs::read_to_string(DOCUMENT).unwrap();
    let parts = document.split_once(BEGIN).and_then(|(head, rest)| Some((head, rest.split_once(END)?)));
    let (head, (is, tail)) = parts.expect("docs/OPERATIONS.md has the markers around the table");
    let should_be = format!("\n{}\n", table());
    if std::env::var("PARLANCE_SETTINGS").is_ok_and(|how| how == "write") {
        fs::write(DOCUMENT, format!("{head}{BEGIN}{should_be}{END}{tail}")).unwrap();
        return;
    }
    // Line by line, so that the differing lines are shown.
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let (is, should_be) = (lines(is), lines(&should_be));
    let too_much: Vec<_> = is.iter().filter(|line| !should_be.contains(line)).collect();
    let missing: Vec<_> = should_be.iter().filter(|line| !is.contains(line)).collect();
    assert!(
        is == should_be,
        "docs/OPERATIONS.md differs from --help (`make settings-docs` rewrites it).\nOnly in the document:\n{too_much:#?}\n\
         Only in --help:\n{missing:#?}"
    );
}
