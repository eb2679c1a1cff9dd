//! The listeners that a process is given when it starts: by the process that it takes the place of
//! (`upgrade`), else by a supervisor that opens sockets itself (sd_listen_fds(3): `LISTEN_PID`,
//! `LISTEN_FDS`, `LISTEN_FDNAMES`), so that it may be started late, restarted without a gap, and
//! without a right to any port.
//!
//! Of a supervisor's sockets, one of the name `admin` is that of `--admin`, one of the name `redirect`
//! is that of `--redirect-http`, all others are the server's. Who has been given sockets binds none:
//! addresses and ports that are set mean nothing then, and what is dangerous at an address is judged
//! by those of the sockets. They are TCP or Unix stream sockets that listen (`ListenStream=`,
//! `Accept=no`).

use std::os::fd::OwnedFd;
use std::path::Path;

use listenfd::ListenFd;
use socket2::SockRef;
use tws::{Endpoint, Error};

use super::upgrade::Ancestor;
use crate::cli::{InheritedEndpoints, Settings};

/// More sockets than anybody means.
const MAX_SOCKETS: usize = 1024;

/// What this process was given. Each server has its own; `None` for one that is to open them itself.
#[derive(Default)]
pub(crate) struct Inheritance {
    pub(crate) ancestor: Option<Ancestor>,
    pub(crate) server: Option<Vec<OwnedFd>>,
    pub(crate) admin: Option<Vec<OwnedFd>>,
    pub(crate) redirect: Option<Vec<OwnedFd>>,
}

impl Inheritance {
    /// Takes it. No thread may have been started before, as variables are removed.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for sockets that cannot be served on.
    pub(crate) fn take() -> Result<Self, Error> {
        let Some(ancestor) = Ancestor::of_this_process()? else {
            return Self::of_supervisor();
        };
        let mut listeners = ancestor.listeners()?.into_iter();
        let mut next = || listeners.next().flatten();
        Ok(Self {
            server: next(),
            admin: next(),
            redirect: next(),
            ancestor: Some(ancestor),
        })
    }

    fn of_supervisor() -> Result<Self, Error> {
        let variable = |name| std::env::var(name).ok();
        let names = names(
            variable("LISTEN_PID").as_deref(),
            variable("LISTEN_FDS").as_deref(),
            variable("LISTEN_FDNAMES").as_deref(),
        )?;
        let mut inheritance = Self::default();
        if names.is_empty() {
            return Ok(inheritance);
        }
        let mut sockets = ListenFd::from_env();
        for (index, name) in names.iter().enumerate() {
            let socket = take_listener(&mut sockets, index).map_err(|reason| {
                Error::Setting(format!(
                    "LISTEN_FDS: socket {} ({name:?}) {reason}",
                    index + 1
                ))
            })?;
            let place = match name.as_str() {
                "admin" => &mut inheritance.admin,
                "redirect" => &mut inheritance.redirect,
                _ => &mut inheritance.server,
            };
            place.get_or_insert_default().push(socket);
        }
        Ok(inheritance)
    }

    /// Where there is something to listen on, for the settings.
    pub(crate) fn listening(&self) -> InheritedEndpoints {
        let endpoints = |sockets: &Option<Vec<OwnedFd>>| {
            let sockets = sockets.as_ref()?;
            Some(sockets.iter().filter_map(endpoint).collect())
        };
        InheritedEndpoints {
            server: endpoints(&self.server),
            admin: endpoints(&self.admin),
        }
    }

    /// Says which settings mean nothing. A socket of a supervisor's that nobody would serve is an
    /// error: its clients would wait for ever.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for such a socket.
    pub(crate) fn check(&self, settings: &Settings) -> Result<(), Error> {
        if self.ancestor.is_some() {
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
        if self.server.is_some() {
            log::info!("LISTEN_FDS: serving the inherited sockets; --bind and --port are ignored");
        }
        Ok(())
    }
}

/// The name of each socket; none if the variables are meant for another process.
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
    match names.len() == count {
        true => Ok(names),
        false => Err(Error::Setting(format!(
            "LISTEN_FDNAMES: {} names for {count} sockets (LISTEN_FDS); give one name for each, \
             separated by colons",
            names.len()
        ))),
    }
}

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
    fn variables_are_for_one_process_and_name_each_socket() {
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
            let found = names(pid, count, given).expect("fine");
            assert_eq!(found, expected, "{pid:?} {count:?} {given:?}");
        }
        for (count, given, expected) in [
            ("x", None, "LISTEN_FDS"),
            ("-1", None, "LISTEN_FDS"),
            ("2147483647", None, "from 0 to 1024"),
            ("2", Some("one"), "1 names for 2"),
            ("0", Some("one"), "1 names for 0"),
        ] {
            let error = names(own, Some(count), given).expect_err("wrong");
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}
