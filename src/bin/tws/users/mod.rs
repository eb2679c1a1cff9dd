//! The users of the sample application: `POST /createUser`, `GET /users`, `GET /users/{id}`.
//!
//! Here is what is said in HTTP and JSON; `store` has the threads that ask a database, and `sqlite`
//! and `postgres` are the databases there are. Requests are judged at once, on the event loop; what
//! needs the database is answered later, by the store's threads. A 201 means that the user is
//! committed. A 503 to a request to create one means that they may be or may not: a client that
//! repeats it may create the user twice.

#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store;
#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;
#[cfg(feature = "sqlite")]
use std::path::Path;
use std::sync::Arc;

use http::StatusCode;
use http::header::{LOCATION, RETRY_AFTER};
use serde::Serialize;
use serde_json::{Value, json};

use tws::{
    BodyPolicy, EXPLAIN_TARGET, Error, Handler, Outcome, Rejection, Request, Response, Router,
};

use store::{Store, Unavailable};

/// A name in JSON takes a hundredth of that; the rest is for members that are not ours.
const MAX_CONTENT_BYTES: usize = 16 * 1024;

const MAX_NAME_CHARS: usize = 200;

const LIMITS: RangeInclusive<i64> = 1..=1000;

const DEFAULT_LIMIT: i64 = 100;

/// The users, and the requests about them.
///
/// Ids are unique, and no id is given twice. They grow, but they may have gaps; and where several
/// servers share a database, a user may be seen a moment later than one with a higher id, and be
/// missed by a client that asks for those after that one.
///
/// Clones share the database: one can be given to each of several routers.
#[derive(Clone, Debug)]
pub(crate) struct Users {
    store: Arc<Store>,
}

/// One user.
#[derive(Debug, Serialize)]
struct User {
    id: i64,
    #[serde(rename = "Nombre")]
    name: String,
    /// RFC 3339, in UTC.
    created: String,
}

impl Users {
    /// Opens the SQLite database at `path`, and creates it with its folders if it is not there.
    #[cfg(feature = "sqlite")]
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let (writer, reader) = sqlite::open(path)?;
        Self::start(Store::start(writer, reader))
    }

    /// Keeps the users in a PostgreSQL database, or in any that speaks its protocol, at
    /// `postgres://user:password@host:port/database?parameter=value`; `PGPASSWORD` is taken if
    /// there is no password in it. The parameters are those of
    /// [`tokio_postgres::Config`](https://docs.rs/tokio-postgres/latest/tokio_postgres/config/struct.Config.html).
    /// `connect_timeout`, in seconds, is how long the database is waited for, for its answers, too:
    /// 5 if it is not there. There is no TLS.
    ///
    /// The table is created if it is not there. The database need not be up: until it is, and
    /// whenever it is away, every request about users gets a 503.
    #[cfg(feature = "postgres")]
    pub(crate) fn connect(url: &str) -> Result<Self, Error> {
        let (writer, reader) = (postgres::Postgres::at(url)?, postgres::Postgres::at(url)?);
        Self::start(Store::start(writer, reader))
    }

    fn start(store: Result<Store, Error>) -> Result<Self, Error> {
        let store = Arc::new(store?);
        Ok(Self { store })
    }

    /// Adds the routes about users. Panics as [`Router::route`] does if one of them exists.
    pub(crate) fn routes(self, router: Router) -> Router {
        add_routes(router, |answer| Endpoint {
            store: Arc::clone(&self.store),
            answer,
        })
    }

    /// Adds the same routes to users that are nowhere: no store is opened. Requests are judged by
    /// their heads, and what a store must decide is a 503. For who explains what would answer.
    pub(crate) fn explained_routes(router: Router) -> Router {
        add_routes(router, |_| Explained)
    }
}

