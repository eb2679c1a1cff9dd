//! `tws explain`: a request that nobody sent, answered by the handler that would serve it. What is
//! decided about it is printed, then the answer's head. Nothing listens, nothing is stored, no
//! database is opened.
//!
//! The words come from where the decisions are made: the library says them at level trace.

use std::ffi::OsStr;
use std::fmt;
use std::io::Write;
use std::sync::{Mutex, PoisonError};

use log::{LevelFilter, Log, Metadata, Record};
use tws::{
    BodyPolicy, Error, Handler, HeaderName, HeaderValue, Method, Request, Response, Router,
    StatusCode,
};

use crate::cli::{RequestArgs, Settings};
use crate::services::app::App;

/// The target under which the library says what it decides.
const DECISIONS: &str = "tws::explain";

/// The request to explain.
#[derive(Debug)]
pub(crate) struct Question {
    method: Method,
    /// As a client would send it.
    target: String,
    fields: Vec<(String, String)>,
}

impl Question {
    /// Reads what was typed; the error is for whoever typed it.
    pub(crate) fn new(words: &RequestArgs) -> Result<Self, String> {
        let text = |word: &OsStr| {
            let text = word.to_str();
            text.ok_or_else(|| format!("{word:?} is not valid UTF-8"))
                .map(str::to_owned)
        };
        let (method, target) = (text(&words.method)?, text(&words.target)?);
        // Methods have case, and all that there are have upper case.
        let known = Method::from_bytes(method.as_bytes()).ok();
        let is_upper = method.bytes().all(|byte| !byte.is_ascii_lowercase());
        let Some(method) = known.filter(|_| is_upper) else {
            return Err(format!(
                "{method:?} is not a method; give one, such as GET, before the path"
            ));
        };
        if target.is_empty() || target.contains(|letter: char| !letter.is_ascii_graphic()) {
            return Err(format!(
                "{target:?} is not a request target; percent-encode spaces and non-ASCII characters, as in /a%20b"
            ));
        }
        let fields = words.fields.iter().map(|line| field(line));
        Ok(Self {
            method,
            target,
            fields: fields.collect::<Result<_, _>>()?,
        })
    }

    /// As it would come over the wire. A Host that nobody has named is no mistake here.
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

    /// As the server would read it from a client of this machine.
    fn request(&self, method: Method) -> Result<Request<'static>, tws::Rejection> {
        let request = Request::parse(method, &self.target)?;
        let add = |request: Request<'static>, (name, value): &(String, String)| {
            request.with_header(name, value)
        };
        Ok(self.fields.iter().fold(request, add))
    }
}

fn field(line: &str) -> Result<(String, String), String> {
    let wrong =
        || format!("-H {line:?} is not a header field; give one such as \"Accept: text/html\"");
    let (name, value) = line.split_once(':').ok_or_else(wrong)?;
    let value = value.trim();
    let fits = HeaderName::try_from(name).is_ok() && HeaderValue::try_from(value).is_ok();
    fits.then(|| (name.to_owned(), value.to_owned()))
        .ok_or_else(wrong)
}

/// Prints what would be answered, and why.
pub(crate) fn explain(settings: &Settings, question: &Question) -> Result<(), Error> {
    static PRINTER: Printer = Printer(Mutex::new(Vec::new()));
    if log::set_logger(&PRINTER).is_ok() {
        log::set_max_level(LevelFilter::Trace);
    }
    let handler = App::open(settings)?.into_explained_handler(settings);
    line(
        "request",
        format_args!("{} {} HTTP/1.1", question.method, question.target),
    );
    for (name, value) in &question.fields {
        line("", format_args!("{name}: {}", shown_field(name, value)));
    }
    let request = match question.request(question.method.clone()) {
        Ok(request) => request,
        Err(refusal) => {
            refused("target", &question.method, refusal);
            return Ok(());
        }
    };
    if let Err(refusal) = tws::check_head(question.head().as_bytes(), &settings.config.limits) {
        refused("head", &question.method, refusal);
        return Ok(());
    }
    if request.path_bytes() != question.target.as_bytes() {
        line("path", request.path());
    }
    let reply = match question.method {
        Method::GET | Method::HEAD | Method::OPTIONS => Some(handler.handle(&request).wait()),
        _ => foresee(settings, &handler, question, &request),
    };
    match reply {
        // The last of the decisions says what it would be.
        _ if PRINTER.has_answer() => {}
        Some(response) => answer(&question.method, &response),
        None => line("answer", "depends on the request body"),
    }
    Ok(())
}

/// The answer to what may change something, without letting it. `None` if it is for a content.
fn foresee(
    settings: &Settings,
    handler: &Router,
    question: &Question,
    request: &Request<'static>,
) -> Option<Response> {
    // Passwords are verified before anything is answered, not before it is admitted.
    if settings.auth_file.is_some()
        && let Ok(harmless) = question.request(Method::OPTIONS)
    {
        let response = handler.handle(&harmless).wait();
        if response.status() == StatusCode::UNAUTHORIZED {
            return Some(response);
        }
    }
    match handler.admit(request) {
        BodyPolicy::Reject(response) => Some(response),
        BodyPolicy::Buffer { max: _ } | BodyPolicy::Stream { max: _ } => None,
    }
}

/// Prints what is answered without asking a handler.
fn refused(topic: &str, method: &Method, refusal: tws::Rejection) {
    line(topic, format_args!("refused: {}", refusal.reason()));
    answer(method, &refusal.into());
}

/// Prints the head of the answer, and how long its content is.
fn answer(method: &Method, response: &Response) {
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

/// Passwords stay with whoever typed them.
fn shown_field<'v>(name: &str, value: &'v str) -> &'v str {
    let is_secret = ["authorization", "cookie", "proxy-authorization"];
    match is_secret.contains(&&*name.to_ascii_lowercase()) {
        true => "…",
        false => value,
    }
}

/// One line on standard output, which may be closed.
fn line(topic: &str, text: impl fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{topic:<10}{text}");
}

/// Prints decisions when they are made, each once: what takes patience begins anew on a thread that
/// has it, and decides the same again.
struct Printer(Mutex<Vec<String>>);

impl Printer {
    /// Whether it was said what the answer would be that cannot be had.
    fn has_answer(&self) -> bool {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.iter().any(|line| line.starts_with("answer:"))
    }
}

impl Log for Printer {
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
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !said.contains(&decision) {
            let (topic, text) = decision.split_once(": ").unwrap_or(("", &decision));
            line(topic, text);
            said.push(decision);
        }
    }

    fn flush(&self) {}
}
