//! Stories about the shape of the sources: which module may name what. They need no database.

mod arrows;
mod planted;
mod sources;

use std::fmt::Write as _;

use self::{
    arrows::{Arrow, arrows, arrows_between_tops, circles, externals},
    sources::{Crate, SourceFile},
};

/// Folders and files below `message-service/src`, each with those below it that it may name.
const MESSAGE_SERVICE: [&str; 15] = [
    "planted",
    "domain",
    "metrics",
    "storage",
    "bus",
    "directory",
    "log",
    "verify",
    "grpc",
    "tasks",
    "config",
    "app",
    "command",
    "lib",
    "main",
];

/// The same for user-service.
const USER_SERVICE: [&str; 12] =
    ["metrics", "domain", "storage", "verify", "changes", "grpc", "tasks", "config", "app", "command", "lib", "main"];

/// Paths to other crates that a file may not name, as `file:line: path`.
fn violations(folder: &str, krate: &Crate, is_forbidden: impl Fn(&SourceFile, &[&str]) -> bool) -> Vec<String> {
    let violating = externals(krate).into_iter().filter(|external| {
        let segments: Vec<&str> = external.segments.iter().map(String::as_str).collect();
        is_forbidden(external.file, &segments)
    });
    violating
        .map(|external| {
            format!("{folder}/src/{}:{}: {}", external.file.path, external.line, external.segments.join("::"))
        })
        .collect()
}

fn assert_none(rule: &str, violations: &[String]) {
    assert!(violations.is_empty(), "{rule}; {} violations:\n{}", violations.len(), violations.join("\n"));
}

/// The circles with the arrows that close them.
fn describe_circles(folder: &str, arrows: &[Arrow]) -> Vec<String> {
    let describe = |circle: std::collections::BTreeSet<&str>| {
        let mut text = format!("{} in {folder}/src:", circle.len());
        let inside = |arrow: &&Arrow| circle.contains(&*arrow.from) && circle.contains(&*arrow.to);
        for Arrow { from, to, line, path } in arrows.iter().filter(inside) {
            let _ = write!(text, "\n  {from}:{line} -> {to}: {path}");
        }
        text
    };
    circles(arrows).into_iter().map(describe).collect()
}

/// Arrows from a folder or file to one that is not before it in the order.
fn climbing(folder: &str, order: &[&str], arrows: &[Arrow]) -> Vec<String> {
    let place = |top: &str| order.iter().position(|known| *known == top);
    let climbs = |arrow: &&Arrow| match (place(&arrow.from), place(&arrow.to)) {
        (Some(from), Some(to)) => from < to,
        // Not in the order: its author decides where it belongs.
        _ => true,
    };
    let describe =
        |arrow: &Arrow| format!("{folder}/src: {} -> {}: line {}: {}", arrow.from, arrow.to, arrow.line, arrow.path);
    arrows.iter().filter(climbs).map(describe).collect()
}

#[test]
fn only_storage_names_sqlx() {
    let mut found = Vec::new();
    for (folder, home) in [("user-service", "storage/"), ("message-service", "storage/"), ("service-kit", "database/")]
    {
        let krate = Crate::read(folder);
        let names_sqlx = |file: &SourceFile, path: &[&str]| path[0] == "sqlx" && !file.path.starts_with(home);
        found.extend(violations(folder, &krate, names_sqlx));
    }
    assert_none("sqlx is named only in storage/ and service-kit/src/database/", &found);
}

#[test]
fn only_grpc_and_the_directory_name_wire_types() {
    let mut found = Vec::new();
    for folder in ["user-service", "message-service"] {
        let krate = Crate::read(folder);
        found.extend(violations(folder, &krate, |file, path| {
            let may_name = match file.top() {
                "grpc" | "directory" => true,
                "app" => path.get(1) == Some(&"FILE_DESCRIPTOR_SET"),
                _ => false,
            };
            path[0] == "parlance" && !may_name
        }));
    }
    let krate = Crate::read("service-kit");
    found.extend(violations("service-kit", &krate, |file, path| {
        let may_name = ["failure", "status"].contains(&file.top()) && path[1..].starts_with(&["error", "v1"]);
        path[0] == "parlance" && !may_name
    }));
    assert_none("generated types are named only in grpc/ and directory/, descriptors in app.rs", &found);
}

#[test]
fn the_log_names_no_wire_type() {
    let krate = Crate::read("message-service");
    let is_wire = |file: &SourceFile, path: &[&str]| {
        file.top() == "log" && ["parlance", "prost", "prost_types", "tonic"].contains(&path[0])
    };
    assert_none("log/ knows no wire type", &violations("message-service", &krate, is_wire));
}

#[test]
fn the_domain_names_neither_storage_nor_transport_nor_runtime() {
    let mut found = Vec::new();
    for folder in ["user-service", "message-service"] {
        let krate = Crate::read(folder);
        found.extend(violations(folder, &krate, |file, path| {
            file.top() == "domain" && ["parlance", "sqlx", "tokio", "tonic"].contains(&path[0])
        }));
    }
    assert_none("domain/ names neither sqlx, tonic, tokio nor generated types", &found);
}

#[test]
fn no_file_imports_itself_through_others() {
    let mut found = Vec::new();
    for folder in ["user-service", "message-service", "service-kit", "standalone", "client", "checker"] {
        found.extend(describe_circles(folder, &arrows(&Crate::read(folder))));
    }
    assert_none("files of one crate import each other in no circle", &found);
}

#[test]
fn arrows_between_folders_run_one_way() {
    let mut found = Vec::new();
    for (folder, order) in [("message-service", &MESSAGE_SERVICE[..]), ("user-service", &USER_SERVICE[..])] {
        let krate = Crate::read(folder);
        found.extend(climbing(folder, order, &arrows_between_tops(&krate, &arrows(&krate))));
    }
    for folder in ["service-kit", "standalone"] {
        let krate = Crate::read(folder);
        found.extend(describe_circles(folder, &arrows_between_tops(&krate, &arrows(&krate))));
    }
    assert_none("folders name only what is below them", &found);
}
