//! Names that other servers have for `--bind` and `--port`, in one flag each: `serve -l 3000`,
//! `caddy file-server --listen :8080`, `miniserve -i 0.0.0.0`. The names are replaced before the command
//! line is parsed, and appear in no help.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

/// Names of a flag that takes an address, a port, or both.
const LISTEN: [&str; 2] = ["--listen", "-l"];

/// Names of `--bind` and `--directory`, and these.
const OTHERS: &[(&str, &str)] = &[
    ("-i", "--bind"),
    ("--interface", "--bind"),
    ("--interfaces", "--bind"),
    ("--host", "--bind"),
    ("--addr", "--bind"),
    ("--address", "--bind"),
    ("--root", "--directory"),
];

/// Arguments after the replacement.
#[derive(Debug, Default)]
pub(super) struct Replaced {
    pub(super) args: Vec<OsString>,
    /// The flags that have replaced a name, with that name: errors are about what was typed.
    pub(super) names: Vec<(String, &'static str)>,
}

/// Replaces the names in typed arguments.
pub(super) fn replace(typed: &[OsString]) -> Replaced {
    let mut replaced = Replaced::default();
    let mut args = typed.iter();
    while let Some(arg) = args.next() {
        if arg == "--" {
            replaced.args.push(arg.clone());
            replaced.args.extend(args.cloned());
            break;
        }
        let with_name = |name: &&'static str| Some((*name, value_of(arg, name)?));
        let other = |(name, flag): &(&'static str, &'static str)| {
            Some((*name, *flag, value_of(arg, name)?))
        };
        let (name, new) = if let Some((name, value)) = LISTEN.iter().find_map(with_name) {
            let value = value.or_else(|| args.next().cloned());
            (name, value.map_or("--bind".into(), |it| listen_flag(&it)))
        } else if let Some((name, flag, value)) = OTHERS.iter().find_map(other) {
            (name, value.map_or(flag.into(), |it| with_value(flag, &it)))
        } else {
            replaced.args.push(arg.clone());
            continue;
        };
        let flag = new.to_string_lossy();
        let flag = flag.split('=').next().unwrap_or_default().to_owned();
        replaced.names.push((flag, name));
        replaced.args.push(new);
    }
    replaced
}

/// Returns the value in an argument that is the flag `name`: `None` inside if the value is the next
/// argument.
fn value_of(arg: &OsStr, name: &str) -> Option<Option<OsString>> {
    let rest = arg.as_bytes().strip_prefix(name.as_bytes())?;
    let is_short = !name.starts_with("--");
    match rest {
        b"" => Some(None),
        [b'=', value @ ..] => Some(Some(OsStr::from_bytes(value).to_owned())),
        value if is_short => Some(Some(OsStr::from_bytes(value).to_owned())),
        _ => None,
    }
}

/// Returns `--port` for a port, with or without a colon before it, and `--bind` for anything else.
pub(super) fn listen_flag(value: &OsStr) -> OsString {
    let bytes = value.as_bytes();
    let bytes = bytes.strip_prefix(b"tcp://").unwrap_or(bytes);
    let port = bytes.strip_prefix(b":").unwrap_or(bytes);
    if !port.is_empty() && port.iter().all(u8::is_ascii_digit) {
        with_value("--port", OsStr::from_bytes(port))
    } else {
        with_value("--bind", OsStr::from_bytes(bytes))
    }
}

fn with_value(flag: &str, value: &OsStr) -> OsString {
    let mut arg = OsString::from(flag);
    arg.push("=");
    arg.push(value);
    arg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_other_servers_are_replaced() {
        for (typed, expected) in [
            (&["-l", "3000"][..], &["--port=3000"][..]),
            (&["-l3000", "x"], &["--port=3000", "x"]),
            (&["--listen", ":8080"], &["--port=8080"]),
            (&["--listen=tcp://[::1]:80"], &["--bind=[::1]:80"]),
            (&["-l", "0.0.0.0"], &["--bind=0.0.0.0"]),
            (&["-l"], &["--bind"]),
            (&["-i", "::1"], &["--bind", "::1"]),
            (&["-i::1"], &["--bind=::1"]),
            (&["--host=a.test"], &["--bind=a.test"]),
            (&["--addr", "::"], &["--bind", "::"]),
            (&["--root", "x"], &["--directory", "x"]),
            (&["--host-name=a"], &["--host-name=a"]),
            (&["--listing=on"], &["--listing=on"]),
            (&["--", "-l", "--root"], &["--", "-l", "--root"]),
            (&["x", "80"], &["x", "80"]),
        ] {
            let of = |args: &[&str]| args.iter().map(OsString::from).collect::<Vec<_>>();
            assert_eq!(replace(&of(typed)).args, of(expected), "{typed:?}");
        }
    }
}
