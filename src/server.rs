//! A server's life: bind, serve, drain, end.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
#[cfg(feature = "tls")]
use std::sync::mpsc::{self, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::access_log::{AccessLog, AccessLogHandle, DropCounter};
use crate::config::{Config, Endpoint, Limits};
use crate::error::Error;
use crate::handler::Handler;
use crate::net::accept::acceptor::{
    AcceptStats, Acceptor, AcceptorHandle, ConnectionLimits, connections_with_descriptors,
};
use crate::net::accept::handshaker::{self, AcceptPolicy, Handshaker, HandshakerMessage};
use crate::net::blocking::disk::DiskPools;
use crate::net::blocking::pool::BlockingPool;
use crate::net::event_loop::handle::{LoopHandle, LoopParts};
use crate::net::event_loop::mailbox::WorkerMessage;
use crate::net::observe::observer::{self, BlockingPoolStats, Observer, SnapshotKind};
use crate::net::transport::socket::{Listener, ListenerAddress, V6};
use crate::net::worker::Worker;
use crate::net::worker::settings::RuntimeConfig;
#[cfg(feature = "tls")]
use crate::tls::{Reloaded, Tls};

/// More event loops than any machine has use for.
const MAX_WORKERS: usize = 1024;

/// How long the end waits for an access log that nobody takes.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

/// A server that listens, and does not serve yet.
pub struct Server {
    config: Config,
    acceptor: Acceptor,
    seats: Vec<LoopParts>,
    preamble: AcceptPolicy,
    #[cfg(feature = "tls")]
    tls: Option<Tls>,
    access_log: Option<AccessLog>,
    /// Where its event loops write to, which may be another server's log.
    inlet: Option<AccessLogHandle>,
    pools: (BlockingPool, BlockingPool, DiskPools),
    handle: ServerHandle,
}

/// Says where a server listens and ends it, from any thread.
#[derive(Clone, Debug)]
pub struct ServerHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    addresses: Vec<SocketAddr>,
    unix_sockets: Vec<PathBuf>,
    workers: Vec<LoopHandle>,
    handshakers: Arc<handshaker::HandshakerHandles>,
    stop: Arc<AcceptorHandle>,
    admittance: Arc<AcceptStats>,
    pools: BlockingPoolStats,
    /// What the access log had to leave out, if there is one.
    dropped_lines: OnceLock<DropCounter>,
    drain: Mutex<Drain>,
    /// Its phase is another one.
    moved_on: Condvar,
    failed: AtomicBool,
}

/// How the end comes.
#[derive(Debug)]
struct Drain {
    /// How long answers in flight may take.
    time: Duration,
    phase: ServerState,
}

/// How far a server's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ServerState {
    /// It listens, and nobody is served yet.
    Bound,
    /// It serves.
    Serving,
    /// Its end is announced. It still serves everybody, for a while.
    ShutdownAnnounced,
    /// It takes no more connections and finishes its answers.
    Draining,
    /// It is over.
    Ended,
}

/// What a server has done since it was bound, and what it is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Connections that are open.
    pub connections: usize,
    /// Connections that were accepted; also those whose PROXY header told only then that their
    /// client has too many.
    pub accepted: u64,
    /// Connections that were told 503 and closed, because there were too many already; without a
    /// word if they are to begin with TLS.
    pub rejected: u64,
    /// Those of them whose client had
    /// [`max_connections_per_client`](crate::Limits::max_connections_per_client) already; the
    /// others met [`max_connections`](crate::Limits::max_connections).
    pub rejected_clients: u64,
    /// Idle connections that were closed to make room for others.
    pub evicted: u64,
    /// Requests that were given to the handler, answered or not.
    pub requests: u64,
    /// Lines that the access log lacks, because they could not be written in time or at all.
    pub dropped_log_lines: u64,
}

