//! The checks find what is planted in small sources, and nothing else.

use super::{
    dependencies::{Dependency, cycles, dependencies, externals, folder_dependencies},
    sources::Crate,
};

/// Dependencies as `from -> to`.
fn shown(dependencies: &[Dependency]) -> Vec<String> {
    dependencies.iter().map(|dependency| format!("{} -> {}", dependency.from, dependency.to)).collect()
}

/// Paths to this crate, as `file:line path`.
fn named(krate: &Crate, name: &str) -> Vec<String> {
    let of_crate = externals(krate).into_iter().filter(|external| external.segments[0] == name);
    of_crate
        .map(|external| format!("{}:{} {}", external.file.path, external.line, external.segments.join("::")))
        .collect()
}

#[test]
fn another_crate_is_found_in_every_place_where_it_can_be_named() {
    let krate = Crate::in_memory(&[
        ("lib.rs", "mod domain;\nmod plain;"),
        (
            "domain.rs",
            "use sqlx::{self, postgres::{PgPool as Pool, PgRow}};
             #[derive(sqlx::FromRow)]
             #[sqlx(transparent)]
             struct Row(Vec<sqlx::types::Json<u8>>);
             fn read(pool: &Pool) -> PgRow { run!({ sqlx::query(\"SELECT\") }) }
             fn again() { ::sqlx::query(\"SELECT\"); postgres::nothing() }",
        ),
        (
            "plain.rs",
            "//! sqlx::query
             /// Not sqlx::query.
             fn sqlx() { let sqlx = \"sqlx::query\"; }
             #[cfg(test)]
             mod tests { use sqlx::query; }",
        ),
    ]);
    let found = [
        "domain.rs:1 sqlx",
        "domain.rs:1 sqlx::postgres::PgPool",
        "domain.rs:1 sqlx::postgres::PgRow",
        "domain.rs:2 sqlx::FromRow",
        "domain.rs:3 sqlx",
        "domain.rs:4 sqlx::types::Json",
        "domain.rs:5 sqlx::query",
        "domain.rs:6 sqlx::query",
    ];
    assert_eq!(named(&krate, "sqlx"), found);
}

#[test]
fn a_crate_that_is_imported_under_another_name_is_found() {
    let krate = Crate::in_memory(&[("lib.rs", "use parlance::message::v1 as wire;\nfn f(_: wire::Event) {}")]);
    assert_eq!(named(&krate, "parlance"), ["lib.rs:1 parlance::message::v1", "lib.rs:2 parlance::message::v1::Event"]);
}

#[test]
fn a_cycle_is_found_in_any_syntax() {
    let krate = Crate::in_memory(&[
        ("lib.rs", "mod a;\nmod b;\nmod c;\nmod d;"),
        ("a.rs", "use crate::b::B;\nuse crate::d;"),
        ("b.rs", "fn f() { super::c::f() }"),
        ("c.rs", "fn f() { run!(crate::a::f()) }"),
        ("d.rs", ""),
    ]);
    let dependencies = dependencies(&krate);
    assert_eq!(shown(&dependencies), ["a.rs -> b.rs", "a.rs -> d.rs", "b.rs -> c.rs", "c.rs -> a.rs"]);
    let cycles = cycles(&dependencies);
    assert_eq!(cycles.len(), 1);
    assert!(cycles[0].iter().eq(&["a.rs", "b.rs", "c.rs"]), "{cycles:?}");
}

#[test]
fn a_dependency_is_on_the_file_that_defines_the_name() {
    let krate = Crate::in_memory(&[
        ("lib.rs", "mod grpc;\nmod log;\npub use log::Live;"),
        // Re-exports and declares: no dependency. `Ring` it uses itself.
        ("log/mod.rs", "mod live;\nmod ring;\npub(crate) use live::Live;\npub use self::ring::Ring;\nfn f(_: Ring) {}"),
        ("log/live.rs", "use super::Ring;"),
        ("log/ring.rs", ""),
        ("grpc/mod.rs", "mod send;"),
        ("grpc/send.rs", "use crate::log;\nuse crate::Live;\nfn f() { log::Live::new() }"),
    ]);
    let found = [
        "grpc/send.rs -> log/live.rs",
        "grpc/send.rs -> log/mod.rs",
        "log/live.rs -> log/ring.rs",
        "log/mod.rs -> log/ring.rs",
    ];
    assert_eq!(shown(&dependencies(&krate)), found);
    assert!(cycles(&dependencies(&krate)).is_empty());
}

#[test]
fn a_parent_and_a_child_that_use_each_other_are_a_cycle() {
    let krate = Crate::in_memory(&[
        ("lib.rs", "mod grpc;"),
        ("grpc/mod.rs", "mod send;\npub struct Context;\nfn f() { send::run(&Context) }"),
        ("grpc/send.rs", "pub fn run(_: &super::Context) {}"),
    ]);
    let dependencies = dependencies(&krate);
    assert_eq!(shown(&dependencies), ["grpc/mod.rs -> grpc/send.rs", "grpc/send.rs -> grpc/mod.rs"]);
    assert_eq!(cycles(&dependencies).len(), 1);
}

#[test]
fn inline_modules_belong_to_their_file() {
    let krate = Crate::in_memory(&[
        ("lib.rs", "mod a;\nmod b;"),
        ("a.rs", "mod inner { use super::super::b::B; use super::A; }\nstruct A;\nuse inner::C;"),
        ("b.rs", "use crate::a::inner::C;"),
    ]);
    assert_eq!(shown(&dependencies(&krate)), ["a.rs -> b.rs", "b.rs -> a.rs"]);
}

#[test]
fn an_upward_dependency_between_folders_is_found() {
    let krate = Crate::in_memory(&[
        ("lib.rs", "mod domain;\nmod storage;"),
        ("domain/mod.rs", "mod user;"),
        ("domain/user.rs", "use crate::storage::rows::Row;"),
        ("storage/mod.rs", "mod rows;\nuse crate::domain;"),
        ("storage/rows.rs", ""),
    ]);
    let between = folder_dependencies(&krate, &dependencies(&krate));
    assert_eq!(shown(&between), ["domain -> storage", "storage -> domain"]);
    let upward = super::upward_dependencies("in-memory", &["domain", "storage"], &between);
    assert_eq!(upward, ["in-memory/src: domain -> storage: line 1: crate::storage::rows::Row (in domain/user.rs)"]);
}
