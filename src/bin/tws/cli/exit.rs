//! How the process ends if it does not serve.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::error::ErrorKind;
use tws::Error;

use super::messages;

/// The reason not to serve: help to print, or errors.
#[derive(Debug)]
pub(crate) enum Exit {
    Print(String),
    /// At least one.
    Errors(Vec<ConfigError>),
}

/// An error in the settings or in their application, as one line.
#[derive(Debug)]
pub(crate) enum ConfigError {
    /// A wrong flag or environment variable.
    Usage(String),
    /// Any other error: a wrong settings file, or settings that cannot be applied.
    Failure(String),
}

impl Exit {
    /// Returns an error that is not about the command line.
    pub(crate) fn failure(text: String) -> Self {
        Self::Errors(vec![ConfigError::Failure(text)])
    }

    /// Returns an error about the command line or the environment.
    pub(crate) fn usage(text: String) -> Self {
        Self::Errors(vec![ConfigError::Usage(text)])
    }

    /// Returns `error`, with advice if it says that `root` does not exist. `typed` are the arguments.
    pub(crate) fn with_advice(error: &Error, root: &Path, typed: &[OsString]) -> Self {
        let is_missing_root = matches!(error.cause(), Error::Path { purpose: "serve", path, source }
            if path == root && source.kind() == io::ErrorKind::NotFound);
        let advice = messages::advice_on_root(root, typed).filter(|_| is_missing_root);
        let text = match advice {
            Some(advice) => format!("{error}; {advice}"),
            None => error.to_string(),
        };
        Self::Errors(vec![ConfigError::Failure(text)])
    }

    /// Returns the exit code of the process: 2 if the first error is one of usage, 1 for other errors.
    pub(crate) fn code(&self) -> ExitCode {
        match self {
            Self::Print(_) => ExitCode::SUCCESS,
            Self::Errors(errors) => match errors.first() {
                Some(ConfigError::Usage(_)) => ExitCode::from(2),
                Some(ConfigError::Failure(_)) | None => ExitCode::FAILURE,
            },
        }
    }
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
            _ => Self::usage(messages::line(&error)),
        }
    }
}

impl From<Error> for Exit {
    fn from(error: Error) -> Self {
        Self::Errors(vec![ConfigError::Failure(error.to_string())])
    }
}