impl ServerHandle {
    /// The addresses it listens on, with the ports the system chose.
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.shared.addresses
    }

    /// The Unix sockets it listens on.
    pub fn unix_sockets(&self) -> &[PathBuf] {
        &self.shared.unix_sockets
    }

    /// How many connections are open.
    pub fn connections(&self) -> usize {
        let of_workers: usize = self
            .shared
            .workers
            .iter()
            .map(LoopHandle::connections)
            .sum();
        of_workers + self.shared.handshakers.connections()
    }

    /// What there is to count. The numbers are read one after the other while the server goes on.
    pub fn stats(&self) -> ServerStats {
        let requests = |worker: &LoopHandle| worker.tally.requests.load(Ordering::Relaxed);
        let shed = |worker: &LoopHandle| worker.tally.evicted.load(Ordering::Relaxed);
        let admittance = &self.shared.admittance;
        ServerStats {
            connections: self.connections(),
            accepted: admittance.accepted.load(Ordering::Relaxed),
            rejected: admittance.rejected.load(Ordering::Relaxed),
            rejected_clients: admittance.rejected_clients.load(Ordering::Relaxed),
            evicted: self.shared.workers.iter().map(shed).sum(),
            requests: self.shared.workers.iter().map(requests).sum(),
            dropped_log_lines: self
                .shared
                .dropped_lines
                .get()
                .map_or(0, DropCounter::count),
        }
    }

    /// How far its life has come.
    pub fn phase(&self) -> ServerState {
        self.shared.drain().phase
    }

    /// Waits until its life has come as far as `phase`. False if it has not within `patience`.
    pub fn wait_for(&self, phase: ServerState, patience: Duration) -> bool {
        let is_before = |drain: &mut Drain| drain.phase < phase;
        let drain = self.shared.drain();
        let waited = self
            .shared
            .moved_on
            .wait_timeout_while(drain, patience, is_before);
        let (drain, _) = waited.unwrap_or_else(PoisonError::into_inner);
        drain.phase >= phase
    }

    /// Has it measured what it does, and looks at it, for as long as the observer lives.
    pub fn observe(&self) -> Observer {
        let shared = &self.shared;
        let handshakers = Arc::clone(&shared.handshakers);
        Observer::new(shared.workers.clone(), handshakers, shared.pools.clone())
    }

    /// The event loops that do not answer within `patience`, by number: all before it serves and when
    /// it has ended, and while it ends those that have finished. To be asked costs each next to
    /// nothing, and nothing is measured.
    pub fn silent_event_loops(&self, patience: Duration) -> Vec<usize> {
        observer::ask(&self.shared.workers, SnapshotKind::Itself, patience).silent
    }

    /// [`shut_down`](Self::shut_down) after a while in which everybody is served and only
    /// [`phase`](Self::phase) tells that the end has come: time for a load balancer to notice.
    /// Returns at once.
    pub fn shut_down_after(&self, delay: Duration) {
        self.shared.enter(ServerState::ShutdownAnnounced);
        let handle = self.clone();
        let wait = move || {
            thread::sleep(delay);
            handle.shut_down();
        };
        if delay.is_zero() || thread::Builder::new().spawn(wait).is_err() {
            self.shut_down();
        }
    }

    /// Serves by another handler, other limits and timeouts and other trusted proxies from now on, on
    /// all connections, without losing one. What is begun is finished as it was begun: a request
    /// whose content the former handler has admitted is answered by it, and a client that has more
    /// connections than it may have now keeps them. Returns at once.
    ///
    /// Of `config`, the addresses, the port, the mode of Unix sockets, the PROXY protocol, the
    /// numbers of workers and helpers,
    /// [`max_waiting_jobs`](crate::Limits::max_waiting_jobs) and
    /// [`max_streams`](crate::Limits::max_streams) mean nothing: they stay as they are.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for limits that contradict each other; nothing has changed then.
    pub fn reload(&self, handler: impl Handler + 'static, config: &Config) -> Result<(), Error> {
        check(config)?;
        let terms = RuntimeConfig::new(Arc::new(handler), config);
        let mut drain = self.shared.drain();
        if drain.phase == ServerState::Serving {
            drain.time = config.timeouts.drain;
        }
        // Under the lock, so that of two that come at once the same is the last everywhere.
        for worker in &self.shared.workers {
            let terms = Box::new(terms.clone());
            worker.mailbox.send(WorkerMessage::RuntimeConfig(terms));
        }
        self.shared.stop.change(terms);
        Ok(())
    }

    /// Begins a graceful end: no new connections, idle ones are closed, answers in flight are
    /// finished within [`Timeouts::drain`](crate::Timeouts::drain). Returns at once;
    /// [`Server::serve`] returns when it is done.
    pub fn shut_down(&self) {
        self.shared.leave();
    }

    /// The same, with another time for the answers in flight; what is not finished then is cut. An
    /// end that has begun already can be made shorter so, not longer.
    pub fn shut_down_within(&self, time: Duration) {
        self.shared.shorten_drain(time);
        self.shared.leave();
    }
}

