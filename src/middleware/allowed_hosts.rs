//! A check of the host name in requests.

use std::fmt;

use ::http::StatusCode;

use crate::config::UNIX_PEER;
use crate::explain_log::{Escaped, explain};
use crate::handler::{BodyPolicy, Handler, Outcome};
use crate::http::{Rejection, Request, Response, error_page, host};
use crate::site::HostName;

/// Passes on only requests for certain hosts; others get a 421 (RFC 9110 §15.5.20), and their bodies are
/// not read.
///
/// This protects a server that only this machine can reach from DNS rebinding: a web page whose own name
/// resolves to 127.0.0.1 could otherwise read all responses. Always allowed are IP addresses, `localhost`,
/// the names below `localhost`, and requests without a host, because no other site can have these.
///
/// ```
/// use tws::{AllowedHosts, Handler, Request, Response};
///
/// # fn main() -> Result<(), tws::Error> {
/// let hello = |_: &Request<'_>| Response::text("hello");
/// let handler = AllowedHosts::new(hello, ["*.example.org".parse()?]);
/// let status = |host| {
///     let request = Request::get("/").with_header("Host", host);
///     handler.handle(&request).wait().status().as_u16()
/// };
/// assert_eq!(status("localhost:8000"), 200);
/// assert_eq!(status("www.example.org"), 200);
/// assert_eq!(status("example.net"), 421);
/// # Ok(())
/// # }
/// ```
pub struct AllowedHosts {
    inner: Box<dyn Handler>,
    names: Vec<HostName>,
    unix_sockets: UnixSockets,
}

impl fmt::Debug for AllowedHosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AllowedHosts")
            .field("names", &self.names)
            .field("unix_sockets", &self.unix_sockets)
            .finish_non_exhaustive()
    }
}

/// Whether requests of peers on Unix sockets are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UnixSockets {
    Checked,
    Exempt,
}

impl AllowedHosts {
    /// Wraps `inner`, which gets requests for these hosts and for local ones.
    pub fn new(inner: impl Handler + 'static, names: impl IntoIterator<Item = HostName>) -> Self {
        Self {
            inner: Box::new(inner),
            names: names.into_iter().collect(),
            unix_sockets: UnixSockets::Checked,
        }
    }

    /// Passes on all requests of peers on Unix sockets, which no browser can connect to.
    pub fn exempt_unix_sockets(mut self) -> Self {
        self.unix_sockets = UnixSockets::Exempt;
        self
    }

    /// Returns the response to a request for another host.
    fn deny(&self, request: &Request<'_>) -> Option<Response> {
        let host = request.host_bytes()?;
        let is_exempt =
            self.unix_sockets == UnixSockets::Exempt && request.client_addr() == UNIX_PEER;
        if is_exempt || host.is_empty() || host::is_local(host) || self.has(host) {
            return None;
        }
        explain!(
            "host",
            "{} is neither a local name nor an allowed one: 421",
            Escaped(host)
        );
        let plain = Response::error_line(StatusCode::MISDIRECTED_REQUEST, "unknown host name");
        Some(error_page::instead_of(plain, request.fields()).closing())
    }

    fn has(&self, host: &[u8]) -> bool {
        self.names.iter().any(|name| name.matches(host))
    }
}

impl Handler for AllowedHosts {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        match self.deny(request) {
            Some(response) => response.into(),
            None => self.inner.handle(request),
        }
    }

    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
        match self.deny(request) {
            Some(response) => BodyPolicy::Reject(response),
            None => self.inner.admit(request),
        }
    }

    fn reject(&self, request: &Request<'_>, rejection: Rejection) -> Response {
        match self.deny(request) {
            Some(response) => response,
            None => self.inner.reject(request, rejection),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowing(names: &[&str]) -> AllowedHosts {
        let names = names.iter().map(|name| name.parse().expect("a name"));
        AllowedHosts::new(|_: &Request<'_>| Response::text("in"), names)
    }

    #[test]
    fn other_hosts_are_421() {
        let handler = allowing(&["example.org", "*.example.net"]);
        for (target, host, status) in [
            ("/", Some("localhost"), 200),
            ("/", Some("127.0.0.1:8000"), 200),
            ("/", Some("[::1]:8000"), 200),
            ("/", Some("EXAMPLE.org."), 200),
            ("/", Some("example.org:8000"), 200),
            ("/", Some("a.b.example.net"), 200),
            ("/", Some(""), 200),
            ("/", None, 200),
            ("/", Some("example.net"), 421),
            ("/", Some("a.example.org"), 421),
            ("/", Some("example.org.evil.test"), 421),
            ("/", Some("evil.test:8000"), 421),
            ("/", Some("localhost.evil.test"), 421),
            // The target has precedence (RFC 9112 §3.2.2).
            ("http://evil.test/", Some("localhost"), 421),
            ("http://localhost/", Some("evil.test"), 200),
        ] {
            let request = Request::post(target, "a");
            let request = match host {
                Some(host) => request.with_header("Host", host),
                None => request,
            };
            let what = format!("{target} {host:?}");
            let response = handler.handle(&request).wait();
            assert_eq!(response.status(), status, "{what}");
            let is_rejected = matches!(handler.admit(&request), BodyPolicy::Reject(_));
            assert_eq!(is_rejected, status == 421, "{what}");
            let rejected = handler.reject(&request, Rejection::bad_request("no"));
            let expected = if status == 421 { 421 } else { 400 };
            assert_eq!(rejected.status(), expected, "{what}");
        }
    }

    #[test]
    fn peers_on_unix_sockets_are_exempt_on_request() {
        let request = || Request::get("/").with_header("Host", "evil.test");
        let on_unix = || request().with_client_addr(UNIX_PEER);
        let status = |handler: &AllowedHosts, request| handler.handle(&request).wait().status();
        let checking = allowing(&[]);
        assert_eq!(status(&checking, on_unix()), 421);
        let exempting = allowing(&[]).exempt_unix_sockets();
        assert_eq!(status(&exempting, on_unix()), 200);
        assert_eq!(status(&exempting, request()), 421);
    }
}
