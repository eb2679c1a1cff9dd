//! The wording of errors in the settings: one line each, `subject: cause; remedy`.

use std::error::Error as _;
use std::fs;
use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::{command, subcommand};

/// Names that other servers have for some flags, and the flag.
const OTHER_NAMES: &[(&str, &str)] = &[("--log", "--access-log"), ("--threads", "--workers")];

/// Operands that are likely meant as a flag, and the flag.
const OPERANDS_FOR_FLAGS: &[(&str, &str)] = &[("help", "--help"), ("version", "--version")];

/// Returns an error in the arguments as one line that begins with the flag.
pub(super) fn line(error: &clap::Error) -> String {
    match subject(error) {
        Some(subject) => format!("{subject}: {}", reason(error)),
        None => reason(error),
    }
}

/// Returns cause and remedy of an error without the flag: for variables and keys of a file.
pub(super) fn reason(error: &clap::Error) -> String {
    let value = || text(error, ContextKind::InvalidValue).unwrap_or_default();
    match error.kind() {
        ErrorKind::ValueValidation => {
            let source = error.source().map(ToString::to_string);
            let own = || text(error, ContextKind::Custom).map(str::to_owned);
            source.or_else(own).unwrap_or_else(|| rendered(error))
        }
        ErrorKind::InvalidValue if value().is_empty() => {
            let usage = text(error, ContextKind::InvalidArg).unwrap_or_default();
            format!("the value is missing; give {usage}")
        }
        ErrorKind::InvalidValue => match error.get(ContextKind::ValidValue) {
            Some(ContextValue::Strings(values)) => {
                format!("must be one of {} (got {:?})", values.join(", "), value())
            }
            _ => rendered(error),
        },
        ErrorKind::UnknownArgument => match text(error, ContextKind::InvalidArg) {
            Some(flag) if flag.starts_with('-') => {
                format!("unknown flag; {}", advice_on_flag(flag))
            }
            _ => "unexpected argument; a folder with the name of a subcommand is ./NAME".to_owned(),
        },
        ErrorKind::TooManyValues => format!("takes no value (got {:?})", value()),
        ErrorKind::ArgumentConflict => "given more than once; give one value".to_owned(),
        ErrorKind::MissingRequiredArgument => {
            "SHELL is missing; give one, as in `tws completions bash`".to_owned()
        }
        ErrorKind::InvalidUtf8 => "an argument is not UTF-8; only paths need not be".to_owned(),
        _ => rendered(error),
    }
}

/// Returns the long name of the wrong flag, or the wrong operand.
fn subject(error: &clap::Error) -> Option<String> {
    let arg = text(error, ContextKind::InvalidArg)?;
    let name = |letter: char| letter.is_ascii_alphanumeric() || letter == '-';
    let end = arg.find(|letter| !name(letter)).unwrap_or(arg.len());
    match &arg[..end] {
        name if name.starts_with('-') => Some(name.to_owned()),
        "PATH" | "PORT" => Some(arg.to_owned()),
        _ if arg.starts_with('<') => Some(arg.trim_matches(['<', '>']).to_owned()),
        _ => Some(format!("{arg:?}")),
    }
}

fn text(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind)? {
        ContextValue::String(text) => Some(text),
        _ => None,
    }
}

