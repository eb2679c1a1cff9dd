//! The redirect to HTTPS: a side server that responds to plain HTTP with the `https` address.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;

use tws::{
    BodyPolicy, BoxHandler, Config, Endpoint, Error, Handler, Outcome, Request, Response,
    ServerHandle, StatusCode,
};

use super::app;
use super::http_challenges::HttpChallenges;
use super::side_server::{Role, SideServer, UsedPort};
use crate::cli::{HttpRedirect, Settings};

/// The default port of HTTPS, which an address omits.
const HTTPS_PORT: u16 = 443;

/// Listens at the port of the redirect of every IP address of the main server, or adopts the listeners
/// of the previous process. `None` if there is to be no redirect, or if it is possible at best and is
/// not.
pub(crate) fn open(
    settings: &Settings,
    inherited: Option<Vec<OwnedFd>>,
    main_server: &ServerHandle,
    challenges: &HttpChallenges,
) -> Result<Option<SideServer>, Error> {
    let Some(redirect) = settings.redirect_http else {
        return Ok(None);
    };
    let handler = handler(settings, https_port(main_server), challenges);
    let config = config(settings);
    if let Some(listeners) = inherited {
        let role = Role::HttpsRedirect;
        return SideServer::from_listeners(role, listeners, config, handler).map(Some);
    }
    match (
        bind(settings, redirect.port(), config, handler, main_server),
        redirect,
    ) {
        (Err(error), HttpRedirect::IfPossible) => {
            log::warn!(
                "{error}; http:// addresses are not redirected, and certificates are obtained over the \
                 HTTPS port alone"
            );
            Ok(None)
        }
        (result, _) => result.map(Some),
    }
}

fn bind(
    settings: &Settings,
    port: u16,
    mut config: Config,
    handler: BoxHandler,
    main_server: &ServerHandle,
) -> Result<SideServer, Error> {
    config.addresses = endpoints(settings);
    config.port = port;
    if config.addresses.is_empty() {
        return Err(no_tcp_addresses());
    }
    let mut used = UsedPort::of_main_server(main_server);
    if let Some(Endpoint::Socket(address)) = &settings.admin {
        used.push(UsedPort {
            flag: "--admin",
            port: address.port(),
        });
    }
    SideServer::bind(Role::HttpsRedirect, config, handler, &used)
}

/// Applies new settings to the redirect while it serves.
pub(crate) struct RedirectHandle {
    redirect: ServerHandle,
    https_port: u16,
    challenges: HttpChallenges,
}

impl RedirectHandle {
    pub(crate) fn new(
        redirect: &SideServer,
        main_server: &ServerHandle,
        challenges: HttpChallenges,
    ) -> Self {
        Self {
            redirect: redirect.server().handle(),
            https_port: https_port(main_server),
            challenges,
        }
    }

    /// Replaces limits and timeouts.
    pub(crate) fn reload(&self, settings: &Settings) -> Result<(), Error> {
        let handler = handler(settings, self.https_port, &self.challenges);
        self.redirect.reload(handler, &config(settings))
    }
}

/// The IP addresses of the main server, each once.
pub(crate) fn endpoints(settings: &Settings) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    let addresses = settings.config.addresses.iter().filter_map(Endpoint::ip);
    for endpoint in addresses.map(Endpoint::Address) {
        if !endpoints.contains(&endpoint) {
            endpoints.push(endpoint);
        }
    }
    endpoints
}

/// The error for a main server that listens on Unix sockets alone.
pub(crate) fn no_tcp_addresses() -> Error {
    let text = "--redirect-http: --bind names no IP address to listen on; add one, such as --bind \
                0.0.0.0, or omit --redirect-http";
    Error::Setting(text.to_owned())
}

fn https_port(main_server: &ServerHandle) -> u16 {
    let first = main_server.local_addresses().first();
    first.map_or(HTTPS_PORT, SocketAddr::port)
}

/// Protocols, limits, timeouts and proxies are those of the main server.
fn config(settings: &Settings) -> Config {
    let mut config = Config::default();
    config.http2 = settings.config.http2;
    config.workers = Some(NonZeroUsize::MIN);
    config.limits = settings.config.limits.clone();
    config.timeouts = settings.config.timeouts.clone();
    config.proxy_protocol = settings.config.proxy_protocol;
    config.trusted_proxies = settings.config.trusted_proxies.clone();
    config.forwarded_field = settings.config.forwarded_field;
    config
}

fn handler(settings: &Settings, https_port: u16, challenges: &HttpChallenges) -> BoxHandler {
    let redirect = BoxHandler::new(RedirectHandler { https_port });
    challenges.before(app::limit_rate(
        app::check_hosts(redirect, settings),
        settings,
    ))
}

/// Responds with a 308 to the same resource at HTTPS: the client repeats the method and the content
/// (RFC 9110 §15.4.9).
struct RedirectHandler {
    https_port: u16,
}

impl Handler for RedirectHandler {
    fn handle(&self, request: &Request<'_>) -> Outcome {
        self.response(request).into()
    }

    /// Content of any size is to be sent elsewhere.
    fn admit(&self, request: &Request<'_>) -> BodyPolicy {
        BodyPolicy::Reject(self.response(request))
    }
}

impl RedirectHandler {
    fn response(&self, request: &Request<'_>) -> Response {
        let Some(host) = request.host().filter(|host| !host.is_empty()) else {
            return Response::text("missing Host field; cannot redirect to HTTPS\n")
                .with_status(StatusCode::BAD_REQUEST);
        };
        let port = match self.https_port {
            HTTPS_PORT => String::new(),
            port => format!(":{port}"),
        };
        let location = format!("https://{host}{port}{}", path_and_query(request.target()));
        Response::text(format!("{location}\n"))
            .with_status(StatusCode::PERMANENT_REDIRECT)
            .with_header(tws::HeaderName::from_static("location"), location)
    }
}

/// Returns the path and query of a request-target in any form (RFC 9112 §3.2).
fn path_and_query(target: &str) -> Cow<'_, str> {
    if target.starts_with('/') {
        return target.into();
    }
    let after_scheme = target.split_once("://").map_or("", |(_, rest)| rest);
    match after_scheme.find(['/', '?']) {
        Some(at) if after_scheme[at..].starts_with('/') => after_scheme[at..].into(),
        // An empty path is that of the root.
        Some(at) => format!("/{}", &after_scheme[at..]).into(),
        None => "/".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(target: &str, host: Option<&str>, https_port: u16) -> Option<String> {
        let request = Request::get(target);
        let request = match host {
            Some(host) => request.with_header("Host", host),
            None => request,
        };
        let response = RedirectHandler { https_port }.response(&request);
        let location = response.headers().get("location")?;
        assert_eq!(response.status(), StatusCode::PERMANENT_REDIRECT);
        Some(location.to_str().expect("text").to_owned())
    }

    #[test]
    fn location_keeps_host_path_and_query() {
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
