//! The admin's server: a second one in this process, with a listener and threads of its own. So it
//! answers while the first is too busy to, and while it ends; and it ends after it.

use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tws::admin::{Admin, Hosts, Sampler};
use tws::{
    Config, Endpoint, Error, Handler, Request, Router, Server, ServerHandle, ServerState,
    StaticFiles,
};

use super::app::Guard;
use super::https_redirect;
use crate::cli::is_exposed;

/// People, their monitoring and a load balancer or two, none of whom needs half of them. Who watches
/// has a thread, so each of them may: one who waited for a thread would see nothing.
const MAX_CONNECTIONS: usize = 256;

/// More than a start takes that goes well.
const START_PATIENCE: Duration = Duration::from_secs(10);

/// How long watchers have to hear that all is over: they are told once a second.
const DRAIN: Duration = Duration::from_secs(2);

/// One that listens.
pub(crate) struct AdminListener {
    server: Server,
    app: Router,
    /// That of the server it tells of.
    watched: ServerHandle,
}

/// One that serves.
pub(crate) struct AdminService {
    handle: ServerHandle,
    thread: JoinHandle<()>,
}

impl AdminListener {
    /// Listens at `endpoint`, or goes on with the listeners of the process before, and tells of the
    /// server of `handle`. Only who passes the guard may come from other machines, but to know
    /// whether the server is well.
    pub(crate) fn open(
        endpoint: &Endpoint,
        inherited: Option<Vec<OwnedFd>>,
        (handle, files, sampler): (&ServerHandle, Arc<Mutex<StaticFiles>>, &Arc<Sampler>),
        guard: Option<Guard>,
    ) -> Result<Self, Error> {
        let mut config = Config::default();
        config.addresses = vec![endpoint.clone()];
        config.workers = Some(NonZeroUsize::MIN);
        config.helpers = NonZeroUsize::MIN.saturating_add(3);
        config.limits.max_streams = MAX_CONNECTIONS;
        config.limits.max_connections = Some(MAX_CONNECTIONS);
        config.limits.max_connections_per_client = Some(MAX_CONNECTIONS / 2);
        config.timeouts.drain = DRAIN;
        let server = match inherited {
            Some(listeners) => Server::from_listeners(listeners, config)?,
            None => Server::bind(config).map_err(|error| {
                let addresses = handle.local_addresses().iter();
                let used = addresses.map(|address| ("--bind or --port", address.port()));
                https_redirect::name_flag("--admin", error, used)
            })?,
        };
        // What a page of another site can have a browser ask: not an address that is behind a
        // password, and no Unix socket.
        let hosts = match endpoint.ip() {
            Some(ip) if !is_exposed(ip) => Hosts::Local,
            _ => Hosts::Any,
        };
        let current = move || files.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let counts = move || current().cache_stats();
        let admin = Admin::with_sources(handle, counts, sampler).for_hosts(hosts);
        Ok(Self {
            server,
            app: app(admin, guard),
            watched: handle.clone(),
        })
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// Starts to serve, on threads of its own, when there is something to tell: until then the
    /// process before this one answers.
    pub(crate) fn start(self) -> Result<AdminService, Error> {
        let Self {
            server,
            app,
            watched,
        } = self;
        let handle = server.handle();
        let serve = move || {
            watched.wait_for(ServerState::Serving, START_PATIENCE);
            if let Err(error) = server.serve(app) {
                log::error!("admin listener: {error}");
            }
        };
        let thread = thread::Builder::new().name("admin".to_owned());
        let thread = thread.spawn(serve).map_err(|source| Error::System {
            doing: "start the admin listener",
            source,
        })?;
        Ok(AdminService { handle, thread })
    }
}

impl AdminService {
    /// Ends it, when there is nothing left to tell.
    pub(crate) fn end(self) {
        self.handle.shut_down();
        if self.thread.join().is_err() {
            log::error!("admin listener: the thread panicked");
        }
    }
}

fn app(admin: Admin, guard: Option<Guard>) -> Router {
    let Some(guard) = guard else {
        return Router::new().fallback(admin);
    };
    // Load balancers have no passwords, and these say next to nothing.
    let admin = Arc::new(admin);
    let share = |admin: &Arc<Admin>| {
        let admin = Arc::clone(admin);
        move |request: &Request<'_>| admin.handle(request)
    };
    let guarded = guard(Router::new().fallback(share(&admin)));
    Router::new()
        .get("/healthz", share(&admin))
        .get("/readyz", share(&admin))
        .fallback(guarded)
}
