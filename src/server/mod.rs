//! A server: bind, serve, reload, drain, end.

mod ctrl_c;
mod handle;
mod setting_check;
mod threads;

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use crate::access_log::{AccessLog, AccessLogHandle};
use crate::config::{Config, Endpoint};
use crate::error::Error;
use crate::handler::Handler;
use crate::net::accept::acceptor::Acceptor;
use crate::net::accept::admission::ConnectionLimits;
use crate::net::accept::fd_pressure::FdPressure;
use crate::net::accept::handshaker::Handshaker;
use crate::net::accept::preamble::AcceptPolicy;
use crate::net::blocking::Pools;
use crate::net::event_loop::handle::{LoopHandle, LoopParts};
use crate::net::transport::listener::{Listener, ListenerAddress, V6};
use crate::net::worker::Worker;
use crate::net::worker::message::WorkerMessage;
use crate::panics::drop_caught;
use crate::sync::{Condvar, Mutex};
#[cfg(feature = "tls")]
use crate::tls::Tls;
use handle::{Lifecycle, Shared};
pub use handle::{ServerHandle, ServerState, ServerStats};
use setting_check::check;
use threads::ThreadGroup;

/// How long the end of a server waits for its access log to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// A server that listens and does not serve yet.
#[must_use = "a server accepts connections when `serve` is called"]
pub struct Server {
    config: Config,
    acceptor: Acceptor,
    worker_parts: Vec<LoopParts<WorkerMessage>>,
    policy: AcceptPolicy,
    fd_pressure: FdPressure,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
    /// The log that this server finishes.
    access_log: Option<AccessLog>,
    /// The log that this server writes, which may be another server's.
    log_handle: Option<AccessLogHandle>,
    pools: Pools,
    handle: ServerHandle,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("config", &self.config)
            .field("handle", &self.handle)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Checks the limits of `config`, as [`bind`](Self::bind) does.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] if limits contradict each other or are out of range.
    pub fn check(config: &Config) -> Result<(), Error> {
        check(config)
    }

    /// Listens on every address of `config`.
    ///
    /// # Errors
    ///
    /// [`Error::Bind`] for an address that cannot be listened on, [`Error::Path`] for a Unix socket,
    /// [`Error::Setting`] for limits that contradict each other, [`Error::System`] if the system is
    /// out of descriptors.
    pub fn bind(config: Config) -> Result<Self, Error> {
        check(&config)?;
        if config.addresses.is_empty() {
            let text = "no address to listen on; name at least one";
            return Err(Error::Setting(text.to_owned()));
        }
        let listeners = listen_all(&config)?;
        Self::on(listeners, config)
    }

    /// Serves on listeners that exist already, TCP or Unix sockets: those of a process that this one
    /// replaces, for example, or a supervisor's. The addresses and the port of `config` are ignored.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind).
    pub fn from_listeners(
        listeners: impl IntoIterator<Item = impl Into<OwnedFd>>,
        config: Config,
    ) -> Result<Self, Error> {
        check(&config)?;
        let listeners = listeners.into_iter().map(Into::into);
        let listeners: std::io::Result<_> = listeners.map(Listener::adopt).collect();
        let listeners = listeners.map_err(Error::system("adopt a listener"))?;
        Self::on(listeners, config)
    }

    fn on(listeners: Vec<Listener>, config: Config) -> Result<Self, Error> {
        let (mut addresses, mut unix_sockets) = (Vec::new(), Vec::new());
        for listener in &listeners {
            match listener.address() {
                ListenerAddress::Tcp(address) => addresses.push(*address),
                ListenerAddress::Unix(path) => unix_sockets.push(path.clone()),
            }
        }
        let acceptor = Acceptor::new(listeners).map_err(Error::system("poll the listeners"))?;
        let cores = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let workers = config.workers.unwrap_or_else(cores);
        let worker_parts = loop_parts(workers.get())?;
        let pools = Pools::new(&config);
        let shared = Shared {
            addresses,
            unix_sockets,
            workers: handles(&worker_parts),
            handshakers: Arc::default(),
            acceptor: acceptor.handle(),
            accept_stats: acceptor.stats(),
            pools: pools.stats(),
            dropped_lines: OnceLock::new(),
            lifecycle: Mutex::new(Lifecycle {
                state: ServerState::Bound,
                drain_time: config.timeouts.drain,
            }),
            state_changed: Condvar::default(),
            failed: AtomicBool::new(false),
        };
        Ok(Self {
            policy: AcceptPolicy::of(&config),
            config,
            acceptor,
            worker_parts,
            fd_pressure: FdPressure::default(),
            #[cfg(feature = "tls")]
            tls: None,
            access_log: None,
            log_handle: None,
            pools,
            handle: ServerHandle {
                shared: Arc::new(shared),
            },
        })
    }

    /// Records every exchange in `access_log`.
    pub fn with_access_log(mut self, access_log: AccessLog) -> Self {
        let handle = access_log.handle();
        self.access_log = Some(access_log);
        self.with_access_log_of(handle)
    }

    /// Records every exchange in an access log that several servers share, and that the caller
    /// finishes when all of them have ended.
    pub fn with_access_log_of(mut self, handle: AccessLogHandle) -> Self {
        // An error means that there is a counter already: of the log set first.
        let _ = self.handle.shared.dropped_lines.set(handle.drops());
        self.log_handle = Some(handle);
        self
    }

    /// Speaks TLS on all TCP addresses. Unix sockets have no TLS: no other host can read them.
    /// Certificates whose files change are reloaded within a few seconds.
    #[cfg(feature = "tls")]
    pub fn with_tls(mut self, tls: Tls) -> Self {
        self.policy = self.policy.with_tls(tls.acceptor(self.config.http2));
        self.tls = Some(tls);
        self
    }

    /// Adds a callback that releases file descriptors, called when the process has run out of them:
    /// before idle connections are closed, and on the thread that accepts connections. Register
    /// [`StaticFiles::release_descriptors`](crate::StaticFiles::release_descriptors) here.
    pub fn on_fd_pressure(mut self, release: impl Fn() + Send + Sync + 'static) -> Self {
        self.fd_pressure.add(release);
        self
    }

    /// Returns a handle to the server.
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }

    /// Returns duplicates of the listeners, for a process that is to replace this one:
    /// [`from_listeners`](Self::from_listeners) serves on them. An address is listened on for as
    /// long as one of its descriptors is open.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if the process is out of descriptors.
    pub fn listeners(&self) -> Result<Vec<OwnedFd>, Error> {
        let duplicate = |listener: &Listener| listener.as_fd().try_clone_to_owned();
        let listeners = self.acceptor.listeners().iter();
        let duplicates: std::io::Result<_> = listeners.map(duplicate).collect();
        duplicates.map_err(Error::system("duplicate a listener"))
    }

    /// Serves until [`ServerHandle::shut_down`] is called and the shutdown is complete. The calling
    /// thread accepts connections; each worker has a thread of its own.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if a thread cannot be started or an event loop fails.
    pub fn serve(self, handler: impl Handler + 'static) -> Result<(), Error> {
        let shared = self.handle.shared;
        let mut threads = ThreadGroup::new(&shared);
        let workers = self.worker_parts.len();
        {
            // The workers own the handler, so that it is dropped when a reload has replaced it.
            let handler: Arc<dyn Handler> = Arc::new(handler);
            for parts in self.worker_parts {
                let log = self.log_handle.as_ref().map(AccessLogHandle::sender);
                let handler = Arc::clone(&handler);
                let worker = Worker::new(parts, &self.config, handler, self.pools.clone(), log);
                threads.start_worker(move || worker.run())?;
            }
            // A reload may already have replaced it in all workers.
            drop_caught(handler, "start: the handler");
        }
        let handshakers = if self.policy.is_empty() { 0 } else { workers };
        let parts = loop_parts(handshakers)?;
        shared.handshakers.publish(handles(&parts));
        for parts in parts {
            let handshaker = Handshaker::new(
                parts,
                &self.config.timeouts,
                self.policy.clone(),
                shared.workers.clone(),
                Arc::clone(&shared.accept_stats),
            );
            threads.start_handshaker(move || handshaker.run())?;
        }
        #[cfg(feature = "tls")]
        let _watcher = self.tls.map(threads::watch_certificates).transpose()?;
        shared.enter(ServerState::Serving);
        let limits = ConnectionLimits::new(
            shared.workers.clone(),
            Arc::clone(&shared.handshakers),
            self.policy,
            &self.config.limits,
            &self.config.timeouts,
        );
        let accepted = self.acceptor.run(limits, &self.fd_pressure);
        drop(threads);
        if let Some(access_log) = self.access_log {
            let dropped = access_log.finish(FLUSH_TIMEOUT);
            if dropped > 0 {
                log::warn!("access log: {dropped} lines dropped");
            }
        }
        if shared.failed.load(Ordering::Acquire) {
            let source = std::io::Error::other("an event loop failed; the log says why");
            let doing = "keep the event loops running";
            return Err(Error::System { doing, source });
        }
        accepted.map_err(Error::system("accept connections"))
    }
}

