//! Cookies of requests and responses (RFC 6265), as values of the crate `cookie`.

use ::http::header::SET_COOKIE;
use cookie::Cookie;

use super::{Request, Response};

impl Request<'_> {
    /// Returns all cookies that the client has sent (RFC 6265 §5.4), percent-decoded, as
    /// [`Response::with_cookie`] encodes them. Ill-formed ones are skipped.
    pub fn cookies(&self) -> impl Iterator<Item = Cookie<'_>> {
        // HTTP/2 clients send each cookie in a field of its own (RFC 9113 §8.2.3).
        self.fields().all("cookie").flat_map(parse)
    }

    /// Returns the cookie of this name. If there are several, the first one, which has the longest path.
    pub fn cookie(&self, name: &str) -> Option<Cookie<'_>> {
        self.cookies().find(|cookie| cookie.name() == name)
    }
}

/// Returns the well-formed cookies in a Cookie field. The others do not affect them.
fn parse(value: &[u8]) -> impl Iterator<Item = Cookie<'_>> {
    let pairs = value.split(|byte| *byte == b';');
    let pairs = pairs.filter_map(|pair| std::str::from_utf8(pair).ok());
    pairs.filter_map(|pair| Cookie::parse_encoded(pair.trim()).ok())
}

impl Response {
    /// Adds a Set-Cookie field (RFC 6265 §4.1), beside those of other cookies. Name and value are
    /// percent-encoded where necessary; [`Request::cookie`](super::Request::cookie) decodes them. A path or
    /// domain that contains `;` is an error as with [`with_header`](Self::with_header).
    ///
    /// To remove a cookie, call [`Cookie::make_removal`](cookie::Cookie::make_removal) first, with the path
    /// and the domain that it was set with.
    ///
    /// ```
    /// use tws::cookie::{Cookie, SameSite};
    /// use tws::{HeaderValue, Response};
    ///
    /// let session = Cookie::build(("session", "7d1f"))
    ///     .path("/")
    ///     .http_only(true)
    ///     .secure(true)
    ///     .same_site(SameSite::Lax);
    /// let response = Response::text("signed in\n").with_cookie(session).with_cookie(("theme", "dark"));
    /// let values: Vec<&HeaderValue> = response.headers().get_all("Set-Cookie").iter().collect();
    /// assert_eq!(values, ["session=7d1f; HttpOnly; SameSite=Lax; Secure; Path=/", "theme=dark"]);
    /// ```
    pub fn with_cookie<'c>(self, cookie: impl Into<Cookie<'c>>) -> Self {
        let cookie = cookie.into();
        let attributes = cookie.path().into_iter().chain(cookie.domain());
        if attributes.into_iter().any(|text| text.contains(';')) {
            return Self::fault("response: the path or domain of a cookie contains a semicolon");
        }
        self.append_header(SET_COOKIE, cookie.encoded().to_string())
    }
}

#[cfg(test)]
mod tests {
    use ::http::StatusCode;

    use super::*;

    #[test]
    fn cookies_of_all_fields_are_decoded() {
        let request = Request::get("/")
            .with_header("Cookie", "a=1; b=x%3By; =nameless; malformed; a=2")
            .with_header("Cookie", "c=3");
        let value = |name| request.cookie(name).map(|cookie| cookie.value().to_owned());
        assert_eq!(value("a").as_deref(), Some("1"));
        assert_eq!(value("b").as_deref(), Some("x;y"));
        assert_eq!(value("c").as_deref(), Some("3"));
        assert_eq!(value("malformed"), None);
        assert_eq!(request.cookies().count(), 4);
    }

    #[test]
    fn cookie_that_is_not_utf8_does_not_hide_others() {
        let cookies = parse(b"a=\xFF; b=1 ;; \xFF=2;c=%3B");
        let cookies: Vec<String> = cookies.map(|cookie| cookie.to_string()).collect();
        assert_eq!(cookies, ["b=1", "c=;"]);
    }

    #[test]
    fn cookie_cannot_inject_attributes() {
        let set = |cookie: Cookie<'static>| Response::text("x").with_cookie(cookie);
        let response = set(Cookie::new("a;b", "x; Domain=evil.test\r\nX: y"));
        assert_eq!(
            response.headers()[SET_COOKIE],
            "a%3Bb=x%3B%20Domain%3Devil.test%0D%0AX%3A%20y"
        );
        for cookie in [
            Cookie::build(("a", "b")).path("/; Domain=evil.test"),
            Cookie::build(("a", "b")).domain("a.test; Path=/"),
            Cookie::build(("a", "b")).path("/\r\nX: y"),
        ] {
            let response = set(cookie.build());
            assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
        }
    }
}
