//! **tws** is an HTTP/1.1 and HTTP/2 server library for Linux. It serves files and handlers from a small
//! number of event loops. Slow clients, disks and handlers never block an event loop.
//!
//! ```no_run
//! use tws::{Config, Request, Response, Router, Server, StatusCode};
//!
//! fn main() -> Result<(), tws::Error> {
//!     let router = Router::new()
//!         .get("/", |_: &Request<'_>| Response::text("Homepage\n"))
//!         .get("/hello/{name}", |r: &Request<'_>| {
//!             Response::text(format!("hello {}", r.param_str("name").unwrap_or("")))
//!         })
//!         .fallback(|_: &Request<'_>| {
//!             Response::text("Page not found\n").with_status(StatusCode::NOT_FOUND)
//!         });
//!     let mut config = Config::default();
//!     config.port = 8000;
//!     Server::bind(config)?.serve(router)
//! }
//! ```
//!
//! # Handlers
//!
//! A [`Handler`] turns a [`Request`] into a response. A closure is a handler, and so is a [`Router`],
//! which chooses a handler by method and path. [`StaticFiles`] is the handler that serves a folder. A
//! handler can be tested without a server:
//!
//! ```
//! use tws::{Handler, Request, Response, Router, StatusCode};
//!
//! let router = Router::new().get("/", |_: &Request<'_>| Response::text("Homepage\n"));
//! let response = router.handle(&Request::get("/")).wait();
//! assert_eq!(response.status(), StatusCode::OK);
//! assert_eq!(response.into_content()?, b"Homepage\n");
//! assert_eq!(router.handle(&Request::get("/x")).wait().status(), StatusCode::NOT_FOUND);
//! # Ok::<_, std::io::Error>(())
//! ```
//!
//! A type that implements [`Handler`] can hold state:
//!
//! ```
//! use std::sync::atomic::{AtomicU64, Ordering};
//! use tws::{Handler, Method, Outcome, Request, Response, StatusCode};
//!
//! #[derive(Default)]
//! struct Counter(AtomicU64);
//!
//! impl Counter {
//!     fn show(&self) -> Response {
//!         Response::json(&self.0.load(Ordering::Relaxed))
//!     }
//!
//!     fn add(&self, request: &Request<'_>) -> Result<Response, StatusCode> {
//!         let text = std::str::from_utf8(request.content()).map_err(|_| StatusCode::BAD_REQUEST)?;
//!         let more: u64 = text.parse().map_err(|_| StatusCode::UNPROCESSABLE_ENTITY)?;
//!         self.0.fetch_add(more, Ordering::Relaxed);
//!         Ok(self.show())
//!     }
//! }
//!
//! impl Handler for Counter {
//!     fn handle(&self, request: &Request<'_>) -> Outcome {
//!         match *request.method() {
//!             Method::GET | Method::HEAD => self.show().into(),
//!             Method::POST => self.add(request).into(),
//!             _ => StatusCode::METHOD_NOT_ALLOWED.into(),
//!         }
//!     }
//! }
//!
//! let counter = Counter::default();
//! let status = |request: Request<'_>| counter.handle(&request).wait().status();
//! assert_eq!(status(Request::post("/", "2")), StatusCode::OK);
//! assert_eq!(status(Request::post("/", "two")), StatusCode::UNPROCESSABLE_ENTITY);
//! assert_eq!(counter.handle(&Request::get("/")).wait().into_content()?, b"2");
//! # Ok::<_, std::io::Error>(())
//! ```
//!
//! # Blocking work
//!
//! A handler is called on an event loop and must not block. It returns an [`Outcome`]: the response
//! itself, a job that makes it on a helper thread ([`Outcome::blocking`]), or a deferred response that is
//! sent later through a [`Responder`] ([`Outcome::deferred`]) and for which no thread waits:
//!
//! ```
//! use std::sync::mpsc;
//! use tws::{Outcome, Responder, Request, Response, Router, StatusCode};
//!
//! let (sender, questions) = mpsc::sync_channel::<(String, Responder)>(100);
//! std::thread::spawn(move || {
//!     for (question, responder) in questions {
//!         responder.send(Response::text(format!("{question}? Yes.\n")));
//!     }
//! });
//! let router = Router::new()
//!     .get("/motd", |_: &Request<'_>| {
//!         Outcome::blocking(|| Response::file("/etc/motd").unwrap_or(StatusCode::NOT_FOUND.into()))
//!     })
//!     .get("/ask/{question}", move |request: &Request<'_>| {
//!         let question = request.param_str("question").unwrap_or_default().to_owned();
//!         let sender = sender.clone();
//!         // If the queue is full, the responder is dropped, and the client gets a 500.
//!         Outcome::deferred(move |responder| drop(sender.try_send((question, responder))))
//!     });
//! # use tws::Handler;
//! # let response = router.handle(&Request::get("/ask/really")).wait();
//! # assert_eq!(response.into_content()?, b"really? Yes.\n");
//! # Ok::<_, std::io::Error>(())
//! ```
//!
//! When the client disconnects meanwhile, queued jobs are dropped, and the code that makes the response
//! is told: [`Responder::on_cancel`], [`BodyStream::written_with_cancellation`].
//!
//! A request body can be read while it arrives ([`StreamingBody`], [`BodyPolicy::Stream`]), and a
//! response body can be produced while it is sent ([`BodyStream`]). Both have back-pressure: a job that
//! is faster than its client waits for the client.
//!
//! # Middlewares
//!
//! A middleware is a handler that wraps another one and changes its responses with [`Outcome::map`]:
//! [`Cors`] for pages of other origins, [`RateLimit`] for the rate of requests, `BasicAuth` (feature
//! `auth`) for passwords, [`SlowLog`] for slow responses. [`Router::nest`] mounts a handler below a
//! prefix.
//!
//! # Running a server
//!
//! [`Server::bind`] opens the listening sockets and [`Server::serve`] runs until the server is shut
//! down. [`Server::handle`] returns a [`ServerHandle`], which reports addresses and statistics, reloads
//! the handler and shuts the server down. `Server::with_tls` (feature `tls`) enables HTTPS,
//! [`Server::with_access_log`] writes an [`access_log`], and [`admin`] has metrics and health checks.
//!
//! ```
//! use std::time::Duration;
//! use tws::{Config, Request, Response, Server};
//!
//! let mut config = Config::default();
//! config.port = 0;
//! let server = Server::bind(config)?;
//! let handle = server.handle();
//! let served = std::thread::spawn(|| server.serve(|_: &Request<'_>| Response::text("hello\n")));
//! println!("http://{}/", handle.local_addresses()[0]);
//! handle.shut_down_within(Duration::from_secs(1));
//! served.join().expect("no panic")?;
//! assert_eq!(handle.stats().requests, 0);
//! # Ok::<_, tws::Error>(())
//! ```
//!
//! # How it works
//!
//! 1. An acceptor thread accepts connections from its listening sockets, TCP or Unix, and passes each to
//!    the worker with the fewest connections. A worker is one thread with one mio `Poll` and one slab of
//!    connections. Connections that begin with a PROXY protocol header or a TLS handshake go first to a
//!    handshaker, an event loop beside the workers, which passes them on when the handshake is complete.
//! 2. Each connection has a protocol machine (`proto::h1`, `proto::h2`): HTTP/1.1 or HTTP/2 as a state
//!    machine without I/O.
//!    Received bytes go in; bytes to send and actions to perform come out. It has no socket, no file
//!    and no clock.
//! 3. The connection's driver (`net::connection`) performs these actions on a non-blocking transport, a
//!    socket with or without TLS, until the kernel returns `WouldBlock`, the byte budget of this
//!    event-loop iteration is used, or the bandwidth limit of the client is reached.
//! 4. A handler turns the request into a response. A response describes its [`Body`]: bytes, a range of
//!    an open file, or a stream. The driver sends it in bounded chunks when the socket is writable,
//!    files with sendfile(2). Parts of a file that are not in the page cache are read first, by the
//!    threads of its disk.
//! 5. Blocking work (a lock, a database) runs as a job on a helper thread, and its response returns
//!    through the worker's mailbox. A job that streams a body is connected to the client by a bounded
//!    pipe: the slower side sets the pace, and the event loop waits for neither.
//! 6. A reload sends a new handler, limits and timeouts to each event loop as a message. An observer
//!    requests snapshots in the same way, so that an unobserved server records nothing for it.
//!
//! ```text
//! acceptor ── mailbox ──▶ (handshaker ── mailbox ──▶) worker ──▶ connection ⇄ protocol machine
//!                                                                   │               ▲
//!                                                          Request  │               │  Response
//!                                                                   ▼               │
//!   handler:  (SlowLog → Cors → RateLimit → BasicAuth →) Router → StaticFiles ──────┘
//!
//! connection ──▶ transport (sendfile, TLS) ──▶ client
//!            └─▶ access log (a thread of its own)
//! ```
//!
//! # Module levels
//!
//! A module imports only modules of lower levels, never one of its own level, and no two files import
//! each other, directly or through others. A test checks this.
//!
//! | level | modules | contents |
//! |---|---|---|
//! | 8 | `src/bin/tws` | the program: command line, site file, signals, upgrade, sandbox, terminal output |
//! | 7 | `admin` | metrics, health checks and the page of live transfers |
//! | 6 | `server` | bind, serve, reload, drain, shut down |
//! | 5 | `files`, `net` | static files, listings and uploads; acceptor, workers, connections, transports, thread pools: the only module that uses mio and sockets |
//! | 4 | `access_log`, `middleware` | log lines and their writer; handlers that wrap handlers |
//! | 3 | `handler`, `proto`, `site` | the handler trait and the router; protocol machines (RFC 9112) without I/O; rules of the site file |
//! | 2 | `http`, `tls` | HTTP semantics (RFC 9110) without I/O; certificates and TLS sessions |
//! | 1 | `body`, `client_key`, `config`, `error`, `explain_log` | message bodies; the key that identifies a client; settings; start errors; the log of decisions |
//! | 0 | `semaphore`, `sync` | a counting semaphore; a mutex without poisoning |
//!
//! # Invariants
//!
//! - An event loop never blocks: not on a client, a handshake, a handler, the access log, or a disk,
//!   neither to open a file nor to read one.
//! - The memory of a connection is bounded by [`Limits`] and its waiting times by [`Timeouts`], whatever
//!   the peer sends. An idle connection has no buffers.
//! - A path is decoded once. Files are opened in one module only, beneath the root (openat2(2)).
//! - The length, the validators and the bytes of a response belong to the same open file.
//! - Each request gets one response and one record in the access log.
//!
//! tws requires Linux.

