//! **tws** is a static-first HTTP server: it serves files and small handlers from a few event
//! loops, and nothing slow slows it down.
//!
//! ```no_run
//! use tws::{Config, Request, Response, Router, Server, StatusCode};
//!
//! fn main() -> Result<(), tws::Error> {
//!     let router = Router::new()
//!         .get("/", |_: &Request<'_>| Response::text("Homepage\n"))
//!         .get("/hello/{name}", |r: &Request<'_>| {
//!             Response::text(format!("hello {}", r.param("name").unwrap_or("")))
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
//! # A handler
//!
//! is a closure or anything that implements [`Handler`]. It needs no server to be tested:
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
//! A type has its state, and a method for each verb if that reads well:
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
//! A handler is called on an event loop and must not wait. What may wait goes into a job, which has
//! a helper thread; or the response comes from elsewhere, later, and no thread waits for it:
//!
//! ```
//! use std::sync::mpsc;
//! use tws::{Outcome, Responder, Request, Response, Router, StatusCode};
//!
//! let (questions, inbox) = mpsc::sync_channel::<(String, Responder)>(100);
//! std::thread::spawn(move || {
//!     for (question, replier) in inbox {
//!         replier.send(Response::text(format!("{question}? Yes.\n")));
//!     }
//! });
//! let router = Router::new()
//!     .get("/motd", |_: &Request<'_>| {
//!         Outcome::blocking(|| Response::file("/etc/motd").unwrap_or(StatusCode::NOT_FOUND.into()))
//!     })
//!     .get("/ask/{question}", move |request: &Request<'_>| {
//!         let question = request.param("question").unwrap_or_default().to_owned();
//!         let questions = questions.clone();
//!         // A replier that is dropped, because the queue is full, say, is a 500.
//!         Outcome::deferred(move |replier| drop(questions.try_send((question, replier))))
//!     });
//! # use tws::Handler;
//! # let response = router.handle(&Request::get("/ask/really")).wait();
//! # assert_eq!(response.into_content()?, b"really? Yes.\n");
//! # Ok::<_, std::io::Error>(())
//! ```
//!
//! Contents can be [read while they come in](StreamingBody) and [written while they go out](BodyStream); the
//! client's pace and the handler's become one. What wraps a handler is a handler, and changes its
//! response with [`Outcome::map`]. [`StaticFiles`] is a handler like any other.
//!
//! [`ServerHandle`] says where a server listens and what it counts, and ends it gracefully:
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
//! Handlers go around handlers: [`Cors`] for pages of other origins, [`RateLimit`] for clients that
//! ask too often, `BasicAuth` (feature `auth`) for passwords, [`SlowLog`] for what takes long.
//! [`Router::nest`] puts one below a prefix. `Server::with_tls` (feature `tls`) encrypts, and
//! [`admin`] is what operators ask.
//!
//! # How it works
//!
//! 1. An acceptor thread takes connections from its sockets, TCP or Unix, and hands each to the
//!    least-loaded worker; a worker is one thread, one mio `Poll`, one slab of connections. What
//!    begins with a PROXY header or with TLS goes to a handshaker first, an event loop beside the
//!    workers, which passes it on when a request can come.
//! 2. Each connection has a *machine*: the whole of HTTP/1.1 as a pure state machine, bytes in,
//!    intentions out; it has no socket, no file and no clock.
//! 3. The driver beside it does what the machine asks on a non-blocking transport, a socket or TLS on
//!    one, until the kernel says `WouldBlock`, the turn's byte budget is spent, or its client has
//!    had its bandwidth.
//! 4. A handler turns a request into a response; a response *describes* its content (bytes, or a
//!    range of an open file) and the driver moves it, in bounded chunks, when the socket is
//!    writable. What of a file is not in memory is read first, by the threads of its disk.
//! 5. What may wait (a lock, a database) runs as a job on a helper thread and its response comes
//!    back through the worker's mailbox. A job that reads a content while it comes in, or writes
//!    one while it is sent, is coupled to the client by a bounded pipe: the slower of the two sets
//!    the pace, and the event loop none of it.
//! 6. Handler, limits and timeouts are *terms*, which a reload sends to everybody by mail. Who looks
//!    at a server asks by mail, too: nothing is written down for an observer who is not there.
//!
//! ```text
//! acceptor ─ mailbox ─▶ (handshaker ─ mailbox ─▶) worker ─▶ connection ⇄ machine (inbox → head → framing)
//!                                                               │            ▲
//!                                                               ▼            │ Response
//!  Handler: (slow log → cors → rate limit → auth →) router → files (root → resolve → conditional → range)
//!                                                               │
//!                                                         outbox → transport → access log
//! ```
//!
//! # Floors
//!
//! A module imports only from floors below its own; a test keeps it so.
//!
//! | floor | modules | what they are |
//! |---|---|---|
//! | 7 | the binary's, from `main` and `cli` to `sandbox` and `upgrade` | the command line, what the process may do, what people see of it, and who takes over |
//! | 6 | `admin` | what operators ask a server |
//! | 5 | `server` | bind, serve, reload, drain, end |
//! | 4 | `net` | the only code that knows mio and sockets |
//! | 4 | `users` | the sample application, on top of the router |
//! | 3 | `access_log`, `router`, `files`, `middleware` | what is served and to whom, and what is written down about it |
//! | 2 | `handler`, `h1`, `site`, `tls` | request → reply; RFC 9112 as pure code; the site file; certificates |
//! | 1 | `http`, `config`, `client`, `error` | RFC 9110 values; settings; who counts as one client |
//! | 0 | `decision` | what is decided about a request, for who asks why |
//!
//! # What must stay true
//!
//! - A worker never waits: not for a client, a handshake, a handler or a log, nor for a disk to open
//!   a file or to read one.
//! - Whatever a peer does, a connection's memory is bounded by [`Limits`] and its time by
//!   [`Timeouts`]. An idle connection owns no buffer.
//! - A path is decoded once; all that opens files is in one module, and it opens beneath the root.
//! - A length, a validator and the bytes sent under them belong to one open file.
//! - Every request has one response and one record in the access log.
//!
//! tws runs on Linux.

