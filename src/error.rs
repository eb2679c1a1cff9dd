//! The error of starting a server. Its message says what to do.

use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::PathBuf;

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
                    _ => write_reason(f, source),
                }
            }
            Self::Setting(text) => f.write_str(text),
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
            Self::Setting(_) => None,
        }
    }
}
