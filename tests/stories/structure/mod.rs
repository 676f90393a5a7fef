//! Stories about the shape of the sources: which module may name what. They need no database.

mod dependencies;
mod planted;
mod sources;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::LazyLock,
};

use self::{
    dependencies::{Dependency, cycles, dependencies, externals, folder_dependencies},
    sources::{Crate, SourceFile},
};

/// The packages that are checked; each is parsed once.
static CRATES: LazyLock<BTreeMap<&str, Crate>> = LazyLock::new(|| {
    let folders = ["user-service", "message-service", "service-kit", "standalone", "client", "checker"];
    folders.into_iter().map(|folder| (folder, Crate::read(folder))).collect()
});

/// The lower layers of message-service: folders and files right below `src`, each of which may name those before it.
const MESSAGE_SERVICE: [&str; 9] =
    ["domain", "planted", "metrics", "directory", "actor", "storage", "bus", "log", "verify"];

/// The same for user-service.
const USER_SERVICE: [&str; 6] = ["metrics", "domain", "authorised", "storage", "verify", "changes"];

/// The layers above these, in both services.
const UPPER_LAYERS: [&str; 7] = ["grpc", "tasks", "config", "app", "command", "lib", "main"];

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

/// The cycles with the dependencies that close them.
fn describe_cycles(folder: &str, dependencies: &[Dependency]) -> Vec<String> {
    let describe = |cycle: BTreeSet<&str>| {
        let mut text = format!("{} in {folder}/src:", cycle.len());
        let inside = |one: &&Dependency| cycle.contains(&*one.from) && cycle.contains(&*one.to);
        for Dependency { from, to, line, path } in dependencies.iter().filter(inside) {
            let _ = write!(text, "\n  {from}:{line} -> {to}: {path}");
        }
        text
    };
    cycles(dependencies).into_iter().map(describe).collect()
}

/// Dependencies of a layer on one that is not before it in the order, or not in the order at all.
fn upward_dependencies(folder: &str, order: &[&str], dependencies: &[Dependency]) -> Vec<String> {
    let place = |layer: &str| order.iter().position(|known| *known == layer);
    let describe = |Dependency { from, to, line, path }: &Dependency| {
        let why = match (place(from), place(to)) {
            (Some(from), Some(to)) if from > to => return None,
            (Some(_), Some(_)) => "",
            _ => "; one of them is not in the order",
        };
        Some(format!("{folder}/src: {from} -> {to}: line {line}: {path}{why}"))
    };
    dependencies.iter().filter_map(describe).collect()
}

#[test]
fn only_storage_names_sqlx() {
    let mut found = Vec::new();
    for (folder, home) in [("user-service", "storage/"), ("message-service", "storage/"), ("service-kit", "database/")]
    {
        let krate = &CRATES[folder];
        let names_sqlx = |file: &SourceFile, path: &[&str]| path[0] == "sqlx" && !file.path.starts_with(home);
        found.extend(violations(folder, krate, names_sqlx));
    }
    assert_none("sqlx is named only in storage/ and service-kit/src/database/", &found);
}

#[test]
fn only_grpc_and_the_directory_name_wire_types() {
    let mut found = Vec::new();
    for folder in ["user-service", "message-service"] {
        let krate = &CRATES[folder];
        found.extend(violations(folder, krate, |file, path| {
            let may_name = matches!(file.layer(), "grpc" | "directory");
            path[0] == "parlance" && !may_name
        }));
    }
    let krate = &CRATES["service-kit"];
    found.extend(violations("service-kit", krate, |file, path| {
        let may_name = match file.layer() {
            "reason" => path[1..].starts_with(&["error", "v1"]),
            "service" => path[1..] == ["FILE_DESCRIPTOR_SET"],
            _ => false,
        };
        path[0] == "parlance" && !may_name
    }));
    assert_none(
        "generated types are named only in grpc/ and directory/, those of errors and descriptors in service-kit",
        &found,
    );
}

#[test]
fn the_log_names_no_wire_type() {
    let krate = &CRATES["message-service"];
    let is_wire = |file: &SourceFile, path: &[&str]| {
        file.layer() == "log" && ["parlance", "prost", "prost_types", "tonic"].contains(&path[0])
    };
    assert_none("log/ knows no wire type", &violations("message-service", krate, is_wire));
}

#[test]
fn the_domain_names_neither_storage_nor_transport_nor_runtime() {
    let mut found = Vec::new();
    for folder in ["user-service", "message-service"] {
        let krate = &CRATES[folder];
        found.extend(violations(folder, krate, |file, path| {
            file.layer() == "domain" && ["parlance", "sqlx", "tokio", "tonic"].contains(&path[0])
        }));
    }
    assert_none("domain/ names neither sqlx, tonic, tokio nor generated types", &found);
}

#[test]
fn files_have_no_import_cycles() {
    let mut found = Vec::new();
    for (folder, krate) in CRATES.iter() {
        found.extend(describe_cycles(folder, &dependencies(krate)));
    }
    assert_none("files of one crate have no import cycles", &found);
}

#[test]
fn folders_depend_in_one_direction() {
    let mut found = Vec::new();
    for (folder, lower) in [("message-service", &MESSAGE_SERVICE[..]), ("user-service", &USER_SERVICE)] {
        let krate = &CRATES[folder];
        let order = [lower, &UPPER_LAYERS].concat();
        found.extend(upward_dependencies(folder, &order, &folder_dependencies(krate, &dependencies(krate))));
    }
    for folder in ["service-kit", "standalone"] {
        let krate = &CRATES[folder];
        found.extend(describe_cycles(folder, &folder_dependencies(krate, &dependencies(krate))));
    }
    assert_none("folders import only folders below them", &found);
}
