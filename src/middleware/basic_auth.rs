//! The Basic scheme of RFC 7617: a name and a password with every request.

use std::sync::Arc;

use ::http::StatusCode;
use ::http::header::WWW_AUTHENTICATE;
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::credentials::Credentials;
use super::password_pool::{Login, Verdict, Verifier};
use crate::explain_log::explain;
use crate::handler::{BodyPolicy, Handler, Outcome};
use crate::http::{Rejection, Request, Response, error_page};

/// Lets only those reach a handler who have a name and a password (RFC 7617); others get a 401.
///
/// Passwords go over the wire as they are: without TLS before it, this keeps out the curious, not
/// those who can listen.
///
/// To verify a password takes long on purpose. It is done on a thread of its own, a few at once;
/// who comes when too many wait is told 503. Passwords that were right are remembered, as keyed
/// hashes in memory, and requests with them are answered at once.
///
/// Without a well-formed name and password, no content is read. With one that is not verified yet,
/// content is read as far as the handler admits (or a little, where it admits none, so that only
/// who may come in learns that), and the handler gets it when the password was right. So the
/// handler may be asked twice whether it admits a content.
pub struct BasicAuth {
    inner: Arc<dyn Handler>,
    verifier: Arc<Verifier>,
}

const CHALLENGE: &str = "Basic realm=\"tws\", charset=\"UTF-8\"";

/// Content that is read before it is known whether its sender may hear that nobody wants it.
const MAX_UNWANTED_BYTES: usize = 64 * 1024;

/// Not all clients pad.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What a request shows at the door.
enum Claim {
    Nothing,
    Unverified(Login),
    Verified,
}

impl BasicAuth {
    /// Lets those of `credentials` reach `inner`.
    pub fn new(inner: impl Handler + 'static, credentials: Credentials) -> Self {
        Self {
            inner: Arc::new(inner),
            verifier: Arc::new(Verifier::new(credentials)),
        }
    }

    fn claim(&self, request: &Request<'_>) -> Claim {
        match login(request) {
            None => {
                let why = "there is no well-formed Authorization field with the scheme Basic";
                explain!("password", "{why}: 401");
                Claim::Nothing
            }
            Some(login) if self.verifier.remembers(&login) => Claim::Verified,
            Some(login) => Claim::Unverified(login),
        }
    }
}

impl Handler for BasicAuth {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        match self.claim(request) {
            Claim::Nothing => challenge(request).into(),
            Claim::Verified => inside(&*self.inner, request),
            Claim::Unverified(login) => {
                let inner = Arc::clone(&self.inner);
                let verifier = Arc::clone(&self.verifier);
                let request = request.clone().into_owned();
                Outcome::deferred(move |replier| {
                    let then = move |verdict| match verdict {
                        Verdict::Wrong => {
                            explain!(
                                "password",
                                "the user is unknown or the password is wrong: 401"
                            );
                            replier.send(challenge(&request));
                        }
                        Verdict::Busy => {
                            replier.send(Response::unavailable(
                                "too many sign-in attempts in progress; try again",
                            ));
                        }
                        Verdict::Right => {
                            explain!("password", "the password is correct");
                            replier.send(inside(&*inner, &request));
                        }
                    };
                    verifier.verify(login, Box::new(then));
                })
            }
        }
    }

    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
        let claim = self.claim(request);
        if let Claim::Nothing = claim {
            return BodyPolicy::Reject(challenge(request));
        }
        match (claim, self.inner.admit(request)) {
            (Claim::Unverified(_), BodyPolicy::Reject(_)) => BodyPolicy::Buffer {
                max: MAX_UNWANTED_BYTES,
            },
            (_, admission) => admission,
        }
    }

    fn reject(&self, request: &Request<'_>, rejection: Rejection) -> Response {
        match self.claim(request) {
            Claim::Verified => self.inner.reject(request, rejection),
            // Nothing is told of what is inside.
            Claim::Nothing | Claim::Unverified(_) => {
                error_page::instead_of(rejection.into(), request.fields())
            }
        }
    }

    fn shed(&self) {
        self.inner.shed();
    }
}

/// The handler's answer. A content may have been read before it was verified that the handler may
/// be asked about it.
fn inside(inner: &dyn Handler, request: &Request<'_>) -> Outcome {
    if request.announces_content()
        && let BodyPolicy::Reject(response) = inner.admit(request)
    {
        return response.closing().into();
    }
    inner.handle(request)
}

fn challenge(request: &Request<'_>) -> Response {
    let status = StatusCode::UNAUTHORIZED;
    let plain = Response::text(format!("{status}: authentication required\n"));
    error_page::instead_of(plain.with_status(status), request.fields())
        .with_header(WWW_AUTHENTICATE, CHALLENGE)
}

