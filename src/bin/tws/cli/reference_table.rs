//! The table of all settings in `.readme/reference.md`, generated from `flags` and kept current by a
//! test.

use std::fmt::Write;
use std::path::Path;

use clap::{Arg, Command};

use super::command;
use super::flags::{self, FileKey};

/// The cells of one setting.
struct Row<'a> {
    heading: &'a str,
    flag: String,
    key: String,
    variable: String,
    default: String,
    meaning: String,
}

/// Returns the tables in Markdown, one for each heading.
pub(super) fn table() -> String {
    let mut command = command::serve();
    command.build();
    let mut text = String::from(
        "Flags take precedence over environment variables, and those over the file (`--config`, else \
         `PATH/.tws.toml`).\nThe values of a setting all come from the first of these that names it. \
         Keys with a † are only\nallowed in a file that `--config` names; paths there are relative to it. \
         In the environment, a setting\nthat may be repeated has one value on each line.\n",
    );
    let mut heading = "";
    for row in rows(&command) {
        if row.heading != heading {
            heading = row.heading;
            let _ = write!(
                text,
                "\n### {heading}\n\n| flag | key | variable | default | meaning |\n|---|---|---|---|---|\n"
            );
        }
        let cells = [row.flag, row.key, row.variable, row.default, row.meaning];
        let cells = cells.map(|cell| cell.replace('|', "\\|"));
        let _ = writeln!(text, "| {} |", cells.join(" | "));
    }
    text
}

fn rows(command: &Command) -> impl Iterator<Item = Row<'_>> {
    command::settings(command).filter_map(|(arg, long)| {
        let key = match flags::key(long) {
            FileKey::NotInFile => "–".to_owned(),
            FileKey::Site(key) => format!("`{key}`"),
            FileKey::ConfigOnly(key) => format!("`{key}` †"),
        };
        let help = arg.get_long_help()?.to_string();
        let (help, last) = help.rsplit_once("\n\n")?;
        let default = match last.split_once("[default: ") {
            Some((_, default)) => default.rsplit_once("] [env: ")?.0.to_owned(),
            None => default(arg),
        };
        let several = match arg.get_value_delimiter() {
            Some(_) => ". Commas separate several values",
            None => "",
        };
        Some(Row {
            heading: arg.get_help_heading()?,
            flag: format!("`{}`", flag(arg, long)),
            key,
            variable: format!("`{}`", command::variable(arg)?),
            default,
            meaning: help
                .replacen("\n\n", ". ", 1)
                .trim_end_matches('.')
                .to_owned()
                + several,
        })
    })
}

/// Returns the default that clap knows. That of a switch, no, is hidden, as it is obvious.
fn default(arg: &Arg) -> String {
    if arg.is_hide_default_value_set() {
        return String::new();
    }
    let values = arg.get_default_values().iter();
    let values: Vec<_> = values.map(|value| value.to_string_lossy()).collect();
    values.join(", ")
}

fn flag(arg: &Arg, long: &str) -> String {
    let short = arg.get_short().map(|short| format!("-{short}, "));
    let value = arg.get_value_names().and_then(<[_]>::first);
    let value = match (value, arg.get_num_args()) {
        _ if !arg.get_action().takes_values() => String::new(),
        (Some(value), Some(count)) if count.min_values() == 0 => format!("[={value}]"),
        (Some(value), _) => format!(" {value}"),
        _ => String::new(),
    };
    format!("{}--{long}{value}", short.unwrap_or_default())
}

/// `TWS_BLESS=1 cargo test reference` rewrites the file.
#[test]
fn reference_file_equals_generated_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(".readme/reference.md");
    if std::env::var_os("TWS_BLESS").is_some() {
        std::fs::write(&path, table()).expect("a file");
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == table(),
        "{} differs from the flags; run TWS_BLESS=1 cargo test reference",
        path.display()
    );
}
