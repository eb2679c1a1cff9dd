//! What operators ask a server: how it does, in numbers for machines and as a page for people.
//!
//! [`Admin`] is a handler like any other. It looks at one server through its handle and is served
//! best by another, which has a listener and threads of its own: so it answers while the first is
//! too busy to, and while it ends. Served by the same one, it shows it while that serves; its end
//! waits for who watches, for [`Timeouts::drain`](crate::Timeouts::drain) at most. It changes nothing.
//!
//! | path | what it says |
//! |---|---|
//! | `/` | the page: plots, and each transfer with its progress |
//! | `/metrics` | all numbers, in Prometheus's text format 0.0.4 |
//! | `/healthz` | 200 if every event loop answers within a second, or finishes; else 503 |
//! | `/readyz` | 200 if the server takes requests, 503 before and from the announcement of its end on |
//! | `/transfers.json` | a [`Sample`] |
//! | `/events` | a [`Sample`] each second, as server-sent events, until the server has ended |
//!
//! The numbers are `metrics`' business, the samples those of `sampler`; what the system says of the
//! process comes through `process`.

mod metrics;
mod proc_self;
mod sampler;

use std::fmt;
use std::io::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use ::http::{HeaderValue, StatusCode};

use crate::body::{Body, BodyStream};
use crate::files::CacheStats;
use crate::handler::router::Router;
use crate::handler::{BodyPolicy, Handler, Outcome};
use crate::http::{Request, Response, target};
use crate::net::observe::observer::Observer;
use crate::server::{ServerHandle, ServerState};
use proc_self::Process;

pub use sampler::{Limit, Rates, Sample, Sampler, TransferSample, WorkerSample};

/// How long an event loop may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);

/// Content in a GET means nothing (RFC 9110 §9.3.1).
const MAX_IGNORED_BYTES: usize = 64 * 1024;

/// Nothing comes from elsewhere, and nobody shows it inside of something else.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
    connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PAGE: &str = include_str!("page/page.html");
const SCRIPT: &str = include_str!("page/page.js");
const STYLE: &str = include_str!("page/page.css");

/// Answers for a server; see [the module](self).
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
/// // Nobody has called `serve` yet.
/// let ready = admin.handle(&Request::get("/readyz")).wait();
/// assert_eq!(ready.status(), StatusCode::SERVICE_UNAVAILABLE);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
pub struct Admin {
    router: Router,
    hosts: Hosts,
}

/// By which names it may be asked.
///
/// A page of another site can have its own name lead to 127.0.0.1, so that a browser takes what
/// answers there for that site's own (DNS rebinding). Who is asked by an address is not fooled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// By an address and as `localhost`; others hear 421.
    Local,
    /// By any: something else, a password or the mode of a socket, keeps strangers out.
    Any,
}

/// What is asked.
pub(crate) struct Sources {
    pub(crate) handle: ServerHandle,
    pub(crate) observer: Observer,
    pub(crate) process: Process,
    pub(crate) cache: Option<CacheSource>,
}

/// Says what caches of files have counted.
type CacheSource = Box<dyn Fn() -> CacheStats + Send + Sync>;

impl Admin {
    /// For the server of that handle, which it observes from now on. Call it before the process is
    /// confined: what it needs of `/proc` is opened here.
    pub fn new(handle: &ServerHandle) -> Self {
        Self::build(handle, None, &Sampler::new(handle))
    }

    /// The same with what its caches of files have counted
    /// ([`StaticFiles::cache_counts`](crate::StaticFiles::cache_counts)), and with samples that
    /// others look at, too.
    pub fn with_sources(
        handle: &ServerHandle,
        cache: impl Fn() -> CacheStats + Send + Sync + 'static,
        sampler: &Arc<Sampler>,
    ) -> Self {
        Self::build(handle, Some(Box::new(cache)), sampler)
    }

    /// The same for other names; [`Hosts::Local`] unless told otherwise.
    pub fn for_hosts(mut self, hosts: Hosts) -> Self {
        self.hosts = hosts;
        self
    }