#[cfg(not(target_os = "linux"))]
compile_error!("tws supports Linux only: it needs sendfile(2), openat2(2) and epoll(7)");

pub mod access_log;
pub mod admin;
mod config;
mod error;
mod files;
mod handler;
mod http;
mod middleware;
mod net;
mod server;
pub mod site;
#[cfg(feature = "tls")]
mod tls;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod users;

/// What a server does, seen from outside: what [`ServerHandle::observe`] gives and says.
pub mod observe {
    pub use crate::files::CacheStats;
    pub use crate::net::observe::histogram::Histogram;
    pub use crate::net::observe::observer::{
        Activities, BlockedOn, Direction, Observer, QueueStats, ServerReport, ServerTotals,
        Transfer, TransferId,
    };
}

pub use body::{Body, BodyProducer, BodyReader, BodyStream, FileRange};
pub use config::{Config, Endpoint, ForwardedField, Limits, Networks, ProxyProtocol, Timeouts};
pub use error::Error;
pub use files::StaticFiles;
pub use handler::router::Router;
pub use handler::{BodyPolicy, Handler, Job, Outcome, Responder, StreamingBody};
pub use http::{Fields, Rejection, Request, Response};
#[cfg(feature = "auth")]
pub use middleware::{BasicAuth, Credentials};
pub use middleware::{Cors, Rate, RateLimit, SlowLog};
pub use proto::h1::check_head;
pub use server::{Server, ServerHandle, ServerState, ServerStats};
#[cfg(feature = "tls")]
pub use tls::{KeyPair, Reloaded, Tls};
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub use users::Users;

/// The types for methods, statuses and header fields are those of the `http` crate.
pub use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};

/// What the benches reach beneath the public face. Not part of it.
#[doc(hidden)]
pub mod bench;
pub(crate) mod body;
mod client_key;
mod explain_log;
pub(crate) mod proto;
