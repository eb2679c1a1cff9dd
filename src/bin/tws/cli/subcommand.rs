//! The subcommands. A folder with the name of a subcommand is given as `./man`.

use std::ffi::OsStr;

use super::raw_args::{Mode, RawArgs};

/// What the process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subcommand {
    /// The default: its command line begins with no subcommand.
    Serve,
    Check,
    Explain,
    Compress,
    Acme,
    Completions,
    Man,
    /// Not in the help: this program starts it.
    OpenRoots,
}

/// The argument that makes this program the root opener.
pub(crate) const ROOT_OPENER_ARGUMENT: &str = "--internal-open-roots";

/// The name of each subcommand, and its description for the help.
pub(super) const SUBCOMMANDS: &[(&str, Subcommand, &str)] = &[
    (
        "check",
        Subcommand::Check,
        "Check the settings without serving",
    ),
    (
        "explain",
        Subcommand::Explain,
        "Explain how a request would be answered",
    ),
    (
        "compress",
        Subcommand::Compress,
        "Write .br, .zst and .gz files beside the files of a folder",
    ),
    (
        "acme",
        Subcommand::Acme,
        "Show, renew or revoke automatic certificates",
    ),
    (
        "completions",
        Subcommand::Completions,
        "Print a shell completion script",
    ),
    ("man", Subcommand::Man, "Print the manual page"),
];

impl Subcommand {
    /// Removes the subcommand from the arguments, so that the rest is a command line of its own.
    pub(crate) fn take_from(args: &mut RawArgs) -> Self {
        let first = args.args.get(1).map(AsRef::<OsStr>::as_ref);
        if first == Some(OsStr::new(ROOT_OPENER_ARGUMENT)) {
            args.args.remove(1);
            return Self::OpenRoots;
        }
        let Some(subcommand) = first.and_then(OsStr::to_str).and_then(of_name) else {
            return Self::Serve;
        };
        args.args.remove(1);
        args.mode = match subcommand {
            Self::Check => Mode::Check,
            Self::Explain => Mode::Explain,
            Self::Acme => Mode::Acme,
            Self::Serve | Self::Compress | Self::Completions | Self::Man | Self::OpenRoots => {
                Mode::Serve
            }
        };
        subcommand
    }

    /// Returns whether the flags are the settings with which it would serve.
    pub(super) fn takes_settings(self) -> bool {
        match self {
            Self::Serve | Self::Check | Self::Explain | Self::Acme => true,
            Self::Compress | Self::Completions | Self::Man | Self::OpenRoots => false,
        }
    }
}

/// Returns the subcommand with this name.
pub(super) fn of_name(name: &str) -> Option<Subcommand> {
    let mut subcommands = SUBCOMMANDS.iter();
    let (_, subcommand, _) = subcommands.find(|(other, ..)| *other == name)?;
    Some(*subcommand)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_argument_selects_the_subcommand() {
        let table: &[(&[&str], Subcommand, &[&str])] = &[
            (&[], Subcommand::Serve, &[]),
            (&["man"], Subcommand::Man, &[]),
            (&["./man"], Subcommand::Serve, &["./man"]),
            (&["-q", "man"], Subcommand::Serve, &["-q", "man"]),
            (&["--", "man"], Subcommand::Serve, &["--", "man"]),
            (&["check", "man", "80"], Subcommand::Check, &["man", "80"]),
            (&["explain", "GET", "/"], Subcommand::Explain, &["GET", "/"]),
            (&["compress", "www"], Subcommand::Compress, &["www"]),
            (&["acme", "status"], Subcommand::Acme, &["status"]),
            (
                &[ROOT_OPENER_ARGUMENT, "", "", "/srv"],
                Subcommand::OpenRoots,
                &["", "", "/srv"],
            ),
            (&["completions", "bash"], Subcommand::Completions, &["bash"]),
        ];
        for (typed, subcommand, rest) in table {
            let with_program = |args: &[&str]| -> Vec<_> {
                std::iter::once("tws")
                    .chain(args.iter().copied())
                    .map(Into::into)
                    .collect()
            };
            let mut args = RawArgs {
                args: with_program(typed),
                ..RawArgs::default()
            };
            assert_eq!(Subcommand::take_from(&mut args), *subcommand, "{typed:?}");
            assert_eq!(args.args, with_program(rest), "{typed:?}");
        }
    }
}
