//! The listeners that a process inherits: from the process that it takes over from (`upgrade`), else
//! from a supervisor that opens sockets itself (sd_listen_fds(3): `LISTEN_PID`, `LISTEN_FDS`,
//! `LISTEN_FDNAMES`). With a supervisor, the process can be started on demand, restarted without a
//! gap, and run without the privilege to bind any port.
//!
//! Of a supervisor's sockets, those named `admin` belong to `--admin`, those named `redirect` to
//! `--redirect-http`, all others to the main server. A server with inherited sockets binds none: the
//! addresses and ports of the settings are ignored, and warnings about exposed addresses are based
//! on those of the sockets. Only listening TCP or Unix stream sockets are accepted
//! (`ListenStream=`, `Accept=no`).

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;

use listenfd::ListenFd;
use socket2::SockRef;
use tws::{Endpoint, Error};

use super::upgrade::PreviousProcess;
use crate::cli::{InheritedEndpoints, PortChoice, Settings};
use crate::confinement::root_opener::RootOpenerClient;

/// A limit far above any sensible number of sockets.
const MAX_SOCKETS: usize = 1024;

/// The inherited listeners of each server. `None` for a server that binds its own.
#[derive(Default)]
pub(crate) struct InheritedSockets {
    pub(crate) previous_process: Option<PreviousProcess>,
    pub(crate) main: Option<Vec<OwnedFd>>,
    pub(crate) admin: Option<Vec<OwnedFd>>,
    pub(crate) redirect: Option<Vec<OwnedFd>>,
    /// The socket of the root opener, which the previous process has started.
    pub(crate) root_opener: Option<Arc<RootOpenerClient>>,
    /// Whether this process removes the files of Unix sockets at its end.
    pub(crate) owns_files: bool,
}

impl InheritedSockets {
    /// Takes the sockets out of the environment. No thread may have been started before, because
    /// variables are removed.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for sockets that are no listeners.
    pub(crate) fn take() -> Result<Self, Error> {
        let Some(previous_process) = PreviousProcess::from_env()? else {
            return Self::from_supervisor();
        };
        let listeners = previous_process.listeners()?;
        Ok(Self {
            previous_process: Some(previous_process),
            main: listeners.main,
            admin: listeners.admin,
            redirect: listeners.redirect,
            root_opener: listeners
                .root_opener
                .map(|socket| Arc::new(RootOpenerClient::new(socket))),
            owns_files: PreviousProcess::passes_sockets(),
        })
    }

    fn from_supervisor() -> Result<Self, Error> {
        let variable = |name| std::env::var(name).ok();
        let names = names(
            variable("LISTEN_PID").as_deref(),
            variable("LISTEN_FDS").as_deref(),
            variable("LISTEN_FDNAMES").as_deref(),
        )?;
        let mut inherited = Self::default();
        if names.is_empty() {
            return Ok(inherited);
        }
        let mut sockets = ListenFd::from_env();
        for (index, name) in names.iter().enumerate() {
            let socket = take_listener(&mut sockets, index).map_err(|reason| {
                Error::Setting(format!(
                    "LISTEN_FDS: socket {} ({name:?}) {reason}",
                    index + 1
                ))
            })?;
            let listeners = match name.as_str() {
                "admin" => &mut inherited.admin,
                "redirect" => &mut inherited.redirect,
                _ => &mut inherited.main,
            };
            listeners.get_or_insert_default().push(socket);
        }
        Ok(inherited)
    }

    /// Returns the addresses of the sockets, for the settings.
    pub(crate) fn endpoints(&self) -> InheritedEndpoints {
        let endpoints = |sockets: &Option<Vec<OwnedFd>>| {
            let sockets = sockets.as_ref()?;
            Some(sockets.iter().filter_map(endpoint).collect())
        };
        InheritedEndpoints {
            server: endpoints(&self.main),
            admin: endpoints(&self.admin),
        }
    }

    /// Checks that the settings have a server for each socket of a supervisor, and logs which
    /// settings are ignored. Those of the previous process cannot be changed.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for a socket without a server: its clients would wait forever.
    pub(crate) fn check(&self, settings: &Settings) -> Result<(), Error> {
        if self.previous_process.is_some() {
            if self.main.is_some() && listens_elsewhere(settings) {
                log::warn!(
                    "upgrade: these settings take effect only after a restart: bind, port; the sockets \
                     of the previous process are used"
                );
            }
            return Ok(());
        }
        let unserved = |name, flag| {
            Err(Error::Setting(format!(
                "LISTEN_FDS: socket {name:?} is for {flag}, which is not set; set it, or give the \
                 socket another FileDescriptorName="
            )))
        };
        if self.admin.is_some() && settings.admin.is_none() {
            return unserved("admin", "--admin");
        }
        if self.redirect.is_some() && settings.redirect_http.is_none() {
            return unserved("redirect", "--redirect-http");
        }
        if self.main.is_some() {
            log::info!("LISTEN_FDS: serving the inherited sockets; --bind and --port are ignored");
        }
        Ok(())
    }
}

