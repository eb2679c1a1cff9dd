//! Colours on a terminal.

use std::env;
use std::io::{self, IsTerminal};

use clap::builder::styling::Style;

/// Whether output is styled with escape sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ColorMode {
    Colored,
    Plain,
}

impl ColorMode {
    /// Returns the mode for standard output.
    pub(super) fn of_stdout() -> Self {
        if supports_color(&io::stdout()) {
            Self::Colored
        } else {
            Self::Plain
        }
    }

    pub(super) fn paint(self, style: Style, text: &str) -> String {
        match self {
            Self::Colored => format!("{style}{text}{style:#}"),
            Self::Plain => text.to_owned(),
        }
    }
}

/// Returns true if `output` is a terminal that supports colours (`TERM` is not `dumb`) and the user
/// has not turned them off with `NO_COLOR` (<https://no-color.org>).
pub(super) fn supports_color(output: &impl IsTerminal) -> bool {
    let is_unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_unsupported = env::var_os("TERM").is_some_and(|value| value == "dumb");
    output.is_terminal() && !is_unwanted && !is_unsupported
}