/// What answers at one of the routes.
type Judge = fn(&Arc<Store>, &Request<'_>) -> Result<Outcome, Problem>;

fn add_routes<H: Handler + 'static>(router: Router, endpoint: impl Fn(Judge) -> H) -> Router {
    router
        .post("/createUser", endpoint(create))
        .get("/users", endpoint(list))
        .get("/users/{id}", endpoint(show))
}

/// One of the routes, for whom no store is opened.
struct Explained;

impl Handler for Explained {
    fn handle(&self, _: &Request<'_>) -> Outcome {
        log::trace!(
            target: EXPLAIN_TARGET,
            "answer: depends on the user database, which explain does not open"
        );
        Response::from(Unavailable).into()
    }

    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
        if judge_content_head(request).is_ok() {
            log::trace!(
                target: EXPLAIN_TARGET,
                "answer: depends on the user database, which explain does not open"
            );
        }
        admit(request)
    }
}

/// One of the routes. All that it says, refusals too, is JSON.
struct Endpoint {
    store: Arc<Store>,
    answer: Judge,
}

impl Handler for Endpoint {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        match (self.answer)(&self.store, request) {
            Ok(reply) => reply,
            Err(problem) => Response::from(problem).into(),
        }
    }

    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
        admit(request)
    }

    fn reject(&self, _: &Request<'_>, refusal: Rejection) -> Response {
        Response::from(Problem::new(refusal.status(), refusal.reason())).closing()
    }
}

fn admit(request: &Request<'_>) -> BodyPolicy {
    match judge_content_head(request) {
        Ok(()) => BodyPolicy::Buffer {
            max: MAX_CONTENT_BYTES,
        },
        Err(problem) => {
            log::trace!(target: EXPLAIN_TARGET, "content: refused: {}", problem.text);
            BodyPolicy::Reject(problem.into())
        }
    }
}

fn create(store: &Arc<Store>, request: &Request<'_>) -> Result<Outcome, Problem> {
    let name = requested_name(request)?;
    let store = Arc::clone(store);
    let prefix = request.encoded_prefix();
    Ok(Outcome::deferred(move |replier| {
        store.insert(name, move |user| {
            replier.send(match user {
                Ok(user) => Response::json(&user)
                    .with_status(StatusCode::CREATED)
                    .with_header(LOCATION, format!("{prefix}/users/{}", user.id)),
                Err(unavailable) => unavailable.into(),
            });
        });
    }))
}

fn list(store: &Arc<Store>, request: &Request<'_>) -> Result<Outcome, Problem> {
    let limit = number(request, "limit", LIMITS)?.unwrap_or(DEFAULT_LIMIT);
    let after = number(request, "after", 0..=i64::MAX)?.unwrap_or(0);
    let store = Arc::clone(store);
    Ok(Outcome::deferred(move |replier| {
        store.list(after, limit, move |users| {
            replier.send(match users {
                Ok(users) => Response::json(&users),
                Err(unavailable) => unavailable.into(),
            });
        });
    }))
}

fn show(store: &Arc<Store>, request: &Request<'_>) -> Result<Outcome, Problem> {
    let text = request.param("id").unwrap_or_default();
    let id = digits(text).ok_or_else(no_such_user)?;
    let store = Arc::clone(store);
    Ok(Outcome::deferred(move |replier| {
        store.find(id, move |user| {
            replier.send(match user {
                Ok(Some(user)) => Response::json(&user),
                Ok(None) => no_such_user().into(),
                Err(unavailable) => unavailable.into(),
            });
        });
    }))
}

/// The client may try again: the next request may find a database that is back, or a disk with room.
impl From<Unavailable> for Response {
    fn from(_: Unavailable) -> Self {
        let text = "the user database is unavailable; try again";
        Self::from(Problem::new(StatusCode::SERVICE_UNAVAILABLE, text))
            .with_header(RETRY_AFTER, "1")
    }
}

