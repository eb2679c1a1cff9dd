//! `tws explain`: gives a request that no client sent to the handler that would serve it. Prints the
//! decisions about it, then the head of the response. Nothing listens, nothing is stored, no database
//! is opened.
//!
//! The decisions are log messages of level trace, which the library writes where it decides.

use std::ffi::OsStr;
use std::fmt;
use std::net::SocketAddr;

use log::{LevelFilter, Log, Metadata, Record};
use tws::{
    BodyPolicy, BoxHandler, Config, Error, Handler, HeaderName, HeaderValue, Method, Request,
    Response, StatusCode,
};

use crate::cli::{Exit, RawArgs, RequestArgs, Settings};
use crate::services::app::{App, ServerFiles};
use crate::sync::Mutex;
use crate::terminal::stdio;

/// The log target of the library for its decisions.
const DECISIONS: &str = "tws::explain";

/// The request to explain.
#[derive(Debug)]
struct ExplainRequest {
    method: Method,
    /// As a client would send it.
    target: String,
    fields: Vec<(String, String)>,
    /// The peer of the connection.
    peer: SocketAddr,
}

impl ExplainRequest {
    /// Parses the request. The error is one of usage.
    fn parse(args: &RequestArgs) -> Result<Self, String> {
        let text = |arg: &OsStr| {
            let text = arg.to_str();
            text.ok_or_else(|| format!("{arg:?} is not valid UTF-8"))
                .map(str::to_owned)
        };
        let (method, target) = (text(&args.method)?, text(&args.target)?);
        // Methods are case-sensitive, and all registered ones are in upper case.
        let parsed = Method::from_bytes(method.as_bytes()).ok();
        let is_upper = method.bytes().all(|byte| !byte.is_ascii_lowercase());
        let Some(method) = parsed.filter(|_| is_upper) else {
            return Err(format!(
                "{method:?} is not a method; give one, such as GET, before the path"
            ));
        };
        if target.is_empty() || target.contains(|letter: char| !letter.is_ascii_graphic()) {
            return Err(format!(
                "{target:?} is not a request target; percent-encode spaces and non-ASCII characters, as in /a%20b"
            ));
        }
        let fields = args.fields.iter().map(|line| field(line));
        Ok(Self {
            method,
            target,
            fields: fields.collect::<Result<_, _>>()?,
            peer: args.peer,
        })
    }

    /// Returns the head as a client would send it. Without a Host field, it names localhost.
    fn head(&self) -> String {
        let has_host = |(name, _): &(String, String)| name.eq_ignore_ascii_case("host");
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !self.fields.iter().any(has_host) {
            head += "Host: localhost\r\n";
        }
        for (name, value) in &self.fields {
            head += &format!("{name}: {value}\r\n");
        }
        head + "\r\n"
    }

    /// Returns the request as a server with this configuration would parse it.
    fn request(&self, method: Method, config: &Config) -> Result<Request<'static>, tws::Rejection> {
        let request = Request::parse(method, &self.target)?;
        let add = |request: Request<'static>, (name, value): &(String, String)| {
            request.with_header(name, value)
        };
        let request = self.fields.iter().fold(request, add);
        Ok(request.with_peer_addr(self.peer, config))
    }
}

fn field(line: &str) -> Result<(String, String), String> {
    let invalid =
        || format!("-H {line:?} is not a header field; give one such as \"Accept: text/html\"");
    let (name, value) = line.split_once(':').ok_or_else(invalid)?;
    let value = value.trim();
    let is_valid = HeaderName::try_from(name).is_ok() && HeaderValue::try_from(value).is_ok();
    is_valid
        .then(|| (name.to_owned(), value.to_owned()))
        .ok_or_else(invalid)
}

/// Reads the settings, and prints the response to their request, with the reasons.
pub(crate) fn run(args: &RawArgs) -> Result<(), Exit> {
    let settings = Settings::read(args)?;
    let Some(request) = &settings.request else {
        return Ok(());
    };
    let request = ExplainRequest::parse(request).map_err(Exit::usage)?;
    explain(&settings, &request)
        .map_err(|error| Exit::with_advice(&error, &settings.root, &args.args))
}

