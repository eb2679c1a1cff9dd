//! What a process was started with.

use std::ffi::OsString;
use std::sync::Arc;

use tws::Endpoint;
use tws::site::RootOpener;

/// The arguments, environment variables and sockets of a process, not yet parsed.
#[derive(Clone, Debug, Default)]
pub(crate) struct RawArgs {
    /// The first is the name of the program.
    pub(crate) args: Vec<OsString>,
    pub(crate) variables: Vec<(OsString, OsString)>,
    pub(crate) mode: Mode,
    /// Takes precedence over all settings.
    pub(crate) inherited: InheritedEndpoints,
    /// Reads the settings file of a root that was replaced, where a sandbox denies that.
    pub(crate) opener: Option<Arc<dyn RootOpener>>,
}

/// The endpoints of the listening sockets that the process was given. A server without one binds its
/// own sockets.
#[derive(Clone, Debug, Default)]
pub(crate) struct InheritedEndpoints {
    pub(crate) server: Option<Vec<Endpoint>>,
    /// Ignored without `--admin`.
    pub(crate) admin: Option<Vec<Endpoint>>,
}

/// How the command line is parsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Mode {
    #[default]
    Serve,
    /// As `Serve`, with a help of its own.
    Check,
    /// A request follows PATH. `-H` is a field of the request, as with curl; `--header` stays a rule of
    /// the site.
    Explain,
    /// An action and a name take the place of PATH.
    Acme,
}

impl RawArgs {
    /// Returns the arguments and variables of this process, without inherited sockets.
    pub(crate) fn of_process() -> Self {
        Self {
            args: std::env::args_os().collect(),
            variables: std::env::vars_os().collect(),
            ..Self::default()
        }
    }
}