/// Judges what the head says of the content, before that is read.
fn judge_content_head(request: &Request<'_>) -> Result<(), Problem> {
    let fields = request.fields();
    let framed = ["content-length", "transfer-encoding"];
    if framed.iter().all(|name| fields.first(name).is_none()) {
        let text = "Content-Length or Transfer-Encoding is required";
        return Err(Problem::new(StatusCode::LENGTH_REQUIRED, text));
    }
    // What has no type, a page of any origin can have a browser send without asking first
    // (Fetch §3.2.2); what is JSON, it cannot.
    let untyped = fields.first("content-type").is_none() && fields.first("origin").is_some();
    let mut media_types = fields.all("content-type");
    if untyped || !media_types.all(is_json) {
        let text = "Content-Type must be application/json";
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    Ok(())
}

/// The name in a request to create a user, trimmed.
fn requested_name(request: &Request<'_>) -> Result<String, Problem> {
    judge_content_head(request)?;
    if request.content().len() > MAX_CONTENT_BYTES {
        let text = format!("the request body is larger than {MAX_CONTENT_BYTES} bytes");
        return Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, text));
    }
    let value: Value = serde_json::from_slice(request.content()).map_err(|error| {
        Problem::bad_request(format!("the request body is not valid JSON: {error}"))
    })?;
    name_in(&value)
}

fn name_in(value: &Value) -> Result<String, Problem> {
    const WANTED: &str = r#"{"Nombre": "a name"}"#;
    let wanted = |wrong: &str| Problem::bad_request(format!("{wrong}; expected {WANTED}"));
    let members = value
        .as_object()
        .ok_or_else(|| wanted("the request body is not a JSON object"))?;
    let member = members
        .get("Nombre")
        .ok_or_else(|| wanted("Nombre is missing"))?;
    let name = member
        .as_str()
        .ok_or_else(|| wanted("Nombre is not a string"))?
        .trim();
    if name.is_empty() {
        return Err(wanted("Nombre is empty"));
    }
    if name.chars().count() > MAX_NAME_CHARS {
        let text = format!("Nombre is longer than {MAX_NAME_CHARS} characters");
        return Err(Problem::bad_request(text));
    }
    if name.contains(char::is_control) {
        return Err(Problem::bad_request("Nombre contains control characters"));
    }
    Ok(name.to_owned())
}

/// RFC 9110 §8.3.1: case does not matter, and parameters may follow.
fn is_json(media_type: &[u8]) -> bool {
    let essence = media_type.split(|&byte| byte == b';').next();
    essence.is_some_and(|essence| {
        essence
            .trim_ascii()
            .eq_ignore_ascii_case(b"application/json")
    })
}

/// A number in the query; `None` if it is not there.
fn number(
    request: &Request<'_>,
    name: &str,
    range: RangeInclusive<i64>,
) -> Result<Option<i64>, Problem> {
    let Some(text) = request.query_param(name) else {
        return Ok(None);
    };
    let number = digits(&text).filter(|number| range.contains(number));
    let wanted = || {
        let (least, most) = range.clone().into_inner();
        Problem::bad_request(format!("{name} must be a number from {least} to {most}"))
    };
    number.map(Some).ok_or_else(wanted)
}

/// Digits only: std would take `+1` too.
fn digits(text: &str) -> Option<i64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok())?
}

fn no_such_user() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "no such user; GET /users lists all users",
    )
}

/// What is wrong and what is wanted, as `{"error": "…"}`.
struct Problem {
    status: StatusCode,
    text: String,
}

impl Problem {
    fn new(status: StatusCode, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { status, text }
    }

    fn bad_request(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }
}

impl From<Problem> for Response {
    fn from(problem: Problem) -> Self {
        let response = Self::json(&json!({ "error": problem.text })).with_status(problem.status);
        match problem.status {
            // Where the next request begins is not certain.
            StatusCode::LENGTH_REQUIRED | StatusCode::PAYLOAD_TOO_LARGE => response.closing(),
            _ => response,
        }
    }
}
