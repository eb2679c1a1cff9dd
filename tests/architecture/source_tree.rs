//! The modules of a crate, what they define and import, and which file each of their paths leads to.
//!
//! All code is read, whatever its `#[cfg]`, except tests: items under `#[cfg(test)]` or `#[test]`,
//! and files declared there. A macro's body and arguments are read as if they were code. Not seen are
//! uses without a path or an import: methods and trait implementations.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use super::tokens::{Token, TokenKind, tokenize};

/// Source files by path, relative to the project's root and with `/` as separator.
pub(super) type Sources = BTreeMap<String, String>;

/// Reads all Rust files beneath `folder`.
pub(super) fn read_sources(project: &Path, folder: &str) -> Sources {
    let mut sources = Sources::new();
    for entry in fs::read_dir(project.join(folder)).expect("a source folder") {
        let entry = entry.expect("a directory entry");
        let name = entry.file_name().into_string().expect("a UTF-8 file name");
        let path = format!("{folder}/{name}");
        if entry.path().is_dir() {
            sources.extend(read_sources(project, &path));
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(entry.path()).expect("a source file");
            sources.insert(path, text);
        }
    }
    sources
}

/// A crate: its root module has the index 0.
#[derive(Debug, Default)]
pub(super) struct Crate {
    pub(super) modules: Vec<Module>,
    /// Files that belong to the crate, those of tests included.
    pub(super) files: BTreeSet<String>,
}

#[derive(Debug, Default)]
pub(super) struct Module {
    /// From the crate's root, such as `net::worker`; empty for the root itself.
    pub(super) path: Vec<String>,
    pub(super) file: String,
    parent: usize,
    children: BTreeMap<String, usize>,
    /// Names of the items defined directly in this module.
    items: BTreeSet<String>,
    /// Whether a macro defines further items.
    has_item_macros: bool,
    imports: Vec<Import>,
    /// Paths outside of `use` declarations.
    paths: Vec<PathUse>,
    /// Identifiers outside of `use` declarations that begin a path or stand alone.
    idents: BTreeSet<String>,
    /// Attributes and macros that read source text from another place, with their lines.
    pub(super) includes: Vec<(String, usize)>,
}

/// One leaf of a `use` declaration.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Import {
    path: PathUse,
    /// The name it has in the module; `None` for a glob.
    name: Option<String>,
    is_reexport: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct PathUse {
    segments: Vec<String>,
    /// Whether it begins with `::`, so with the name of a crate.
    is_global: bool,
    line: usize,
}

/// What a path leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Target {
    /// An item defined in this module, or something that belongs to the item.
    Item(usize),
    Module(usize),
    /// Outside of the crate, by its full path.
    External(Vec<String>),
    /// Within the crate, but no such name was found.
    Unknown(Vec<String>),
}

/// A use of an item in another file of the crate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Edge {
    /// Indices of modules.
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) line: usize,
}

/// A use of something outside of the crate, with aliases resolved.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ExternalUse {
    /// The index of a module.
    pub(super) from: usize,
    pub(super) path: Vec<String>,
    pub(super) line: usize,
}

/// What the paths of a crate lead to.
#[derive(Debug, Default)]
pub(super) struct Uses {
    pub(super) edges: BTreeSet<Edge>,
    pub(super) externals: BTreeSet<ExternalUse>,
    /// Paths within the crate that could not be resolved, with their file and line.
    pub(super) unknown: Vec<String>,
}

impl Crate {
    /// Parses the crate whose root is the file `root`.
    pub(super) fn parse(sources: &Sources, root: &str) -> Self {
        let mut this = Self::default();
        let module = Module {
            file: root.to_owned(),
            ..Module::default()
        };
        this.modules.push(module);
        let folder = root.rsplit_once('/').map_or("", |(folder, _)| folder);
        this.parse_file(sources, 0, root, folder, false);
        this
    }

