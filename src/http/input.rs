//! The input of a handler as values: path parameters, query, JSON, forms, cookies and extensions.
//!
//! These are methods of [`Request`] and not extractors, parameters of a handler whose types say what to
//! read, as axum has. A handler has one signature, so the compiler's messages about it are short, and the
//! order of its lines is the order of the checks. Twenty lines read the same:
//!
//! ```
//! use serde::Deserialize;
//! use tws::{HandlerResult, Request, Response};
//!
//! #[derive(Deserialize)]
//! struct Filter {
//!     #[serde(default)]
//!     tag: Vec<String>,
//! }
//!
//! fn list(request: &Request<'_>) -> HandlerResult {
//!     let shop: u32 = request.param("shop")?;
//!     let Filter { tag } = request.query()?;
//!     Ok(Response::text(format!("{shop}: {}\n", tag.join(", "))))
//! }
//! # use tws::{Handler, Router};
//! # let router = Router::new().get("/{shop}/items", list);
//! # let get = |target| router.handle(&Request::get(target)).wait();
//! # assert_eq!(get("/7/items?tag=a&tag=b").into_content()?, b"7: a, b\n");
//! # assert_eq!(get("/seven/items").status(), 400);
//! # Ok::<_, std::io::Error>(())
//! ```
//!
//! An error states what is wrong with the request. It does not quote the request beyond the name of a
//! parameter and a short part of the reason that the parser gives, and its text has no control characters.

use std::any::Any;
use std::fmt;
use std::str::FromStr;

use ::http::StatusCode;
use ::http::header::{ACCEPT, ACCEPT_ENCODING};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::fields::is_token_char;
use super::urlencoded::{self, UrlencodedError};
use super::{Request, Response};

/// Input of a request that a handler cannot use: an error of the client, or of the program.
///
/// It converts into a [`Response`] of one line of text, and into a
/// [`HandlerError`](crate::HandlerError), so that handlers use `?`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum InputError {
    /// A path parameter does not have the expected type: 400.
    Param {
        /// The name of the parameter.
        name: String,
        /// The reason that its parser gives.
        reason: String,
    },
    /// The route of the handler has no parameter of this name, an error of the program: 500.
    UnknownParam {
        /// The name.
        name: String,
    },
    /// The query does not have the expected form: 400.
    Query {
        /// The name of the parameter, if its value is the reason.
        name: Option<String>,
        /// The reason that the parser gives.
        reason: String,
    },
    /// The content has no Content-Type, several, or another one: 415.
    MediaType {
        /// The media type that is expected.
        expected: &'static str,
    },
    /// The content has a coding (Content-Encoding), such as gzip: 415.
    ContentCoding,
    /// The content is not JSON (RFC 8259): 400.
    JsonSyntax {
        /// The line of the error, from 1.
        line: usize,
        /// The column of the error in bytes, from 1; 0 before the first byte of a line.
        column: usize,
        /// The reason that the parser gives, with the position.
        reason: String,
    },
    /// The content is JSON, but not of the expected form: 422.
    JsonData {
        /// The line of the error, from 1.
        line: usize,
        /// The column of the error in bytes, from 1; 0 before the first byte of a line.
        column: usize,
        /// The reason that the parser gives, with the position.
        reason: String,
    },
    /// The urlencoded form does not have the expected fields: 422.
    Form {
        /// The name of the field, if its value is the reason.
        name: Option<String>,
        /// The reason that the parser gives.
        reason: String,
    },
    /// The content is streamed ([`BodyPolicy::Stream`](crate::BodyPolicy::Stream)) and can only be read
    /// with [`Request::reader`], an error of the program: 500.
    Streamed,
    /// No middleware has attached a value of this type, an error of the program: 500.
    UnknownExtension {
        /// The name of the type.
        type_name: &'static str,
    },
}

/// The limit of a quoted name, and of a parser's reason, in characters: it may quote the input.
const MAX_QUOTED_CHARS: usize = 200;

/// Returns the text of an error or a name, without control characters and of limited length.
fn quoted(text: &impl ToString) -> String {
    let mut text = text.to_string().replace(char::is_control, " ");
    if let Some((end, _)) = text.char_indices().nth(MAX_QUOTED_CHARS) {
        text.truncate(end);
        text.push('…');
    }
    text
}