fn loop_parts<M>(count: usize) -> Result<Vec<LoopParts<M>>, Error> {
    let parts: std::io::Result<_> = (0..count).map(|_| LoopParts::new()).collect();
    parts.map_err(Error::system("create an event loop"))
}

fn handles<M>(parts: &[LoopParts<M>]) -> Vec<LoopHandle<M>> {
    parts.iter().map(|parts| parts.handle().clone()).collect()
}

fn listen_all(config: &Config) -> Result<Vec<Listener>, Error> {
    let mut port = config.port;
    let mut listeners = Vec::new();
    for endpoint in &config.addresses {
        let address = match endpoint {
            Endpoint::Unix(path) => {
                listeners.push(Listener::unix(path, config.unix_mode)?);
                continue;
            }
            Endpoint::Address(ip) => SocketAddr::new(*ip, port),
            Endpoint::Socket(address) => *address,
        };
        let bind_error = |source| Error::Bind { address, source };
        let listener = Listener::tcp(address, v6(config, address.port())).map_err(bind_error)?;
        if let (Endpoint::Address(_), ListenerAddress::Tcp(bound)) = (endpoint, listener.address())
        {
            // All addresses share the port that the system has chosen for the first one.
            port = bound.port();
        }
        listeners.push(listener);
    }
    Ok(listeners)
}

/// A listener on `::` accepts IPv4 connections, too, unless there is an IPv4 listener on its port.
fn v6(config: &Config, port: u16) -> V6 {
    let is_ipv4_listener = |endpoint: &Endpoint| match endpoint {
        Endpoint::Address(ip) => ip.is_ipv4() && (port == config.port || config.port == 0),
        Endpoint::Socket(address) => address.is_ipv4() && address.port() == port,
        Endpoint::Unix(_) => false,
    };
    if config.addresses.iter().any(is_ipv4_listener) {
        V6::Only
    } else {
        V6::Dual
    }
}