    /// `folder` is where the files of child modules are.
    fn parse_file(
        &mut self,
        sources: &Sources,
        module: usize,
        file: &str,
        folder: &str,
        is_test: bool,
    ) {
        let text = sources
            .get(file)
            .unwrap_or_else(|| panic!("{file}: no such file"));
        self.files.insert(file.to_owned());
        let tokens = tokenize(text);
        let mut parser = Parser {
            tokens: &tokens,
            at: 0,
            depth: 0,
            module,
            folder: folder.to_owned(),
            enclosing: Vec::new(),
            krate: self,
            declared: Vec::new(),
            is_test,
            has_path: false,
        };
        parser.run();
        for declared in parser.declared {
            let base = format!("{}/{}", declared.folder, declared.name);
            let candidates = [format!("{base}.rs"), format!("{base}/mod.rs")];
            let found = candidates.iter().find(|path| sources.contains_key(*path));
            let file = found.unwrap_or_else(|| panic!("{file}: mod {}: no file", declared.name));
            if declared.is_test {
                self.files.insert(file.clone());
                // Only its files count; what it imports does not.
                let mut tests = Self::default();
                tests.modules.push(Module::default());
                tests.parse_file(sources, 0, file, &base, true);
                self.files.extend(tests.files);
            } else {
                let child = self.add_child(declared.parent, &declared.name, file);
                self.parse_file(sources, child, file, &base, false);
            }
        }
    }

    fn add_child(&mut self, parent: usize, name: &str, file: &str) -> usize {
        let index = self.modules.len();
        let mut path = self.modules[parent].path.clone();
        path.push(name.to_owned());
        self.modules.push(Module {
            path,
            file: file.to_owned(),
            parent,
            ..Module::default()
        });
        self.modules[parent].children.insert(name.to_owned(), index);
        index
    }

    /// Resolves all paths.
    pub(super) fn uses(&self) -> Uses {
        let mut uses = Uses::default();
        for from in 0..self.modules.len() {
            for import in &self.modules[from].imports {
                self.add_import(&mut uses, from, import);
            }
            for path in &self.modules[from].paths {
                let target = self.resolve(from, path, false, 0);
                self.add(&mut uses, from, target, path.line);
            }
        }
        uses
    }

    fn add_import(&self, uses: &mut Uses, from: usize, import: &Import) {
        let idents = &self.modules[from].idents;
        let line = import.path.line;
        let target = self.resolve(from, &import.path, import.name.is_none(), 0);
        match (&import.name, target) {
            // A re-export is no use in itself.
            (Some(name), Target::Item(_)) if import.is_reexport && !idents.contains(name) => {}
            // What is used of a module is found where it is used.
            (Some(_), Target::Module(_)) => {}
            (None, Target::Module(module)) => {
                for ident in idents {
                    if let Some(target) = self.look_up(module, ident, false, 0)
                        && !matches!(target, Target::Module(_))
                    {
                        self.add(uses, from, target, line);
                    }
                }
            }
            (None, Target::External(mut path)) => {
                path.push("*".to_owned());
                self.add(uses, from, Target::External(path), line);
            }
            (_, target) => self.add(uses, from, target, line),
        }
    }

    fn add(&self, uses: &mut Uses, from: usize, target: Target, line: usize) {
        match target {
            Target::Item(to) if self.modules[to].file != self.modules[from].file => {
                uses.edges.insert(Edge { from, to, line });
            }
            Target::Item(_) | Target::Module(_) => {}
            Target::External(path) => {
                uses.externals.insert(ExternalUse { from, path, line });
            }
            Target::Unknown(path) => uses.unknown.push(format!(
                "{}:{line}: {}",
                self.modules[from].file,
                path.join("::")
            )),
        }
    }

