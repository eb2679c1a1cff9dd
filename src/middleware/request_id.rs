//! Identifiers of requests.

use std::hash::{BuildHasher, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::around::{Around, around};
use crate::handler::BoxHandler;

/// The field of requests and responses.
const FIELD: &str = "x-request-id";

/// The limit of an identifier that a client or a proxy sends, in bytes.
const MAX_BYTES: usize = 128;

/// The identifier of a request: see [`request_id`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Box<str>);

impl RequestId {
    /// The identifier: 1 to 128 letters, digits, `-`, `_` and `.`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The identifier that the field has, if it can be logged and sent as it is.
    fn from_field(value: &str) -> Option<Self> {
        let is_safe = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_valid = (1..=MAX_BYTES).contains(&value.len()) && value.bytes().all(is_safe);
        is_valid.then(|| Self(value.into()))
    }

    /// A new one of 128 bits, which cannot be predicted from others.
    fn new() -> Self {
        static KEYS: LazyLock<[RandomState; 2]> = LazyLock::new(Default::default);
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let [high, low] = [0, 1].map(|half| KEYS[half].hash_one(number));
        Self(format!("{high:016x}{low:016x}").into())
    }
}

/// Gives each request an identifier, to find it in the logs of several programs. That of an X-Request-Id
/// field, which a proxy may have set, is kept if it has 1 to 128 letters, digits, `-`, `_` and `.`; else
/// there is a new one. The handler gets it as an extension of the type [`RequestId`], and the client in the
/// field X-Request-Id of the response.
///
/// ```
/// use tws::{HandlerResult, Request, RequestId, Response, Router, TestClient, request_id};
///
/// fn order(request: &Request<'_>) -> HandlerResult {
///     let id: &RequestId = request.extension()?;
///     Ok(Response::text(format!("request {}\n", id.as_str())))
/// }
///
/// let client = TestClient::new(Router::new().get("/order", order).layer(request_id()));
/// let response = client.send(Request::get("/order").with_header("X-Request-Id", "7d1f"));
/// assert_eq!(response.headers()["x-request-id"], "7d1f");
/// assert_eq!(response.into_text()?, "request 7d1f\n");
/// # Ok::<_, std::io::Error>(())
/// ```
pub fn request_id() -> impl Fn(BoxHandler) -> Around {
    around(|request, next| {
        let sent = request.header(FIELD).and_then(RequestId::from_field);
        let id = sent.unwrap_or_else(RequestId::new);
        let value = id.as_str().to_owned();
        let outcome = next.with(id).run(request);
        outcome.map(move |response| response.with_header(FIELD, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::Handler;
    use crate::handler::router::Router;
    use crate::http::{Request, Response};

    fn id_of(sent: &str) -> String {
        let router = Router::new()
            .get("/", |_: &Request<'_>| Response::text(""))
            .layer(request_id());
        let request = Request::get("/").with_header(FIELD, sent);
        let response = router.handle(&request).wait();
        let id = response.headers()[FIELD].to_str().expect("ASCII");
        id.to_owned()
    }

    #[test]
    fn only_safe_identifiers_are_kept() {
        let longest = "a".repeat(MAX_BYTES);
        for sent in ["7", "a-B_9.z", &longest] {
            assert_eq!(id_of(sent), sent);
        }
        let too_long = "a".repeat(MAX_BYTES + 1);
        for sent in ["", "a b", "a\"", "<a>", "ä", "a,b", &too_long] {
            let id = id_of(sent);
            let is_new = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
            assert!(is_new, "{sent}: {id}");
        }
    }

    #[test]
    fn new_identifiers_are_different() {
        assert_ne!(RequestId::new(), RequestId::new());
    }

    #[test]
    fn errors_have_an_identifier() {
        let router = Router::new().layer(request_id());
        let response = router.handle(&Request::get("/none")).wait();
        assert_eq!(response.status(), 404);
        assert!(response.headers().contains_key(FIELD));
    }
}
