//! Where rules and keys were written: every message about one begins with it.

use std::fmt;
#[cfg(feature = "config-file")]
use std::path::PathBuf;
#[cfg(feature = "config-file")]
use std::sync::Arc;

/// Where a rule or a key was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceLocation {
    /// Not in a file.
    #[default]
    Unknown,
    /// In a settings file.
    #[cfg(feature = "config-file")]
    Line {
        /// The file, and the host in it.
        source: Arc<SettingsSource>,
        /// The line, counted from 1.
        line: usize,
    },
    /// In this flag.
    Flag(&'static str),
}

/// The part of a settings file that describes one site.
#[cfg(feature = "config-file")]
#[derive(Debug, PartialEq, Eq)]
pub struct SettingsSource {
    /// The file.
    pub(crate) file: PathBuf,
    /// The first name of the `[[host]]`.
    pub(crate) host: Option<String>,
}

impl SourceLocation {
    /// Returns the beginning of a message about what is written here: `tws.toml:5: host example.org: `.
    /// Empty if the location is unknown.
    pub fn prefix(&self) -> String {
        match self {
            Self::Unknown => String::new(),
            #[cfg(feature = "config-file")]
            Self::Line { source, line } => {
                let host = source.host.iter().map(|name| format!("host {name}: "));
                let host: String = host.collect();
                format!("{}:{line}: {host}", source.file.display())
            }
            Self::Flag(flag) => format!("{flag}: "),
        }
    }
}

/// Displays the location as a suffix of the rule.
impl fmt::Display for SourceLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => Ok(()),
            #[cfg(feature = "config-file")]
            Self::Line { line, .. } => write!(f, " (line {line})"),
            Self::Flag(flag) => write!(f, " ({flag})"),
        }
    }
}
