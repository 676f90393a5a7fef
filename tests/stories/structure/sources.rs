//! The source files of a crate, and the paths that each of them names.
//!
//! Files are found as the compiler finds them, from `lib.rs` and `main.rs` along `mod x;`. Code under `#[cfg(test)]` is
//! left out: a unit test may use what its module may not.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt, fs,
    path::Path,
};

use proc_macro2::{Spacing, Span, TokenStream, TokenTree};
use syn::{
    Attribute, Ident, Item, ItemMod, ItemUse, Macro, Meta, UseTree, Visibility,
    ext::IdentExt,
    visit::{self, Visit},
};

/// The modules of one package below its `src`; `bin/` is left out, since nothing can import from there.
#[derive(Debug)]
pub(super) struct Crate {
    pub(super) files: Vec<SourceFile>,
    /// The name under which `main.rs` names `lib.rs`.
    pub(super) library: String,
}

/// One file of a crate.
#[derive(Debug)]
pub(super) struct SourceFile {
    /// Below `src`, such as `grpc/mod.rs`.
    pub(super) path: String,
    /// Its module, such as `["grpc"]`; empty for `lib.rs` and `main.rs`.
    pub(super) module: Vec<String>,
    pub(super) imports: Vec<Import>,
    pub(super) paths: Vec<NamedPath>,
    /// Modules declared here, from the root, inline ones included.
    pub(super) children: BTreeSet<Vec<String>>,
    /// Inline modules, whose names are in this very file.
    pub(super) inline: BTreeSet<Vec<String>>,
    /// Identifiers used alone, outside `use`.
    pub(super) identifiers: BTreeSet<String>,
}

/// One name brought in by `use`.
#[derive(Debug)]
pub(super) struct Import {
    pub(super) named: NamedPath,
    /// The name it has here; `None` for a glob.
    pub(super) name: Option<String>,
    /// Has a visibility, so that other files may import it from here.
    pub(super) is_public: bool,
}

/// A path as it is written.
#[derive(Debug, Clone)]
pub(super) struct NamedPath {
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
    /// The module in which it is written.
    pub(super) module: Vec<String>,
    /// Begins with `::`.
    pub(super) is_global: bool,
}

impl fmt::Display for NamedPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.segments.join("::"))
    }
}

impl Crate {
    /// Reads a package of this repository.
    pub(super) fn read(folder: &str) -> Self {
        let package = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let manifest = fs::read_to_string(package.join("Cargo.toml")).unwrap();
        let name = manifest.lines().find_map(|line| line.strip_prefix("name = \"")).unwrap();
        let source = package.join("src");
        let read = |path: &str| fs::read_to_string(source.join(path)).ok();
        Self::load(&name.trim_end_matches('"').replace('-', "_"), read)
    }

    /// A crate of sources in memory: paths below `src` with their text.
    pub(super) fn in_memory(sources: &[(&str, &str)]) -> Self {
        let sources: BTreeMap<_, _> = sources.iter().copied().collect();
        Self::load("in_memory", |path| sources.get(path).map(|text| (*text).to_owned()))
    }

    fn load(library: &str, read: impl Fn(&str) -> Option<String>) -> Self {
        let mut files = Vec::new();
        for root in ["lib.rs", "main.rs"] {
            let Some(text) = read(root) else { continue };
            let mut waiting = VecDeque::from([(root.to_owned(), Vec::new(), text)]);
            while let Some((path, module, text)) = waiting.pop_front() {
                let file = SourceFile::parse(path, module, &text);
                for child in file.children.difference(&file.inline) {
                    let stem = child.join("/");
                    let candidates = [format!("{stem}.rs"), format!("{stem}/mod.rs")];
                    let found = candidates.into_iter().find_map(|path| read(&path).map(|text| (path, text)));
                    let (path, text) = found.unwrap_or_else(|| panic!("{}: no file for mod {stem}", file.path));
                    waiting.push_back((path, child.clone(), text));
                }
                files.push(file);
            }
        }
        assert!(!files.is_empty(), "{library} has neither lib.rs nor main.rs");
        Self { files, library: library.to_owned() }
    }
}

impl SourceFile {
    fn parse(path: String, module: Vec<String>, text: &str) -> Self {
        let syntax = syn::parse_file(text).unwrap_or_else(|error| panic!("{path}: {error}"));
        let mut scanner = Scanner {
            current: module.clone(),
            file: Self {
                path,
                module,
                imports: Vec::new(),
                paths: Vec::new(),
                children: BTreeSet::new(),
                inline: BTreeSet::new(),
                identifiers: BTreeSet::new(),
            },
        };
        scanner.visit_file(&syntax);
        scanner.file
    }

    /// The layer that it belongs to: the folder or file right below `src`.
    pub(super) fn layer(&self) -> &str {
        self.module.first().map_or_else(|| self.path.trim_end_matches(".rs"), String::as_str)
    }
}

/// Collects what a file names.
struct Scanner {
    file: SourceFile,
    /// The module that is being read; longer than the file's inside an inline module.
    current: Vec<String>,
}

