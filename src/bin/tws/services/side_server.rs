//! A second server in this process, with a listener and threads of its own: the operators'
//! listener (`--admin`) and the redirect to HTTPS (`--redirect-http`). It responds even while the
//! main server is too busy to.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tws::access_log::AccessLogHandle;
use tws::{BoxHandler, Config, Error, Server, ServerHandle, ServerState};

/// How long a side server waits for the main server to serve; longer than a successful start takes.
const START_TIMEOUT: Duration = Duration::from_secs(10);

/// What a side server is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Admin,
    HttpsRedirect,
}

impl Role {
    fn flag(self) -> &'static str {
        match self {
            Self::Admin => "--admin",
            Self::HttpsRedirect => "--redirect-http",
        }
    }

    /// The subject of its log messages.
    fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin listener",
            Self::HttpsRedirect => "HTTPS redirect",
        }
    }

    fn thread_name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::HttpsRedirect => "redirect",
        }
    }

    /// What fails if its thread cannot be started.
    fn start(self) -> &'static str {
        match self {
            Self::Admin => "start the admin listener",
            Self::HttpsRedirect => "start the HTTPS redirect",
        }
    }
}

/// A port that another server of this process is bound to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UsedPort {
    /// The flag that chose it.
    pub(crate) flag: &'static str,
    pub(crate) port: u16,
}

impl UsedPort {
    /// The ports of the main server.
    pub(crate) fn of_main_server(server: &ServerHandle) -> Vec<Self> {
        let ports = server.local_addresses().iter().map(|address| Self {
            flag: "--bind or --port",
            port: address.port(),
        });
        ports.collect()
    }
}

/// A side server that listens and does not serve yet.
pub(crate) struct SideServer {
    role: Role,
    server: Server,
    handler: BoxHandler,
    /// The server that must serve before this one does.
    main_server: Option<ServerHandle>,
}

/// A side server that serves.
pub(crate) struct RunningSideServer {
    role: Role,
    handle: ServerHandle,
    thread: JoinHandle<()>,
}

impl SideServer {
    /// Binds the addresses of `config`.
    ///
    /// # Errors
    ///
    /// A failure to bind names the role's flag, and that of `used` which has taken the port.
    pub(crate) fn bind(
        role: Role,
        config: Config,
        handler: BoxHandler,
        used: &[UsedPort],
    ) -> Result<Self, Error> {
        let server = Server::bind(config).map_err(|error| bind_error(role.flag(), error, used))?;
        Ok(Self::new(role, server, handler))
    }

    /// Adopts inherited listeners; the addresses of `config` are ignored.
    pub(crate) fn from_listeners(
        role: Role,
        listeners: Vec<OwnedFd>,
        config: Config,
        handler: BoxHandler,
    ) -> Result<Self, Error> {
        let server = Server::from_listeners(listeners, config)?;
        Ok(Self::new(role, server, handler))
    }

    fn new(role: Role, server: Server, handler: BoxHandler) -> Self {
        Self {
            role,
            server,
            handler,
            main_server: None,
        }
    }

    /// Serves only once `server` does. Until then, the previous process responds if this one takes
    /// over from it.
    pub(crate) fn after(mut self, server: ServerHandle) -> Self {
        self.main_server = Some(server);
        self
    }

    /// Writes its requests to this access log.
    pub(crate) fn with_access_log(mut self, log: AccessLogHandle) -> Self {
        self.server = self.server.with_access_log_of(log);
        self
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// Starts to serve, on threads of its own.
    pub(crate) fn start(self) -> Result<RunningSideServer, Error> {
        let Self {
            role,
            server,
            handler,
            main_server,
        } = self;
        let handle = server.handle();
        let serve = move || {
            if let Some(main_server) = main_server {
                main_server.wait_for(ServerState::Serving, START_TIMEOUT);
            }
            if let Err(error) = server.serve(handler) {
                log::error!("{}: {error}", role.name());
            }
        };
        let thread = thread::Builder::new()
            .name(role.thread_name().to_owned())
            .spawn(serve)
            .map_err(Error::system(role.start()))?;
        Ok(RunningSideServer {
            role,
            handle,
            thread,
        })
    }
}

impl RunningSideServer {
    /// Shuts the server down and waits for its end.
    pub(crate) fn shut_down(self) {
        self.handle.shut_down();
        if self.thread.join().is_err() {
            log::error!("{}: the thread panicked", self.role.name());
        }
    }
}

/// Turns the error of a listener that cannot be bound into one of the flag that asked for it.
fn bind_error(flag: &str, error: Error, used: &[UsedPort]) -> Error {
    let Error::Bind { address, source } = error else {
        return error;
    };
    let port = address.port();
    let other = used.iter().find(|other| other.port == port);
    let text = match (source.kind(), other) {
        (ErrorKind::AddrInUse, Some(other)) => format!(
            "port {port} is already used by {}; choose another port",
            other.flag
        ),
        (ErrorKind::AddrInUse, None) => format!(
            "cannot listen on {address}: port {port} is in use; choose another port (0 takes a free \
             one)"
        ),
        (ErrorKind::PermissionDenied, _) => format!(
            "cannot listen on {address}: ports below 1024 need root or CAP_NET_BIND_SERVICE; choose \
             a higher port"
        ),
        (ErrorKind::AddrNotAvailable, _) => format!(
            "cannot listen on {address}: this machine has no such address; use one of its own"
        ),
        _ => format!("cannot listen on {address}: {source}"),
    };
    Error::Setting(format!("{flag}: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bind_error_names_flag_and_remedy() {
        let used =
            [("--port", 8000), ("--admin", 9000)].map(|(flag, port)| UsedPort { flag, port });
        for (kind, port, expected) in [
            (
                ErrorKind::AddrInUse,
                9000,
                "--x: port 9000 is already used by --admin; choose another port",
            ),
            (
                ErrorKind::AddrInUse,
                7000,
                "--x: cannot listen on 127.0.0.1:7000: port 7000 is in use; choose another port \
                 (0 takes a free one)",
            ),
            (
                ErrorKind::PermissionDenied,
                80,
                "--x: cannot listen on 127.0.0.1:80: ports below 1024 need root or \
                 CAP_NET_BIND_SERVICE; choose a higher port",
            ),
            (
                ErrorKind::AddrNotAvailable,
                8000,
                "--x: cannot listen on 127.0.0.1:8000: this machine has no such address; use one \
                 of its own",
            ),
        ] {
            let error = Error::Bind {
                address: ([127, 0, 0, 1], port).into(),
                source: kind.into(),
            };
            assert_eq!(bind_error("--x", error, &used).to_string(), expected);
        }
    }
}
