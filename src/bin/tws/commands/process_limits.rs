//! The limits that the kernel sets for the process.

use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use signal_hook::consts::signal::SIGXFSZ;
use signal_hook::flag;
use tws::Error;

/// With a lower limit, few clients exhaust the file descriptors.
const MIN_DESCRIPTORS: u64 = 1024;

/// Raises the soft limit on file descriptors, which is often 1,024, to the hard limit: every connection
/// needs a descriptor.
pub(super) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        log::warn!("file descriptors: cannot raise the limit: {error}; few connections may fit");
    }
    if let Some(current) = getrlimit(Resource::Nofile).current
        && current < MIN_DESCRIPTORS
    {
        log::warn!(
            "file descriptors: at most {current} can be open, which limits connections; raise `ulimit -Hn`"
        );
    }
}

/// Handles SIGXFSZ, which would end the process, by doing nothing: a write beyond the limit on file sizes
/// (`ulimit -f`) then fails with an error that the writer reports.
pub(super) fn ignore_file_size_signal() -> Result<(), Error> {
    let registered = flag::register(SIGXFSZ, Arc::default());
    registered.map(|_| ()).map_err(|source| Error::System {
        doing: "handle signals",
        source,
    })
}
