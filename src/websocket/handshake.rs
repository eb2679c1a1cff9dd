//! The opening handshake (RFC 6455 §4.2).

use std::fmt;
use std::time::Duration;

use ::http::header::{
    SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use ::http::{Method, StatusCode, Version};
use tungstenite::handshake::derive_accept_key;

use super::handler::{MessageHandler, WebSocketHandler};
use super::session::Session;
use super::settings::Settings;
use super::{Message, WebSocketSender};
use crate::handler::{HandlerError, Outcome};
use crate::http::host::is_of_host;
use crate::http::response::not_allowed;
use crate::http::{Request, Response, list};

/// The only version of the protocol (RFC 6455 §4.1).
const VERSION: &str = "13";

/// The value of the Upgrade field.
const WEBSOCKET: &str = "websocket";

/// A valid request to change to WebSocket. See [the module](super) for an example.
#[derive(Debug)]
pub struct WebSocketUpgrade {
    /// The value of Sec-WebSocket-Accept.
    accept: String,
    /// The subprotocols that the client offers, in its order of preference.
    offered: Vec<String>,
    /// The one that was selected.
    protocol: Option<String>,
    settings: Settings,
}

impl WebSocketUpgrade {
    /// Checks a request that comes from a page of this server, or from no page.
    ///
    /// Browsers open WebSocket connections to every host, with its cookies, for pages of any origin, and CORS
    /// does not apply (cross-site WebSocket hijacking). So a request with an Origin field whose host and port
    /// are not those of the Host field is rejected. A proxy in front of the server must pass on the Host
    /// field. Programs other than browsers send no Origin field, and are accepted.
    ///
    /// # Errors
    ///
    /// The request is no opening handshake, or comes from a page of another origin. The error converts into
    /// the response.
    pub fn new(request: &Request<'_>) -> Result<Self, UpgradeError> {
        let host = request.fields().first("host").unwrap_or_default();
        Self::checked(request, |origin| is_of_host(origin, host))
    }

    /// As [`new`](Self::new), for pages of these origins and no others, such as `https://example.org`.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn from_origins(request: &Request<'_>, origins: &[&str]) -> Result<Self, UpgradeError> {
        let is_allowed = |origin: &[u8]| {
            let mut allowed = origins.iter();
            allowed.any(|allowed| allowed.as_bytes().eq_ignore_ascii_case(origin))
        };
        Self::checked(request, is_allowed)
    }

    /// As [`new`](Self::new), for pages of any origin: for connections that need no cookie and no password, and
    /// reveal only what everyone may know.
    ///
    /// # Errors
    ///
    /// The request is no opening handshake.
    pub fn from_any_origin(request: &Request<'_>) -> Result<Self, UpgradeError> {
        Self::checked(request, |_| true)
    }

    fn checked(
        request: &Request<'_>,
        is_allowed: impl Fn(&[u8]) -> bool,
    ) -> Result<Self, UpgradeError> {
        let fields = request.fields();
        let has = |name, token: &str| {
            let members = fields.all(name).flat_map(list::members);
            { members }.any(|member| member.eq_ignore_ascii_case(token.as_bytes()))
        };
        if request.version() == Version::HTTP_2 {
            return Err(UpgradeError::Http2);
        }
        if *request.method() != Method::GET {
            return Err(UpgradeError::Method);
        }
        let is_upgrade = has("connection", "upgrade") && has("upgrade", WEBSOCKET);
        // RFC 9110 §7.8: the field is ignored in HTTP/1.0.
        if !is_upgrade || request.version() != Version::HTTP_11 {
            return Err(UpgradeError::NotWebSocket);
        }
        if !fields.all("sec-websocket-version").eq([VERSION.as_bytes()]) {
            return Err(UpgradeError::Version);
        }
        let mut keys = fields.all("sec-websocket-key");
        let key = match (keys.next(), keys.next()) {
            (Some(key), None) if is_key(key) => key,
            _ => return Err(UpgradeError::Key),
        };
        // The bytes of the new protocol follow the head at once.
        if request.may_have_content() || has("connection", "close") {
            return Err(UpgradeError::Framing);
        }
        if !fields.all("origin").all(is_allowed) {
            return Err(UpgradeError::Origin);
        }
        let offered = fields.all("sec-websocket-protocol").flat_map(list::members);
        Ok(Self {
            accept: derive_accept_key(key),
            offered: offered
                .filter_map(|name| Some(std::str::from_utf8(name).ok()?.to_owned()))
                .collect(),
            protocol: None,
            settings: Settings::default(),
        })
    }

    /// Selects the first subprotocol of the client that is among `supported` (Sec-WebSocket-Protocol, RFC 6455
    /// §1.9). If none is, none is selected, and browsers close the connection.
    pub fn with_protocols(mut self, supported: &[&str]) -> Self {
        let mut offered = self.offered.iter();
        let selected = offered.find(|offered| supported.contains(&offered.as_str()));
        self.protocol = selected.cloned();
        self
    }

    /// Returns the selected subprotocol.
    pub fn protocol(&self) -> Option<&str> {
        self.protocol.as_deref()
    }

    /// Sets the size of the largest message that is accepted, in bytes. A larger one ends the connection with
    /// [`TOO_LARGE`](super::CloseCode::TOO_LARGE). The default is 1 MiB.
    pub fn with_max_message_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_message_bytes = bytes;
        self
    }

    /// Sets how many bytes of messages may wait to be sent: a message counts as its content and 64 bytes. The
    /// default is 1 MiB.
    pub fn with_max_queued_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_queued_bytes = bytes;
        self
    }

    /// Sets after what time without input a Ping is sent, and how long the client may take to send anything
    /// before the connection is closed as lost. `None` sends no Ping, and a client that has disappeared is
    /// noticed only when something is sent. The default is 20 s and 20 s.
    pub fn with_ping(mut self, interval: Option<Duration>, timeout: Duration) -> Self {
        self.settings.ping_interval = interval;
        self.settings.pong_timeout = timeout;
        self
    }

    /// Sets how long the client may take to respond to a Close frame. The default is 10 s.
    pub fn with_close_timeout(mut self, timeout: Duration) -> Self {
        self.settings.close_timeout = timeout;
        self
    }

    /// Returns the response after which the connection speaks WebSocket and calls `handler`.
    ///
    /// A middleware may add header fields to it. If it changes the status, the connection stays with HTTP and
    /// the handler is dropped.
    pub fn accept(self, handler: impl WebSocketHandler) -> Response {
        let session = Session::new(Box::new(handler), self.settings);
        let response = Response::switching(WEBSOCKET, Box::new(session))
            .with_header(SEC_WEBSOCKET_ACCEPT, self.accept);
        match self.protocol {
            Some(protocol) => response.with_header(SEC_WEBSOCKET_PROTOCOL, protocol),
            None => response,
        }
    }

    /// As [`accept`](Self::accept), with a closure that is called with each message.
    pub fn on_message(
        self,
        on_message: impl FnMut(Message, &WebSocketSender) + Send + 'static,
    ) -> Response {
        self.accept(MessageHandler(on_message))
    }
}

