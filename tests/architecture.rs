//! The architecture of the source tree: levels of modules, no import cycles, no I/O in the protocol
//! code, a binary that uses only the public API, and the entries of `src/`.

mod source_tree;
mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;

use source_tree::{Crate, Edge, ExternalUse, Sources, Uses, read_sources};

const LIBRARY: &str = "src/lib.rs";
const BINARY: &str = "src/bin/tws/main.rs";

/// The modules of the library with their levels. A module has the level of its longest prefix in this
/// table and imports only from modules of a lower level. Top-level modules within the same ten do not
/// import each other at all. Each top-level module and each folder has a level. A module
/// and its contents have the same level, as have the files of a folder: there, only import cycles are
/// forbidden.
const LIBRARY_LEVELS: &Levels = &[
    ("calendar", 0),
    ("fair_queue", 0),
    ("panics", 0),
    ("semaphore", 0),
    ("sync", 0),
    ("body", 10),
    ("client_key", 10),
    ("config", 10),
    ("error", 0),
    ("explain_log", 10),
    ("http", 20),
    ("tls", 20),
    ("handler", 30),
    ("proto", 30),
    ("proto::h1", 31),
    ("proto::h2", 31),
    ("proto::h2::hpack", 31),
    ("proto::h2::machine", 32),
    ("proto::protocol", 33),
    ("site", 30),
    ("access_log", 40),
    ("middleware", 40),
    ("websocket", 40),
    ("files", 50),
    ("files::upload::temp_file", 50),
    ("files::root", 51),
    ("files::listing", 52),
    ("files::archive", 53),
    ("files::manage", 53),
    ("files::upload", 52),
    ("net", 50),
    ("net::observe::histogram", 50),
    ("net::bandwidth", 51),
    ("net::event_loop", 51),
    ("net::transport", 51),
    ("net::observe::report", 52),
    ("net::worker::settings", 52),
    ("net::observe::question", 53),
    ("net::worker::message", 54),
    ("net::blocking", 55),
    ("net::connection", 56),
    ("net::observe", 56),
    ("net::worker", 57),
    ("net::accept", 58),
    ("server", 60),
    ("admin", 70),
    ("bench", 70),
];

/// The same for the binary.
const BINARY_LEVELS: &Levels = &[
    ("cli", 0),
    ("sync", 0),
    ("confinement", 10),
    ("terminal::addresses", 10),
    ("acme", 20),
    ("users", 20),
    ("services", 30),
    ("services::acme", 31),
    ("terminal", 40),
    ("lifecycle", 50),
    ("commands", 60),
];

/// What `src/` contains.
const ENTRIES: &[&str] = &[
    "access_log",
    "admin",
    "bench.rs",
    "bin",
    "body",
    "calendar.rs",
    "client_key.rs",
    "config",
    "error.rs",
    "explain_log.rs",
    "fair_queue.rs",
    "files",
    "handler",
    "http",
    "lib.rs",
    "middleware",
    "net",
    "panics.rs",
    "proto",
    "semaphore.rs",
    "server",
    "site",
    "sync.rs",
    "tls",
    "websocket",
];

/// Input, output and clocks.
const IO: &[&str] = &[
    "mio",
    "nix",
    "rustix",
    "socket2",
    "std::fs",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::os::unix::net",
    "std::thread",
    "std::time::Instant::now",
    "std::time::SystemTime::now",
];

/// Modules of the library with what they must not use. `http`, `proto` and `websocket` are values and state
/// machines; sockets and event loops belong to `net` alone.
const FORBIDDEN: &[(&[&str], &[&str])] = &[
    (&["http", "proto", "websocket"], IO),
    (
        &[
            "access_log",
            "admin",
            "body",
            "files",
            "handler",
            "middleware",
            "server",
            "site",
            "tls",
        ],
        &["mio"],
    ),
];

/// The crates that the binary may use without a line in the manifest. Of `tws` it may use what is
/// documented, so not `tws::bench`.
const BUILT_IN: &[&str] = &["alloc", "core", "std", "tws"];

/// Types that paths begin with, such as `u32::MAX`.
const PRIMITIVES: &[&str] = &[
    "bool", "char", "f32", "f64", "i8", "i16", "i32", "i64", "i128", "isize", "str", "u8", "u16",
    "u32", "u64", "u128", "usize",
];

