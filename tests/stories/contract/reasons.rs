//! Every value of `ErrorReason` is provoked by a story or excused here, and has a row in `docs/ERRORS.md`.

use std::{collections::BTreeMap, fs, path::Path};

use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet};

/// Reasons that no story can provoke.
const NOT_PROVOKED: [(&str, &str); 6] = [
    ("UNSPECIFIED", "never sent"),
    ("CONFLICT", "writers lock in one order and retry; a unit test of the error table provokes it"),
    ("CANCELLED", "a client that cancels does not receive the status"),
    ("KEYS_UNAVAILABLE", "a day without the identity provider; a unit test of the key sets provokes it"),
    ("QUOTA_EXCEEDED", "no quota is enforced yet"),
    ("TOO_MANY_STREAMS", "streams of a caller are not counted yet"),
];

/// The reasons with their comments, in the order of the enum.
fn reasons() -> Vec<(String, String)> {
    let set = FileDescriptorSet::decode(parlance::FILE_DESCRIPTOR_SET).unwrap();
    let has_reasons = |file: &&FileDescriptorProto| file.package() == "parlance.error.v1";
    let file = set.file.iter().find(has_reasons).unwrap();
    let values = file.enum_type[0].value.iter();
    let text = fs::read_to_string(root().join("proto/parlance/error/v1/error_reason.proto")).unwrap();
    values
        .map(|value| {
            let name = value.name().strip_prefix("ERROR_REASON_").unwrap().to_owned();
            (name, comment_before(&text, value.name()))
        })
        .collect()
}

/// The comment lines right before the line that defines a value.
fn comment_before(text: &str, value: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let at = lines.iter().position(|line| line.starts_with(&format!("{value} ="))).unwrap();
    let comment: Vec<&str> = lines[..at].iter().rev().map_while(|line| line.strip_prefix("// ")).collect();
    comment.into_iter().rev().collect::<Vec<_>>().join(" ")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The sources of all stories except this one.
fn stories() -> String {
    fn read(folder: &Path, all: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, all);
            } else if !path.ends_with("contract/reasons.rs") {
                all.push_str(&fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut all = String::new();
    read(&root().join("tests/stories"), &mut all);
    all
}

#[test]
fn every_reason_is_provoked_by_a_story_or_excused() {
    let stories = stories();
    let excused: BTreeMap<_, _> = NOT_PROVOKED.into();
    for (reason, _) in reasons() {
        let provoked = stories.contains(&format!("\"{reason}\""));
        match excused.get(&*reason) {
            None => assert!(provoked, "no story provokes {reason}"),
            Some(why) => assert!(!provoked, "{reason} is provoked although excused: {why}"),
        }
    }
    assert!(excused.keys().all(|excused| reasons().iter().any(|(reason, _)| reason == excused)));
}

#[test]
fn the_error_reference_has_exactly_one_row_per_reason() {
    let manual = fs::read_to_string(root().join("docs/ERRORS.md")).unwrap();
    let rows: Vec<Vec<&str>> = manual
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    let reasons = reasons();
    let named: Vec<&str> = rows.iter().map(|row| row[0].trim_matches('`')).collect();
    let expected: Vec<&str> = reasons[1..].iter().map(|(reason, _)| reason.as_str()).collect();
    assert_eq!(named, expected);
    for (row, (reason, comment)) in rows.iter().zip(&reasons[1..]) {
        let [_, code, meaning, what_to_do, details] = &row[..] else { panic!("{row:?}") };
        assert!(comment.starts_with(&format!("{code}: ")), "{reason} is {code} in the reference: {comment}");
        assert!(meaning.len() > 10 && what_to_do.len() > 5, "{row:?}");
        // Details that the contract promises beside the code are named in the reference, too.
        let promised = comment.split_once("Metadata:").map(|(_, promise)| promise).unwrap_or_default();
        for key in promised.split('`').skip(1).step_by(2) {
            assert!(details.contains(&format!("`{key}`")), "{reason}: {key} is missing in {details}");
        }
        for detail in ["RetryInfo", "BadRequest", "ResourceInfo", "QuotaFailure"] {
            assert!(
                !comment.contains(detail) || details.contains(detail),
                "{reason}: {detail} is missing in {details}"
            );
        }
    }
}