/// Returns whether the inherited sockets are not those that the settings ask for.
fn listens_elsewhere(settings: &Settings) -> bool {
    let is_port = |port: u16, requested: u16| {
        let is_free = requested == 0 || settings.port_choice == PortChoice::NextFree;
        is_free || port == requested
    };
    let is_at = |socket: &Endpoint, requested: &Endpoint| match (socket, requested) {
        (Endpoint::Socket(socket), Endpoint::Address(ip)) => {
            socket.ip() == *ip && is_port(socket.port(), settings.config.port)
        }
        (Endpoint::Socket(socket), Endpoint::Socket(requested)) => {
            socket.ip() == requested.ip() && is_port(socket.port(), requested.port())
        }
        (socket, requested) => socket == requested,
    };
    let (sockets, requested) = (&settings.config.addresses, &settings.requested_addresses);
    let is_requested = |socket| requested.iter().any(|requested| is_at(socket, requested));
    let has_socket = |requested| sockets.iter().any(|socket| is_at(socket, requested));
    // Of the default addresses, this machine may lack one.
    let lacks_one = settings.is_bind_named && !requested.iter().all(has_socket);
    lacks_one || !sockets.iter().all(is_requested)
}

/// Returns the name of each socket; none if the variables are meant for another process.
fn names(
    pid: Option<&str>,
    count: Option<&str>,
    names: Option<&str>,
) -> Result<Vec<String>, Error> {
    let (Some(pid), Some(count)) = (pid, count) else {
        return Ok(Vec::new());
    };
    if pid.parse() != Ok(std::process::id()) {
        return Ok(Vec::new());
    }
    let Ok(count @ 0..=MAX_SOCKETS) = count.parse() else {
        let text = format!("LISTEN_FDS={count:?}: must be a number from 0 to {MAX_SOCKETS}");
        return Err(Error::Setting(text));
    };
    let Some(names) = names.filter(|names| !names.is_empty()) else {
        return Ok(vec!["unknown".to_owned(); count]);
    };
    let names: Vec<_> = names.split(':').map(str::to_owned).collect();
    if names.len() != count {
        return Err(Error::Setting(format!(
            "LISTEN_FDNAMES: {} names for {count} sockets (LISTEN_FDS); give one name for each, \
             separated by colons",
            names.len()
        )));
    }
    Ok(names)
}

/// Takes a socket; the error completes "socket N (NAME) …".
fn take_listener(sockets: &mut ListenFd, index: usize) -> Result<OwnedFd, String> {
    let tcp = sockets.take_tcp_listener(index).ok().flatten();
    let socket = match tcp {
        Some(socket) => Some(socket.into()),
        None => sockets
            .take_unix_listener(index)
            .ok()
            .flatten()
            .map(Into::into),
    };
    let Some(socket) = socket else {
        return Err("is neither a TCP nor a Unix stream socket; use ListenStream=".to_owned());
    };
    match SockRef::from(&socket).is_listener() {
        Ok(true) => Ok(socket),
        Ok(false) => Err("is a connection, not a listener; use Accept=no".to_owned()),
        Err(error) => Err(format!("cannot be inspected: {error}")),
    }
}

fn endpoint(socket: &OwnedFd) -> Option<Endpoint> {
    let address = SockRef::from(socket).local_addr().ok()?;
    let unix = || Endpoint::Unix(address.as_pathname().unwrap_or(Path::new("")).to_owned());
    Some(address.as_socket().map_or_else(unix, Endpoint::Socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_socket_has_a_name_and_other_processes_have_none() {
        let own = std::process::id().to_string();
        let parent = std::os::unix::process::parent_id().to_string();
        let own = Some(own.as_str());
        for (pid, count, given, expected) in [
            (None, None, None, &[][..]),
            (None, Some("1"), None, &[]),
            (own, None, None, &[]),
            (Some(parent.as_str()), Some("1"), None, &[]),
            (Some("1x"), Some("1"), None, &[]),
            (own, Some("0"), Some(""), &[]),
            (own, Some("2"), None, &["unknown", "unknown"]),
            (own, Some("1"), Some(""), &["unknown"]),
            (own, Some("1"), Some("admin"), &["admin"]),
            (own, Some("3"), Some("a::c"), &["a", "", "c"]),
        ] {
            let found = names(pid, count, given).expect("valid");
            assert_eq!(found, expected, "{pid:?} {count:?} {given:?}");
        }
        for (count, given, expected) in [
            ("x", None, "LISTEN_FDS"),
            ("-1", None, "LISTEN_FDS"),
            ("2147483647", None, "from 0 to 1024"),
            ("2", Some("one"), "1 names for 2"),
            ("0", Some("one"), "1 names for 0"),
        ] {
            let error = names(own, Some(count), given).expect_err("invalid");
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
