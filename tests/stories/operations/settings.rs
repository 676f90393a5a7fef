//! The table of settings in docs/OPERATIONS.md matches `--help` of the binaries. `make settings-docs` rewrites it.

use std::{fmt::Write as _, fs, process::Command};

use crate::support::binary;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/OPERATIONS.md");
const BEGIN: &str = "<!-- settings: made by `make settings-docs` from --help, and checked by `make test` -->\n";
const END: &str = "<!-- /settings -->\n";

/// The binaries whose settings are listed.
const BINARIES: [(&str, &[&str]); 3] = [("user-service", &[]), ("message-service", &[]), ("parlance", &["serve"])];

/// One flag, as `--help` lists it.
#[derive(Debug, Default, Clone)]
struct Setting {
    flag: String,
    variable: Option<String>,
    default: Option<String>,
    /// The help text, with the possible values.
    text: String,
}

/// The flags of a command, read from its help: a line with a flag, then indented paragraphs.
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
        // A variable that the program reads itself is named in the text.
        if let Some((text, rest)) = setting.text.clone().split_once(" [env: ") {
            (setting.text, setting.variable) = (text.to_owned(), Some(rest.trim_end_matches(']').to_owned()));
        }
    }
    assert!(settings.len() > 5, "{name}: {help}");
    settings
}

/// What one or several binaries have in one place of a row, by the index of the binary.
type Values = Vec<(usize, String)>;

/// A row of the table: one flag, whichever binaries take it.
struct Row {
    flag: String,
    variable: Option<String>,
    texts: Values,
    defaults: Values,
}

/// The flags of all binaries, each once: those that all take first, then those of two, then those of one.
fn rows() -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for (binary, (name, words)) in BINARIES.into_iter().enumerate() {
        for setting in settings(name, words) {
            let at = rows.iter().position(|row| row.flag == setting.flag).unwrap_or_else(|| {
                let (flag, variable) = (setting.flag.clone(), setting.variable.clone());
                rows.push(Row { flag, variable, texts: Vec::new(), defaults: Vec::new() });
                rows.len() - 1
            });
            let row = &mut rows[at];
            assert_eq!(row.variable, setting.variable, "{}: binaries read different variables", row.flag);
            row.texts.push((binary, setting.text));
            row.defaults.push((binary, setting.default.map_or_else(|| "none".to_owned(), |text| format!("`{text}`"))));
        }
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.texts.len()));
    rows
}

/// The name of a binary as the table shows it.
fn shown(binary: usize) -> String {
    let (name, words) = BINARIES[binary];
    [&[name], words].concat().join(" ")
}

/// The value that all binaries share, or each different value with the binaries that have it.
fn merged(values: &[(usize, String)], separator: &str) -> String {
    let mut groups: Vec<(&str, Vec<String>)> = Vec::new();
    for (binary, value) in values {
        match groups.iter_mut().find(|(known, _)| known == value) {
            Some((_, names)) => names.push(shown(*binary)),
            None => groups.push((value, vec![shown(*binary)])),
        }
    }
    if let [(value, _)] = &groups[..] {
        return (*value).to_owned();
    }
    let parts = groups.iter().map(|(value, names)| format!("{}: {value}", names.join(", ")));
    parts.collect::<Vec<_>>().join(separator)
}

/// The table: one row for each flag.
fn table() -> String {
    let mut table = String::from("| flag | variable | meaning | default | taken by |\n|---|---|---|---|---|\n");
    for row in rows() {
        let variable = row.variable.as_ref().map_or_else(|| "–".to_owned(), |variable| format!("`{variable}`"));
        let text = merged(&row.texts, "<br>").replace('|', "\\|");
        let default = merged(&row.defaults, "; ");
        let taken_by = match row.texts.len() {
            all if all == BINARIES.len() => "all".to_owned(),
            _ => row.texts.iter().map(|(binary, _)| shown(*binary)).collect::<Vec<_>>().join(", "),
        };
        let _ = writeln!(table, "| `{}` | {variable} | {text} | {default} | {taken_by} |", row.flag);
    }
    table
}

#[test]
fn the_manual_lists_every_setting_once_as_the_binaries_do() {
    let document = fs::read_to_string(DOCUMENT).unwrap();
    let parts = document.split_once(BEGIN).and_then(|(head, rest)| Some((head, rest.split_once(END)?)));
    let (head, (is, tail)) = parts.expect("docs/OPERATIONS.md has the marks around the table");
    let should_be = format!("\n{}\n", table());
    if std::env::var("PARLANCE_SETTINGS").is_ok_and(|how| how == "write") {
        fs::write(DOCUMENT, format!("{head}{BEGIN}{should_be}{END}{tail}")).unwrap();
        return;
    }
    // Line by line, to show which differ.
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
