//! The wording of errors in the settings: one line each, `subject: cause; remedy`.

use std::error::Error as _;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::aliases::{self, Replaced};
use super::values::yes_or_no;
use super::{command, subcommand};

/// The flags with which everything may be changed, for which `dufs` has one.
const ALL_CHANGES: &str = "--upload --upload-overwrite --upload-parents --manage";

/// Names that other servers have for some flags, and the flags.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("--allow-all", ALL_CHANGES),
    ("--allow-delete", "--manage"),
    ("--allow-upload", "--upload"),
    ("--browse", "--listing=on"),
    ("--cert", "--tls-cert"),
    ("--enable-cors", "--cors"),
    ("--key", "--tls-key"),
    ("--log", "--access-log"),
    ("--no-compression", "--compress=off"),
    ("--no-request-logging", "--access-log=off"),
    ("--path-prefix", "--base"),
    ("--qrcode", "--qr"),
    ("--random-route", "--random-path"),
    ("--render-spa", "--spa"),
    ("--route-prefix", "--base"),
    ("--single", "--spa"),
    ("--ssl-cert", "--tls-cert"),
    ("--ssl-key", "--tls-key"),
    ("--threads", "--workers"),
    ("--upload-files", "--upload"),
    ("-A", ALL_CHANGES),
    ("-C", "--cors"),
    ("-P", "--symlinks=never"),
    ("-a", "--auth"),
    ("-s", "--spa"),
    ("-u", "--upload"),
];

/// Operands that are likely meant as a flag, and the flag.
const OPERANDS_FOR_FLAGS: &[(&str, &str)] = &[("help", "--help"), ("version", "--version")];

/// Dashes that text processors put in the place of hyphens.
const DASHES: [char; 5] = ['\u{2010}', '\u{2011}', '\u{2013}', '\u{2014}', '\u{2212}'];

/// Makes an error name what was typed: clap knows neither the names that were replaced nor the argument
/// in which an unknown letter was found.
pub(super) fn as_typed(
    mut error: clap::Error,
    typed: &[OsString],
    replaced: &Replaced,
) -> clap::Error {
    if let Some(operands) = excess_operands(&error) {
        let advice = operands
            .iter()
            .rev()
            .find_map(|it| advice_on_operand(it, typed));
        if let Some(advice) = advice {
            error.insert(ContextKind::Custom, ContextValue::String(advice));
        }
    }
    let Some(arg) = text(&error, ContextKind::InvalidArg) else {
        return error;
    };
    let flag = name_of(arg);
    let is_typed = typed.iter().any(|it| has_name(it, flag));
    let mut names = replaced.names.iter();
    let new = match names.find(|(new, _)| new == flag && !is_typed) {
        Some((flag, name)) => Some(format!("{name}{}", &arg[flag.len()..])),
        None if error.kind() == ErrorKind::UnknownArgument => word_with(arg, typed),
        None => None,
    };
    if let Some(new) = new {
        error.insert(ContextKind::InvalidArg, ContextValue::String(new));
    }
    error
}

/// Returns the word with one dash in which clap has found an unknown letter: `-version` for `-e`. Values
/// that are attached to a letter may be secret.
fn word_with(arg: &str, typed: &[OsString]) -> Option<String> {
    let letter = arg.strip_prefix('-').filter(|it| it.chars().count() == 1)?;
    if typed.iter().any(|it| it == arg) {
        return None;
    }
    let is_word = |it: &&str| {
        let letters = it.strip_prefix('-').unwrap_or_default();
        letters.contains(letter) && letters.chars().all(char::is_alphabetic)
    };
    let mut words = typed.iter().filter_map(|it| it.to_str());
    words.find(is_word).map(str::to_owned)
}

/// Returns whether an argument is the flag `name`, with or without a value.
fn has_name(arg: &OsStr, name: &str) -> bool {
    let rest = arg.to_str().and_then(|arg| arg.strip_prefix(name));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
}

