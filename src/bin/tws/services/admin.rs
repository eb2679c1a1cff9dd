//! The operators' listener: a side server that reports on the main server, also while that one is
//! overloaded or drains. It ends after the main server.

use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tws::admin::{Admin, CertificateStatus, Hosts, Sampler};
use tws::{
    BoxHandler, Config, Endpoint, Error, Handler, Http2, Request, Router, ServerHandle, StaticFiles,
};

use super::app::AuthLayer;
use super::side_server::{Role, SideServer, UsedPort};
use crate::cli::is_exposed;
use crate::sync::Mutex;

/// Enough for operators, their monitoring and a load balancer or two. Each client that watches
/// holds a thread, so there are as many threads for that: a client that waited for one would see
/// nothing. One client gets at most half of the connections.
const MAX_CONNECTIONS: usize = 256;

/// How long watching clients have to receive the end of the main server: they get an update each
/// second.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// What the listener reports on.
pub(crate) struct Watched<'a> {
    pub(crate) server: &'a ServerHandle,
    /// The files that are served, or those of a later reload.
    pub(crate) files: Arc<Mutex<StaticFiles>>,
    pub(crate) sampler: &'a Arc<Sampler>,
    pub(crate) certificates: Option<CertificateSource>,
}

/// Returns the state of the certificates.
pub(crate) type CertificateSource = Box<dyn Fn() -> Vec<CertificateStatus> + Send + Sync>;

/// Listens at `endpoint`, or adopts the listeners of the previous process.
///
/// With `auth`, everything needs a password but the health checks.
pub(crate) fn open(
    endpoint: &Endpoint,
    http2: Http2,
    inherited: Option<Vec<OwnedFd>>,
    watched: Watched<'_>,
    auth: Option<AuthLayer>,
) -> Result<SideServer, Error> {
    let config = config(endpoint, http2);
    let server = watched.server;
    let handler = handler(endpoint, watched, auth);
    let side_server = match inherited {
        Some(listeners) => SideServer::from_listeners(Role::Admin, listeners, config, handler)?,
        None => {
            let used = UsedPort::of_main_server(server);
            SideServer::bind(Role::Admin, config, handler, &used)?
        }
    };
    Ok(side_server.after(server.clone()))
}

fn config(endpoint: &Endpoint, http2: Http2) -> Config {
    let mut config = Config::default();
    config.addresses = vec![endpoint.clone()];
    config.http2 = http2;
    config.workers = Some(NonZeroUsize::MIN);
    config.helpers = NonZeroUsize::MIN.saturating_add(3);
    config.limits.max_connections = Some(MAX_CONNECTIONS);
    config.limits.max_connections_per_client = Some(MAX_CONNECTIONS / 2);
    config.timeouts.drain = DRAIN_TIMEOUT;
    config
}

fn handler(endpoint: &Endpoint, watched: Watched<'_>, auth: Option<AuthLayer>) -> BoxHandler {
    // A page of another site can make a browser request a local address (DNS rebinding), but
    // neither one that needs a password nor a Unix socket.
    let hosts = match endpoint.ip() {
        Some(ip) if !is_exposed(ip) => Hosts::Local,
        _ => Hosts::Any,
    };
    let files = watched.files;
    let cache_stats = move || {
        let files = files.lock().clone();
        files.cache_stats()
    };
    let admin = Admin::with_sources(watched.server, cache_stats, watched.sampler).for_hosts(hosts);
    let admin = match watched.certificates {
        Some(certificates) => admin.with_certificates(certificates),
        None => admin,
    };
    match auth {
        Some(auth) => with_auth(admin, auth),
        None => BoxHandler::new(admin),
    }
}

/// Requires passwords, but not for the health checks: load balancers have none, and the responses
/// reveal next to nothing.
fn with_auth(admin: Admin, auth: AuthLayer) -> BoxHandler {
    let admin = Arc::new(admin);
    let shared = |admin: &Arc<Admin>| {
        let admin = Arc::clone(admin);
        move |request: &Request<'_>| admin.handle(request)
    };
    let protected = auth(BoxHandler::new(shared(&admin)));
    let router = Router::new()
        .get("/healthz", shared(&admin))
        .get("/readyz", shared(&admin))
        .fallback(protected);
    BoxHandler::new(router)
}