#[cfg(not(target_os = "linux"))]
compile_error!("tws supports Linux only: it needs sendfile(2), openat2(2) and epoll(7)");

pub mod access_log;
pub mod admin;
/// Access to internals for `benches/`. Not part of the public API.
#[doc(hidden)]
pub mod bench;
mod body;
mod client_key;
mod config;
mod error;
mod explain_log;
mod fair_queue;
mod files;
mod handler;
mod http;
mod middleware;
mod net;
mod panics;
mod proto;
mod semaphore;
mod server;
pub mod site;
#[cfg(feature = "tls")]
mod tls;

/// Observing a server at run time: connections, transfers, queues and latencies.
///
/// Start with [`ServerHandle::observe`].
pub mod observe {
    pub use crate::files::CacheStats;
    pub use crate::net::observe::histogram::Histogram;
    pub use crate::net::observe::observer::Observer;
    pub use crate::net::observe::report::{
        Activities, BlockedOn, Direction, Http2Report, Http2Totals, QueueStats, ServerReport,
        ServerTotals, Transfer, TransferId,
    };
}

pub use body::{Body, BodyPieces, BodyProducer, BodyReader, BodyStream, Cancellation, FileRange};
pub use config::{
    Config, Endpoint, ForwardedField, Http2, Limits, Networks, ProxyProtocol, Timeouts,
};
pub use error::Error;
pub use explain_log::TARGET as EXPLAIN_TARGET;
pub use files::StaticFiles;
pub use handler::router::Router;
pub use handler::{
    Blocking, BodyPolicy, BoxHandler, Deferral, DiskJob, Handler, HandlerError, HandlerResult,
    IntoHandler, Job, Outcome, Responder, StreamingBody, TestClient, blocking,
};
pub use http::{Fields, FormData, FormError, FormPart, InputError, Rejection, Request, Response};
pub use middleware::{AllowedHosts, Around, Cors, Next, Rate, RateLimit, SlowLog, around};
#[cfg(feature = "auth")]
pub use middleware::{AuthenticatedUser, BasicAuth, Credentials};
pub use proto::h1::check_head;
pub use server::{Server, ServerHandle, ServerState, ServerStats};
#[cfg(feature = "tls")]
pub use tls::{KeyPair, Reloaded, TicketKeys, Tls};

/// The crate of cookies.
pub use ::cookie;
/// Methods, status codes, header fields and versions are types of the `http` crate.
pub use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
mod sync;