/// A breach of a rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Violation {
    /// An import from the same or a higher level.
    Level { from: String, to: String },
    /// A module that has no level.
    NoLevel(String),
    /// Files that import each other, directly or through others.
    Cycle(Vec<String>),
    /// Input, output or a clock in code that must not have them.
    Io { from: String, path: String },
    /// A crate that the binary must not use, or an undocumented part of the library.
    BinaryUses { from: String, path: String },
    /// `#[path]` or `include!`, with which a module could be part of both crates.
    Include { from: String, what: String },
    /// A path that the test cannot follow.
    Unresolved(String),
    /// A source file that is in no crate.
    Orphan(String),
    /// An entry of `src/` that should not be there.
    UnexpectedEntry(String),
    /// An entry that should be there.
    MissingEntry(String),
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Level { from, to } => write!(f, "{from} imports {to}, which is not below it"),
            Self::NoLevel(module) => write!(f, "module {module} has no level in this test"),
            Self::Cycle(files) => write!(f, "import cycle:\n    {}", files.join("\n    ")),
            Self::Io { from, path } => write!(f, "{from}: I/O or a clock: {path}"),
            Self::BinaryUses { from, path } => write!(f, "{from}: not for the binary: {path}"),
            Self::Include { from, what } => write!(f, "{from}: {what}"),
            Self::Unresolved(path) => write!(f, "{path}: cannot be resolved by this test"),
            Self::Orphan(file) => write!(f, "{file}: not part of a crate"),
            Self::UnexpectedEntry(name) => write!(f, "src/{name}: not expected in src"),
            Self::MissingEntry(name) => write!(f, "src/{name}: missing"),
        }
    }
}

