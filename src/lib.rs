//! **tws** is an HTTP/1.1 and HTTP/2 server library for Linux. It serves files and handlers from a small
//! number of event loops. Slow clients, disks and handlers never block an event loop.
//!
//! ```no_run
//! use tws::{Config, HandlerResult, Request, Response, Router, Server};
//!
//! fn hello(request: &Request<'_>) -> HandlerResult {
//!     let name: String = request.param("name")?;
//!     Ok(Response::text(format!("hello {name}\n")))
//! }
//!
//! fn main() -> Result<(), tws::Error> {
//!     let router = Router::new()
//!         .get("/", |_: &Request<'_>| Response::text("Homepage\n"))
//!         .get("/hello/{name}", hello);
//!     let config = Config::default().with_port(8000);
//!     Server::bind(config)?.with_ctrl_c()?.serve(router)
//! }
//! ```
//!
//! # A JSON API with shared state
//!
//! A [`Handler`] turns a [`Request`] into a response. Functions and closures are handlers, and so is a
//! [`Router`], which chooses a handler by method and path. A router with a state passes `&state` to its
//! handlers ([`Router::with_state`]). Input is read with methods that return typed errors: path parameters
//! ([`Request::param`]), the query ([`Request::query`]), JSON ([`Request::json`]), forms ([`Request::form`],
//! [`Request::form_data`]) and cookies (`Request::cookie`, feature `cookies`). The errors convert into
//! responses, so handlers use `?`; [`HandlerError`] says which other errors do.
//!
//! ```
//! # #![allow(unreachable_code)]
//! use std::sync::Mutex;
//!
//! use serde::{Deserialize, Serialize};
//! use tws::{Config, HandlerResult, Request, Response, Router, Server, StatusCode};
//!
//! type Users = Mutex<Vec<User>>;
//!
//! #[derive(Clone, Deserialize, Serialize)]
//! struct User {
//!     #[serde(skip_deserializing)]
//!     id: usize,
//!     name: String,
//! }
//!
//! fn create(users: &Users, request: &Request<'_>) -> HandlerResult {
//!     let mut user: User = request.json()?;
//!     let mut users = users.lock().expect("no panic while locked");
//!     user.id = users.len();
//!     users.push(user.clone());
//!     Ok(Response::json(&user).with_status(StatusCode::CREATED))
//! }
//!
//! fn show(users: &Users, request: &Request<'_>) -> HandlerResult {
//!     let id: usize = request.param("id")?;
//!     let users = users.lock().expect("no panic while locked");
//!     Ok(Response::json(users.get(id).ok_or(StatusCode::NOT_FOUND)?))
//! }
//!
//! fn main() -> Result<(), tws::Error> {
//!     let router = Router::with_state(Users::default())
//!         .post("/users", create)
//!         .get("/users/{id}", show);
//! #   return Ok(test(router));
//!     Server::bind(Config::default())?.serve(router)
//! }
//! #
//! # fn test(router: Router<Users>) {
//! #     let client = tws::TestClient::new(router);
//! #     let new_user = serde_json::json!({ "name": "Ana" });
//! #     assert_eq!(client.post_json("/users", &new_user).status(), 201);
//! #     let ana = client.get("/users/0").into_text().expect("text");
//! #     assert_eq!(ana, r#"{"id":0,"name":"Ana"}"#);
//! #     assert_eq!(client.get("/users/1").status(), 404);
//! #     assert_eq!(client.get("/users/x").status(), 400);
//! #     assert_eq!(client.post_json("/users", &7).status(), 422);
//! #     assert_eq!(client.post("/users", "{}").status(), 415);
//! # }
//! ```
//!
//! A [`TestClient`] calls handlers without a socket:
//!
//! ```
//! use tws::{HandlerResult, Request, Response, Router, TestClient};
//!
//! fn double(request: &Request<'_>) -> HandlerResult {
//!     let number: u32 = request.json()?;
//!     Ok(Response::json(&(number * 2)))
//! }
//!
//! let client = TestClient::new(Router::new().post("/double", double));
//! assert_eq!(client.post_json("/double", &21).into_json::<u32>()?, 42);
//! assert_eq!(client.post_json("/double", "21").status(), 422);
//! assert_eq!(client.post("/double", "21").status(), 415);
//! # Ok::<_, std::io::Error>(())
//! ```
//!
//! # Blocking work and streaming uploads
//!
//! A handler is called on an event loop and must not block. [`blocking`] calls it on a helper thread, where
//! it may wait for a disk or a database. There it may also read the content of a request while it arrives
//! ([`Blocking::streaming`]); a handler that is slower than its client makes the client wait.
//!
//! ```
//! # #![allow(unreachable_code)]
//! use std::fs::File;
//! use std::io::{self, ErrorKind};
//!
//! use tws::{Config, HandlerResult, Request, Response, Router, Server, StatusCode, blocking};
//!
//! const FOLDER: &str = "uploads";
//!
//! fn upload(request: &Request<'_>) -> HandlerResult {
//!     let id: u64 = request.param("id")?;
//!     let mut file = File::create(format!("{FOLDER}/{id}"))?;
//!     let bytes = io::copy(&mut request.reader(), &mut file)?;
//!     Ok(Response::json(&bytes).with_status(StatusCode::CREATED))
//! }
//!
//! fn download(request: &Request<'_>) -> HandlerResult {
//!     let id: u64 = request.param("id")?;
//!     match Response::file(format!("{FOLDER}/{id}")) {
//!         // Other errors are logged, and the response is a 500.
//!         Err(error) if error.kind() == ErrorKind::NotFound => Err(StatusCode::NOT_FOUND.into()),
//!         file => Ok(file?.with_attachment_name(&format!("{id}.bin"))),
//!     }
//! }
//!
//! fn main() -> Result<(), tws::Error> {
//!     let router = Router::new()
//!         .post("/files/{id}", blocking(upload).streaming(10 << 30))
//!         .get("/files/{id}", blocking(download));
//! #   return Ok(test(router).expect("a folder"));
//!     Server::bind(Config::default())?.serve(router)
//! }
//! #
//! # fn test(router: Router) -> io::Result<()> {
//! #     let folder = tempfile::tempdir()?;
//! #     std::env::set_current_dir(&folder)?;
//! #     std::fs::create_dir(FOLDER)?;
//! #     let client = tws::TestClient::new(router);
//! #     assert_eq!(client.post("/files/7", "content").into_text()?, "7");
//! #     assert_eq!(client.get("/files/7").into_text()?, "content");
//! #     assert_eq!(client.get("/files/8").status(), 404);
//! #     Ok(())
//! # }
//! ```
//!
//! [`Request::form_data`] reads the files of a form in the same way. A response that is produced while it
//! is sent is a [`BodyStream`].
//!
//! # Server-sent events
//!
//! [`Response::sse`] sends events to a browser's `EventSource` as they come. A [`Broadcast`] sends each event to
//! all its clients, continues after the Last-Event-ID of one that reconnects, and disconnects those that are
//! too slow. A client costs no thread and less than 1 KiB, so one event loop serves tens of thousands. On two
//! cores, which the clients share, an event has reached the last of 10,000 after 68 ms, and after 74 ms in the slowest of 20
//! rounds; bare calls of `send` take 56 and 62 ms (`cargo bench --bench push`).
//!
//! ```
//! # #![allow(unreachable_code)]
//! use tws::{Broadcast, Config, Event, HandlerResult, Request, Response, Router, Server, StatusCode};
//!
//! fn say(messages: &Broadcast, request: &Request<'_>) -> HandlerResult {
//!     let text: String = request.json()?;
//!     messages.send(Event::new(text).with_name("message"));
//!     Ok(StatusCode::NO_CONTENT.into())
//! }
//!
//! fn listen(messages: &Broadcast, request: &Request<'_>) -> Response {
//!     Response::sse(messages.subscribe_after(request.header("Last-Event-ID")))
//! }
//!
//! fn main() -> Result<(), tws::Error> {
//!     let router = Router::with_state(Broadcast::new(1000))
//!         .post("/say", say)
//!         .get("/messages", listen);
//! #   return Ok(test(router));
//!     Server::bind(Config::default())?.serve(router)
//! }
//! #
//! # fn test(router: Router<Broadcast>) {
//! #     let client = tws::TestClient::new(router);
//! #     let mut pieces = client.get("/messages").into_pieces();
//! #     assert_eq!(client.post_json("/say", "hello").status(), 204);
//! #     let event = pieces.next().expect("an event").expect("no error");
//! #     assert!(event.ends_with(b"data: hello\n\n"));
//! # }
//! ```
//!
//! Events for one client, such as the progress of a job, come through [`EventStream::channel`], and other
//! bodies that wait for their data through [`BodyStream::channel`].
//!
//! # Middlewares
//!
//! A middleware is a handler that wraps another one. [`Router::layer`] adds it, and [`around`] makes one
//! from a closure, which may respond itself, attach values to the request, and change the response:
//!
//! ```
//! use tws::{HandlerResult, Request, Response, Router, StatusCode, TestClient, around};
//!
//! struct User {
//!     name: &'static str,
//! }
//!
//! fn home(request: &Request<'_>) -> HandlerResult {
//!     let user: &User = request.extension()?;
//!     Ok(Response::text(format!("hello {}\n", user.name)))
//! }
//!
//! let router = Router::new().get("/", home).layer(around(|request, next| {
//!     match request.header("authorization") {
//!         Some("Bearer 7d1f") => next.with(User { name: "Ana" }).run(request),
//!         _ => StatusCode::UNAUTHORIZED.into(),
//!     }
//! }));
//!
//! let client = TestClient::new(router);
//! assert_eq!(client.get("/").status(), 401);
//! let response = client.send(Request::get("/").with_header("Authorization", "Bearer 7d1f"));
//! assert_eq!(response.into_text()?, "hello Ana\n");
//! # Ok::<_, std::io::Error>(())
//! ```
//!
//! The closure runs once for each request, before its content is received, so it does not see the content.
//! The response passes through it, also the 413 for content that is too large, the 500 after a panic and the
//! 503 if too much is in progress. [`around`] names the one exception, of content that is rejected late.
//! [`Router::route_layer`] wraps some routes only, and [`around_with_state`] shares the state of the handlers.
//!
//! There are [`Cors`] for pages of other origins, [`RateLimit`] for the rate of requests, `BasicAuth`
//! (feature `auth`) for passwords, [`SlowLog`] for slow responses and [`AllowedHosts`] for host names:
//! `.layer(|app| SlowLog::new(app, threshold))`. `.layer(request_id())` gives each request an identifier
//! ([`request_id`]), and `.layer(security_headers())` adds header fields for browsers
//! ([`security_headers`]). [`Router::nest`] mounts a handler below a prefix, and [`Router::merge`] adds the
//! routes of another router.
//!
//! # Deferred responses
//!
//! What a handler returns converts into an [`Outcome`]: the response itself, a job that makes it
//! ([`Outcome::blocking`]), or a deferred response that is sent later through a [`Responder`]
//! ([`Outcome::deferred`]) and for which no thread waits:
//!
//! ```
//! use std::sync::mpsc::{self, SyncSender};
//! use tws::{Outcome, Request, Responder, Response, Router, TestClient};
//!
//! type Questions = SyncSender<(String, Responder)>;
//!
//! fn ask(questions: &Questions, request: &Request<'_>) -> Outcome {
//!     let question = request.param_str("question").unwrap_or_default().to_owned();
//!     let questions = questions.clone();
//!     // If the queue is full, the responder is dropped, and the client gets a 500.
//!     Outcome::deferred(move |responder| drop(questions.try_send((question, responder))))
//! }
//!
//! let (questions, asked) = mpsc::sync_channel::<(String, Responder)>(100);
//! std::thread::spawn(move || {
//!     for (question, responder) in asked {
//!         responder.send(Response::text(format!("{question}? Yes.\n")));
//!     }
//! });
//! let router = Router::with_state(questions).get("/ask/{question}", ask);
//! assert_eq!(TestClient::new(router).get("/ask/really").into_text()?, "really? Yes.\n");
//! # Ok::<_, std::io::Error>(())
//! ```
//!
//! When the client disconnects meanwhile, queued jobs are dropped, and the code that makes the response
//! is told: [`Responder::on_cancel`], [`BodyStream::written_with_cancellation`].
//!
//! # WebSocket
//!
//! With the feature `websocket`, a handler can accept a WebSocket connection (module `websocket`). It stays on
//! its event loop and has no thread; any thread may send to it:
//!
//! ```
//! # #[cfg(feature = "websocket")] {
//! use tws::websocket::WebSocketUpgrade;
//! use tws::{HandlerResult, Request, Router};
//!
//! fn echo(request: &Request<'_>) -> HandlerResult {
//!     Ok(WebSocketUpgrade::new(request)?.on_message(|message, sender| {
//!         // An error means that the client is too slow, or gone.
//!         let _ = sender.send(message);
//!     }))
//! }
//!
//! let router = Router::new().get("/echo", echo);
//! # assert_eq!(tws::TestClient::new(router).get("/echo").status(), 426);
//! # }
//! ```
//!
//! # Async libraries
//!
//! tws has no async runtime. A program that uses an async library, such as the client of a database, has
//! a runtime of its own, and a handler responds from a task of it with a deferred response. With tokio:
//!
// The feature that has tokio as a dependency.
#![cfg_attr(feature = "postgres", doc = "```")]
#![cfg_attr(not(feature = "postgres"), doc = "```ignore")]
//! use tokio::runtime::{Builder, Handle};
//! use tws::{Outcome, Request, Response, Router, TestClient};
//!
//! async fn greet(name: String) -> Response {
//!     tokio::task::yield_now().await;
//!     Response::text(format!("hello {name}\n"))
//! }
//!
//! fn hello(runtime: &Handle, request: &Request<'_>) -> Outcome {
//!     let name = request.param_str("name").unwrap_or_default().to_owned();
//!     let runtime = runtime.clone();
//!     Outcome::deferred(move |responder| {
//!         let cancellation = responder.cancellation();
//!         let task = runtime.spawn(async { responder.send(greet(name).await) });
//!         // When the client disconnects, the task ends.
//!         cancellation.on_cancel(move || task.abort());
//!     })
//! }
//!
//! let runtime = Builder::new_current_thread().enable_all().build()?;
//! let router = Router::with_state(runtime.handle().clone()).get("/hello/{name}", hello);
//! std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
//! assert_eq!(TestClient::new(router).get("/hello/you").into_text()?, "hello you\n");
//! # Ok::<_, std::io::Error>(())
//! ```
//!
//! If the task panics, the [`Responder`] is dropped, and the client gets a 500. Tokio's runtime of several
//! threads (`Builder::new_multi_thread`) needs no thread that drives it.
//!
//! [`BodyStream::polled`] makes a body of a stream or a channel of such a library. A task that produces the
//! body waits for the client in the channel, without a thread; with a channel of tokio the body is
//! `BodyStream::polled(move |cx| receiver.poll_recv(cx).map(Ok))`. A task sends events with
//! [`EventSender::try_send`], because [`EventSender::send`] and [`PieceSender::send`] block a thread of the
//! runtime while the client is slow.
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
//! let server = Server::bind(Config::default().with_port(0))?;
//! let handle = server.handle();
//! let served = std::thread::spawn(|| server.serve(|_: &Request<'_>| Response::text("hello\n")));
//! println!("http://{}/", handle.local_addresses()[0]);
//! handle.shut_down_within(Duration::from_secs(1));
//! served.join().expect("no panic")?;
//! assert_eq!(handle.stats().requests, 0);
//! # Ok::<_, tws::Error>(())
//! ```
//!
//! # Cargo features
//!
//! All are enabled by default, except `websocket`, `acme` and `postgres`. A program that embeds the library
//! needs few of them: `tws = { version = "0.2", default-features = false }` has 40 crates, this one included.
//! The feature `cookies` adds 8, and `websocket` 17.
//!
//! | feature | adds | without it |
//! |---|---|---|
//! | `archive` | folders as tar and zip archives | `archive = "on"` in the settings of a site is an error |
//! | `auth` | `BasicAuth`, `Credentials` | the types do not exist |
//! | `compress` | compression on the fly | only compressed files beside the original are served |
//! | `config-file` | `site::ConfigFile`, `site::Site::read` | a [`site::Site`] is made in code |
//! | `content-etag` | entity tags from the content of files | `etag = "content"` is an error |
//! | `cookies` | `Request::cookie`, `Response::with_cookie`, `cookie` | [`Request::header`] returns them unparsed |
//! | `markdown` | the README.md of a folder as HTML | it is shown as plain text |
//! | `tls` | HTTPS: `Tls`, `Server::with_tls` | the types do not exist |
//! | `cli` | the program `tws` | there is only the library |
//! | `sqlite`, `tui` | of the program: users in SQLite, `--tui` | using them is an error |
//! | `websocket` | the module `websocket` | it does not exist |
//! | `acme`, `postgres` | of the program: automatic certificates, users in PostgreSQL | using them is an error |
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
//!    pipe: the slower side sets the pace, and the event loop waits for neither. A body that waits for its
//!    data, as server-sent events do, has no thread: the worker polls it, and its waker is a message to the
//!    worker.
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
//! | 4 | `access_log`, `middleware`, `websocket` | log lines and their writer; handlers that wrap handlers; WebSocket connections without I/O |
//! | 3 | `handler`, `proto`, `site` | the handler trait and the router; protocol machines (RFC 9112) without I/O; rules of the site file |
//! | 2 | `http`, `tls` | HTTP semantics (RFC 9110) without I/O; certificates and TLS sessions |
//! | 1 | `body`, `client_key`, `config`, `explain_log` | message bodies; the key that identifies a client; settings; the log of decisions |
//! | 0 | `calendar`, `error`, `semaphore`, `sync` | dates; errors of settings and of the start; a counting semaphore; a mutex without poisoning |
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
mod calendar;
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
#[cfg(feature = "websocket")]
pub mod websocket;

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