    /// Resolves a path as the module `from` means it. If it `leads_on`, further segments follow, so
    /// that a module is preferred to a function of the same name. `depth` bounds the recursion.
    fn resolve(&self, from: usize, path: &PathUse, leads_on: bool, depth: usize) -> Target {
        let segments = &path.segments;
        if path.is_global || depth > 16 {
            return Target::External(segments.clone());
        }
        let mut rest = &segments[..];
        let mut module = from;
        let mut is_within = true;
        match segments[0].as_str() {
            "crate" => module = 0,
            "self" | "super" => {}
            "Self" => return Target::Item(from),
            _ => is_within = false,
        }
        if !is_within {
            let rest = &segments[1..];
            let target = self.look_up(from, &segments[0], leads_on || !rest.is_empty(), depth);
            return match target {
                Some(target) => self.walk(target, rest, path, leads_on, depth),
                None => self.external(from, segments),
            };
        }
        while let Some(first) = rest.first() {
            match first.as_str() {
                "crate" | "self" => {}
                "super" => module = self.modules[module].parent,
                _ => break,
            }
            rest = &rest[1..];
        }
        self.walk(Target::Module(module), rest, path, leads_on, depth)
    }

    /// A name that is not in scope by itself may come from a glob import of another crate.
    fn external(&self, from: usize, segments: &[String]) -> Target {
        let starts_upper = segments[0].starts_with(char::is_uppercase);
        let mut globs = self.modules[from].imports.iter().filter(|import| {
            let head = &import.path.segments[0];
            import.name.is_none()
                && !matches!(head.as_str(), "crate" | "self" | "super")
                && self.look_up_ignoring_globs(from, head, true, 0).is_none()
        });
        match globs.next() {
            Some(glob) if starts_upper => {
                let full = [&glob.path.segments[..], segments].concat();
                Target::External(full)
            }
            _ => Target::External(segments.to_vec()),
        }
    }

    /// Follows the segments of a path from `target` on.
    fn walk(
        &self,
        target: Target,
        rest: &[String],
        path: &PathUse,
        leads_on: bool,
        depth: usize,
    ) -> Target {
        match (target, rest) {
            (Target::Module(module), [name, rest @ ..]) => {
                let leads_further = leads_on || !rest.is_empty();
                match self.look_up(module, name, leads_further, depth + 1) {
                    Some(target) => self.walk(target, rest, path, leads_on, depth + 1),
                    None if self.modules[module].has_item_macros => Target::Item(module),
                    None => Target::Unknown(path.segments.clone()),
                }
            }
            (Target::External(mut found), [_, ..]) => {
                found.extend_from_slice(rest);
                Target::External(found)
            }
            // The end, or a variant or an associated item.
            (target, _) => target,
        }
    }

    /// Looks a name up among the children, items and imports of a module.
    fn look_up(&self, module: usize, name: &str, leads_on: bool, depth: usize) -> Option<Target> {
        if depth > 16 {
            return None;
        }
        let found = self.look_up_ignoring_globs(module, name, leads_on, depth);
        found.or_else(|| {
            let globs = self.modules[module].imports.iter();
            let globs = globs.filter(|import| import.name.is_none());
            let mut found =
                globs.filter_map(
                    |glob| match self.resolve(module, &glob.path, true, depth + 1) {
                        Target::Module(other) if other != module => {
                            self.look_up(other, name, leads_on, depth + 1)
                        }
                        _ => None,
                    },
                );
            found.next()
        })
    }

    fn look_up_ignoring_globs(
        &self,
        module: usize,
        name: &str,
        leads_on: bool,
        depth: usize,
    ) -> Option<Target> {
        let Module {
            children,
            items,
            imports,
            ..
        } = &self.modules[module];
        let item = items.contains(name).then_some(Target::Item(module));
        let child = children.get(name).map(|child| Target::Module(*child));
        let found = if leads_on {
            child.or(item)
        } else {
            item.or(child)
        };
        if found.is_some() {
            return found;
        }
        // `use name::name` means another crate, or it would import itself.
        let mut imports = imports.iter().filter(|import| {
            import.name.as_deref() == Some(name)
                && (import.path.is_global || import.path.segments[0] != name)
        });
        imports
            .next()
            .map(|import| self.resolve(module, &import.path, leads_on, depth + 1))
    }
}

