//! The fuzzer: feeds one target with inputs that reach more and more of its code. `make fuzz` runs it.
//!
//! `PARLANCE_FUZZ_TARGET` names the target, `list` all of them; `PARLANCE_FUZZ_SEEDS` is a folder to write first inputs to. The
//! arguments are libFuzzer's.

#![no_main]

mod memory;
mod seeds;
mod targets;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

use self::targets::{TARGETS, Target};

#[global_allocator]
static MEMORY: memory::Counted = memory::Counted;

static TARGET: OnceLock<Target> = OnceLock::new();

fuzz_target!(init: start(), |input: &[u8]| {
    if let Some(target) = TARGET.get() {
        memory::bounded(input, target.run);
    }
});

/// Chooses the target and writes its seeds.
fn start() {
    let name = std::env::var("PARLANCE_FUZZ_TARGET").unwrap_or_default();
    let Some(target) = TARGETS.iter().find(|target| target.name == name) else {
        for target in &TARGETS {
            println!("{}", target.name);
        }
        std::process::exit(i32::from(name != "list"));
    };
    let seeds = (target.seeds)();
    // What lives as long as the process is made by the first inputs, before memory is counted.
    for seed in &seeds {
        (target.run)(seed);
    }
    if let Ok(folder) = std::env::var("PARLANCE_FUZZ_SEEDS") {
        for (number, seed) in seeds.into_iter().enumerate() {
            std::fs::write(format!("{folder}/seed-{number}"), seed).expect("a seed is written");
        }
    }
    let _ = TARGET.set(*target);
}