impl Server {
    /// Looks whether a server could have these limits; [`bind`](Self::bind) does, too.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] if they contradict each other, or are more than there can be.
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

    /// Serves on listeners that are there already, on TCP or on Unix sockets: those of a process
    /// that this one takes the place of, say, or a supervisor's. The addresses and the port of
    /// `config` mean nothing then.
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
        let seats = (0..workers.get())
            .map(|_| LoopParts::new())
            .collect::<Result<Vec<_>, _>>()
            .map_err(Error::system("create an event loop"))?;
        let limits = &config.limits;
        let pools = (
            BlockingPool::new(config.helpers.get(), limits.max_waiting_jobs),
            BlockingPool::new(limits.max_streams, 0),
            DiskPools::new(config.helpers.get(), limits.max_waiting_jobs),
        );
        let shared = Shared {
            addresses,
            unix_sockets,
            handshakers: Arc::default(),
            workers: seats.iter().map(|seat| seat.address().clone()).collect(),
            stop: acceptor.stop(),
            admittance: acceptor.admittance(),
            pools: BlockingPoolStats {
                jobs: pools.0.view(),
                streams: pools.1.view(),
                disks: pools.2.view(),
            },
            dropped_lines: OnceLock::new(),
            drain: Mutex::new(Drain {
                time: config.timeouts.drain,
                phase: ServerState::Bound,
            }),
            moved_on: Condvar::new(),
            failed: AtomicBool::new(false),
        };
        Ok(Self {
            preamble: AcceptPolicy::of(&config),
            config,
            acceptor,
            seats,
            #[cfg(feature = "tls")]
            tls: None,
            access_log: None,
            inlet: None,
            pools,
            handle: ServerHandle {
                shared: Arc::new(shared),
            },
        })
    }

    /// Records every exchange in `access_log`.
    pub fn with_access_log(mut self, access_log: AccessLog) -> Self {
        let inlet = access_log.handle();
        self.access_log = Some(access_log);
        self.with_access_log_of(inlet)
    }

    /// Records every exchange in an access log that somebody else finishes, when all its servers have
    /// ended.
    pub fn with_access_log_of(mut self, inlet: AccessLogHandle) -> Self {
        // There is one at most.
        let _ = self.handle.shared.dropped_lines.set(inlet.drops());
        self.inlet = Some(inlet);
        self
    }

    /// Speaks TLS on all addresses; not on Unix sockets, which nobody else can read. Certificates
    /// whose files change are read again within a few seconds.
    #[cfg(feature = "tls")]
    pub fn with_tls(mut self, tls: Tls) -> Self {
        self.preamble = self.preamble.with_tls(tls.config());
        self.tls = Some(tls);
        self
    }

    /// A handle to ask about the server and to end it.
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }

    /// Second descriptors of its listeners, for a process that is to take this one's place:
    /// [`from_listeners`](Self::from_listeners) serves on them. An address is listened on for as
    /// long as one of its descriptors is open.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if the process is out of descriptors.
    pub fn listeners(&self) -> Result<Vec<OwnedFd>, Error> {
        let copy = |listener: &Listener| listener.as_fd().try_clone_to_owned();
        let copies: std::io::Result<_> = self.acceptor.listeners().iter().map(copy).collect();
        copies.map_err(Error::system("duplicate a listener"))
    }

    /// Serves until [`ServerHandle::shut_down`] is called and all is finished. The calling thread
    /// accepts connections; as many more threads as there are workers serve them.
    ///
    /// # Errors
    ///
    /// [`Error::System`] if a thread cannot be started or an event loop fails.
    pub fn serve(self, handler: impl Handler + 'static) -> Result<(), Error> {
        let handler: Arc<dyn Handler> = Arc::new(handler);
        let limits = &self.config.limits;
        let shared = self.handle.shared;
        let mut crew = ThreadGroup::of(&shared);
        let count = self.seats.len();
        for (index, seat) in self.seats.into_iter().enumerate() {
            let sink = self.inlet.as_ref().map(AccessLogHandle::sender);
            let handler = Arc::clone(&handler);
            let pools = self.pools.clone();
            let worker = Worker::new(seat, &self.config, handler, pools, sink);
            let started = crew.start(format!("worker-{index}"), move || worker.run());
            crew.workers.push(started?);
        }
        let greetings = match self.preamble.is_empty() {
            true => 0,
            false => count,
        };
        let seats: std::io::Result<Vec<_>> = (0..greetings).map(|_| LoopParts::new()).collect();
        let seats = seats.map_err(Error::system("create an event loop"))?;
        let addresses = seats.iter().map(|seat| seat.address().clone()).collect();
        shared.handshakers.publish(addresses);
        for (index, seat) in seats.into_iter().enumerate() {
            let (preamble, workers) = (self.preamble.clone(), shared.workers.clone());
            let admittance = Arc::clone(&shared.admittance);
            let handshaker = Handshaker::new(seat, &self.config, preamble, workers, admittance);
            let started = crew.start(format!("handshaker-{index}"), move || handshaker.run());
            crew.handshakers.push(started?);
        }
        #[cfg(feature = "tls")]
        let _watched = self.tls.map(watch_certificates).transpose()?;
        shared.enter(ServerState::Serving);
        let room = ConnectionLimits {
            workers: shared.workers.clone(),
            handshakers: Arc::clone(&shared.handshakers),
            preamble: self.preamble,
            handler,
            cap: limits.max_connections,
            descriptors: connections_with_descriptors(limits.max_connections),
        };
        let accepted = self.acceptor.run(room);
        drop(crew);
        if let Some(access_log) = self.access_log {
            let dropped = access_log.finish(FLUSH_PATIENCE);
            if dropped > 0 {
                log::warn!("access log: {dropped} lines dropped");
            }
        }
        if shared.failed.load(Ordering::Acquire) {
            let source = std::io::Error::other("one of them failed; see the log");
            let doing = "keep the event loops running";
            return Err(Error::System { doing, source });
        }
        accepted.map_err(Error::system("accept connections"))
    }
}

