//! TLS as it was asked for, and the port at which who speaks plain HTTP is sent to HTTPS.

use std::borrow::Cow;
use std::io::ErrorKind;
#[cfg(feature = "tls")]
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
#[cfg(feature = "tls")]
use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use tws::access_log::AccessLogHandle;
use tws::{
    BodyPolicy, Config, Endpoint, Error, Handler, Outcome, Request, Response, Router, Server,
    ServerHandle, StatusCode,
};
#[cfg(feature = "tls")]
use tws::{KeyPair, Reloaded};

use super::app;
use super::tls::Tls;
use crate::cli::{Encryption, Settings};
#[cfg(feature = "tls")]
use crate::terminal::addresses::reachable;

/// The port of HTTPS that need not be said.
const HTTPS_PORT: u16 = 443;

/// Reads the certificates, or makes one for where the server listens.
#[cfg(feature = "tls")]
pub(crate) fn open(
    encryption: &Encryption,
    addresses: &[SocketAddr],
) -> Result<Option<Tls>, Error> {
    match encryption {
        Encryption::Off => Ok(None),
        Encryption::SelfSigned => Tls::self_signed(&names(addresses)).map(Some),
        Encryption::Certificates(pairs) => Tls::open(key_pairs(pairs)).map(Some),
    }
}

/// Reads the certificates of these settings; without any, those of before again.
#[cfg(feature = "tls")]
pub(crate) fn reload(tls: &Tls, encryption: &Encryption) -> Result<Reloaded, Error> {
    match encryption {
        Encryption::Certificates(pairs) => tls.replace(key_pairs(pairs)),
        Encryption::Off | Encryption::SelfSigned => tls.reload(),
    }
}

#[cfg(feature = "tls")]
fn key_pairs(pairs: &[(PathBuf, PathBuf)]) -> Vec<KeyPair> {
    let pair = |(certificate, key): &(PathBuf, PathBuf)| KeyPair {
        certificate: certificate.clone(),
        key: key.clone(),
    };
    pairs.iter().map(pair).collect()
}

#[cfg(not(feature = "tls"))]
pub(crate) fn open(
    encryption: &Encryption,
    _: &[std::net::SocketAddr],
) -> Result<Option<Tls>, Error> {
    match encryption {
        Encryption::Off => Ok(None),
        Encryption::SelfSigned | Encryption::Certificates(_) => Err(Error::Setting(
            "TLS: this tws was built without the feature tls; rebuild it with --features tls"
                .to_owned(),
        )),
    }
}

/// By which names this machine may be asked for.
#[cfg(feature = "tls")]
fn names(addresses: &[SocketAddr]) -> Vec<String> {
    let mut names = vec!["localhost".to_owned()];
    let host = rustix::system::uname();
    names.extend(host.nodename().to_str().ok().map(str::to_owned));
    let reached = reachable(addresses);
    names.extend(reached.iter().map(|address| address.ip().to_string()));
    names.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
    let mut known = std::collections::BTreeSet::new();
    names.retain(|name| !name.is_empty() && known.insert(name.clone()));
    names
}

/// The server of the port for plain HTTP, which listens.
pub(crate) struct RedirectListener {
    server: Server,
    handler: Router,
    /// Where HTTPS is spoken.
    port: u16,
}

/// One that serves.
pub(crate) struct RedirectService {
    handle: ServerHandle,
    thread: JoinHandle<()>,
}

/// How one that serves is told of other settings.
pub(crate) struct RedirectHandle {
    handle: ServerHandle,
    port: u16,
}

impl RedirectListener {
    /// Listens wherever `server` does, at another port, or goes on with the listeners of the process
    /// before.
    pub(crate) fn open(
        settings: &Settings,
        port: u16,
        inherited: Option<Vec<OwnedFd>>,
        server: &ServerHandle,
    ) -> Result<Self, Error> {
        let config = config(settings, port);
        let port = server
            .local_addresses()
            .first()
            .map_or(HTTPS_PORT, std::net::SocketAddr::port);
        Ok(Self {
            server: match inherited {
                Some(listeners) => Server::from_listeners(listeners, config)?,
                None if config.addresses.is_empty() => return Err(nowhere()),
                None => Server::bind(config).map_err(|error| {
                    let addresses = server.local_addresses().iter();
                    let used = addresses.map(|address| ("--bind or --port", address.port()));
                    let admin = settings.admin.as_ref().and_then(|endpoint| match endpoint {
                        Endpoint::Socket(address) => Some(("--admin", address.port())),
                        Endpoint::Address(_) | Endpoint::Unix(_) => None,
                    });
                    name_flag("--redirect-http", error, used.chain(admin))
                })?,
            },
            handler: handler(settings, port),
            port,
        })
    }