impl InputError {
    /// Returns the status of the response.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Param { .. } | Self::Query { .. } | Self::JsonSyntax { .. } => {
                StatusCode::BAD_REQUEST
            }
            Self::MediaType { .. } | Self::ContentCoding => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::JsonData { .. } | Self::Form { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::UnknownParam { .. } | Self::Streamed | Self::UnknownExtension { .. } => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
        }
    }
}

impl fmt::Display for InputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Param { name, reason } => write!(f, "path parameter {name:?}: {reason}"),
            Self::UnknownParam { name } => {
                write!(
                    f,
                    "path parameter {name:?}: not in the pattern of the route"
                )
            }
            Self::Query { name, reason } => match name {
                Some(name) => write!(f, "query parameter {name:?}: {reason}"),
                None => write!(f, "query: {reason}"),
            },
            Self::MediaType { expected } => write!(f, "content: must be of type {expected}"),
            Self::ContentCoding => f.write_str("content: Content-Encoding is not supported"),
            Self::JsonSyntax { reason, .. } | Self::JsonData { reason, .. } => {
                write!(f, "JSON: {reason}")
            }
            Self::Form { name, reason } => match name {
                Some(name) => write!(f, "form field {name:?}: {reason}"),
                None => write!(f, "form: {reason}"),
            },
            Self::Streamed => f.write_str("content: streamed; use Request::reader"),
            Self::UnknownExtension { type_name } => {
                write!(f, "extension {type_name}: no middleware has attached it")
            }
        }
    }
}

impl std::error::Error for InputError {}

/// The response to an error of the program does not contain its text, which is logged.
impl From<InputError> for Response {
    fn from(error: InputError) -> Self {
        let status = error.status();
        if status.is_server_error() {
            return Self::fault(&format!("handler: {error}"));
        }
        let response = Self::error_line(status, &error);
        match error {
            // RFC 9110 §12.5.1, §12.5.3: in a response, these fields state what is preferred in requests.
            InputError::MediaType { expected } => response.with_header(ACCEPT, expected),
            InputError::ContentCoding => response.with_header(ACCEPT_ENCODING, "identity"),
            _ => response,
        }
    }
}