impl Shared {
    /// A life goes one way.
    fn enter(&self, phase: ServerState) {
        let mut drain = self.drain();
        drain.phase = drain.phase.max(phase);
        drop(drain);
        self.moved_on.notify_all();
    }

    /// The acceptor is told; when it has heard, the server drains.
    fn leave(&self) {
        self.enter(ServerState::ShutdownAnnounced);
        self.stop.ask();
    }

    fn shorten_drain(&self, time: Duration) {
        let mut drain = self.drain();
        if drain.phase < ServerState::Draining {
            drain.time = time;
        } else {
            drain.time = time.min(drain.time);
            self.tell_workers(drain.time);
        }
    }

    fn drain(&self) -> MutexGuard<'_, Drain> {
        self.drain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell_workers(&self, time: Duration) {
        for worker in &self.workers {
            worker.mailbox.send(WorkerMessage::Drain(time));
        }
    }
}

/// The threads that serve. They finish what is begun, and end, when this is dropped.
struct ThreadGroup {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    handshakers: Vec<JoinHandle<()>>,
}

impl ThreadGroup {
    fn of(shared: &Arc<Shared>) -> Self {
        Self {
            shared: Arc::clone(shared),
            workers: Vec::new(),
            handshakers: Vec::new(),
        }
    }

    /// Starts an event loop.
    fn start(
        &self,
        name: String,
        run: impl FnOnce() -> std::io::Result<()> + Send + 'static,
    ) -> Result<JoinHandle<()>, Error> {
        let ward = PanicGuard(Arc::clone(&self.shared));
        let thread = thread::Builder::new().name(name);
        let thread = thread.spawn(move || ward.watch(run));
        thread.map_err(Error::system("start an event loop"))
    }
}

