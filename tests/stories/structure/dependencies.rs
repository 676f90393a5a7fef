//! The dependencies between the files of one crate: which file names something of which.
//!
//! - A path is a dependency on the file of the deepest module on it that exists.
//! - A name is followed through the `use` of the module in which it is found, to the file that defines it. A `pub use`
//!   that only re-exports a name is therefore no dependency: the file that uses the name depends on the one that defines
//!   it. It is one when the file also uses the name itself.
//! - `mod x;` is no dependency.

use std::collections::{BTreeMap, BTreeSet};

use super::sources::{Crate, Import, NamedPath, SourceFile};

/// More re-exports than any name passes through.
const MOST_RE_EXPORTS: usize = 16;

/// One file, or layer, names something of another.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Dependency {
    pub(super) from: String,
    pub(super) to: String,
    pub(super) line: usize,
    pub(super) path: String,
}

/// A path that names another crate.
#[derive(Debug)]
pub(super) struct External<'a> {
    pub(super) file: &'a SourceFile,
    pub(super) line: usize,
    pub(super) segments: Vec<String>,
}

/// An absolute path.
#[derive(Debug, Clone)]
enum Absolute {
    /// From the root of this crate.
    Own(Vec<String>),
    External(Vec<String>),
}

/// The modules of a crate, by path.
struct Modules<'a> {
    krate: &'a Crate,
    files: BTreeMap<&'a [String], &'a SourceFile>,
}

/// All dependencies between files, sorted, the first for each pair of files.
pub(super) fn dependencies(krate: &Crate) -> Vec<Dependency> {
    let modules = Modules::of(krate);
    let mut places: BTreeMap<(&str, &str), (usize, String)> = BTreeMap::new();
    for file in &krate.files {
        for named in
            file.imports.iter().filter(|import| is_used(import, file)).map(|import| &import.named).chain(&file.paths)
        {
            let Absolute::Own(path) = modules.absolute(file, named) else { continue };
            let target = modules.definition(path);
            if target.path != file.path {
                let place = (named.line, named.to_string());
                let known = places.entry((&file.path, &target.path)).or_insert_with(|| place.clone());
                *known = place.min(known.clone());
            }
        }
    }
    let dependency = |((from, to), (line, path)): ((&str, &str), _)| Dependency {
        from: from.to_owned(),
        to: to.to_owned(),
        line,
        path,
    };
    places.into_iter().map(dependency).collect()
}

/// All paths that begin with the name of another crate, in the order of files and lines.
pub(super) fn externals(krate: &Crate) -> Vec<External<'_>> {
    let modules = Modules::of(krate);
    let mut all = Vec::new();
    for file in &krate.files {
        let mut of_file: Vec<(usize, Vec<String>)> = file
            .imports
            .iter()
            .map(|import| &import.named)
            .chain(&file.paths)
            .filter_map(|named| match modules.absolute(file, named) {
                Absolute::External(segments) => Some((named.line, segments)),
                Absolute::Own(_) => None,
            })
            .collect();
        of_file.sort();
        of_file.dedup();
        all.extend(of_file.into_iter().map(|(line, segments)| External { file, line, segments }));
    }
    all
}

/// The dependencies between the layers of a crate: each pair with one dependency between files that causes it.
pub(super) fn folder_dependencies(krate: &Crate, dependencies: &[Dependency]) -> Vec<Dependency> {
    let layers: BTreeMap<&str, &str> = krate.files.iter().map(|file| (&*file.path, file.layer())).collect();
    let mut between: BTreeMap<(&str, &str), Dependency> = BTreeMap::new();
    for dependency in dependencies {
        let (from, to) = (layers[&*dependency.from], layers[&*dependency.to]);
        if from != to {
            between.entry((from, to)).or_insert_with(|| Dependency {
                from: from.to_owned(),
                to: to.to_owned(),
                line: dependency.line,
                path: format!("{} (in {})", dependency.path, dependency.from),
            });
        }
    }
    between.into_values().collect()
}

