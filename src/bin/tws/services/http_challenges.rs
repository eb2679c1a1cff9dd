//! Answers to HTTP-01 challenges (RFC 8555 §8.3), before anything else that may be configured: a
//! certificate authority has no password and follows no rule of the site.

#[cfg(not(feature = "acme"))]
pub(crate) use disabled::HttpChallenges;
#[cfg(feature = "acme")]
pub(crate) use enabled::HttpChallenges;

#[cfg(feature = "acme")]
mod enabled {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use tws::{
        BodyPolicy, BoxHandler, Handler, HeaderName, Method, Outcome, Rejection, Request, Response,
    };

    use crate::sync::Mutex;

    pub(super) const PATH: &str = "/.well-known/acme-challenge/";

    /// The challenges that are answered. Clones share them. The default is that there are never any.
    #[derive(Clone, Default)]
    pub(crate) struct HttpChallenges(Option<Arc<Challenges>>);

    /// The token and the key authorization of each challenge, by the name that is validated.
    type Challenges = Mutex<BTreeMap<String, (String, String)>>;

    impl HttpChallenges {
        pub(crate) fn new() -> Self {
            Self(Some(Arc::default()))
        }

        /// Answers a challenge from now on. A previous one for the name is replaced.
        pub(crate) fn add(&self, name: &str, token: &str, key_authorization: &str) {
            if let Some(challenges) = &self.0 {
                let answer = (token.to_owned(), key_authorization.to_owned());
                challenges.lock().insert(name.to_owned(), answer);
            }
        }

        pub(crate) fn remove(&self, name: &str) {
            if let Some(challenges) = &self.0 {
                challenges.lock().remove(name);
            }
        }

        /// Wraps a handler, unless there are never challenges.
        pub(crate) fn before(&self, handler: BoxHandler) -> BoxHandler {
            match &self.0 {
                Some(challenges) => BoxHandler::new(WithChallenges {
                    challenges: Arc::clone(challenges),
                    handler,
                }),
                None => handler,
            }
        }
    }

    struct WithChallenges {
        challenges: Arc<Challenges>,
        handler: BoxHandler,
    }

    impl WithChallenges {
        /// Returns the response to a validation. Other requests, also for a token that is not known, are
        /// for the inner handler.
        fn answer(&self, request: &Request<'_>) -> Option<Response> {
            let is_get = matches!(*request.method(), Method::GET | Method::HEAD);
            let wanted = request.path().strip_prefix(PATH).filter(|_| is_get)?;
            let challenges = self.challenges.lock();
            let found = challenges.values().find(|(token, _)| token == wanted);
            let (_, key_authorization) = found?;
            let media_type = HeaderName::from_static("content-type");
            let response = Response::text(key_authorization.clone());
            Some(response.with_header(media_type, "application/octet-stream"))
        }
    }

    impl Handler for WithChallenges {
        fn handle(&self, request: &Request<'_>) -> Outcome {
            match self.answer(request) {
                Some(response) => response.into(),
                None => self.handler.handle(request),
            }
        }

        fn admit(&self, request: &Request<'_>) -> BodyPolicy {
            match self.answer(request) {
                Some(response) => BodyPolicy::Reject(response),
                None => self.handler.admit(request),
            }
        }

        fn reject(&self, request: &Request<'_>, rejection: Rejection) -> Response {
            self.handler.reject(request, rejection)
        }
    }
}

#[cfg(not(feature = "acme"))]
mod disabled {
    use tws::BoxHandler;

    /// Without the feature there are no challenges.
    #[derive(Clone, Default)]
    pub(crate) struct HttpChallenges;

    impl HttpChallenges {
        #[expect(clippy::unused_self, reason = "has the signature of the other variant")]
        pub(crate) fn before(&self, handler: BoxHandler) -> BoxHandler {
            handler
        }
    }
}

#[cfg(all(test, feature = "acme"))]
mod tests {
    use tws::{BoxHandler, Handler, Method, Request, Response, StatusCode};

    use super::HttpChallenges;
    use super::enabled::PATH;

    #[test]
    fn only_known_tokens_are_answered() {
        let challenges = HttpChallenges::new();
        let inner = |_: &Request<'_>| Response::text("").with_status(StatusCode::UNAUTHORIZED);
        let handler = challenges.before(BoxHandler::new(inner));
        let get = |method: Method, target: &str| {
            let response = handler.handle(&Request::new(method, target)).wait();
            (
                response.status().as_u16(),
                response.into_content().expect("content"),
            )
        };
        challenges.add("a.test", "one", "one.key");
        challenges.add("b.test", "two", "two.key");
        let path = |token: &str| format!("{PATH}{token}");
        assert_eq!(get(Method::GET, &path("one")), (200, b"one.key".to_vec()));
        assert_eq!(get(Method::HEAD, &path("two")).0, 200);
        for target in ["", "three", "one/", "one.key", "../acme-challenge/two/"] {
            assert_eq!(get(Method::GET, &path(target)).0, 401, "{target}");
        }
        assert_eq!(get(Method::GET, "/one").0, 401);
        assert_eq!(get(Method::PUT, &path("one")).0, 401);
        challenges.add("a.test", "new", "new.key");
        challenges.remove("b.test");
        assert_eq!(
            ["one", "two", "new"].map(|it| get(Method::GET, &path(it)).0),
            [401, 401, 200]
        );
    }
}
