//! **tws** is a static-first HTTP server: it serves files and small handlers from a few event
//! loops, and nothing slow slows it down.
//!
//! ```no_run
//! use tws::{Config, Request, Response, Router, Server, StaticFiles, StatusCode};
//!
//! # fn main() -> Result<(), tws::Error> {
//! let router = Router::new()
//!     .get("/hello/{name}", |request: &Request<'_>| {
//!         Response::text(format!("hello {}\n", request.param("name").unwrap_or("you")))
//!     })
//!     .post("/echo", |request: &Request<'_>| {
//!         Response::text(String::from_utf8_lossy(request.content()))
//!     })
//!     .fallback(StaticFiles::new("www")?);
//! let mut config = Config::default();
//! config.port = 8000;
//! Server::bind(config)?.serve(router)
//! # }
//! ```
//!
//! A handler is a closure or anything that implements [`Handler`]. It needs no server to be tested:
//!
//! ```
//! use tws::{Body, Handler, Request, Response, Router, StatusCode};
//!
//! let router = Router::new().get("/", |_: &Request<'_>| Response::text("Homepage\n"));
//! assert_eq!(router.handle(&Request::get("/")).wait().status(), StatusCode::OK);
//! assert_eq!(router.handle(&Request::get("/x")).wait().status(), StatusCode::NOT_FOUND);
//! ```
//!
//! # How it works
//!
//! 1. An acceptor thread takes connections and hands each to the least-loaded worker; a worker is
//!    one thread, one mio `Poll`, one slab of connections.
//! 2. Each connection has a *machine*: the whole of HTTP/1.1 as a pure state machine, bytes in,
//!    intentions out; it has no socket, no file and no clock.
//! 3. The driver beside it does what the machine asks on a non-blocking transport until the kernel
//!    says `WouldBlock` or the turn's byte budget is spent.
//! 4. A handler turns a request into a response; a response *describes* its content (bytes, or a
//!    range of an open file) and the driver moves it, in bounded chunks, when the socket is
//!    writable.
//! 5. What may wait (a lock, a database) runs as a job on a helper thread and its response comes
//!    back through the worker's mailbox. A job that reads a content while it comes in, or writes
//!    one while it is sent, is coupled to the client by a bounded pipe: the slower of the two sets
//!    the pace, and the event loop none of it.
//!
//! ```text
//! acceptor ─ mailbox ─▶ worker ─▶ connection ⇄ machine (inbox → head → framing)
//!                                     │            ▲
//!                                     ▼            │ Response
//!                                  Handler: router → files (root → resolve → conditional → range)
//!                                     │
//!                               outbox → transport → access log
//! ```
//!
//! # Floors
//!
//! A module imports only from floors below its own; a test keeps it so.
//!
//! | floor | modules | what they are |
//! |---|---|---|
//! | 6 | `main`, `cli` | the command line |
//! | 5 | `server` | bind, serve, drain, end |
//! | 4 | `net` | the only code that knows mio and sockets |
//! | 4 | `users` | the sample application, on top of the router |
//! | 3 | `access_log`, `router`, `files` | what is served, and what is written down about it |
//! | 2 | `handler`, `h1`, `site` | request → reply; RFC 9112 as pure code; the site file |
//! | 1 | `http`, `config`, `error` | RFC 9110 values; settings |
//!
//! # What must stay true
//!
//! - A worker never waits for a client, a handler or a log, nor for a disk to open or to read a small
//!   file. The pages of a large file on a cold disk are the exception that is left.
//! - Whatever a peer does, a connection's memory is bounded by [`Limits`] and its time by
//!   [`Timeouts`]. An idle connection owns no buffer.
//! - A path is decoded once; all that opens files is in one module, and it opens beneath the root.
//! - A length, a validator and the bytes sent under them belong to one open file.
//! - Every request has one response and one record in the access log.
//!
//! tws runs on Linux.

#[cfg(not(target_os = "linux"))]
compile_error!("tws is written for Linux: it needs sendfile(2), openat2(2) and epoll(7)");

pub mod access_log;
mod config;
mod error;
mod files;
mod h1;
mod handler;
mod http;
mod net;
mod router;
mod server;
pub mod site;
#[cfg(feature = "sqlite")]
mod users;

pub use config::{Config, Limits, Timeouts};
pub use error::Error;
pub use files::StaticFiles;
pub use handler::{Admission, Handler, Job, Replier, Reply};
pub use http::{
    Body, ContentReader, Fields, FileRange, Produce, Refusal, Request, Response, Stream,
};
pub use router::Router;
pub use server::{Counts, Server, ServerHandle};
#[cfg(feature = "sqlite")]
pub use users::Users;

/// The types for methods, statuses and header fields are those of the `http` crate.
pub use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};

/// What the benches reach beneath the public face. Not part of it.
#[doc(hidden)]
pub mod bench;
