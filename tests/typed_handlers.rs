//! Tests of handlers with state, typed input and layers on a server, where content arrives in pieces.

use std::io::{Read, Seek};
use std::sync::mpsc::{self, Sender};
use std::sync::{Mutex, PoisonError};

use serde::Deserialize;
use tws::{
    FormError, HandlerResult, Next, Outcome, Request, Response, Router, StatusCode, around,
    blocking,
};

use crate::support::{TestServer, pattern};

const MIB: usize = 1024 * 1024;

struct App {
    /// Receives the errors of forms.
    errors: Mutex<Sender<FormError>>,
}

impl App {
    fn new() -> (Self, mpsc::Receiver<FormError>) {
        let (sender, errors) = mpsc::channel();
        let app = Self {
            errors: Mutex::new(sender),
        };
        (app, errors)
    }
}

#[derive(Deserialize)]
struct Point {
    x: i32,
}

fn point(_: &App, request: &Request<'_>) -> HandlerResult {
    let Point { x } = request.json()?;
    Ok(Response::json(&x)
        .append_header("Set-Cookie", "a=1")
        .append_header("Set-Cookie", "b=2"))
}

fn count(_: &App, request: &Request<'_>) -> HandlerResult {
    let user: &&str = request.extension()?;
    let bytes = std::io::copy(&mut request.reader(), &mut std::io::sink())?;
    Ok(Response::text(format!("{user} {bytes}")))
}

fn form(app: &App, request: &Request<'_>) -> HandlerResult {
    match stored(request) {
        Ok((bytes, is_equal)) => Ok(Response::text(format!("{bytes} {is_equal}"))),
        Err(error) => {
            let status = error.status();
            let errors = app.errors.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = errors.send(error);
            Err(status.into())
        }
    }
}

/// Stores the file of a form. Returns its length and whether it is the pattern.
fn stored(request: &Request<'_>) -> Result<(u64, bool), FormError> {
    let mut file = tempfile::tempfile().map_err(FormError::Write)?;
    let mut form = request.form_data()?;
    let mut bytes = 0;
    while let Some(mut part) = form.next_part()? {
        bytes += part.copy_to(&mut file, 3 * MIB as u64)?;
    }
    let mut content = Vec::new();
    file.rewind()
        .and_then(|()| file.read_to_end(&mut content))
        .map_err(FormError::Write)?;
    let is_equal = content == pattern(content.len());
    Ok((bytes, is_equal))
}

fn routes(app: App) -> Router<App> {
    Router::with_state(app)
        .post("/point", point)
        .post("/count", blocking(count).streaming(4 * MIB as u64))
        .post("/form", blocking(form).streaming(8 * MIB as u64))
}

/// Decides on the event loop.
fn authenticate(request: &Request<'_>, next: Next) -> Outcome {
    match request.header("authorization") {
        Some("Ana") => next.with("Ana").run(request),
        _ => StatusCode::UNAUTHORIZED.into(),
    }
    .map(|response| response.with_header("X-Layer", "1"))
}

/// Decides in a job.
fn authenticate_late(request: &Request<'_>, next: Next) -> Outcome {
    let request = request.clone().into_owned();
    Outcome::deferred(move |responder| {
        std::thread::spawn(move || responder.send(authenticate(&request, next)));
    })
}

#[test]
fn input_errors_have_their_status_and_keep_the_connection() {
    let server = TestServer::start(routes(App::new().0));
    let mut client = server.client();
    let mut post = |media_type: &str, content: &str| {
        let len = content.len();
        client.send(format!(
            "POST /point HTTP/1.1\r\nHost: t\r\nContent-Type: {media_type}\r\n\
             Content-Length: {len}\r\n\r\n{content}"
        ));
        client.response()
    };
    let json = "application/json";
    for (media_type, content, status) in [
        ("text/plain", "{\"x\":1}", 415),
        (json, "{\"x\":1", 400),
        (json, "{\"x\":\"1\"}", 422),
        (json, "{\"x\":1}", 200),
    ] {
        assert_eq!(post(media_type, content).status, status, "{content}");
    }
    let head = post(json, "{\"x\":2}").head.to_ascii_lowercase();
    let cookies = head.lines().filter(|line| line.starts_with("set-cookie:"));
    assert_eq!(cookies.count(), 2, "{head}");
}

#[test]
fn layer_keeps_streaming_admission_and_rejection() {
    for layer in [authenticate, authenticate_late] {
        let server = TestServer::start(routes(App::new().0).layer(around(layer)));
        let post = |fields: &str, len: usize| {
            let mut client = server.client();
            client.send(format!(
                "POST /count HTTP/1.1\r\nHost: t\r\n{fields}Content-Length: {len}\r\n\r\n"
            ));
            client
        };
        let mut client = post("Authorization: Ana\r\n", 3 * MIB);
        client.send(pattern(3 * MIB));
        let response = client.response();
        assert_eq!(response.text(), format!("Ana {}", 3 * MIB));
        assert_eq!(response.field("X-Layer"), Some("1"));
        assert_eq!(client.get("/none").status, 401);
        // Too large for the handler: no content is sent.
        assert_eq!(
            post("Authorization: Ana\r\n", 5 * MIB).response().status,
            413
        );
    }
    let server = TestServer::start(routes(App::new().0).layer(around(authenticate)));
    let mut client = server.client();
    client.send(
        "POST /count HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
    );
    let response = client.response();
    assert_eq!(response.status, 401);
    assert_eq!(response.field("X-Layer"), Some("1"));
    client.expect_closed();
    client = server.client();
    client.send(format!(
        "POST /count HTTP/1.1\r\nHost: t\r\nAuthorization: Ana\r\nContent-Length: {}\r\n\r\n",
        5 * MIB
    ));
    let response = client.response();
    assert_eq!(
        (response.status, response.field("X-Layer")),
        (413, Some("1"))
    );
}

#[test]
fn form_is_stored_while_received_with_limits() {
    let (app, errors) = App::new();
    let server = TestServer::start(routes(app));
    let form = |len: usize| {
        let head = "--B\r\nContent-Disposition: form-data; name=f; filename=n\r\n\r\n";
        [head.as_bytes(), &pattern(len), b"\r\n--B--\r\n"].concat()
    };
    let head = |len: usize| {
        format!(
            "POST /form HTTP/1.1\r\nHost: t\r\nContent-Type: multipart/form-data; boundary=B\r\n\
             Content-Length: {len}\r\n\r\n"
        )
    };
    let content = form(2 * MIB);
    let mut client = server.client();
    client.send(head(content.len())).send(&content);
    assert_eq!(client.response().text(), format!("{} true", 2 * MIB));
    let content = form(3 * MIB + 1);
    let mut client = server.client();
    client.send(head(content.len())).send(&content);
    assert_eq!(client.response().status, 413);
    let error = errors.recv().expect("an error");
    assert!(matches!(error, FormError::TooLarge { .. }), "{error}");
    // The client disconnects in the middle.
    let mut client = server.client();
    client.send(head(content.len())).send(&content[..MIB]);
    drop(client);
    let error = errors.recv().expect("an error");
    assert!(matches!(error, FormError::Read(_)), "{error}");
}