/// Returns the operands of which only one may be given.
fn excess_operands(error: &clap::Error) -> Option<&[String]> {
    match (error.kind(), error.get(ContextKind::InvalidValue)?) {
        (ErrorKind::WrongNumberOfValues, ContextValue::Strings(operands)) => Some(operands),
        _ => None,
    }
}

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
    let custom = || text(error, ContextKind::Custom).map(str::to_owned);
    match error.kind() {
        ErrorKind::ValueValidation => {
            let source = error.source().map(ToString::to_string);
            source.or_else(custom).unwrap_or_else(|| rendered(error))
        }
        ErrorKind::WrongNumberOfValues => {
            let operands = excess_operands(error).unwrap_or_default().join(" and ");
            let advice = custom().map_or(String::new(), |advice| format!("; {advice}"));
            format!("give only one folder (got {operands}){advice}")
        }
        ErrorKind::InvalidValue if value().is_empty() => {
            let usage = text(error, ContextKind::InvalidArg).unwrap_or_default();
            format!("the value is missing or empty; give {usage}")
        }
        ErrorKind::InvalidValue => match error.get(ContextKind::ValidValue) {
            Some(ContextValue::Strings(values)) => {
                format!("must be one of {} (got {:?})", values.join(", "), value())
            }
            _ => rendered(error),
        },
        ErrorKind::UnknownArgument => match text(error, ContextKind::InvalidArg) {
            Some(flag) if flag.starts_with('-') => {
                format!("unknown flag; {}", advice_on_flag(flag, error))
            }
            _ => format!(
                "unexpected argument; the command is `{}`, and a folder with the name of a \
                 subcommand is ./NAME",
                usage(error)
            ),
        },
        ErrorKind::TooManyValues => format!("takes no value (got {:?})", value()),
        ErrorKind::ArgumentConflict => "given more than once; give one value".to_owned(),
        ErrorKind::MissingRequiredArgument => {
            let missing = match error.get(ContextKind::InvalidArg) {
                Some(ContextValue::Strings(names)) => names.join(" "),
                _ => "an argument".to_owned(),
            };
            let usage = usage(error);
            format!("{missing} is missing; the command is `{usage}`").replace(['<', '>'], "")
        }
        ErrorKind::InvalidUtf8 => "an argument is not UTF-8; only paths need not be".to_owned(),
        _ => rendered(error),
    }
}

/// Returns the name of the flag or operand that an error is about, or the unknown argument as typed.
fn subject(error: &clap::Error) -> Option<String> {
    let arg = text(error, ContextKind::InvalidArg)?;
    match error.kind() {
        ErrorKind::UnknownArgument if arg.starts_with('-') => Some(arg.to_owned()),
        ErrorKind::UnknownArgument => Some(format!("{arg:?}")),
        _ => Some(name_of(arg).to_owned()),
    }
}

