//! How the process ends if it does not serve.

use std::fmt;

use clap::error::ErrorKind;

use super::messages;

/// The reason not to serve: help to print, or errors.
#[derive(Debug)]
pub(crate) enum Exit {
    Print(String),
    /// At least one.
    Errors(Vec<ConfigError>),
}

/// An error in the settings, as one line.
#[derive(Debug)]
pub(crate) enum ConfigError {
    /// A wrong flag or environment variable.
    Usage(String),
    /// A wrong settings file, or settings that cannot be used together.
    Failure(String),
}

/// The first error, and the number of further ones.
impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Print(text) => f.write_str(text),
            Self::Errors(errors) => {
                f.write_str(errors.first().map_or("", ConfigError::text))?;
                match errors.len() {
                    0 | 1 => Ok(()),
                    count => write!(f, "; and {} more, see `tws check`", count - 1),
                }
            }
        }
    }
}

impl ConfigError {
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Usage(text) | Self::Failure(text) => text,
        }
    }
}

impl From<clap::Error> for Exit {
    fn from(error: clap::Error) -> Self {
        match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                Self::Print(error.render().to_string())
            }
            _ => Self::Errors(vec![ConfigError::Usage(messages::line(&error))]),
        }
    }
}
