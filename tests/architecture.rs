//! The architecture, kept by a test: a module imports only from floors below its own.

use std::fs;
use std::path::{Path, PathBuf};

/// Each module of the crate with its floor; see the crate's documentation.
const FLOORS: &[(&str, u32)] = &[
    ("decision", 0),
    ("client", 1),
    ("http", 1),
    ("config", 1),
    ("error", 1),
    ("site", 2),
    ("tls", 2),
    ("handler", 2),
    ("h1", 2),
    ("access_log", 3),
    ("router", 3),
    ("files", 3),
    ("middleware", 3),
    ("users", 4),
    ("net", 4),
    ("server", 5),
    ("admin", 6),
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn floor(module: &str) -> Option<u32> {
    let found = FLOORS.iter().find(|(name, _)| *name == module);
    found.map(|(_, floor)| *floor)
}

/// The modules of ours that a file names with `crate::`.
fn imports(text: &str) -> impl Iterator<Item = &str> {
    text.split("crate::").skip(1).map(|behind| {
        let end = behind.find(|letter: char| !letter.is_alphanumeric() && letter != '_');
        &behind[..end.unwrap_or(behind.len())]
    })
}

#[test]
fn modules_import_only_from_below() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut checked = 0;
    for path in sources(&src) {
        let inside = path.strip_prefix(&src).expect("a source");
        let first = inside.iter().next().expect("a name").to_string_lossy();
        let module = first.trim_end_matches(".rs");
        if matches!(
            module,
            "main"
                | "admin_listener"
                | "app"
                | "banner"
                | "browser"
                | "cli"
                | "dangers"
                | "check"
                | "reload"
                | "diagnostics"
                | "explain"
                | "https"
                | "inheritance"
                | "privileges"
                | "sandbox"
                | "serve"
                | "signals"
                | "state"
                | "supervisor"
                | "tui"
                | "upgrade"
                | "lib"
                | "bench"
        ) {
            continue;
        }
        let own = floor(module).unwrap_or_else(|| panic!("{module} has no floor in this test"));
        let text = fs::read_to_string(&path).expect("a source");
        for import in imports(&text) {
            let Some(other) = floor(import) else {
                continue;
            };
            assert!(
                other < own || import == module,
                "{} (floor {own}) imports {import} (floor {other})",
                inside.display()
            );
            checked += 1;
        }
    }
    assert!(checked > 30, "only {checked} imports were found");
}

#[test]
fn the_pure_floors_know_no_io() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let forbidden = [
        ("h1", "mio"),
        ("h1", "std::net::Tcp"),
        ("h1", "Instant::now"),
        ("h1", "SystemTime::now"),
        ("http", "mio"),
        ("files", "mio"),
        ("net", "crate::files"),
    ];
    for (module, word) in forbidden {
        for path in sources(&src.join(module)) {
            if path.file_name().is_some_and(|name| name == "tests.rs") {
                continue;
            }
            let text = fs::read_to_string(&path).expect("a source");
            let code = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            let found = code.into_iter().find(|line| line.contains(word));
            assert!(found.is_none(), "{}: {found:?}", path.display());
        }
    }
}
