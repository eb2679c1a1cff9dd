//! `POST /createUser`, `GET /users`, `GET /users/{id}`: requests about users, answered in JSON.
//!
//! A request is validated on the event loop; its query runs on the threads of the store, and the
//! response is deferred until then. A 201 means that the user is committed. A 503 to
//! `POST /createUser` leaves open whether the user was created: a client that repeats the request
//! may create the user twice.
//!
//! Ids are unique and never reused. They increase, with possible gaps. Where several servers share
//! a database, a user can become visible a moment after one with a higher id, so a client that
//! pages with `after` can miss it.

use std::ops::RangeInclusive;
use std::sync::Arc;

use http::header::{LOCATION, RETRY_AFTER};
use serde_json::{Value, json};
use tws::{
    BodyPolicy, EXPLAIN_TARGET, Handler, Outcome, Rejection, Request, Response, Router, StatusCode,
    Version,
};

use super::store::{Unavailable, UserStore};

/// The longest name takes about a hundredth of it; the rest allows for members that are ignored.
const MAX_CONTENT_BYTES: usize = 16 * 1024;

const MAX_NAME_CHARS: usize = 200;

/// The page sizes that a client may ask for.
const LIMITS: RangeInclusive<i64> = 1..=1000;

const DEFAULT_LIMIT: i64 = 100;

/// Adds the routes about the users of a store.
///
/// # Panics
///
/// As [`Router::route`] does, if one of them exists already.
pub(crate) fn add_routes(router: Router, store: &Arc<UserStore>) -> Router {
    add(router, |respond| UserRoute {
        store: Arc::clone(store),
        respond,
    })
}

/// Adds the same routes without a store, for `tws explain`: requests are validated by their heads,
/// and whatever depends on the database is a 503.
///
/// # Panics
///
/// As [`Router::route`] does, if one of them exists already.
pub(crate) fn add_explained_routes(router: Router) -> Router {
    add(router, |_| ExplainedRoute)
}

fn add<H: Handler + 'static>(router: Router, route: impl Fn(Respond) -> H) -> Router {
    router
        .post("/createUser", route(create))
        .get("/users", route(list))
        .get("/users/{id}", route(show))
}

/// What one of the routes does with a request.
type Respond = fn(&Arc<UserStore>, &Request<'_>) -> Result<Outcome, ApiError>;

/// The handler of one route. All responses are JSON, also those to requests that the server
/// rejects.
struct UserRoute {
    store: Arc<UserStore>,
    respond: Respond,
}

impl Handler for UserRoute {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        match (self.respond)(&self.store, request) {
            Ok(outcome) => outcome,
            Err(error) => Response::from(error).into(),
        }
    }

    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
        admit(request)
    }

    fn reject(&self, _: &Request<'_>, rejection: Rejection) -> Response {
        Response::from(ApiError::new(rejection.status(), rejection.reason())).closing()
    }
}

/// The handler of one route without a store.
struct ExplainedRoute;

impl Handler for ExplainedRoute {
    fn handle(&self, _: &Request<'_>) -> Outcome {
        explain_unopened_database();
        Response::from(Unavailable).into()
    }

    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
        if check_content_head(request).is_ok() {
            explain_unopened_database();
        }
        admit(request)
    }
}

fn explain_unopened_database() {
    log::trace!(
        target: EXPLAIN_TARGET,
        "answer: depends on the user database, which explain does not open"
    );
}

fn admit(request: &Request<'_>) -> BodyPolicy {
    match check_content_head(request) {
        Ok(()) => BodyPolicy::Buffer {
            max: MAX_CONTENT_BYTES,
        },
        Err(error) => {
            log::trace!(target: EXPLAIN_TARGET, "content: refused: {}", error.text);
            BodyPolicy::Reject(error.into())
        }
    }
}

fn create(store: &Arc<UserStore>, request: &Request<'_>) -> Result<Outcome, ApiError> {
    let name = requested_name(request)?;
    let store = Arc::clone(store);
    let prefix = request.encoded_prefix();
    Ok(Outcome::deferred(move |responder| {
        store.insert(name, move |user| {
            responder.send(match user {
                Ok(user) => Response::json(&user)
                    .with_status(StatusCode::CREATED)
                    .with_header(LOCATION, format!("{prefix}/users/{}", user.id)),
                Err(unavailable) => unavailable.into(),
            });
        });
    }))
}

fn list(store: &Arc<UserStore>, request: &Request<'_>) -> Result<Outcome, ApiError> {
    let limit = query_number(request, "limit", LIMITS)?.unwrap_or(DEFAULT_LIMIT);
    let after = query_number(request, "after", 0..=i64::MAX)?.unwrap_or(0);
    let store = Arc::clone(store);
    Ok(Outcome::deferred(move |responder| {
        store.list(after, limit, move |users| {
            responder.send(match users {
                Ok(users) => Response::json(&users),
                Err(unavailable) => unavailable.into(),
            });
        });
    }))
}