/// Returns whether a value of Sec-WebSocket-Key is the base64 encoding of 16 bytes (RFC 6455 §4.2.1).
fn is_key(key: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    let digits = key.strip_suffix(b"==");
    digits.is_some_and(|digits| digits.len() == 22 && digits.iter().all(is_digit))
}

/// Why a request does not change to WebSocket. It converts into the response, so that handlers use `?`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UpgradeError {
    /// The request uses HTTP/2, whose way to open a WebSocket connection (RFC 8441) is not supported: 505.
    /// Browsers use HTTP/1.1 for WebSocket with such a server.
    Http2,
    /// The method is not GET: 405.
    Method,
    /// The request does not ask for WebSocket: 426.
    NotWebSocket,
    /// The version of the protocol is not 13: 426.
    Version,
    /// The key is missing or invalid: 400.
    Key,
    /// The request has content, or the connection is to be closed after it: 400.
    Framing,
    /// The request comes from a page of another origin: 403.
    Origin,
}

impl UpgradeError {
    /// Returns the status of the response.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Http2 => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotWebSocket | Self::Version => StatusCode::UPGRADE_REQUIRED,
            Self::Key | Self::Framing => StatusCode::BAD_REQUEST,
            Self::Origin => StatusCode::FORBIDDEN,
        }
    }
}

impl fmt::Display for UpgradeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http2 => "WebSocket connections need HTTP/1.1",
            Self::Method => "WebSocket connections are opened with GET",
            Self::NotWebSocket => "this resource is a WebSocket connection",
            Self::Version => "the supported version of WebSocket is 13",
            Self::Key => "the Sec-WebSocket-Key field is missing or invalid",
            Self::Framing => {
                "a request for a WebSocket connection has no content and does not close"
            }
            Self::Origin => "pages of this origin may not open the WebSocket connection",
        })
    }
}

impl std::error::Error for UpgradeError {}

impl From<UpgradeError> for Response {
    fn from(error: UpgradeError) -> Self {
        let status = error.status();
        let response = match error {
            UpgradeError::Method => return not_allowed(&[Method::GET]),
            _ => Self::text(format!("{status}: {error}\n")).with_status(status),
        };
        if status == StatusCode::UPGRADE_REQUIRED {
            // RFC 6455 §4.4, RFC 9110 §15.5.22.
            return response
                .with_header(UPGRADE, WEBSOCKET)
                .with_header(SEC_WEBSOCKET_VERSION, VERSION);
        }
        response
    }
}

impl From<UpgradeError> for Outcome {
    fn from(error: UpgradeError) -> Self {
        Response::from(error).into()
    }
}

impl From<UpgradeError> for HandlerError {
    fn from(error: UpgradeError) -> Self {
        Response::from(error).into()
    }
}
