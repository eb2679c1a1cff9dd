//! What the process says instead of serving.

use std::fmt;

use clap::error::ErrorKind;

use super::messages;

/// What the process ends with instead of serving: help to print, or what is wrong.
#[derive(Debug)]
pub(crate) enum Stop {
    Print(String),
    /// At least one.
    Mistakes(Vec<Mistake>),
}

/// What is wrong, in one line.
#[derive(Debug)]
pub(crate) enum Mistake {
    /// In what was typed or in the environment.
    Usage(String),
    /// In a file.
    Failure(String),
}

/// The first mistake, and how many more there are.
impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Print(text) => f.write_str(text),
            Self::Mistakes(mistakes) => {
                f.write_str(mistakes.first().map_or("", Mistake::text))?;
                match mistakes.len() {
                    0 | 1 => Ok(()),
                    count => write!(f, "; and {} more, see `tws check`", count - 1),
                }
            }
        }
    }
}

impl Mistake {
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Usage(text) | Self::Failure(text) => text,
        }
    }
}

impl From<clap::Error> for Stop {
    fn from(error: clap::Error) -> Self {
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                Self::Print(error.render().to_string())
            }
            _ => Self::Mistakes(vec![Mistake::Usage(messages::line(&error))]),
        }
    }
}