    /// By which it is reached when it serves.
    pub(crate) fn handle(&self) -> RedirectHandle {
        RedirectHandle {
            handle: self.server.handle(),
            port: self.port,
        }
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    /// Starts to serve, on threads of its own, and tells the log of it.
    pub(crate) fn start(
        self,
        access_log: Option<AccessLogHandle>,
    ) -> Result<RedirectService, Error> {
        let Self {
            mut server,
            handler,
            ..
        } = self;
        if let Some(inlet) = access_log {
            server = server.with_access_log_of(inlet);
        }
        let handle = server.handle();
        let serve = move || {
            if let Err(error) = server.serve(handler) {
                log::error!("HTTPS redirect: {error}");
            }
        };
        let thread = thread::Builder::new().name("redirect".to_owned());
        let thread = thread.spawn(serve).map_err(|source| Error::System {
            doing: "start the HTTPS redirect",
            source,
        })?;
        Ok(RedirectService { handle, thread })
    }
}

impl RedirectService {
    /// Ends it with the server it leads to, and waits for that.
    pub(crate) fn end(self) {
        self.handle.shut_down();
        if self.thread.join().is_err() {
            log::error!("HTTPS redirect: the thread panicked");
        }
    }
}

impl RedirectHandle {
    /// Serves by the limits of other settings from now on.
    pub(crate) fn reload(&self, settings: &Settings) -> Result<(), Error> {
        let config = config(settings, self.port);
        self.handle.reload(handler(settings, self.port), &config)
    }
}

/// Wherever HTTPS is spoken, at another port.
pub(crate) fn redirect_endpoints(settings: &Settings) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    let addresses = settings.config.addresses.iter().filter_map(Endpoint::ip);
    for endpoint in addresses.map(Endpoint::Address) {
        if !endpoints.contains(&endpoint) {
            endpoints.push(endpoint);
        }
    }
    endpoints
}

/// There are only Unix sockets.
pub(crate) fn nowhere() -> Error {
    let text = "--redirect-http: --bind names no IP address to listen on; add one, such as --bind \
                0.0.0.0, or omit --redirect-http";
    Error::Setting(text.to_owned())
}

/// The limits are those of the server it leads to.
fn config(settings: &Settings, port: u16) -> Config {
    let mut config = Config::default();
    config.addresses = redirect_endpoints(settings);
    config.port = port;
    config.workers = Some(NonZeroUsize::MIN);
    config.limits = settings.config.limits.clone();
    config.timeouts = settings.config.timeouts.clone();
    config.proxy_protocol = settings.config.proxy_protocol;
    config.trusted_proxies = settings.config.trusted_proxies.clone();
    config.forwarded_field = settings.config.forwarded_field;
    config
}

fn handler(settings: &Settings, port: u16) -> Router {
    app::limit(Router::new().fallback(Redirect { port }), settings)
}

/// The error of a listener that cannot be bound, as one of the flag that asks for it. `used` are the
/// flags whose listeners are bound already, with their ports.
pub(crate) fn name_flag<'f>(
    flag: &str,
    error: Error,
    used: impl IntoIterator<Item = (&'f str, u16)>,
) -> Error {
    let Error::Bind { address, source } = error else {
        return error;
    };
    let port = address.port();
    let mut used = used.into_iter();
    let text = match (source.kind(), used.find(|(_, other)| *other == port)) {
        (ErrorKind::AddrInUse, Some((other, _))) => {
            format!("port {port} is already used by {other}; choose another port")
        }
        (ErrorKind::AddrInUse, None) => format!(
            "cannot listen on {address}: port {port} is in use; choose another port (0 takes a free \
             one)"
        ),
        (ErrorKind::PermissionDenied, _) => format!(
            "cannot listen on {address}: ports below 1024 need root or CAP_NET_BIND_SERVICE; choose \
             a higher port"
        ),
        (ErrorKind::AddrNotAvailable, _) => format!(
            "cannot listen on {address}: this machine has no such address; use one of its own"
        ),
        _ => format!("cannot listen on {address}: {source}"),
    };
    Error::Setting(format!("{flag}: {text}"))
}

