//! The cookies of a client (RFC 6265 §5).

use ::http::header::SET_COOKIE;
use cookie::Cookie;
use cookie::time::OffsetDateTime;

use crate::http::{Request, Response};
use crate::sync::Mutex;

/// The cookies that a handler has set, longer paths first.
#[derive(Debug, Default)]
pub(super) struct CookieJar {
    cookies: Mutex<Vec<StoredCookie>>,
}

/// A cookie as it is sent, still percent-encoded.
#[derive(Debug)]
struct StoredCookie {
    name: String,
    value: String,
    path: String,
}

impl CookieJar {
    /// Returns the value of a cookie of this name, percent-decoded.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        let cookies = self.cookies.lock();
        cookies.iter().find_map(|stored| {
            let pair = Cookie::new(&*stored.name, &*stored.value).to_string();
            let cookie = Cookie::parse_encoded(pair).ok()?;
            (cookie.name() == name).then(|| cookie.value().to_owned())
        })
    }

    /// Adds the cookies for the path of a request to it.
    pub(super) fn add_to(&self, request: Request<'static>) -> Request<'static> {
        let cookies = self.cookies.lock();
        let matching = cookies
            .iter()
            .filter(|cookie| cookie.is_for(request.path()));
        let pairs: Vec<String> = matching
            .map(|cookie| format!("{}={}", cookie.name, cookie.value))
            .collect();
        if pairs.is_empty() {
            request
        } else {
            request.with_header("Cookie", &pairs.join("; "))
        }
    }

    /// Stores the cookies that a response for `path` sets, and removes those that it removes.
    pub(super) fn store(&self, path: &str, response: &Response) {
        let mut cookies = self.cookies.lock();
        for value in response.headers().get_all(SET_COOKIE) {
            let Some(cookie) = value
                .to_str()
                .ok()
                .and_then(|text| Cookie::parse(text).ok())
            else {
                continue;
            };
            let stored = StoredCookie {
                name: cookie.name().to_owned(),
                value: cookie.value().to_owned(),
                path: match cookie.path() {
                    Some(path) if path.starts_with('/') => path.to_owned(),
                    _ => default_path(path),
                },
            };
            cookies.retain(|other| other.name != stored.name || other.path != stored.path);
            if !is_expired(&cookie) {
                cookies.push(stored);
                // Longer paths first (RFC 6265 §5.4).
                cookies.sort_by_key(|cookie| std::cmp::Reverse(cookie.path.len()));
            }
        }
    }
}

impl StoredCookie {
    /// RFC 6265 §5.1.4.
    fn is_for(&self, path: &str) -> bool {
        match path.strip_prefix(&*self.path) {
            Some(rest) => rest.is_empty() || rest.starts_with('/') || self.path.ends_with('/'),
            None => false,
        }
    }
}

/// RFC 6265 §5.1.4.
fn default_path(path: &str) -> String {
    match path.rfind('/') {
        None | Some(0) => "/".to_owned(),
        Some(at) => path[..at].to_owned(),
    }
}

/// Max-Age has precedence (RFC 6265 §5.3).
fn is_expired(cookie: &Cookie<'_>) -> bool {
    if let Some(age) = cookie.max_age() {
        return !age.is_positive();
    }
    let expires = cookie.expires_datetime();
    expires.is_some_and(|at| at <= OffsetDateTime::now_utc())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::handler::TestClient;
    use crate::handler::router::Router;

    #[test]
    fn cookies_are_kept_per_path_until_removed() {
        let set = |request: &Request<'_>| {
            let cookie = Cookie::build(("a", request.query_str().unwrap_or_default().to_owned()));
            Response::text("")
                .with_cookie(cookie)
                .with_cookie(("root", "ñ;"))
        };
        let remove = |_: &Request<'_>| {
            let mut cookie = Cookie::build(("a", "")).path("/in").build();
            cookie.make_removal();
            Response::text("").with_cookie(cookie)
        };
        let show = |request: &Request<'_>| {
            let all: Vec<String> = request.cookies().map(|cookie| cookie.to_string()).collect();
            Response::text(all.join(" "))
        };
        let router = Router::new()
            .get("/in/set", set)
            .get("/in/remove", remove)
            .get("/in/show", show)
            .get("/inside", show);
        let client = TestClient::new(router);
        let get = |target| client.get(target).into_text().expect("text");
        assert_eq!(get("/in/show"), "");
        get("/in/set?1");
        get("/in/set?2");
        assert_eq!(get("/in/show"), "a=2 root=ñ;");
        assert_eq!(get("/inside"), "");
        assert_eq!(client.cookie("root").as_deref(), Some("ñ;"));
        get("/in/remove");
        assert_eq!(client.cookie("a"), None);
        assert_eq!(get("/in/show"), "root=ñ;");
    }
}
