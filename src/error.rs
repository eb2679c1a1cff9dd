//! The errors of starting a server and of settings. Their messages say what to do.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// The reason why a server cannot start, or stops.
///
/// Messages have the form `subject: what happened; what to do` and are meant for the operator.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// Listening on an address failed.
    Bind {
        /// The address.
        address: SocketAddr,
        /// The error of the system.
        source: io::Error,
    },
    /// A file or folder cannot be used.
    Path {
        /// The intended use, as a verb: "serve", "write the access log to".
        purpose: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// A setting is invalid; the text names it and the remedy.
    Setting(String),
    /// An error about something that is written in a settings file.
    Located {
        /// The beginning of the message: file, line and host.
        location: String,
        /// The error.
        error: Box<Self>,
    },
    /// The system refused a resource that every server needs (a thread, an epoll descriptor).
    System {
        /// The operation that failed, as a verb.
        doing: &'static str,
        /// The error of the system.
        source: io::Error,
    },
}

impl Error {
    /// Returns an [`Error::Path`]: `purpose` is an infinitive phrase that ends before the path, such as
    /// "read the settings file".
    pub fn path(purpose: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        Self::Path {
            purpose,
            path,
            source,
        }
    }

    /// Returns the error of a file that could not be opened or created, as [`path`](Self::path) does.
    /// If permission is denied and the file does not exist, the error is about its folder: a missing
    /// file has no owner or mode to check.
    pub fn new_file(purpose: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        let is_missing = matches!(path.try_exists(), Ok(false));
        if source.kind() != ErrorKind::PermissionDenied || !is_missing {
            return Self::path(purpose, path, source);
        }
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let reason = format!("no write permission in {}", folder.display());
        Self::path("create", path, io::Error::other(reason))
    }

    /// Returns the error of what is written at a location, the beginning of the message; see
    /// [`SourceLocation::prefix`](crate::site::SourceLocation::prefix). It may be empty.
    #[must_use]
    pub fn at(self, location: String) -> Self {
        if location.is_empty() {
            return self;
        }
        Self::Located {
            location,
            error: Box::new(self),
        }
    }

    /// Returns the error without its location.
    pub fn cause(&self) -> &Self {
        match self {
            Self::Located { error, .. } => error.cause(),
            _ => self,
        }
    }

    /// Returns the error of a setting that needs a feature of which this build is without.
    pub(crate) fn missing_feature(setting: &str, feature: &str) -> Self {
        Self::Setting(format!(
            "{setting}: this tws was built without the feature {feature}; rebuild it with \
             --features {feature}"
        ))
    }

    /// Returns a function that turns an I/O error into an [`Error::System`], for
    /// [`Result::map_err`]: `doing` is an infinitive phrase, such as "start an event loop".
    pub fn system(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { doing, source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind { address, source } => {
                write!(f, "cannot listen on {address}: ")?;
                match source.kind() {
                    ErrorKind::AddrInUse => write!(
                        f,
                        "port {} is in use; stop the other server or choose another port with --port (0 takes a free one)",
                        address.port()
                    ),
                    ErrorKind::PermissionDenied => write!(
                        f,
                        "ports below 1024 need root or CAP_NET_BIND_SERVICE; choose a higher one with --port"
                    ),
                    ErrorKind::AddrNotAvailable => write!(
                        f,
                        "this machine has no such address; use one of its own with --bind"
                    ),
                    _ => write_reason(f, source),
                }
            }
            Self::Path {
                purpose,
                path,
                source,
            } => {
                write!(f, "cannot {purpose} {}: ", path.display())?;
                match source.kind() {
                    ErrorKind::NotFound => write!(f, "no such file or folder"),
                    ErrorKind::PermissionDenied => {
                        write!(f, "permission denied; check its owner and mode")
                    }
                    ErrorKind::IsADirectory => write!(f, "this is a folder; give a file"),
                    ErrorKind::NotADirectory => {
                        write!(
                            f,
                            "there is a file where a folder is needed; give another path"
                        )
                    }
                    _ => write_reason(f, source),
                }
            }
            Self::Setting(text) => f.write_str(text),
            Self::Located { location, error } => write!(f, "{location}{error}"),
            Self::System { doing, source } => {
                write!(f, "cannot {doing}: ")?;
                write_reason(f, source)
            }
        }
    }
}

/// Writes what the system says, with the remedy where there is one.
fn write_reason(f: &mut fmt::Formatter<'_>, source: &io::Error) -> fmt::Result {
    match Errno::from_io_error(source) {
        Some(Errno::MFILE | Errno::NFILE) => {
            write!(f, "too few file descriptors; raise `ulimit -n`")
        }
        _ => write!(f, "{source}"),
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind { source, .. } | Self::Path { source, .. } | Self::System { source, .. } => {
                Some(source)
            }
            Self::Located { error, .. } => error.source(),
            Self::Setting(_) => None,
        }
    }
}

/// The error of an invalid value of a setting. The message says what the value must be.
///
/// It converts into an [`Error::Setting`]:
///
/// ```
/// use tws::{Error, RateLimit, Request, Response};
///
/// fn limited(rate: &str) -> Result<RateLimit, Error> {
///     let hello = |_: &Request<'_>| Response::text("hello\n");
///     Ok(RateLimit::new(hello).per_client(rate.parse()?))
/// }
///
/// assert!(limited("10:50").is_ok());
/// assert!(matches!(limited("ten"), Err(Error::Setting(_))));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingError(String);

impl From<String> for SettingError {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for SettingError {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<SettingError> for Error {
    fn from(error: SettingError) -> Self {
        Self::Setting(error.0)
    }
}

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SettingError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denied_file_that_does_not_exist_is_an_error_about_its_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("present"), "").expect("a file");
        let folder = folder.path().display();
        for (name, kind, expected) in [
            (
                "new",
                ErrorKind::PermissionDenied,
                format!("cannot create {folder}/new: no write permission in {folder}"),
            ),
            (
                "present",
                ErrorKind::PermissionDenied,
                format!(
                    "cannot write to {folder}/present: permission denied; check its owner and mode"
                ),
            ),
            (
                "new",
                ErrorKind::NotFound,
                format!("cannot write to {folder}/new: no such file or folder"),
            ),
        ] {
            let error = Error::new_file("write to", at(name), kind.into());
            assert_eq!(error.to_string(), expected);
        }
    }
}