impl Drop for ThreadGroup {
    fn drop(&mut self) {
        // What they have begun is the workers' to finish.
        for handshaker in self.shared.handshakers.all() {
            handshaker.mailbox.send(HandshakerMessage::Drain);
        }
        join(&mut self.handshakers);
        let mut drain = self.shared.drain();
        drain.phase = drain.phase.max(ServerState::Draining);
        self.shared.tell_workers(drain.time);
        drop(drain);
        self.shared.moved_on.notify_all();
        join(&mut self.workers);
        self.shared.enter(ServerState::Ended);
    }
}

fn join(threads: &mut Vec<JoinHandle<()>>) {
    for thread in threads.drain(..) {
        // A panic was reported by the ward.
        let _ = thread.join();
    }
}

/// How often the files of certificates are looked at.
#[cfg(feature = "tls")]
const CERTIFICATE_PERIOD: Duration = Duration::from_secs(5);

/// Reads certificates again whose files have changed, until what it returns is dropped.
#[cfg(feature = "tls")]
fn watch_certificates(tls: Tls) -> Result<SyncSender<()>, Error> {
    let (watched, end) = mpsc::sync_channel::<()>(0);
    let watch = move || {
        while end.recv_timeout(CERTIFICATE_PERIOD) == Err(RecvTimeoutError::Timeout) {
            match tls.reload_if_changed() {
                Ok(Reloaded::Unchanged) => {}
                Ok(Reloaded::Changed) => {
                    log::warn!("tls: certificates reloaded: {}", tls.describe().join("; "));
                }
                Err(error) => log::error!("tls: {error}; the current certificates stay in use"),
            }
        }
    };
    let thread = thread::Builder::new().name("certificates".to_owned());
    let started = thread.spawn(watch);
    started.map_err(Error::system("watch the certificates"))?;
    Ok(watched)
}

/// Ends the whole server if one event loop fails: half a server is worse than none, because
/// nobody restarts it.
struct PanicGuard(Arc<Shared>);

impl PanicGuard {
    fn watch(self, run: impl FnOnce() -> std::io::Result<()>) {
        if let Err(error) = run() {
            log::error!("event loop: {error}; the server shuts down");
            self.end();
        }
    }

    fn end(&self) {
        self.0.failed.store(true, Ordering::Release);
        self.0.leave();
    }
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if thread::panicking() {
            self.end();
        }
    }
}

fn check(config: &Config) -> Result<(), Error> {
    let limits = &config.limits;
    let most = crate::proto::h1::MAX_FIELDS;
    if limits.max_fields > most {
        let text = format!(
            "max_fields must be at most {most}, not {}",
            limits.max_fields
        );
        return Err(Error::Setting(text));
    }
    if limits.max_outbox_bytes == 0 {
        let text = "max_outbox_bytes must be at least 1, not 0";
        return Err(Error::Setting(text.to_owned()));
    }
    if let Some(workers) = config.workers.filter(|workers| workers.get() > MAX_WORKERS) {
        let text = format!("workers must be at most {MAX_WORKERS}, not {workers}");
        return Err(Error::Setting(text));
    }
    let bandwidths = [limits.bandwidth_per_client, limits.bandwidth_per_connection];
    let least = Limits::MIN_BANDWIDTH;
    if let Some(low) = bandwidths.iter().flatten().find(|rate| rate.get() < least) {
        let text = format!("a bandwidth must be at least {least} bytes per second, not {low}");
        return Err(Error::Setting(text));
    }
    if u32::try_from(limits.max_head_bytes).is_err() {
        let text = format!(
            "max_head_bytes must be less than 4 GiB, not {}",
            limits.max_head_bytes
        );
        return Err(Error::Setting(text));
    }
    Ok(())
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
            // The port the system chose for the first address is everybody's.
            port = bound.port();
        }
        listeners.push(listener);
    }
    Ok(listeners)
}

/// `::` takes IPv4, too, unless that has an address of its own.
fn v6(config: &Config, port: u16) -> V6 {
    let is_rival = |endpoint: &Endpoint| match endpoint {
        Endpoint::Address(ip) => ip.is_ipv4() && (port == config.port || config.port == 0),
        Endpoint::Socket(address) => address.is_ipv4() && address.port() == port,
        Endpoint::Unix(_) => false,
    };
    match config.addresses.iter().any(is_rival) {
        true => V6::Only,
        false => V6::Dual,
    }
}