/// Returns the error as clap words it, but on one line, as logs and scripts expect it.
fn rendered(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let lines = text.lines().map(str::trim).filter(|line| {
        !line.is_empty() && !line.starts_with("Usage:") && !line.starts_with("For more information")
    });
    let line = lines.collect::<Vec<_>>().join("; ").replace(":; ", ": ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

fn advice_on_flag(flag: &str) -> String {
    let command = command::serve();
    let other_name = || {
        let (_, flag) = OTHER_NAMES.iter().find(|(name, _)| *name == flag)?;
        Some(format!("did you mean {flag}?"))
    };
    let negated = || {
        let positive = flag.strip_prefix("--no-")?;
        let mut settings = command::settings(&command);
        let (arg, long) = settings.find(|(_, long)| *long == positive)?;
        Some(format!("use --{long}={}", command::off_value(arg)?))
    };
    let misspelt = || {
        let longs = command::settings(&command).map(|(_, long)| format!("--{long}"));
        Some(format!("did you mean {}?", nearest(flag, longs)?))
    };
    other_name()
        .or_else(negated)
        .or_else(misspelt)
        .unwrap_or_else(|| "`tws --help` lists the flags".to_owned())
}

/// Returns the likely intended root, subcommand or flag for a root that does not exist.
pub(super) fn advice_on_root(root: &Path) -> Option<String> {
    let name = root.to_str()?;
    if name.contains("://") {
        return Some("give a folder, not a URL".to_owned());
    }
    let mut operands = OPERANDS_FOR_FLAGS.iter();
    if let Some((_, flag)) = operands.find(|(operand, _)| *operand == name) {
        return Some(format!("did you mean `tws {flag}`?"));
    }
    let subcommands = subcommand::SUBCOMMANDS
        .iter()
        .map(|(name, ..)| (*name).to_owned());
    if let Some(subcommand) = nearest(name, subcommands) {
        return Some(format!("did you mean `tws {subcommand}`?"));
    }
    let parent = match root.parent()? {
        parent if parent.as_os_str().is_empty() => Path::new("."),
        parent => parent,
    };
    let siblings = fs::read_dir(parent).ok()?.filter_map(Result::ok);
    let siblings = siblings.filter_map(|entry| entry.file_name().into_string().ok());
    let near = nearest(root.file_name()?.to_str()?, siblings)?;
    Some(format!("did you mean {}?", parent.join(near).display()))
}

/// Returns the name that resembles `name` most: it differs in at most a third of the letters (at least
/// 1, at most 3), or begins with `name`.
pub(super) fn nearest(name: &str, names: impl Iterator<Item = String>) -> Option<String> {
    /// Shorter prefixes match too many names.
    const MIN_PREFIX: usize = 3;
    let length = name.trim_start_matches('-').len();
    let max_distance = (length / 3).clamp(1, 3);
    let rank = |other: String| match distance(name, &other, max_distance) {
        Some(distance) => Some((distance, other)),
        None if length >= MIN_PREFIX && other.starts_with(name) => Some((max_distance + 1, other)),
        None => None,
    };
    let near = names.filter_map(rank).min_by_key(|(rank, _)| *rank)?;
    Some(near.1)
}

/// Returns the edit distance with swaps of neighbouring letters (optimal string alignment), if it is at
/// most `max`.
fn distance(one: &str, other: &str, max: usize) -> Option<usize> {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    if one.len().abs_diff(other.len()) > max {
        return None;
    }
    let mut rows = vec![(0..=other.len()).collect::<Vec<_>>()];
    for i in 1..=one.len() {
        let mut row = vec![i];
        for j in 1..=other.len() {
            let replaced = rows[i - 1][j - 1] + usize::from(one[i - 1] != other[j - 1]);
            let mut min = replaced.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            let is_swapped =
                i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1];
            if is_swapped {
                min = min.min(rows[i - 2][j - 2] + 1);
            }
            row.push(min);
        }
        rows.push(row);
    }
    let distance = rows[one.len()][other.len()];
    (distance <= max).then_some(distance)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_accepts_only_small_differences_and_prefixes() {
        let names = [
            "--port",
            "--bind",
            "--min-rate",
            "--tls-cert",
            "--max-connections",
        ];
        for (typed, expected) in [
            ("--prot", Some("--port")),
            ("--por", Some("--port")),
            ("--tls", Some("--tls-cert")),
            ("--max-conections", Some("--max-connections")),
            ("--frobnicate", None),
            ("--", None),
            ("--x", None),
        ] {
            let found = nearest(typed, names.iter().map(ToString::to_string));
            assert_eq!(found.as_deref(), expected, "{typed}");
        }
    }

    #[test]
    fn advice_on_root_names_subcommands_and_folders() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("site")).expect("a folder");
        let near = folder.path().join("sitee");
        let site = format!("did you mean {}?", folder.path().join("site").display());
        for (root, expected) in [
            (Path::new("chek"), Some("did you mean `tws check`?")),
            (Path::new("help"), Some("did you mean `tws --help`?")),
            (
                Path::new("http://a.test/"),
                Some("give a folder, not a URL"),
            ),
            (&near, Some(site.as_str())),
            (&folder.path().join("other"), None),
        ] {
            let advice = advice_on_root(root);
            assert_eq!(advice.as_deref(), expected, "{}", root.display());
        }
    }
}