pub use body::{
    Body, BodyPieces, BodyProducer, BodyReader, BodyStream, Broadcast, Cancellation, Event,
    EventSender, EventStream, FileRange, PieceSender,
};
pub use config::{
    Config, Endpoint, ForwardedField, Http2, Limits, Networks, ProxyProtocol, Timeouts,
};
pub use error::{Error, SettingError};
pub use explain_log::TARGET as EXPLAIN_TARGET;
pub use files::{ReplaceableRoot, SidecarReport, Sidecars, StaticFiles};
pub use handler::router::Router;
pub use handler::{
    Blocking, BodyPolicy, BoxHandler, Deferral, DiskJob, Handler, HandlerError, HandlerResult,
    IntoHandler, Job, Outcome, Responder, StreamingBody, TestClient, blocking,
};
pub use http::{
    Fields, FieldsIter, FormData, FormError, FormPart, InputError, Rejection, Request, Response,
};
pub use middleware::{
    AllowedHosts, Around, Cors, Next, Rate, RateLimit, RequestId, SlowLog, around,
    around_with_state, request_id, security_headers,
};
#[cfg(feature = "auth")]
pub use middleware::{AuthenticatedUser, BasicAuth, Credentials};
pub use proto::h1::check_head;
pub use server::{Server, ServerHandle, ServerState, ServerStats};
#[cfg(feature = "tls")]
pub use tls::{KeyPair, Reloaded, ServerCertificate, TicketKeys, Tls};

/// The crate of shared bytes, which bodies and their pieces consist of.
pub use ::bytes;
/// The crate of cookies.
#[cfg(feature = "cookies")]
pub use ::cookie;
/// Methods, status codes, header fields and versions are types of the `http` crate.
pub use ::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version};
mod sync;