type Levels = [(&'static str, u32)];

/// Checks the levels of a crate's modules.
fn check_levels(krate: &Crate, uses: &Uses, levels: &Levels) -> BTreeSet<Violation> {
    let level = |path: &[String]| {
        let name = path.join("::");
        let found = levels.iter().find(|(module, _)| *module == name);
        found.map(|(_, level)| *level)
    };
    let mut found = BTreeSet::new();
    let root = &krate.modules[0].file;
    for module in krate.modules.iter().filter(|module| module.file != *root) {
        let needs_level = module.path.len() == 1 || module.file.ends_with("/mod.rs");
        if needs_level && level(&module.path).is_none() {
            found.insert(Violation::NoLevel(module.path.join("::")));
        }
    }
    let mut upwards: BTreeMap<(&str, String), usize> = BTreeMap::new();
    for Edge { from, to, line } in &uses.edges {
        let (from, to) = (&krate.modules[*from], &krate.modules[*to]);
        let pairs = from.path.iter().zip(&to.path);
        let common = pairs.take_while(|(from, to)| from == to).count();
        // The level of the innermost module that does not contain both.
        let own_level = |path: &[String]| {
            let lengths = (common + 1..=path.len()).rev();
            lengths.filter_map(|len| level(path.get(..len)?)).next()
        };
        if let (Some(own), Some(other)) = (own_level(&from.path), own_level(&to.path))
            && (other >= own || (common == 0 && other / 10 == own / 10))
        {
            // One violation for each pair of files, with its first line.
            upwards
                .entry((&from.file, to.path.join("::")))
                .or_insert(*line);
        }
    }
    found.extend(
        upwards
            .into_iter()
            .map(|((from, to), line)| Violation::Level {
                from: format!("{from}:{line}"),
                to,
            }),
    );
    found
}

/// Finds the strongly connected components of the import graph of files that have more than one file.
fn check_cycles(krate: &Crate, uses: &Uses) -> BTreeSet<Violation> {
    let mut graph: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for Edge { from, to, line } in &uses.edges {
        let (from, to) = (&krate.modules[*from].file, &krate.modules[*to].file);
        graph.entry(from).or_default().entry(to).or_insert(*line);
    }
    let reached: BTreeMap<&str, BTreeSet<&str>> = graph
        .keys()
        .map(|start| {
            let mut seen = BTreeSet::new();
            let mut pending = vec![*start];
            while let Some(file) = pending.pop() {
                let next = graph.get(file).into_iter().flat_map(BTreeMap::keys);
                pending.extend(next.copied().filter(|next| seen.insert(*next)));
            }
            (*start, seen)
        })
        .collect();
    let is_mutual = |one: &str, other: &str| {
        let reaches =
            |from: &str, to: &str| reached.get(from).is_some_and(|seen| seen.contains(to));
        reaches(one, other) && reaches(other, one)
    };
    let mut found = BTreeSet::new();
    for start in graph.keys().filter(|file| is_mutual(file, file)) {
        let mut imports = Vec::new();
        for (from, targets) in graph.iter().filter(|(from, _)| is_mutual(start, from)) {
            for (to, line) in targets.iter().filter(|(to, _)| is_mutual(start, to)) {
                imports.push(format!("{from}:{line} -> {to}"));
            }
        }
        found.insert(Violation::Cycle(imports));
    }
    found
}

/// Checks that modules do not use what is forbidden to them outside of the crate.
fn check_io(krate: &Crate, uses: &Uses) -> BTreeSet<Violation> {
    let is_forbidden = |module: &str, path: &[String]| {
        FORBIDDEN.iter().any(|(modules, forbidden)| {
            modules.contains(&module) && forbidden.iter().any(|one| begins_with(path, one))
        })
    };
    let mut found = BTreeSet::new();
    for ExternalUse { from, path, line } in &uses.externals {
        let from = &krate.modules[*from];
        if from.path.first().is_some_and(|top| is_forbidden(top, path)) {
            found.insert(Violation::Io {
                from: format!("{}:{line}", from.file),
                path: path.join("::"),
            });
        }
    }
    found
}

/// Whether `path` is `prefix` or within it, or a glob import that brings the last name of `prefix` into
/// scope.
fn begins_with(path: &[String], prefix: &str) -> bool {
    let prefix: Vec<&str> = prefix.split("::").collect();
    let is_glob = path.last().is_some_and(|last| last == "*");
    let len = path.len() - usize::from(is_glob);
    let common = prefix.iter().zip(&path[..len]);
    let common = common.take_while(|(one, other)| one == other).count();
    common == prefix.len() || (is_glob && common == len && len + 1 == prefix.len())
}

/// Checks what the binary uses. `crates` are those of its manifest.
fn check_binary(krate: &Crate, uses: &Uses, crates: &BTreeSet<String>) -> BTreeSet<Violation> {
    let mut found = BTreeSet::new();
    for ExternalUse { from, path, line } in &uses.externals {
        let head = path[0].as_str();
        // Generic parameters, types of the prelude and primitive types.
        let is_type = head.starts_with(char::is_uppercase) || PRIMITIVES.contains(&head);
        let is_allowed = BUILT_IN.contains(&head) || crates.contains(head);
        let is_internal = begins_with(path, "tws::bench");
        if !is_type && (!is_allowed || is_internal) {
            found.insert(Violation::BinaryUses {
                from: format!("{}:{line}", krate.modules[*from].file),
                path: path.join("::"),
            });
        }
    }
    found
}

/// Checks what concerns both crates: nothing is unresolved, included from elsewhere, or left over.
fn check_sources(sources: &Sources, crates: &[(&Crate, &Uses)]) -> BTreeSet<Violation> {
    let mut found = BTreeSet::new();
    for (krate, uses) in crates {
        found.extend(uses.unknown.iter().cloned().map(Violation::Unresolved));
        for module in &krate.modules {
            found.extend(
                module
                    .includes
                    .iter()
                    .map(|(what, line)| Violation::Include {
                        from: format!("{}:{line}", module.file),
                        what: what.clone(),
                    }),
            );
        }
    }
    let is_used = |file: &&String| crates.iter().any(|(krate, _)| krate.files.contains(*file));
    let orphans = sources.keys().filter(|file| !is_used(file));
    found.extend(orphans.cloned().map(Violation::Orphan));
    found
}

fn check_entries(entries: &BTreeSet<String>) -> BTreeSet<Violation> {
    let expected: BTreeSet<String> = ENTRIES.iter().map(|name| (*name).to_owned()).collect();
    let unexpected = entries.difference(&expected).cloned();
    let missing = expected.difference(entries).cloned();
    unexpected
        .map(Violation::UnexpectedEntry)
        .chain(missing.map(Violation::MissingEntry))
        .collect()
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The crates of the manifest's `[dependencies]`.
fn dependencies() -> BTreeSet<String> {
    let manifest = fs::read_to_string(project().join("Cargo.toml")).expect("the manifest");
    let manifest: toml::Table = manifest.parse().expect("TOML");
    let names = manifest["dependencies"].as_table().expect("a table").keys();
    names.map(|name| name.replace('-', "_")).collect()
}

#[test]
fn source_tree_keeps_the_architecture() {
    let sources = read_sources(project(), "src");
    let library = Crate::parse(&sources, LIBRARY);
    let binary = Crate::parse(&sources, BINARY);
    let (library_uses, binary_uses) = (library.uses(), binary.uses());
    assert!(library_uses.edges.len() > 300 && binary_uses.edges.len() > 50);
    let entries = fs::read_dir(project().join("src")).expect("src");
    let entries = entries.map(|entry| entry.expect("an entry").file_name());
    let entries = entries.map(|name| name.into_string().expect("UTF-8"));

    let found: BTreeSet<String> = [
        check_levels(&library, &library_uses, LIBRARY_LEVELS),
        check_levels(&binary, &binary_uses, BINARY_LEVELS),
        check_cycles(&library, &library_uses),
        check_cycles(&binary, &binary_uses),
        check_io(&library, &library_uses),
        check_binary(&binary, &binary_uses, &dependencies()),
        check_sources(
            &sources,
            &[(&library, &library_uses), (&binary, &binary_uses)],
        ),
        check_entries(&entries.collect()),
    ]
    .into_iter()
    .flatten()
    .map(|violation| violation.to_string())
    .collect();
    let count = found.len();
    let list: String = found.iter().map(|it| format!("  {it}\n")).collect();
    assert!(found.is_empty(), "{count} violations:\n{list}");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A library with a module of each kind that the tables below refer to.
    const FRAME: &[(&str, &str)] = &[
        (
            "src/lib.rs",
            "mod config; mod files; mod http; mod net; mod proto;
             pub use net::worker::Worker as PublicWorker;
             pub mod public { pub use crate::net::worker::*; }",
        ),
        ("src/config.rs", "pub struct Config;"),
        ("src/http/mod.rs", "pub mod date;"),
        ("src/http/date.rs", ""),
        ("src/net/mod.rs", "pub mod event_loop; pub mod worker;"),
        ("src/net/event_loop/mod.rs", "pub struct Mailbox;"),
        (
            "src/net/worker/mod.rs",
            "pub struct Worker; pub fn run() {}",
        ),
        ("src/proto/mod.rs", ""),
        ("src/files.rs", ""),
    ];

    /// Replaces or adds files of [`FRAME`] and returns all violations of the library's rules.
    fn violations(files: &[(&str, &str)]) -> BTreeSet<Violation> {
        let frame = FRAME.iter().chain(files);
        let sources: Sources = frame
            .map(|(path, text)| ((*path).to_owned(), (*text).to_owned()))
            .collect();
        let library = Crate::parse(&sources, LIBRARY);
        let uses = library.uses();
        [
            check_levels(&library, &uses, LIBRARY_LEVELS),
            check_cycles(&library, &uses),
            check_io(&library, &uses),
            check_sources(&sources, &[(&library, &uses)]),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    fn only(violation: Violation) -> BTreeSet<Violation> {
        BTreeSet::from([violation])
    }

    #[test]
    fn import_of_higher_level_is_found_in_every_form() {
        for text in [
            "use crate::net::worker::Worker;",
            "use crate::{config::Config, net::{worker::{self, Worker}}};",
            "use super::super::net::worker::Worker;",
            "use crate::net as other; fn f() { other::worker::run(); }",
            "use crate::net::worker::Worker as Config;",
            "pub(crate) use crate::net::worker::Worker; fn f(_: Worker) {}",
            "fn f() -> crate::net::worker::Worker { todo!() }",
            "fn f() { if 1 < 2 { super::super::net::worker::run() } }",
            "fn f() { use crate::net::worker::run as g; g() }",
            "use crate::net::worker::*; fn f(_: Worker) {}",
            "use crate::net::worker::{*}; fn f() { run() }",
            "#[cfg(feature = \"tls\")] use crate::net::worker::Worker;",
            "#[cfg(not(test))] use crate::net::worker::Worker;",
            "#[derive(crate::net::worker::Worker)] struct S;",
            "mod inner { use super::super::super::net::worker::Worker; }",
            "mod inner { mod deeper { fn f() { crate::net::worker::run() } } }",
            "macro_rules! m { () => { $crate::net::worker::run() } }",
            "fn f() { println!(\"{}\", crate::net::worker::run()) }",
            "fn f<T>() { g::<T>(..crate::net::worker::run()) }",
            "struct S { field: Vec<crate::net::worker::Worker> }",
            "impl crate::net::worker::Worker { fn f() {} }",
            "const C: char = '\"'; use crate::net::worker::Worker; const D: char = '\"';",
            "// a comment\nuse crate::net::worker::Worker; /* another */",
            // Through a re-export.
            "use crate::PublicWorker;",
            "use crate::public::Worker;",
            "fn f(_: crate::public::Worker) {}",
            "use crate::public; fn f(_: public::Worker) {}",
        ] {
            let found = violations(&[("src/http/date.rs", text)]);
            let [Violation::Level { to, .. }] = &Vec::from_iter(found.clone())[..] else {
                panic!("{text}: {found:?}");
            };
            assert_eq!(to, "net::worker", "{text}");
        }
    }

    #[test]
    fn allowed_imports_are_no_violation() {
        for text in [
            "use crate::config::Config;",
            "use super::super::config::{self, Config};",
            // A re-export is not a use.
            "pub(crate) use crate::net::worker::Worker;",
            "// use crate::net::worker::Worker;",
            "/* use /* nested */ crate::net::worker::Worker; */",
            "/// [`Worker`](crate::net::worker::Worker)\nstruct S;",
            "const S: &str = \"crate::net::worker::Worker\\\" crate::net::worker::Worker\";",
            "const S: &str = r#\"crate::net::worker::Worker\" crate::net::worker::Worker\"#;",
            "#[cfg(test)] use crate::net::worker::Worker;",
            "#[cfg(test)] mod tests { use crate::net::worker::Worker; }",
            "#[cfg(all(test, feature = \"tls\"))] fn f() { crate::net::worker::run() }",
            "#[test] fn f() { crate::net::worker::run() }",
            "struct S { #[cfg(test)] field: crate::net::worker::Worker, other: u8 }",
            "fn f<'a>(_: &'a str) {} fn net() { worker::run() }",
        ] {
            assert_eq!(
                violations(&[("src/http/date.rs", text)]),
                BTreeSet::new(),
                "{text}"
            );
        }
    }

    #[test]
    fn test_files_are_not_checked_but_belong_to_the_crate() {
        let files = [
            ("src/http/date.rs", "#[cfg(test)] mod tests;"),
            (
                "src/http/date/tests.rs",
                "mod deeper; use crate::net::worker::Worker;",
            ),
            (
                "src/http/date/tests/deeper.rs",
                "fn f() { std::fs::read(\"\"); }",
            ),
        ];
        assert_eq!(violations(&files), BTreeSet::new());
    }

    #[test]
    fn folders_within_a_module_have_levels() {
        let upwards = [(
            "src/net/event_loop/mod.rs",
            "use super::worker::Worker; pub struct Mailbox;",
        )];
        let expected = Violation::Level {
            from: "src/net/event_loop/mod.rs:1".to_owned(),
            to: "net::worker".to_owned(),
        };
        assert_eq!(violations(&upwards), only(expected));
        let downwards = [(
            "src/net/worker/mod.rs",
            "use crate::net::event_loop::Mailbox; pub struct Worker;",
        )];
        assert_eq!(violations(&downwards), BTreeSet::new());
    }

    #[test]
    fn modules_of_the_same_ten_are_independent() {
        let net_uses_files = [
            ("src/files.rs", "pub struct StaticFiles;"),
            ("src/net/mod.rs", "pub mod event_loop; pub mod worker;"),
            (
                "src/net/event_loop/mod.rs",
                "use crate::files::StaticFiles;",
            ),
        ];
        let files_use_net = [("src/files.rs", "use crate::net::event_loop::Mailbox;")];
        for files in [&net_uses_files[..], &files_use_net] {
            let found = Vec::from_iter(violations(files));
            assert!(matches!(found[..], [Violation::Level { .. }]), "{found:?}");
        }
    }

    #[test]
    fn event_loop_outside_of_net_is_found() {
        let text = "use mio::{Poll, Token};";
        let found = violations(&[("src/files.rs", text)]);
        assert_eq!(found.len(), 2);
        assert!(found.iter().all(|it| matches!(it, Violation::Io { .. })));
        assert_eq!(
            violations(&[("src/net/event_loop/mod.rs", text)]),
            BTreeSet::new()
        );
    }

    #[test]
    fn module_without_level_is_found() {
        let files = [
            ("src/proto/mod.rs", "mod h3; mod file;"),
            ("src/proto/h3/mod.rs", ""),
            ("src/proto/file.rs", ""),
        ];
        let expected = Violation::NoLevel("proto::h3".to_owned());
        assert_eq!(violations(&files), only(expected));
    }

    #[test]
    fn import_cycles_are_found() {
        const ONE: (&str, &str) = ("src/proto/mod.rs", "mod a; mod b; mod c;");
        let cycle = |imports: &[&str]| {
            let imports = imports.iter().map(|import| format!("src/proto/{import}"));
            only(Violation::Cycle(imports.collect()))
        };
        let two = [
            ONE,
            ("src/proto/a.rs", "use super::b::B; pub struct A;"),
            ("src/proto/b.rs", "pub struct B(crate::proto::a::A);"),
            ("src/proto/c.rs", "use super::a::A;"),
        ];
        assert_eq!(
            violations(&two),
            cycle(&["a.rs:1 -> src/proto/b.rs", "b.rs:1 -> src/proto/a.rs"])
        );
        let three = [
            ONE,
            ("src/proto/a.rs", "use super::b::B; pub struct A;"),
            ("src/proto/b.rs", "\nuse super::c::C; pub struct B;"),
            ("src/proto/c.rs", "\n\nuse super::a::A; pub struct C;"),
        ];
        let three_imports = [
            "a.rs:1 -> src/proto/b.rs",
            "b.rs:2 -> src/proto/c.rs",
            "c.rs:3 -> src/proto/a.rs",
        ];
        assert_eq!(violations(&three), cycle(&three_imports));
        let behind_reexport = [
            (
                "src/proto/mod.rs",
                "mod a; mod b; mod c; pub use a::A; pub use b::*;",
            ),
            ("src/proto/a.rs", "use super::B; pub struct A;"),
            (
                "src/proto/b.rs",
                "\nuse super::c::Alias; pub struct B(Alias);",
            ),
            (
                "src/proto/c.rs",
                "\n\npub use super::A as Alias; fn f(_: Alias) {}",
            ),
        ];
        // The alias leads to `A`, so `c` is not on the cycle.
        assert_eq!(
            violations(&behind_reexport),
            cycle(&["a.rs:1 -> src/proto/b.rs", "b.rs:2 -> src/proto/a.rs"])
        );
        let parent = [
            ("src/proto/mod.rs", "mod a; use a::A; pub struct Parent(A);"),
            ("src/proto/a.rs", "use super::Parent; pub struct A;"),
        ];
        assert_eq!(
            violations(&parent),
            cycle(&["a.rs:1 -> src/proto/mod.rs", "mod.rs:1 -> src/proto/a.rs"])
        );
    }

    #[test]
    fn declarations_and_reexports_are_no_cycle() {
        let reexports = [
            (
                "src/proto/mod.rs",
                "mod a; mod b; pub use a::A; pub(crate) use b::*; pub struct Shared;",
            ),
            ("src/proto/a.rs", "use super::{B, Shared}; pub struct A;"),
            ("src/proto/b.rs", "use crate::proto::Shared; pub struct B;"),
        ];
        assert_eq!(violations(&reexports), BTreeSet::new());
        let downwards = [
            ("src/proto/mod.rs", "mod a; mod b; fn f(_: a::A) {}"),
            ("src/proto/a.rs", "use super::b::B; pub struct A;"),
            ("src/proto/b.rs", "pub struct B;"),
        ];
        assert_eq!(violations(&downwards), BTreeSet::new());
    }

    #[test]
    fn io_in_pure_modules_is_found() {
        for (text, path) in [
            ("use std::fs;", "std::fs"),
            ("use std::{io, fs::File};", "std::fs::File"),
            ("use std::*;", "std::*"),
            ("use std::fs as other;", "std::fs"),
            ("fn f() { std::fs::read(\"\"); }", "std::fs::read"),
            ("fn f() { ::std::thread::spawn(g); }", "std::thread::spawn"),
            (
                "use std::net::{IpAddr, TcpStream as S};",
                "std::net::TcpStream",
            ),
            (
                "use std::os::unix::net::UnixStream;",
                "std::os::unix::net::UnixStream",
            ),
            ("use mio::Poll;", "mio::Poll"),
            ("fn f() { rustix::fs::openat(g); }", "rustix::fs::openat"),
            (
                "fn f() { std::time::Instant::now(); }",
                "std::time::Instant::now",
            ),
            (
                "use std::time::Instant as Clock; fn f() { g(Clock::now) }",
                "std::time::Instant::now",
            ),
            (
                "use std::time; fn f() { time::SystemTime::now(); }",
                "std::time::SystemTime::now",
            ),
            (
                "use std::time::*; fn f() { Instant::now(); }",
                "std::time::Instant::now",
            ),
            (
                "#[cfg(feature = \"tls\")] fn f() { std::thread::park() }",
                "std::thread::park",
            ),
        ] {
            for file in ["src/http/date.rs", "src/proto/mod.rs"] {
                let expected = Violation::Io {
                    from: format!("{file}:1"),
                    path: path.to_owned(),
                };
                assert_eq!(violations(&[(file, text)]), only(expected), "{text}");
            }
            assert_eq!(violations(&[("src/config.rs", text)]), BTreeSet::new());
        }
    }

    #[test]
    fn pure_modules_may_use_values_and_test_with_io() {
        for text in [
            "use std::net::{IpAddr, SocketAddr};",
            "use std::time::{Duration, Instant}; fn f(now: Instant) -> Duration { now - now }",
            "#[cfg(test)] mod tests { fn f() { std::fs::read(\"\"); } }",
            "mod fs {} fn f() { fs::read() }",
        ] {
            let found = violations(&[("src/http/date.rs", text)]);
            let found = found
                .into_iter()
                .filter(|it| matches!(it, Violation::Io { .. }));
            assert_eq!(found.count(), 0, "{text}");
        }
    }

    #[test]
    fn binary_uses_only_the_public_api_and_its_dependencies() {
        let check = |text: &str| {
            let sources = Sources::from([(BINARY.to_owned(), text.to_owned())]);
            let binary = Crate::parse(&sources, BINARY);
            let crates = BTreeSet::from(["clap".to_owned()]);
            let found = check_binary(&binary, &binary.uses(), &crates);
            let paths = found.into_iter().map(|violation| match violation {
                Violation::BinaryUses { path, .. } => path,
                other => panic!("{other:?}"),
            });
            paths.collect::<Vec<_>>()
        };
        for (text, path) in [
            ("use tws::bench::HeadParser;", "tws::bench::HeadParser"),
            ("use tws::{Server, bench as b};", "tws::bench"),
            ("fn f() { tempfile::tempdir(); }", "tempfile::tempdir"),
        ] {
            assert_eq!(check(text), [path], "{text}");
        }
        for text in [
            "use tws::Server; use clap::Parser; use std::fs;",
            "#[allow(clippy::unused)] fn f<T: Default>() { T::default(); u8::from(Self::X); }",
            "#[cfg(test)] use tempfile::tempdir;",
        ] {
            assert_eq!(check(text), [""; 0], "{text}");
        }
    }

    #[test]
    fn foreign_orphaned_and_unresolved_sources_are_found() {
        let include = |what: &str| Violation::Include {
            from: "src/config.rs:1".to_owned(),
            what: what.to_owned(),
        };
        for (text, expected) in [
            (
                "#[path = \"bin/tws/main.rs\"] mod main;",
                include("#[path]"),
            ),
            ("include!(\"bin/tws/main.rs\");", include("include!")),
            (
                "use crate::http::missing::Name;",
                Violation::Unresolved("src/config.rs:1: crate::http::missing::Name".to_owned()),
            ),
        ] {
            assert_eq!(
                violations(&[("src/config.rs", text)]),
                only(expected),
                "{text}"
            );
        }
        let expected = Violation::Orphan("src/left_over.rs".to_owned());
        assert_eq!(violations(&[("src/left_over.rs", "")]), only(expected));
    }

    #[test]
    fn entries_of_src_are_exactly_the_expected_ones() {
        let mut entries: BTreeSet<String> = ENTRIES.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(check_entries(&entries), BTreeSet::new());
        entries.remove("http");
        entries.insert("util.rs".to_owned());
        let expected = BTreeSet::from([
            Violation::UnexpectedEntry("util.rs".to_owned()),
            Violation::MissingEntry("http".to_owned()),
        ]);
        assert_eq!(check_entries(&entries), expected);
    }
}
