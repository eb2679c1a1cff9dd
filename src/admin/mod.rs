//! The admin interface: metrics, health checks and a page with live transfers.
//!
//! [`Admin`] is a [`Handler`]. It observes one server through its [`ServerHandle`] and is best served by
//! another server, with a listener and threads of its own: it then responds while the observed server is
//! overloaded or shutting down. It can be served by the observed server too, whose shutdown ends the event
//! streams. All resources are read-only.
//!
//! | path | content |
//! |---|---|
//! | `/` | an HTML page: plots, and each transfer with its progress |
//! | `/metrics` | all metrics, in the Prometheus text format 0.0.4 |
//! | `/healthz` | 200 if every event loop responds within a second or the server drains; otherwise 503 |
//! | `/readyz` | 200 while the server accepts requests; 503 before, and once its shutdown is announced |
//! | `/transfers.json` | a [`Sample`] |
//! | `/certificates.json` | an array of [`CertificateStatus`] |
//! | `/events` | a [`Sample`] each second, as server-sent events, until the server has ended |
//!
//! The submodule `metrics` renders metrics, `sampler` takes samples, `sample_feed` sends them to clients,
//! and `proc_self` reads the state of the process from `/proc/self`.

mod certificates;
mod metrics;
mod proc_self;
mod sample_feed;
mod sampler;
mod sources;

use std::fmt;
use std::sync::{Arc, OnceLock};

use ::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use ::http::{HeaderValue, StatusCode};

use crate::body::Body;
use crate::files::CacheStats;
use crate::handler::router::Router;
use crate::handler::{BodyPolicy, Handler, Outcome};
use crate::http::{Request, Response, host, target};
use crate::server::{ServerHandle, ServerState};
use proc_self::ProcSelf;
use sample_feed::SampleFeed;
use sources::{CacheSource, RESPONSE_TIMEOUT, Sources};

pub use certificates::{CertificateError, CertificateStatus};
pub use sampler::{Limit, Rates, Sample, Sampler, TransferSample, WorkerSample};

/// The limit of request content, in bytes. Content of a GET has no meaning (RFC 9110 §9.3.1); up to this
/// limit it is read and discarded.
const MAX_IGNORED_BYTES: usize = 64 * 1024;

/// The Content-Security-Policy of the page: its own resources only, and no framing by other pages.
const PAGE_CSP: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PAGE: &str = include_str!("page/page.html");
const SCRIPT: &str = include_str!("page/page.js");
const STYLE: &str = concat!(
    include_str!("../http/page.css"),
    include_str!("page/page.css")
);

/// A [`Handler`] with metrics, health checks and live transfers of one server; see the
/// [module documentation](self).
///
/// ```
/// use tws::admin::Admin;
/// use tws::{Config, Handler, Request, Server, StatusCode};
///
/// let mut config = Config::default();
/// config.port = 0;
/// let server = Server::bind(config)?;
/// let admin = Admin::new(&server.handle());
/// let metrics = admin.handle(&Request::get("/metrics")).wait();
/// assert!(metrics.into_content()?.starts_with(b"# HELP tws_"));
/// // `serve` has not been called yet.
/// let ready = admin.handle(&Request::get("/readyz")).wait();
/// assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub struct Admin {
    router: Router,
    hosts: Hosts,
    sources: Arc<Sources>,
}

/// The host names under which [`Admin`] responds.
///
/// A web page can resolve its own host name to 127.0.0.1, so that a browser treats the responses as
/// belonging to that page's site (DNS rebinding). Requests by IP address are not affected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// IP addresses, `localhost` and the names below it; other names get a 421.
    Local,
    /// Any name, for a server that is protected otherwise, by a password or the mode of a Unix socket.
    Any,
}

impl Admin {
    /// Creates an admin interface for the server of `handle`, which it observes from now on. Must be
    /// called before the process enters a sandbox: files of `/proc` are opened here.
    pub fn new(handle: &ServerHandle) -> Self {
        Self::build(handle, None, &Sampler::new(handle))
    }

    /// As [`new`](Self::new), with the counters of the file caches
    /// ([`StaticFiles::cache_stats`](crate::StaticFiles::cache_stats)), and with samples that
    /// shared with others.
    pub fn with_sources(
        handle: &ServerHandle,
        cache: impl Fn() -> CacheStats + Send + Sync + 'static,
        sampler: &Arc<Sampler>,
    ) -> Self {
        Self::build(handle, Some(Box::new(cache)), sampler)
    }

    /// Sets the host names under which it responds. The default is [`Hosts::Local`].
    pub fn for_hosts(mut self, hosts: Hosts) -> Self {
        self.hosts = hosts;
        self
    }

    /// Reports certificates, too. `certificates` is called for each report, on a helper thread, and may
    /// read files.
    pub fn with_certificates(
        self,
        certificates: impl Fn() -> Vec<CertificateStatus> + Send + Sync + 'static,
    ) -> Self {
        // An error means that they are reported already.
        let _ = self.sources.certificates.set(Box::new(certificates));
        self
    }