/// The name and the password in a request, if they are well-formed (RFC 7617 §2).
fn login(request: &Request<'_>) -> Option<Login> {
    let mut values = request.fields().all("authorization");
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, token) = std::str::from_utf8(value).ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    let decoded = BASE64.decode(token.trim_matches(' ')).ok()?;
    let decoded = String::from_utf8(decoded).ok()?;
    if decoded.contains(char::is_control) {
        return None;
    }
    let (user, password) = decoded.split_once(':')?;
    Some(Login {
        user: user.to_owned(),
        password: password.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::Body;
    use crate::middleware::credentials::tests::credentials;

    /// Admits 1,000 bytes at /post and none elsewhere.
    struct Inner;

    impl Handler for Inner {
        fn handle(&self, request: &Request<'_>) -> Outcome {
            let text = format!("in {} {}", request.path(), request.content().len());
            let response = Response::text(text);
            match request.path() {
                "/job" => Outcome::blocking(|| response),
                "/later" => Outcome::deferred(|replier| replier.send(response)),
                _ => response.into(),
            }
        }

        fn admit(&self, request: &Request<'_>) -> BodyPolicy {
            match request.path() {
                "/post" => BodyPolicy::Buffer { max: 1000 },
                _ => BodyPolicy::Reject(Response::new(StatusCode::NOT_FOUND)),
            }
        }

        fn reject(&self, _: &Request<'_>, _: Rejection) -> Response {
            Response::new(StatusCode::IM_A_TEAPOT)
        }
    }

    fn with(request: Request<'static>, login: &str) -> Request<'static> {
        let value = format!("Basic {}", BASE64.encode(login));
        request.with_header("Authorization", &value)
    }

    fn guarded() -> BasicAuth {
        BasicAuth::new(Inner, credentials())
    }

    #[test]
    fn only_who_has_a_password_comes_in() {
        let handler = guarded();
        let get = |value: &str| {
            let request = Request::get("/").with_header("Authorization", value);
            handler.handle(&request).wait().status().as_u16()
        };
        let encode = |login: &[u8]| BASE64.encode(login);
        for (value, status) in [
            (format!("Basic {}", encode(b"ana:secret")), 200),
            (
                format!("BASIC  {}", encode(b"ana:secret").trim_end_matches('=')),
                200,
            ),
            (format!("Basic {}", encode(b"ana:wrong")), 401),
            (format!("Basic {}", encode(b"bo:secret")), 401),
            (format!("Basic {}", encode(b":")), 401),
            (format!("Basic {}", encode(b"ana")), 401),
            (format!("Basic {}", encode(b"ana:secret\0")), 401),
            (format!("Basic {}", encode(b"ana:\xFF")), 401),
            (format!("Bearer {}", encode(b"ana:secret")), 401),
            ("Basic".to_owned(), 401),
            ("Basic %%%".to_owned(), 401),
        ] {
            assert_eq!(get(&value), status, "{value}");
        }
        let response = handler.handle(&Request::get("/")).wait();
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(response.headers()[WWW_AUTHENTICATE], CHALLENGE);
        // Two of them could be read in two ways.
        let twice = with(with(Request::get("/"), "ana:secret"), "ana:secret");
        assert_eq!(handler.handle(&twice).wait().status(), 401);
    }

    #[test]
    fn a_password_is_verified_off_the_loop_and_once() {
        let handler = guarded();
        for (path, at_once) in [("/job", false), ("/", true)] {
            let request = with(Request::get(path), "ana:secret");
            let reply = handler.handle(&request);
            assert_eq!(matches!(reply, Outcome::Ready(_)), at_once, "{path}");
            assert_eq!(reply.wait().status(), 200);
        }
        for path in ["/", "/job", "/later"] {
            let request = with(Request::get(path), "ana:secret");
            let response = guarded().handle(&request).wait();
            match response.body() {
                Body::Bytes(bytes) => assert_eq!(bytes, &format!("in {path} 0")),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn contents_are_read_for_those_who_may_come_in() {
        let admits = |handler: &BasicAuth, path: &str, login: &str| {
            let request = Request::post(path, "a");
            let request = match login {
                "" => request,
                login => with(request, login),
            };
            match handler.admit(&request) {
                BodyPolicy::Buffer { max: bytes } => Ok(bytes),
                BodyPolicy::Reject(response) => Err(response.status().as_u16()),
                other => panic!("{other:?}"),
            }
        };
        let handler = guarded();
        assert_eq!(admits(&handler, "/post", ""), Err(401));
        assert_eq!(admits(&handler, "/post", "ana:secret"), Ok(1000));
        // Nothing tells what is there before the password is verified.
        assert_eq!(
            admits(&handler, "/none", "ana:secret"),
            Ok(MAX_UNWANTED_BYTES)
        );
        let none = with(Request::post("/none", "a"), "ana:secret");
        let post = with(Request::post("/post", "a"), "ana:secret");
        let rejection = Rejection::bad_request("no");
        assert_eq!(handler.reject(&post, rejection).status(), 400);
        assert_eq!(handler.handle(&none).wait().status(), 404);
        assert_eq!(handler.handle(&post).wait().status(), 200);
        // And then it does.
        assert_eq!(admits(&handler, "/none", "ana:secret"), Err(404));
        assert_eq!(handler.handle(&none).wait().status(), 404);
        assert_eq!(handler.reject(&post, rejection).status(), 418);
        let wrong = with(Request::post("/none", "a"), "ana:wrong");
        assert_eq!(handler.handle(&wrong).wait().status(), 401);
    }
}