/// A `mod name;` that was met.
struct Declared {
    parent: usize,
    name: String,
    folder: String,
    is_test: bool,
}

/// Reads the tokens of one file.
struct Parser<'a> {
    tokens: &'a [Token],
    at: usize,
    /// Open braces.
    depth: usize,
    /// The module that the current token is in.
    module: usize,
    folder: String,
    /// The modules around the current inline module.
    enclosing: Vec<Enclosing>,
    krate: &'a mut Crate,
    declared: Vec<Declared>,
    is_test: bool,
    /// Whether the next module has a `#[path]`. Its file is not read.
    has_path: bool,
}

struct Enclosing {
    module: usize,
    folder: String,
    /// The depth at which the inline module ends.
    depth: usize,
}

impl Parser<'_> {
    fn run(&mut self) {
        while let Some(token) = self.tokens.get(self.at) {
            match &token.kind {
                TokenKind::Punct('#') => self.attribute(),
                TokenKind::Punct('{') => {
                    self.depth += 1;
                    self.at += 1;
                }
                TokenKind::Punct('}') => self.close_brace(),
                TokenKind::Ident(name) => self.ident(name),
                TokenKind::PathSep => self.path(),
                _ => self.at += 1,
            }
        }
    }

    fn this(&mut self) -> &mut Module {
        &mut self.krate.modules[self.module]
    }

    fn peek(&self, offset: usize) -> Option<&Token> {
        self.tokens.get(self.at + offset)
    }

    fn next_is(&self, offset: usize, punct: char) -> bool {
        self.peek(offset).is_some_and(|token| token.is(punct))
    }

    fn close_brace(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        self.at += 1;
        if let Some(enclosing) = self.enclosing.pop_if(|open| open.depth == self.depth) {
            self.module = enclosing.module;
            self.folder = enclosing.folder;
        }
    }

    fn ident(&mut self, name: &str) {
        let is_top = self.depth == self.enclosing.last().map_or(0, |open| open.depth + 1);
        let follows = self.peek(1).and_then(Token::ident).map(str::to_owned);
        match (name, follows) {
            ("use", _) if !self.next_is(1, '<') => self.use_declaration(),
            ("mod", Some(child)) if self.next_is(2, ';') || self.next_is(2, '{') => {
                self.child_module(&child, self.is_test);
            }
            (
                "fn" | "struct" | "enum" | "union" | "trait" | "type" | "const" | "static",
                Some(item),
            ) if is_top => {
                self.this().items.insert(item);
                self.at += 1;
            }
            ("macro_rules", None) if self.next_is(1, '!') => {
                if let Some(item) = self.peek(2).and_then(Token::ident).map(str::to_owned) {
                    self.this().items.insert(item);
                }
                self.at += 2;
            }
            ("include", None) if self.next_is(1, '!') => {
                self.include("include!");
                self.at += 1;
            }
            _ => {
                self.this().has_item_macros |= is_top && self.next_is(1, '!');
                self.path();
            }
        }
    }

    fn include(&mut self, what: &str) {
        let line = self.tokens[self.at].line;
        self.this().includes.push((what.to_owned(), line));
    }

    /// `mod name;` or `mod name {`, at `mod`.
    fn child_module(&mut self, name: &str, is_test: bool) {
        let is_inline = self.next_is(2, '{');
        self.at += 3;
        if std::mem::take(&mut self.has_path) && !is_inline {
            return;
        }
        if !is_inline {
            self.declared.push(Declared {
                parent: self.module,
                name: name.to_owned(),
                folder: self.folder.clone(),
                is_test,
            });
            return;
        }
        let file = self.this().file.clone();
        let child = self.krate.add_child(self.module, name, &file);
        self.enclosing.push(Enclosing {
            module: self.module,
            folder: self.folder.clone(),
            depth: self.depth,
        });
        self.depth += 1;
        self.module = child;
        self.folder = format!("{}/{name}", self.folder);
    }

    /// An attribute, at `#`. If it makes what follows a test, that is skipped.
    fn attribute(&mut self) {
        let start = self.at + 1 + usize::from(self.next_is(1, '!'));
        if !self.tokens.get(start).is_some_and(|token| token.is('[')) {
            self.at += 1;
            return;
        }
        let end = self.group_end(start);
        let content = &self.tokens[start + 1..end.saturating_sub(1).max(start + 1)];
        if content.first().is_some_and(|token| token.is_ident("path")) {
            self.include("#[path]");
            self.has_path = true;
        }
        let first = content.first().and_then(Token::ident).unwrap_or_default();
        if LINT_LEVELS.contains(&first) {
            self.at = end;
        } else if !is_test(content) {
            // Paths in it, such as those of derives, count.
            self.at = start + 1;
        } else if start > self.at + 1 {
            // `#![cfg(test)]`: the whole file is a test.
            self.at = self.tokens.len();
        } else {
            self.at = end;
            self.skip_item();
        }
    }

    /// Returns the index behind the bracket that closes the one at `open`.
    fn group_end(&self, open: usize) -> usize {
        let mut depth = 0;
        for (index, token) in self.tokens.iter().enumerate().skip(open) {
            match token.kind {
                TokenKind::Punct('(' | '[' | '{') => depth += 1,
                TokenKind::Punct(')' | ']' | '}') => {
                    depth -= 1;
                    if depth == 0 {
                        return index + 1;
                    }
                }
                _ => {}
            }
        }
        self.tokens.len()
    }

    /// Skips an item, a statement, a field, a variant or a match arm with its further attributes. The
    /// files of a module among them are still noted.
    fn skip_item(&mut self) {
        const ITEMS: &[&str] = &[
            "async", "const", "enum", "extern", "fn", "impl", "let", "mod", "pub", "static",
            "struct", "trait", "type", "unsafe", "use",
        ];
        while self.next_is(0, '#') {
            self.at = self.group_end(self.at + 1);
        }
        let first = self.peek(0).and_then(Token::ident);
        let ends_at_comma = !first.is_some_and(|first| ITEMS.contains(&first));
        while let Some(token) = self.tokens.get(self.at) {
            match token.kind {
                TokenKind::Punct('(' | '[') => self.at = self.group_end(self.at),
                TokenKind::Punct('{') => {
                    self.at = self.group_end(self.at);
                    return;
                }
                TokenKind::Punct(';') => {
                    self.at += 1;
                    return;
                }
                TokenKind::Punct(',') if ends_at_comma => {
                    self.at += 1;
                    return;
                }
                // The end of what is around it.
                TokenKind::Punct(')' | ']' | '}') => return,
                TokenKind::Ident(ref name) if name == "mod" && self.next_is(2, ';') => {
                    if let Some(child) = self.peek(1).and_then(Token::ident).map(str::to_owned) {
                        self.child_module(&child, true);
                    }
                    return;
                }
                _ => self.at += 1,
            }
        }
    }

    /// A `use` declaration, at `use`.
    fn use_declaration(&mut self) {
        let is_reexport = self.is_behind_pub();
        self.at += 1;
        let is_global = self.skip_path_sep();
        let mut leaves = Vec::new();
        self.use_tree(&[], &mut leaves);
        for (path, name) in leaves {
            let PathUse { segments, line, .. } = path;
            self.this().imports.push(Import {
                path: PathUse {
                    segments,
                    is_global,
                    line,
                },
                name,
                is_reexport,
            });
        }
    }

    /// Whether the current token follows `pub` or `pub(…)`.
    fn is_behind_pub(&self) -> bool {
        let before = &self.tokens[..self.at];
        let before = match before.last() {
            Some(token) if token.is(')') => {
                let open = before.iter().rposition(|token| token.is('('));
                &before[..open.unwrap_or(0)]
            }
            _ => before,
        };
        before.last().is_some_and(|token| token.is_ident("pub"))
    }

    fn skip_path_sep(&mut self) -> bool {
        let is_sep = self
            .peek(0)
            .is_some_and(|token| token.kind == TokenKind::PathSep);
        self.at += usize::from(is_sep);
        is_sep
    }

    fn use_tree(&mut self, prefix: &[String], leaves: &mut Vec<(PathUse, Option<String>)>) {
        let mut segments = prefix.to_vec();
        while let Some(token) = self.tokens.get(self.at) {
            let line = token.line;
            let path = |segments: &[String]| PathUse {
                segments: segments.to_vec(),
                is_global: false,
                line,
            };
            match &token.kind {
                TokenKind::Punct('*') => {
                    self.at += 1;
                    leaves.push((path(&segments), None));
                    return;
                }
                TokenKind::Punct('{') => {
                    self.at += 1;
                    while self.peek(0).is_some_and(|token| !token.is('}')) {
                        self.use_tree(&segments, leaves);
                        self.at += usize::from(self.next_is(0, ','));
                    }
                    self.at += 1;
                    return;
                }
                TokenKind::Ident(name) => {
                    self.at += 1;
                    // `{self}` means what is before the braces.
                    if name != "self" || segments.is_empty() {
                        segments.push(name.clone());
                    }
                    if self.skip_path_sep() {
                        continue;
                    }
                    let mut name = segments.last().cloned();
                    if self.peek(0).is_some_and(|token| token.is_ident("as")) {
                        name = self.peek(1).and_then(Token::ident).map(str::to_owned);
                        self.at += 2;
                    }
                    leaves.push((path(&segments), name));
                    return;
                }
                _ => {
                    self.at += 1;
                    return;
                }
            }
        }
    }

    /// A path or a single identifier, at its beginning.
    fn path(&mut self) {
        let line = self.tokens[self.at].line;
        let before = self.at.checked_sub(1).map(|at| &self.tokens[at]);
        // After a name or generic arguments, `::` continues something else.
        let continues = before.is_some_and(|token| {
            let is_name = token.ident().is_some_and(|name| !KEYWORDS.contains(&name));
            is_name || token.is('>')
        });
        let is_range = self.at >= 2 && self.tokens[self.at - 2].is('.');
        let is_member = before.is_some_and(|token| token.is('.')) && !is_range;
        let is_placeholder =
            before.is_some_and(|token| token.is('$')) && !self.tokens[self.at].is_ident("crate");
        let is_global = self.skip_path_sep();
        let mut segments = Vec::new();
        while let Some(name) = self.peek(0).and_then(Token::ident) {
            segments.push(name.to_owned());
            self.at += 1;
            if self.peek(1).and_then(Token::ident).is_none() || !self.skip_path_sep() {
                break;
            }
        }
        if is_member || is_placeholder || (is_global && continues) || segments.is_empty() {
            return;
        }
        if !is_global {
            self.this().idents.insert(segments[0].clone());
        }
        if segments.len() > 1 {
            self.this().paths.push(PathUse {
                segments,
                is_global,
                line,
            });
        }
    }
}

/// Attributes whose paths are names of lints.
const LINT_LEVELS: &[&str] = &["allow", "deny", "expect", "forbid", "warn"];

/// Keywords that a path with a leading `::` can follow.
const KEYWORDS: &[&str] = &[
    "as", "break", "dyn", "else", "for", "if", "impl", "in", "match", "mut", "return", "where",
    "while",
];

/// Whether an attribute marks a test: `test`, `cfg(test)` or `cfg(all(test, …))`.
fn is_test(attribute: &[Token]) -> bool {
    let mut words = attribute.iter().filter_map(Token::ident);
    match words.next() {
        Some("test") => true,
        Some("cfg") => match words.next() {
            Some("test") => true,
            Some("all") => words.next() == Some("test"),
            _ => false,
        },
        _ => false,
    }
}