fn show(store: &Arc<UserStore>, request: &Request<'_>) -> Result<Outcome, ApiError> {
    let text = request.param_str("id").unwrap_or_default();
    let id = digits(text).ok_or_else(no_such_user)?;
    let store = Arc::clone(store);
    Ok(Outcome::deferred(move |responder| {
        store.find(id, move |user| {
            responder.send(match user {
                Ok(Some(user)) => Response::json(&user),
                Ok(None) => no_such_user().into(),
                Err(unavailable) => unavailable.into(),
            });
        });
    }))
}

/// The client may try again: the database may become reachable, or its disk get free space.
impl From<Unavailable> for Response {
    fn from(_: Unavailable) -> Self {
        let text = "the user database is unavailable; try again";
        Self::from(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, text))
            .with_header(RETRY_AFTER, "1")
    }
}

/// Checks what the header fields say about the content, before the content is read.
fn check_content_head(request: &Request<'_>) -> Result<(), ApiError> {
    let fields = request.fields();
    let framing = ["content-length", "transfer-encoding"];
    // The frames of HTTP/2 delimit content without a field (RFC 9113 §8.1).
    let needs_field = request.version() < Version::HTTP_2;
    if needs_field && framing.iter().all(|name| fields.first(name).is_none()) {
        let text = "Content-Length or Transfer-Encoding is required";
        return Err(ApiError::new(StatusCode::LENGTH_REQUIRED, text));
    }
    // A page of any origin can make a browser send content without a type, without a preflight
    // request (Fetch §3.2.2); it cannot do so with JSON.
    let untyped = fields.first("content-type").is_none() && fields.first("origin").is_some();
    let mut media_types = fields.all("content-type");
    if untyped || !media_types.all(is_json) {
        let text = "Content-Type must be application/json";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    Ok(())
}

/// Returns the name in a request to create a user, trimmed.
fn requested_name(request: &Request<'_>) -> Result<String, ApiError> {
    check_content_head(request)?;
    if request.content().len() > MAX_CONTENT_BYTES {
        let text = format!("the request body is larger than {MAX_CONTENT_BYTES} bytes");
        return Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, text));
    }
    let value: Value = serde_json::from_slice(request.content()).map_err(|error| {
        ApiError::bad_request(format!("the request body is not valid JSON: {error}"))
    })?;
    name_in(&value)
}

fn name_in(value: &Value) -> Result<String, ApiError> {
    const EXPECTED: &str = r#"{"Nombre": "a name"}"#;
    let invalid = |reason: &str| ApiError::bad_request(format!("{reason}; expected {EXPECTED}"));
    let members = value
        .as_object()
        .ok_or_else(|| invalid("the request body is not a JSON object"))?;
    let member = members
        .get("Nombre")
        .ok_or_else(|| invalid("Nombre is missing"))?;
    let name = member
        .as_str()
        .ok_or_else(|| invalid("Nombre is not a string"))?
        .trim();
    if name.is_empty() {
        return Err(invalid("Nombre is empty"));
    }
    if name.chars().count() > MAX_NAME_CHARS {
        let text = format!("Nombre is longer than {MAX_NAME_CHARS} characters");
        return Err(ApiError::bad_request(text));
    }
    if name.contains(char::is_control) {
        return Err(ApiError::bad_request("Nombre contains control characters"));
    }
    Ok(name.to_owned())
}

/// Whether a media type is JSON, in any case and with any parameters (RFC 9110 §8.3.1).
fn is_json(media_type: &[u8]) -> bool {
    let essence = media_type.split(|&byte| byte == b';').next();
    essence.is_some_and(|essence| {
        essence
            .trim_ascii()
            .eq_ignore_ascii_case(b"application/json")
    })
}

/// Returns a number of the query; `None` if the parameter is missing.
fn query_number(
    request: &Request<'_>,
    name: &str,
    range: RangeInclusive<i64>,
) -> Result<Option<i64>, ApiError> {
    let Some(text) = request.query_param(name) else {
        return Ok(None);
    };
    let number = digits(&text).filter(|number| range.contains(number));
    let out_of_range = || {
        let (least, most) = range.clone().into_inner();
        ApiError::bad_request(format!("{name} must be a number from {least} to {most}"))
    };
    number.map(Some).ok_or_else(out_of_range)
}

/// Parses a number of digits alone; `str::parse` accepts `+1` as well.
fn digits(text: &str) -> Option<i64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| text.parse().ok())?
}

fn no_such_user() -> ApiError {
    ApiError::new(
        StatusCode::NOT_FOUND,
        "no such user; GET /users lists all users",
    )
}

/// An error response, `{"error": "…"}`: what is wrong and what is expected.
struct ApiError {
    status: StatusCode,
    text: String,
}

impl ApiError {
    fn new(status: StatusCode, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { status, text }
    }

    fn bad_request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }
}

impl From<ApiError> for Response {
    fn from(error: ApiError) -> Self {
        let response = Self::json(&json!({ "error": error.text })).with_status(error.status);
        match error.status {
            // Where the next request on the connection begins is not certain.
            StatusCode::LENGTH_REQUIRED | StatusCode::PAYLOAD_TOO_LARGE => response.closing(),
            _ => response,
        }
    }
}
