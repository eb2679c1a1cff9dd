//! What the process is to do: serve, unless the first word is one of a few others. A folder of such
//! a name is `./man`.

use std::ffi::OsStr;

use super::flags::Purpose;
use super::layers::Words;

/// What the process is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    Serve,
    Check,
    Explain,
    Completions,
    Man,
}

/// The words that are no PATH, each with what it is for.
pub(super) const WORDS: &[(&str, Task, &str)] = &[
    ("check", Task::Check, "Check the settings without serving"),
    (
        "explain",
        Task::Explain,
        "Explain how a request would be answered",
    ),
    (
        "completions",
        Task::Completions,
        "Print a shell completion script",
    ),
    ("man", Task::Man, "Print the manual page"),
];

impl Task {
    /// Takes its word away from the others, so that what is left is a command line of its own.
    pub(crate) fn take_from(words: &mut Words) -> Self {
        let first = words.args.get(1).map(AsRef::<OsStr>::as_ref);
        let found = WORDS
            .iter()
            .find(|(word, ..)| first == Some(OsStr::new(word)));
        let Some((_, task, _)) = found else {
            return Self::Serve;
        };
        words.args.remove(1);
        if *task == Task::Explain {
            words.purpose = Purpose::Explaining;
        }
        *task
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_word_decides() {
        let table: &[(&[&str], Task, &[&str])] = &[
            (&[], Task::Serve, &[]),
            (&["man"], Task::Man, &[]),
            (&["./man"], Task::Serve, &["./man"]),
            (&["-q", "man"], Task::Serve, &["-q", "man"]),
            (&["--", "man"], Task::Serve, &["--", "man"]),
            (&["check", "man", "80"], Task::Check, &["man", "80"]),
            (&["explain", "GET", "/"], Task::Explain, &["GET", "/"]),
            (&["completions", "bash"], Task::Completions, &["bash"]),
        ];
        for (args, task, left) in table {
            let with_program = |args: &[&str]| -> Vec<_> {
                std::iter::once("tws")
                    .chain(args.iter().copied())
                    .map(Into::into)
                    .collect()
            };
            let mut words = Words {
                args: with_program(args),
                ..Words::default()
            };
            assert_eq!(Task::take_from(&mut words), *task, "{args:?}");
            assert_eq!(words.args, with_program(left), "{args:?}");
        }
    }
}