impl Scanner {
    fn path(&self, segments: Vec<String>, span: Span, is_global: bool) -> NamedPath {
        NamedPath { segments, line: span.start().line, module: self.current.clone(), is_global }
    }

    fn import(&mut self, tree: &UseTree, prefix: &[String], item: &ItemUse) {
        let with = |ident: &Ident| [prefix, &[ident.unraw().to_string()]].concat();
        let (segments, name, span) = match tree {
            UseTree::Path(path) => return self.import(&path.tree, &with(&path.ident), item),
            UseTree::Group(group) => return group.items.iter().for_each(|tree| self.import(tree, prefix, item)),
            // `use path::{self}` names the path itself.
            UseTree::Name(name) if name.ident == "self" && !prefix.is_empty() => {
                (prefix.to_vec(), prefix.last().cloned(), name.ident.span())
            }
            UseTree::Name(name) => (with(&name.ident), Some(name.ident.unraw().to_string()), name.ident.span()),
            UseTree::Rename(rename) => (with(&rename.ident), Some(rename.rename.to_string()), rename.ident.span()),
            UseTree::Glob(glob) => (prefix.to_vec(), None, glob.star_token.spans[0]),
        };
        let named = self.path(segments, span, item.leading_colon.is_some());
        let is_public = !matches!(item.vis, Visibility::Inherited);
        self.file.imports.push(Import { named, name, is_public });
    }

    /// Finds the paths in the body of a macro or an attribute, which have no syntax tree.
    fn scan(&mut self, tokens: TokenStream) {
        let mut tokens = tokens.into_iter().peekable();
        let mut last_was_colons = false;
        while let Some(token) = tokens.next() {
            let is_global = std::mem::take(&mut last_was_colons);
            match token {
                TokenTree::Group(group) => self.scan(group.stream()),
                TokenTree::Punct(first) if first.as_char() == ':' && first.spacing() == Spacing::Joint => {
                    last_was_colons =
                        matches!(tokens.next(), Some(TokenTree::Punct(second)) if second.as_char() == ':');
                }
                TokenTree::Ident(first) => {
                    let mut segments = vec![first.unraw().to_string()];
                    let mut is_path = false;
                    while let Some(TokenTree::Punct(colon)) = tokens.peek() {
                        if colon.as_char() != ':' || colon.spacing() != Spacing::Joint {
                            break;
                        }
                        is_path = true;
                        tokens.nth(1);
                        let Some(TokenTree::Ident(next)) = tokens.peek() else { break };
                        segments.push(next.unraw().to_string());
                        tokens.next();
                    }
                    if is_path {
                        let path = self.path(segments, first.span(), is_global);
                        self.file.paths.push(path);
                    } else {
                        self.file.identifiers.extend(segments);
                    }
                }
                TokenTree::Punct(_) | TokenTree::Literal(_) => {}
            }
        }
    }
}

impl<'ast> Visit<'ast> for Scanner {
    fn visit_item(&mut self, item: &'ast Item) {
        let attributes: &[Attribute] = match item {
            Item::Const(item) => &item.attrs,
            Item::Enum(item) => &item.attrs,
            Item::Fn(item) => &item.attrs,
            Item::Impl(item) => &item.attrs,
            Item::Macro(item) => &item.attrs,
            Item::Mod(item) => &item.attrs,
            Item::Static(item) => &item.attrs,
            Item::Struct(item) => &item.attrs,
            Item::Trait(item) => &item.attrs,
            Item::Type(item) => &item.attrs,
            Item::Use(item) => &item.attrs,
            _ => &[],
        };
        if !attributes.iter().any(is_test_only) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        if !function.attrs.iter().any(is_test_only) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.current.push(item.ident.unraw().to_string());
        self.file.children.insert(self.current.clone());
        if item.content.is_some() {
            self.file.inline.insert(self.current.clone());
        }
        visit::visit_item_mod(self, item);
        self.current.pop();
    }

    /// `pub(in path)` names a module without using it.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.import(&item.tree, &[], item);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<String> = path.segments.iter().map(|segment| segment.ident.unraw().to_string()).collect();
        if segments.len() > 1 || path.leading_colon.is_some() {
            let span = path.segments[0].ident.span();
            let path = self.path(segments, span, path.leading_colon.is_some());
            self.file.paths.push(path);
        } else {
            self.file.identifiers.extend(segments);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.visit_path(&call.path);
        self.scan(call.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        // `#[sqlx(…)]` names the crate by one segment.
        let segments: Vec<String> = attribute.path().segments.iter().map(|part| part.ident.to_string()).collect();
        let path = self.path(segments, attribute.pound_token.spans[0], false);
        self.file.paths.push(path);
        if let Meta::List(list) = &attribute.meta {
            self.scan(list.tokens.clone());
        }
    }
}

fn is_test_only(attribute: &Attribute) -> bool {
    let is_cfg_test = || attribute.parse_args::<Ident>().is_ok_and(|condition| condition == "test");
    attribute.path().is_ident("test") || attribute.path().is_ident("cfg") && is_cfg_test()
}