fn explain(settings: &Settings, explained: &ExplainRequest) -> Result<(), Error> {
    static PRINTER: DecisionPrinter = DecisionPrinter(Mutex::new(Vec::new()));
    if log::set_logger(&PRINTER).is_ok() {
        log::set_max_level(LevelFilter::Trace);
    }
    let handler =
        App::open(settings, &ServerFiles::of(settings), None)?.into_explained_handler(settings);
    let (method, target) = (&explained.method, &explained.target);
    line("request", format_args!("{method} {target} HTTP/1.1"));
    for (name, value) in &explained.fields {
        line("", format_args!("{name}: {}", displayed_value(name, value)));
    }
    let request = match explained.request(method.clone(), &settings.config) {
        Ok(request) => request,
        Err(rejection) => {
            print_rejection("target", method, rejection);
            return Ok(());
        }
    };
    let limits = &settings.config.limits;
    if let Err(rejection) = tws::check_head(explained.head().as_bytes(), limits) {
        print_rejection("head", method, rejection);
        return Ok(());
    }
    if request.path_bytes() != target.as_bytes() {
        line("path", request.path());
    }
    if request.client_addr() != explained.peer {
        let (client, proxy) = (request.client_addr().ip(), explained.peer.ip());
        line(
            "client",
            format_args!("{client}, as the trusted proxy {proxy} reports"),
        );
    }
    let response = match *method {
        Method::GET | Method::HEAD | Method::OPTIONS => Some(handler.handle(&request).wait()),
        _ => dry_run(settings, &handler, explained, &request),
    };
    match response {
        // The last decision states what the response would be.
        _ if PRINTER.has_answer() => {}
        Some(response) => print_response(method, &response),
        None => line("answer", "depends on the request body"),
    }
    Ok(())
}

/// Returns the response to a request that may change something, without executing it. `None` if the
/// response depends on the request body.
fn dry_run(
    settings: &Settings,
    handler: &BoxHandler,
    explained: &ExplainRequest,
    request: &Request<'static>,
) -> Option<Response> {
    // Passwords are verified when a request is handled, not when it is admitted.
    if !settings.password_files().is_empty()
        && let Ok(options) = explained.request(Method::OPTIONS, &settings.config)
    {
        let response = handler.handle(&options).wait();
        if response.status() == StatusCode::UNAUTHORIZED {
            return Some(response);
        }
    }
    match handler.admit(request) {
        BodyPolicy::Reject(response) => Some(response),
        _ => None,
    }
}

/// Prints the response to a request that is rejected before it reaches a handler.
fn print_rejection(topic: &str, method: &Method, rejection: tws::Rejection) {
    line(topic, format_args!("refused: {}", rejection.reason()));
    print_response(method, &rejection.into());
}

/// Prints the head of the response, and the length of its content.
fn print_response(method: &Method, response: &Response) {
    line("status", response.status());
    for field in response.field_lines() {
        line("field", field);
    }
    let unsent = match *method {
        Method::HEAD => ", not sent for HEAD",
        _ => "",
    };
    match response.body().length() {
        Some(0) => line("content", "none"),
        Some(length) => line("content", format_args!("{length} bytes{unsent}")),
        None => line("content", format_args!("length unknown in advance{unsent}")),
    }
}

/// Returns the value of a field as it is printed: that of a field with credentials is replaced.
fn displayed_value<'v>(name: &str, value: &'v str) -> &'v str {
    let secret = ["authorization", "cookie", "proxy-authorization"];
    if secret.contains(&&*name.to_ascii_lowercase()) {
        "…"
    } else {
        value
    }
}

/// Prints one line on standard output, which may be closed.
fn line(topic: &str, text: impl fmt::Display) {
    let text = stdio::one_line(&text.to_string());
    stdio::print_lossy(&format!("{topic:<10}{text}\n"));
}

/// A logger that prints the decisions when they are made, each only once: a request that would block is
/// handled again on a thread that may block, with the same decisions.
struct DecisionPrinter(Mutex<Vec<String>>);

impl DecisionPrinter {
    /// Returns true if a decision states the response, which cannot be produced here.
    fn has_answer(&self) -> bool {
        let printed = self.0.lock();
        printed.iter().any(|line| line.starts_with("answer:"))
    }
}

impl Log for DecisionPrinter {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == DECISIONS || metadata.level() <= LevelFilter::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if record.target() != DECISIONS {
            if self.enabled(record.metadata()) {
                line("warning", record.args());
            }
            return;
        }
        let decision = record.args().to_string();
        let mut printed = self.0.lock();
        if !printed.contains(&decision) {
            let (topic, text) = decision.split_once(": ").unwrap_or(("", &decision));
            line(topic, text);
            printed.push(decision);
        }
    }

    fn flush(&self) {}
}
