//! The error of a handler, into which other errors convert.

use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};

use ::http::StatusCode;

use super::Outcome;
use crate::body::pipe::IncompleteBody;
use crate::http::{FormError, InputError, Response};

/// What the handlers of a program return: a response, or the reason why there is none.
pub type HandlerResult<T = Response> = Result<T, HandlerError>;

/// The reason why a handler has no regular response. It converts into a response, so that handlers use `?`:
/// on input, on I/O, and on options (`.ok_or(StatusCode::NOT_FOUND)?`, or with a text,
/// `.ok_or((StatusCode::NOT_FOUND, "no such user\n"))?`).
///
/// A program with other error responses, in JSON for example, defines a type of its own that converts into
/// a [`Response`], with `From<InputError>`, and uses `?` in the same way.
///
/// ```
/// use tws::{HandlerError, HandlerResult, Request, Response, StatusCode};
///
/// fn show(request: &Request<'_>) -> HandlerResult {
///     let id: u64 = request.param("id")?;
///     let year = 2000_u64.checked_add(id).ok_or(StatusCode::NOT_FOUND)?;
///     let text = String::from_utf8(vec![b'x']).map_err(HandlerError::other)?;
///     Ok(Response::text(format!("{year} {text}\n")))
/// }
/// # use tws::Handler;
/// # let status = |id| show.handle(&Request::get("/").with_param("id", id)).wait().status();
/// # assert_eq!(status("7"), 200);
/// # assert_eq!(status("x"), 400);
/// # assert_eq!(status("18446744073709551615"), 404);
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum HandlerError {
    /// Input that cannot be used. The response states why.
    Input(InputError),
    /// A form with files that cannot be read or stored.
    Form(FormError),
    /// A status, with a line of text.
    Status(StatusCode),
    /// A response that the handler made.
    Response(Box<Response>),
    /// A file or another resource of the system failed. It is logged. The response is a 507 if a disk is
    /// full, and a 500 otherwise, without the text of the error. If the error is one of
    /// [`Request::reader`](crate::Request::reader), the client has disconnected or sent too much: it is not
    /// logged as an error, and the response would be a 400.
    Io(io::Error),
    /// Another error. It is logged, and the response is a 500 without its text.
    Other(Box<dyn Error + Send + Sync>),
}

impl HandlerError {
    /// Creates an [`Other`](Self::Other) from any error, for `map_err`.
    pub fn other(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::Other(error.into())
    }

    /// Returns the status of the response.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Input(error) => error.status(),
            Self::Form(error) => error.status(),
            Self::Status(status) => *status,
            Self::Response(response) => response.status(),
            Self::Io(error) if IncompleteBody::is_source_of(error) => StatusCode::BAD_REQUEST,
            Self::Io(error) => match error.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                    StatusCode::INSUFFICIENT_STORAGE
                }
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            },
            Self::Other(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl fmt::Display for HandlerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input(error) => error.fmt(f),
            Self::Form(error) => error.fmt(f),
            Self::Status(status) => status.fmt(f),
            Self::Response(response) => response.status().fmt(f),
            Self::Io(error) => error.fmt(f),
            Self::Other(error) => error.fmt(f),
        }
    }
}

impl Error for HandlerError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Input(error) => Some(error),
            Self::Form(error) => Some(error),
            Self::Status(_) | Self::Response(_) => None,
            Self::Io(error) => Some(error),
            Self::Other(error) => Some(&**error),
        }
    }
}

impl From<InputError> for HandlerError {
    fn from(error: InputError) -> Self {
        Self::Input(error)
    }
}

impl From<FormError> for HandlerError {
    fn from(error: FormError) -> Self {
        Self::Form(error)
    }
}

impl From<StatusCode> for HandlerError {
    fn from(status: StatusCode) -> Self {
        Self::Status(status)
    }
}

/// The status and the text of a response.
impl<T: Into<String>> From<(StatusCode, T)> for HandlerError {
    fn from(text: (StatusCode, T)) -> Self {
        Response::from(text).into()
    }
}

impl From<Response> for HandlerError {
    fn from(response: Response) -> Self {
        Self::Response(Box::new(response))
    }
}

impl From<io::Error> for HandlerError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<HandlerError> for Response {
    fn from(error: HandlerError) -> Self {
        let status = error.status();
        match error {
            HandlerError::Input(error) => error.into(),
            HandlerError::Form(error) => error.into(),
            HandlerError::Status(status) => status.into(),
            HandlerError::Response(response) => *response,
            HandlerError::Io(_) if status.is_client_error() => {
                log::debug!("handler: the request body is incomplete: {error}");
                status.into()
            }
            HandlerError::Io(_) | HandlerError::Other(_) => {
                log::error!("handler: {error}");
                status.into()
            }
        }
    }
}

impl From<HandlerError> for Outcome {
    fn from(error: HandlerError) -> Self {
        Response::from(error).into()
    }
}

impl From<InputError> for Outcome {
    fn from(error: InputError) -> Self {
        Response::from(error).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::BodyWriter;
    use crate::handler::router::Router;
    use crate::handler::{Handler, blocking};
    use crate::http::Request;

    #[test]
    fn error_of_the_program_converts_into_a_response_only() {
        struct Gone;

        impl From<Gone> for Response {
            fn from(_: Gone) -> Self {
                StatusCode::GONE.into()
            }
        }

        let gone = |_: &Request<'_>| Err::<Response, _>(Gone);
        let router = Router::new()
            .get("/", gone)
            .get("/blocking", blocking(gone));
        for target in ["/", "/blocking"] {
            let response = router.handle(&Request::get(target)).wait();
            assert_eq!(response.status(), StatusCode::GONE, "{target}");
        }
    }

    #[test]
    fn errors_have_their_status_and_hide_the_text_of_server_errors() {
        let secret = || io::Error::other("secret");
        let full = io::Error::from(ErrorKind::StorageFull);
        let reader = BodyWriter::new(|| ()).reader_handle().reader();
        let incomplete = io::read_to_string(reader).expect_err("the writer is gone");
        let input = InputError::Query {
            name: None,
            reason: "shown".to_owned(),
        };
        let teapot = Response::new(StatusCode::IM_A_TEAPOT);
        let table = [
            (HandlerError::from(input), 400, Some("shown")),
            (StatusCode::NOT_FOUND.into(), 404, Some("404")),
            (teapot.into(), 418, None),
            ((StatusCode::GONE, "shown").into(), 410, Some("shown")),
            (secret().into(), 500, Some("500")),
            (incomplete.into(), 400, Some("400")),
            (full.into(), 507, Some("507")),
            (HandlerError::other(secret()), 500, Some("500")),
        ];
        for (error, status, part) in table {
            assert_eq!(error.status().as_u16(), status, "{error:?}");
            let response = Outcome::from(error).wait();
            assert_eq!(response.status().as_u16(), status);
            let text = String::from_utf8(response.into_content().expect("content")).expect("text");
            assert!(part.is_none_or(|part| text.contains(part)), "{text}");
            assert!(!text.contains("secret"));
        }
    }
}