/// Returns the name in `--name <VALUE>`, `--name[=<VALUE>]`, `--name...` and `<NAME>`.
fn name_of(arg: &str) -> &str {
    let name = arg.trim_start_matches(['<', '[']);
    let end = name.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-');
    &name[..end.unwrap_or(name.len())]
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

/// Returns the usage of the command whose arguments are wrong.
fn usage(error: &clap::Error) -> String {
    let usage = error.get(ContextKind::Usage).map(ToString::to_string);
    let usage = usage.unwrap_or_default();
    usage.trim().trim_start_matches("Usage: ").to_owned()
}

/// Returns what an unknown flag of the command in `error` is likely meant as, or where the flags are
/// listed.
fn advice_on_flag(flag: &str, error: &clap::Error) -> String {
    let usage = usage(error);
    let name = usage.split([' ', '\n']).take(2).collect::<Vec<_>>();
    let subcommand = name.get(1).and_then(|name| subcommand::of_name(name));
    let meant = match subcommand {
        Some(subcommand) if !subcommand.takes_settings() => {
            text(error, ContextKind::SuggestedArg).map(|flag| format!("did you mean {flag}?"))
        }
        _ => meant_setting(flag),
    };
    let command = if subcommand.is_some() {
        name.join(" ")
    } else {
        "tws".to_owned()
    };
    meant.unwrap_or_else(|| format!("`{command} --help` lists the flags"))
}

/// Returns the setting or subcommand that an unknown flag is likely meant as.
fn meant_setting(flag: &str) -> Option<String> {
    let mut command = command::serve();
    // This adds --help and --version.
    command.build();
    let other_name = || {
        let (_, flag) = OTHER_NAMES.iter().find(|(name, _)| *name == flag)?;
        Some(format!("did you mean {flag}?"))
    };
    let subcommand = || {
        let name = flag.strip_prefix("--")?;
        subcommand::of_name(name)?;
        Some(format!("did you mean `tws {name}`?"))
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
        .or_else(subcommand)
        .or_else(negated)
        .or_else(misspelt)
}

/// Returns what an operand that is no folder is likely meant as: a flag, or the value of one. `typed` are
/// all arguments.
fn advice_on_operand(operand: &str, typed: &[OsString]) -> Option<String> {
    let of_program = || {
        let mut operands = OPERANDS_FOR_FLAGS.iter();
        let (_, flag) = operands.find(|(name, _)| *name == operand)?;
        Some(format!("`tws {flag}`"))
    };
    let meant = address_flag(operand)
        .or_else(|| flag_with_dash(operand))
        .or_else(of_program)
        .or_else(|| flag_before(operand, typed));
    match meant {
        Some(meant) => Some(format!("did you mean {meant}?")),
        None if operand.contains("://") => Some("give a folder, not a URL".to_owned()),
        None => None,
    }
}

/// Returns the flag for an address with or without a port, or for a port with a colon or two.
fn address_flag(operand: &str) -> Option<String> {
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_name = |text: &str| {
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte);
        text.bytes().all(is_letter)
    };
    let value = match operand.rsplit_once(':') {
        _ if operand.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() => operand,
        Some((host, port)) if port.parse::<u16>().is_ok() && is_number(host) => port,
        Some((host, port)) if port.parse::<u16>().is_ok() && is_name(host) => operand,
        _ => return None,
    };
    let flag = aliases::listen_flag(OsStr::new(value));
    flag.into_string().ok()
}

/// Returns the flag of an operand that begins with another dash than `-`.
fn flag_with_dash(operand: &str) -> Option<String> {
    let (operand, _) = operand.split_once('=').unwrap_or((operand, ""));
    let name = operand.trim_start_matches(DASHES);
    let command = command::serve();
    let longs = command::settings(&command).map(|(_, long)| format!("--{long}"));
    nearest(&format!("--{name}"), longs).filter(|_| name.len() < operand.len())
}

/// Returns the flag before an operand, with the operand as its value, if it takes one after `=` only.
fn flag_before(operand: &str, typed: &[OsString]) -> Option<String> {
    let at = typed.iter().position(|arg| arg == operand)?;
    let flag = typed[at.checked_sub(1)?].to_str()?;
    let command = command::serve();
    let mut settings = command::settings(&command);
    let (arg, _) = settings.find(|(_, long)| flag.strip_prefix("--") == Some(long))?;
    let is_value = !command::is_switch(arg) || yes_or_no(operand).is_ok();
    (arg.is_require_equals_set() && is_value).then(|| format!("{flag}={operand}"))
}

/// Returns the likely intended root, subcommand or flag for a root that does not exist. `typed` are the
/// arguments of the process.
pub(super) fn advice_on_root(root: &Path, typed: &[OsString]) -> Option<String> {
    let name = root.to_str()?;
    if let Some(advice) = advice_on_operand(name, typed) {
        return Some(advice);
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
        let typed = [
            "tws", "--upload", "yes", "--hidden", "fresh", "--spa", "x.html",
        ];
        let typed = typed.map(OsString::from);
        let site = format!("did you mean {}?", folder.path().join("site").display());
        for (root, expected) in [
            (Path::new("chek"), Some("did you mean `tws check`?")),
            (Path::new(":8000"), Some("did you mean --port=8000?")),
            (Path::new("80:80"), Some("did you mean --port=80?")),
            (
                Path::new("localhost:80"),
                Some("did you mean --bind=localhost:80?"),
            ),
            (Path::new("::1"), Some("did you mean --bind=::1?")),
            (Path::new("C:\\site"), None),
            (Path::new("a/b:80"), None),
            (Path::new("—port"), Some("did you mean --port?")),
            (Path::new("—port=80"), Some("did you mean --port?")),
            (Path::new("yes"), Some("did you mean --upload=yes?")),
            (Path::new("fresh"), None),
            (Path::new("x.html"), Some("did you mean --spa=x.html?")),
            (Path::new("help"), Some("did you mean `tws --help`?")),
            (
                Path::new("http://a.test/"),
                Some("give a folder, not a URL"),
            ),
            (&near, Some(site.as_str())),
            (&folder.path().join("other"), None),
        ] {
            let advice = advice_on_root(root, &typed);
            assert_eq!(advice.as_deref(), expected, "{}", root.display());
        }
    }

    /// The README's table of commands that users of other servers are used to.
    #[test]
    fn flags_of_other_servers_are_known_or_explained() {
        let readme = include_str!("../../../../README.md");
        let (_, table) = readme
            .split_once("## Coming from another server")
            .expect("section of the README");
        let rows = table.lines().filter(|line| line.starts_with("| "));
        let commands = rows
            .filter_map(|row| {
                row.split('|')
                    .nth(2)?
                    .trim()
                    .strip_prefix('`')?
                    .split_once('`')
            })
            .map(|(command, _)| command)
            .filter(|command| {
                let names = [
                    "python",
                    "miniserve",
                    "dufs",
                    "npx serve",
                    "caddy file-server",
                ];
                names.iter().any(|name| command.starts_with(name))
            });
        let command = command::serve();
        let mut flags = 0;
        for word in commands.flat_map(str::split_whitespace) {
            if !word.starts_with('-') || word == "-m" {
                continue;
            }
            flags += 1;
            let replaced = aliases::replace(&[word.into()]);
            let is_alias = !replaced.names.is_empty();
            let is_short = |letter: char| {
                let mut args = command.get_arguments();
                args.any(|arg| arg.get_short() == Some(letter))
            };
            let is_known = command::settings(&command)
                .any(|(_, long)| word.strip_prefix("--") == Some(long))
                || word.len() == 2 && word.chars().nth(1).is_some_and(is_short);
            let is_explained = || meant_setting(word).is_some();
            // Entity tags cannot be turned off.
            let is_excepted = word == "--no-etag";
            assert!(
                is_alias || is_known || is_excepted || is_explained(),
                "{word}"
            );
        }
        assert!(flags > 20, "{flags}");
    }
}