/// The cycles: the largest sets of more than one node in which each reaches every other.
pub(super) fn cycles(dependencies: &[Dependency]) -> Vec<BTreeSet<&str>> {
    let mut next: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for dependency in dependencies {
        next.entry(&dependency.from).or_default().push(&dependency.to);
    }
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        next.keys().map(|start| (*start, reached_from(start, &next))).collect();
    let mut cycles = BTreeSet::new();
    for (start, all) in &reached {
        let cycle: BTreeSet<&str> =
            all.iter().copied().filter(|other| reached.get(other).is_some_and(|back| back.contains(start))).collect();
        if cycle.len() > 1 {
            cycles.insert(cycle);
        }
    }
    cycles.into_iter().collect()
}

fn reached_from<'a>(start: &'a str, next: &BTreeMap<&'a str, Vec<&'a str>>) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut waiting = vec![start];
    while let Some(node) = waiting.pop() {
        for other in next.get(node).into_iter().flatten() {
            if reached.insert(*other) {
                waiting.push(other);
            }
        }
    }
    reached
}

/// Returns true if the file uses the import itself, and does not only re-export it.
fn is_used(import: &Import, file: &SourceFile) -> bool {
    let Some(name) = &import.name else { return true };
    let begins_with_it = |path: &NamedPath| !path.is_global && path.segments[0] == *name;
    !import.is_public || file.identifiers.contains(name) || file.paths.iter().any(begins_with_it)
}

impl<'a> Modules<'a> {
    fn of(krate: &'a Crate) -> Self {
        let mut files = BTreeMap::new();
        for file in &krate.files {
            for inline in &file.inline {
                files.insert(&**inline, file);
            }
            // Where both roots exist, it is the library that other files import from.
            files.entry(&file.module).or_insert(file);
        }
        Self { krate, files }
    }

    /// Resolves the first segment.
    fn absolute(&self, file: &SourceFile, named: &NamedPath) -> Absolute {
        self.absolute_within(file, named, MOST_RE_EXPORTS)
    }

    fn absolute_within(&self, file: &SourceFile, named: &NamedPath, imports: usize) -> Absolute {
        let first = &*named.segments[0];
        if first == self.krate.library {
            return Absolute::Own(named.segments[1..].to_vec());
        }
        if named.is_global {
            return Absolute::External(named.segments.clone());
        }
        let supers = named.segments.iter().filter(|segment| *segment == "super").count();
        let child = [&*named.module, &named.segments[..1]].concat();
        match first {
            "crate" => return Absolute::Own(named.segments[1..].to_vec()),
            "self" => {
                return Absolute::Own(
                    [&named.module[..named.module.len() - supers], &named.segments[1 + supers..]].concat(),
                );
            }
            "super" => {
                return Absolute::Own(
                    [&named.module[..named.module.len() - supers], &named.segments[supers..]].concat(),
                );
            }
            _ if file.children.contains(&child) => return Absolute::Own([&*named.module, &*named.segments].concat()),
            _ => {}
        }
        // A name that this file imports; not one that imports itself, such as `use tonic;`.
        let import = import_of(file, &named.module, first).filter(|import| import.named.segments[0] != first);
        match import {
            Some(import) if imports > 0 => match self.absolute_within(file, &import.named, imports - 1) {
                Absolute::Own(path) => Absolute::Own([&path, &named.segments[1..]].concat()),
                Absolute::External(path) => Absolute::External([&path, &named.segments[1..]].concat()),
            },
            _ => Absolute::External(named.segments.clone()),
        }
    }

    /// The file that defines what an own path names.
    fn definition(&self, mut path: Vec<String>) -> &'a SourceFile {
        let mut file = self.module(&path).1;
        for _ in 0..MOST_RE_EXPORTS {
            let (depth, found) = self.module(&path);
            file = found;
            let Some(name) = path.get(depth) else { break };
            let Some(import) = import_of(file, &path[..depth], name) else { break };
            match self.absolute(file, &import.named) {
                Absolute::Own(target) => path = [&target, &path[depth + 1..]].concat(),
                Absolute::External(_) => break,
            }
        }
        file
    }

    /// The deepest module on a path that exists: how many segments it has, and its file.
    fn module(&self, path: &[String]) -> (usize, &'a SourceFile) {
        let mut depths = (0..=path.len()).rev();
        let found = depths.find_map(|depth| Some((depth, *self.files.get(&path[..depth])?)));
        found.expect("a crate has a root")
    }
}

fn import_of<'a>(file: &'a SourceFile, module: &[String], name: &str) -> Option<&'a Import> {
    file.imports.iter().find(|import| import.name.as_deref() == Some(name) && import.named.module == module)
}