    fn build(handle: &ServerHandle, cache: Option<CacheSource>, sampler: &Arc<Sampler>) -> Self {
        let sources = Arc::new(Sources {
            handle: handle.clone(),
            observer: handle.observe(),
            process: ProcSelf::open(),
            cache,
            certificates: OnceLock::new(),
        });
        let blocking = |respond: fn(&Sources) -> Response| {
            let sources = Arc::clone(&sources);
            // It waits for event loops, up to the timeout, so it runs as a job.
            move |_: &Request<'_>| {
                let sources = Arc::clone(&sources);
                Outcome::blocking(move || respond(&sources))
            }
        };
        let ready = handle.clone();
        let (latest, feed) = (Arc::clone(sampler), SampleFeed::new(sampler));
        let router = Router::new()
            .get("/", page)
            .get("/page.css", static_text("text/css; charset=utf-8", STYLE))
            .get(
                "/page.js",
                static_text("text/javascript; charset=utf-8", SCRIPT),
            )
            .get("/metrics", blocking(metrics))
            .get("/healthz", blocking(health))
            .get("/readyz", move |_: &Request<'_>| readiness(&ready))
            .get("/transfers.json", move |_: &Request<'_>| {
                let sampler = Arc::clone(&latest);
                Outcome::blocking(move || Response::json(&*sampler.latest()))
            })
            .get("/certificates.json", blocking(certificates))
            .get("/events", move |_: &Request<'_>| events(&feed));
        Self {
            router,
            hosts: Hosts::Local,
            sources,
        }
    }
}

impl Handler for Admin {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        if self.hosts == Hosts::Local && !request.host_bytes().is_none_or(host::is_local) {
            let status = StatusCode::MISDIRECTED_REQUEST;
            let text = format!("{status}: use an IP address or localhost\n");
            return add_security_fields(Response::text(text).with_status(status)).into();
        }
        self.router.handle(request).map(add_security_fields)
    }

    fn admit(&self, _: &Request<'_>) -> BodyPolicy {
        BodyPolicy::Buffer {
            max: MAX_IGNORED_BYTES,
        }
    }
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("hosts", &self.hosts)
            .finish_non_exhaustive()
    }
}

/// Adds fields that keep the content from caches, from other sites and from being sniffed.
fn add_security_fields(mut response: Response) -> Response {
    let fields = response.headers_mut();
    let policy = HeaderValue::from_static(PAGE_CSP);
    fields.entry(CONTENT_SECURITY_POLICY).or_insert(policy);
    for (name, value) in [
        (CACHE_CONTROL, "no-store"),
        (REFERRER_POLICY, "no-referrer"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ] {
        fields.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn static_text(media_type: &'static str, text: &'static str) -> impl Handler {
    move |_: &Request<'_>| typed(media_type, text)
}

fn typed(media_type: &'static str, content: impl Into<bytes::Bytes>) -> Response {
    Response::new(StatusCode::OK)
        .with_header(CONTENT_TYPE, media_type)
        .with_body(Body::Bytes(content.into()))
}

/// Serves the page. Its links are relative, so that nested below a prefix it needs a trailing slash.
fn page(request: &Request<'_>) -> Response {
    let path = request.full_path_bytes();
    if path.ends_with(b"/") {
        return Response::html(PAGE);
    }
    let location = target::encode_path(path) + "/";
    Response::redirect(StatusCode::MOVED_PERMANENTLY, &location)
}

fn metrics(sources: &Sources) -> Response {
    typed(
        "text/plain; version=0.0.4; charset=utf-8",
        metrics::render(sources),
    )
}

fn certificates(sources: &Sources) -> Response {
    Response::json(&sources.certificates())
}

fn health(sources: &Sources) -> Response {
    if sources.handle.state() == ServerState::Draining {
        // Event loops that have finished no longer respond.
        return Response::text("ok, shutting down\n");
    }
    match sources.handle.silent_event_loops(RESPONSE_TIMEOUT).len() {
        0 => Response::text("ok\n"),
        silent => Response::unavailable(&format!("event loops not responding: {silent}")),
    }
}

fn readiness(handle: &ServerHandle) -> Response {
    match handle.state() {
        ServerState::Serving => Response::text("ok\n"),
        ServerState::Bound => Response::unavailable("starting"),
        ServerState::ShutdownAnnounced | ServerState::Draining | ServerState::Ended => {
            Response::unavailable("shutting down")
        }
    }
}

fn events(feed: &Arc<SampleFeed>) -> Response {
    match feed.subscribe() {
        Ok(events) => Response::sse(events),
        Err(error) => {
            log::error!("admin: cannot start the thread that takes samples: {error}");
            Response::unavailable("no thread to take samples; try again")
        }
    }
}
