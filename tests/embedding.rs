//! Tests of tws as a dependency: a crate that depends on it by path compiles and passes its tests, and
//! it has few dependencies itself.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

#[test]
#[ignore = "runs cargo, which compiles tws once more"]
fn embedding_crate_compiles_and_passes_its_tests() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let source = here.join("tests/embed");
    let lines = std::fs::read_to_string(source.join("src/main.rs")).expect("read program");
    let code = lines.lines().filter(|line| !line.is_empty()).count();
    assert!(code <= 20, "a server in {code} lines");
    // The dependency versions of this crate, and no files written beside the source.
    let folder = tempfile::tempdir().expect("create temporary directory");
    let copy = folder.path().join("embed");
    std::fs::create_dir_all(copy.join("src")).expect("create directory");
    for file in ["src/main.rs", "src/tests.rs"] {
        std::fs::copy(source.join(file), copy.join(file)).expect("copy file");
    }
    std::fs::copy(here.join("Cargo.lock"), copy.join("Cargo.lock")).expect("copy file");
    let manifest = std::fs::read_to_string(source.join("Cargo.toml")).expect("read manifest");
    let path = format!("path = {:?}", here.display().to_string());
    let manifest = manifest.replace("path = \"../..\"", &path);
    std::fs::write(copy.join("Cargo.toml"), manifest).expect("write manifest");
    let status = Command::new(env!("CARGO"))
        .args(["test", "--offline", "--quiet"])
        .current_dir(&copy)
        .env("CARGO_TARGET_DIR", here.join("target/embed"))
        .status();
    assert!(status.expect("run cargo").success());
}

/// Counted are the crates that `cargo build` compiles for a program with this single dependency: libraries,
/// procedural macros and the crates of build scripts, tws included.
#[test]
#[ignore = "runs cargo"]
fn library_without_default_features_has_at_most_40_crates() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--offline", "--no-default-features"])
        .args(["--edges=normal,build", "--prefix=none", "--format={p}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("run cargo");
    assert!(output.status.success(), "{output:?}");
    let tree = String::from_utf8(output.stdout).expect("UTF-8");
    // A line is `name version`, and `(*)`, `(proc-macro)` or the path.
    let crates: BTreeSet<_> = tree
        .lines()
        .filter_map(|line| line.split(" (").next())
        .collect();
    assert!(crates.len() <= 40, "{} crates: {crates:#?}", crates.len());
}