/// 308 to the same at HTTPS: with the same method and content (RFC 9110 §15.4.9).
struct Redirect {
    /// Where HTTPS is spoken.
    port: u16,
}

impl Handler for Redirect {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        self.answer(request).into()
    }

    /// However large a content is, it is to go elsewhere.
    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
        BodyPolicy::Reject(self.answer(request))
    }
}

impl Redirect {
    fn answer(&self, request: &Request<'_>) -> Response {
        let Some(host) = request.host().filter(|host| !host.is_empty()) else {
            return Response::text("missing Host field; cannot redirect to HTTPS\n")
                .with_status(StatusCode::BAD_REQUEST);
        };
        let port = match self.port {
            HTTPS_PORT => String::new(),
            port => format!(":{port}"),
        };
        let location = format!("https://{host}{port}{}", path_and_query(request.target()));
        Response::text(format!("{location}\n"))
            .with_status(StatusCode::PERMANENT_REDIRECT)
            .with_header(tws::HeaderName::from_static("location"), location)
    }
}

/// Of a request-target in any form (RFC 9112 §3.2).
fn path_and_query(target: &str) -> Cow<'_, str> {
    let behind_scheme = match target.starts_with('/') {
        true => return target.into(),
        false => target.split_once("://").map_or("", |(_, rest)| rest),
    };
    match behind_scheme.find(['/', '?']) {
        Some(at) if behind_scheme[at..].starts_with('/') => behind_scheme[at..].into(),
        // An empty path is the root's.
        Some(at) => format!("/{}", &behind_scheme[at..]).into(),
        None => "/".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(target: &str, host: Option<&str>, port: u16) -> Option<String> {
        let request = Request::get(target);
        let request = match host {
            Some(host) => request.with_header("Host", host),
            None => request,
        };
        let response = Redirect { port }.answer(&request);
        let location = response.headers().get("location")?;
        assert_eq!(response.status(), StatusCode::PERMANENT_REDIRECT);
        Some(location.to_str().expect("text").to_owned())
    }

    #[test]
    fn bind_error_names_flag_and_remedy() {
        let used = [("--port", 8000), ("--admin", 9000)];
        for (kind, port, expected) in [
            (
                ErrorKind::AddrInUse,
                9000,
                "--x: port 9000 is already used by --admin; choose another port",
            ),
            (
                ErrorKind::AddrInUse,
                7000,
                "--x: cannot listen on 127.0.0.1:7000: port 7000 is in use; choose another port \
                 (0 takes a free one)",
            ),
            (
                ErrorKind::PermissionDenied,
                80,
                "--x: cannot listen on 127.0.0.1:80: ports below 1024 need root or \
                 CAP_NET_BIND_SERVICE; choose a higher port",
            ),
            (
                ErrorKind::AddrNotAvailable,
                8000,
                "--x: cannot listen on 127.0.0.1:8000: this machine has no such address; use one \
                 of its own",
            ),
        ] {
            let error = Error::Bind {
                address: ([127, 0, 0, 1], port).into(),
                source: kind.into(),
            };
            assert_eq!(name_flag("--x", error, used).to_string(), expected);
        }
    }

    #[test]
    fn the_same_place_at_https() {
        let table = [
            (
                "/a%20b?c=d",
                Some("a.test"),
                443,
                "https://a.test/a%20b?c=d",
            ),
            ("/", Some("a.test:80"), 8443, "https://a.test:8443/"),
            ("//b.test/", Some("a.test"), 443, "https://a.test//b.test/"),
            ("/", Some("[::1]:80"), 443, "https://[::1]/"),
            (
                "http://b.test?x=/y",
                Some("a.test"),
                443,
                "https://b.test/?x=/y",
            ),
            ("http://b.test", Some("a.test"), 443, "https://b.test/"),
            ("http://b.test/x", Some("a.test"), 443, "https://b.test/x"),
        ];
        for (target, host, port, expected) in table {
            assert_eq!(location(target, host, port).as_deref(), Some(expected));
        }
        assert_eq!(location("/", None, 443), None);
    }
}