    fn build(handle: &ServerHandle, cache: Option<CacheSource>, sampler: &Arc<Sampler>) -> Self {
        let sources = Arc::new(Sources {
            handle: handle.clone(),
            observer: handle.observe(),
            process: Process::open(),
            cache,
        });
        let asking = |answer: fn(&Sources) -> Response| {
            let sources = Arc::clone(&sources);
            // An event loop that does not answer is waited for.
            move |_: &Request<'_>| {
                let sources = Arc::clone(&sources);
                Outcome::blocking(move || answer(&sources))
            }
        };
        let ready = handle.clone();
        let (one, all) = (Arc::clone(sampler), Arc::clone(sampler));
        let router = Router::new()
            .get("/", page)
            .get("/page.css", fixed("text/css; charset=utf-8", STYLE))
            .get("/page.js", fixed("text/javascript; charset=utf-8", SCRIPT))
            .get("/metrics", asking(metrics))
            .get("/healthz", asking(health))
            .get("/readyz", move |_: &Request<'_>| readiness(&ready))
            .get("/transfers.json", move |_: &Request<'_>| {
                let sampler = Arc::clone(&one);
                Outcome::blocking(move || Response::json(&*sampler.latest()))
            })
            .get("/events", move |_: &Request<'_>| events(Arc::clone(&all)));
        Self {
            router,
            hosts: Hosts::Local,
        }
    }
}

impl Handler for Admin {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        if self.hosts == Hosts::Local && !request.host().is_none_or(is_local) {
            let status = StatusCode::MISDIRECTED_REQUEST;
            let text = format!("{status}: use an IP address or localhost\n");
            return protect(Response::text(text).with_status(status)).into();
        }
        self.router.handle(request).map(protect)
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

/// True for names that lead here without asking anybody.
fn is_local(host: &str) -> bool {
    let v6 = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    v6.is_some_and(|host| host.parse::<Ipv6Addr>().is_ok())
        || host.parse::<Ipv4Addr>().is_ok()
        || host.eq_ignore_ascii_case("localhost")
}

/// What is a secret of the server's operators stays theirs.
fn protect(mut response: Response) -> Response {
    let fields = response.headers_mut();
    let policy = HeaderValue::from_static(POLICY);
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

fn fixed(media_type: &'static str, text: &'static str) -> impl Handler {
    move |_: &Request<'_>| typed(media_type, text)
}

fn typed(media_type: &'static str, content: impl Into<bytes::Bytes>) -> Response {
    Response::new(StatusCode::OK)
        .with_header(CONTENT_TYPE, media_type)
        .with_body(Body::Bytes(content.into()))
}

/// The page's links are relative: nested below a prefix it needs its slash.
fn page(request: &Request<'_>) -> Response {
    let path = request.full_path_bytes();
    match path.ends_with(b"/") {
        true => Response::html(PAGE),
        false => {
            let location = target::encode_path(path) + "/";
            Response::redirect(StatusCode::MOVED_PERMANENTLY, &location)
        }
    }
}

fn metrics(sources: &Sources) -> Response {
    typed(
        "text/plain; version=0.0.4; charset=utf-8",
        metrics::render(sources),
    )
}

fn health(sources: &Sources) -> Response {
    if sources.handle.phase() == ServerState::Draining {
        // Those that have finished say nothing more.
        return Response::text("ok, shutting down\n");
    }
    match sources.handle.silent_event_loops(PATIENCE).len() {
        0 => Response::text("ok\n"),
        silent => Response::unavailable(&format!("event loops not responding: {silent}")),
    }
}

fn readiness(handle: &ServerHandle) -> Response {
    match handle.phase() {
        ServerState::Serving => Response::text("ok\n"),
        ServerState::Bound => Response::unavailable("starting"),
        ServerState::ShutdownAnnounced | ServerState::Draining | ServerState::Ended => {
            Response::unavailable("shutting down")
        }
    }
}

fn events(sampler: Arc<Sampler>) -> Response {
    let stream = BodyStream::written(move |out| write_events(&sampler, out));
    Response::new(StatusCode::OK)
        .with_header(CONTENT_TYPE, "text/event-stream")
        .with_body(Body::Stream(stream))
}

/// Server-sent events (HTML §9.2), until the watcher leaves or there is nothing more to see.
fn write_events(sampler: &Sampler, out: &mut dyn Write) -> io::Result<()> {
    let mut sample = sampler.latest();
    // How soon a watcher comes back who has lost the connection.
    out.write_all(b"retry: 1000\n\n")?;
    loop {
        let json = serde_json::to_string(&*sample)?;
        write!(out, "id: {}\ndata: {json}\n\n", sample.number)?;
        out.flush()?;
        if sample.phase == ServerState::Ended {
            return Ok(());
        }
        sample = sampler.after(sample.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_lead_here_without_asking_anybody() {
        for host in [
            "127.0.0.1",
            "[::1]",
            "localhost",
            "LocalHost",
            "192.0.2.7",
            "[fe80::1]",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "",
            "evil.test",
            "localhost.evil.test",
            "127.0.0.1.evil.test",
            "::1",
            "[::1",
            "1",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }
}