/// The input of handlers, as values.
impl Request<'_> {
    /// Returns the route parameter `{name}` as a value.
    ///
    /// # Errors
    ///
    /// [`InputError::Param`] if the text is not such a value, [`InputError::UnknownParam`] if the route
    /// has no such parameter.
    pub fn param<T>(&self, name: &str) -> Result<T, InputError>
    where
        T: FromStr<Err: fmt::Display>,
    {
        let text = self.param_str(name);
        let text = text.ok_or_else(|| InputError::UnknownParam {
            name: name.to_owned(),
        })?;
        text.parse().map_err(|error| InputError::Param {
            name: name.to_owned(),
            reason: quoted(&error),
        })
    }

    /// Returns the query as a value whose fields are the parameters. All values of a name are collected
    /// in a `Vec`; a parameter that may be absent is an `Option` or has `#[serde(default)]`. A request
    /// without a query has an empty one.
    ///
    /// # Errors
    ///
    /// [`InputError::Query`] if the query does not have the form of `T`.
    pub fn query<T: DeserializeOwned>(&self) -> Result<T, InputError> {
        let query = self.query_str().unwrap_or_default();
        urlencoded::from_bytes(query.as_bytes()).map_err(|UrlencodedError { name, error }| {
            InputError::Query {
                name: name.as_ref().map(quoted),
                reason: quoted(&error),
            }
        })
    }

    /// Returns the first value of a query parameter `name=value`, decoded as
    /// `application/x-www-form-urlencoded`: `+` is a space, and bytes that are not UTF-8 become
    /// U+FFFD.
    pub fn query_param(&self, name: &str) -> Option<String> {
        self.query_params(name).next()
    }

    /// Returns all values of a query parameter, decoded as [`query_param`](Self::query_param) does.
    pub fn query_params(&self, name: &str) -> impl Iterator<Item = String> {
        let query = self.query_str().unwrap_or_default();
        let pairs = urlencoded::pairs(query.as_bytes());
        pairs.filter_map(move |(key, value)| (key == name).then_some(value))
    }

    /// Returns the content, a JSON text, as a value. The media type must be `application/json`, or one
    /// that ends with `+json` (RFC 6839 §3.1).
    ///
    /// # Errors
    ///
    /// [`InputError::MediaType`] or [`InputError::ContentCoding`] (415), [`InputError::JsonSyntax`] (400),
    /// [`InputError::JsonData`] (422), or [`InputError::Streamed`].
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, InputError> {
        self.check_format(JSON, is_json)?;
        serde_json::from_slice(self.whole_content()?).map_err(|error| {
            let (line, column, reason) = (error.line(), error.column(), quoted(&error));
            match error.classify() {
                Category::Data => InputError::JsonData {
                    line,
                    column,
                    reason,
                },
                Category::Syntax | Category::Eof | Category::Io => InputError::JsonSyntax {
                    line,
                    column,
                    reason,
                },
            }
        })
    }

    /// Returns the content, an urlencoded form, as a value whose fields are those of the form, as
    /// [`query`](Self::query) does. For forms with files see [`form_data`](Self::form_data).
    ///
    /// # Errors
    ///
    /// [`InputError::MediaType`] or [`InputError::ContentCoding`] (415), [`InputError::Form`] (422), or
    /// [`InputError::Streamed`].
    pub fn form<T: DeserializeOwned>(&self) -> Result<T, InputError> {
        self.check_format(FORM, |media_type| media_type == FORM.as_bytes())?;
        let form = urlencoded::from_bytes(self.whole_content()?);
        form.map_err(|UrlencodedError { name, error }| InputError::Form {
            name: name.as_ref().map(quoted),
            reason: quoted(&error),
        })
    }

    /// Returns the value of this type that a middleware has attached with
    /// [`Next::with`](crate::Next::with), the innermost if there are several.
    ///
    /// # Errors
    ///
    /// [`InputError::UnknownExtension`] if there is none: a handler that requires one must be inside a
    /// middleware that attaches it. Use `.ok()` where it is optional.
    pub fn extension<T: Any + Send + Sync>(&self) -> Result<&T, InputError> {
        self.attached().ok_or(InputError::UnknownExtension {
            type_name: std::any::type_name::<T>(),
        })
    }

    fn whole_content(&self) -> Result<&[u8], InputError> {
        if self.is_streamed() {
            return Err(InputError::Streamed);
        }
        Ok(self.content())
    }

    /// Checks that the content has no coding, and its only Content-Type, in lower case and without
    /// parameters.
    fn check_format(
        &self,
        expected: &'static str,
        is_expected: impl Fn(&[u8]) -> bool,
    ) -> Result<(), InputError> {
        self.check_not_coded()?;
        let Ok(Some(value)) = self.fields().single("content-type") else {
            return Err(InputError::MediaType { expected });
        };
        let media_type = value.split(|byte| *byte == b';').next();
        let media_type = media_type.unwrap_or_default().trim_ascii();
        if is_expected(&media_type.to_ascii_lowercase()) {
            Ok(())
        } else {
            Err(InputError::MediaType { expected })
        }
    }

    /// Checks that the content has no coding, which would be a syntax error in each format.
    pub(super) fn check_not_coded(&self) -> Result<(), InputError> {
        if self.fields().has_content_coding() {
            Err(InputError::ContentCoding)
        } else {
            Ok(())
        }
    }
}

/// Content for calls of a handler without a connection.
impl Request<'static> {
    /// Sets the content to a value as JSON, and its Content-Type.
    ///
    /// # Panics
    ///
    /// If JSON cannot represent the value.
    pub fn with_json(self, value: &(impl Serialize + ?Sized)) -> Self {
        match serde_json::to_vec(value) {
            Ok(json) => self.with_content(json).with_header("Content-Type", JSON),
            Err(error) => panic!("content: cannot be serialized as JSON: {error}"),
        }
    }

    /// Sets the content to a value as an urlencoded form, and its Content-Type.
    ///
    /// # Panics
    ///
    /// If a form cannot represent the value.
    pub fn with_form(self, value: &(impl Serialize + ?Sized)) -> Self {
        match serde_html_form::to_string(value) {
            Ok(form) => self.with_content(form).with_header("Content-Type", FORM),
            Err(error) => panic!("content: cannot be serialized as a form: {error}"),
        }
    }
}

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";

/// Returns whether a media type in lower case is that of JSON, or has its suffix.
fn is_json(media_type: &[u8]) -> bool {
    let is_name = |name: &[u8]| !name.is_empty() && name.iter().all(|byte| is_token_char(*byte));
    let has_suffix = || {
        let slash = memchr::memchr(b'/', media_type)?;
        let (kind, subtype) = media_type.split_at(slash);
        let subtype = subtype[1..].strip_suffix(b"+json")?;
        Some(is_name(kind) && is_name(subtype))
    };
    media_type == JSON.as_bytes() || has_suffix() == Some(true)
}

#[cfg(test)]
mod tests;
