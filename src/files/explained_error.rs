//! Why a request for files is refused, with an explanation and perhaps a remedy, and the response that
//! says so.

use std::borrow::Cow;
use std::fmt;
use std::io;

use ::http::StatusCode;
use ::http::header::RETRY_AFTER;
use rustix::io::Errno;
use serde_json::json;

use super::root::OpenError;
use crate::http::conditional::Precondition;
use crate::http::html_text::HtmlText;
use crate::http::multipart_form::FormError;
use crate::http::negotiation::ResponseFormat;
use crate::http::{Response, error_page};

/// An upload, one file of a form, an archive or a change that is refused.
#[derive(Debug)]
pub(super) struct ExplainedError {
    pub(super) status: StatusCode,
    pub(super) explanation: Cow<'static, str>,
    /// What the operator of the server can do about it. Pages for visitors do not contain it.
    remedy: Option<&'static str>,
}

impl ExplainedError {
    pub(super) fn new(status: StatusCode, explanation: impl Into<Cow<'static, str>>) -> Self {
        let explanation = explanation.into();
        Self {
            status,
            explanation,
            remedy: None,
        }
    }

    pub(super) fn with_remedy(self, remedy: &'static str) -> Self {
        Self {
            remedy: Some(remedy),
            ..self
        }
    }

    pub(super) fn forbidden(explanation: &'static str) -> Self {
        Self::new(StatusCode::FORBIDDEN, explanation)
    }

    pub(super) fn conflict(explanation: &'static str) -> Self {
        Self::new(StatusCode::CONFLICT, explanation)
    }

    /// Returns an error unless a request whose preconditions were evaluated proceeds.
    pub(super) fn check(precondition: Precondition) -> Result<(), Self> {
        if precondition == Precondition::Proceed {
            return Ok(());
        }
        Err(Self::new(
            StatusCode::PRECONDITION_FAILED,
            "what exists now does not meet the precondition",
        ))
    }

    /// Logs why the content could not be read. The client rarely gets this response: the connection
    /// has failed, or answers the failure itself.
    pub(super) fn interrupted(error: &io::Error) -> Self {
        log::debug!("files: the request body broke off: {error}");
        Self::new(StatusCode::BAD_REQUEST, "the upload was interrupted")
    }

    /// Returns the response in the given format.
    pub(super) fn response(&self, form: ResponseFormat) -> Response {
        let status = self.status;
        let response = match form {
            ResponseFormat::Json => Response::json(&json!({
                "status": status.as_u16(),
                "error": status.canonical_reason(),
                "explanation": self.to_string(),
            })),
            ResponseFormat::Html => page(status, &format!("<p>{}</p>\n", self.sentence())),
            ResponseFormat::Text => Response::text(format!("{status}: {self}\n")),
        };
        let response = response.with_status(status);
        match status {
            StatusCode::SERVICE_UNAVAILABLE => response.with_header(RETRY_AFTER, "1"),
            _ => response,
        }
    }

    /// Returns the explanation as a sentence in HTML.
    pub(super) fn sentence(&self) -> String {
        let mut letters = self.explanation.chars();
        let first = letters.next().into_iter().flat_map(char::to_uppercase);
        let sentence: String = first.chain(letters).chain(['.']).collect();
        HtmlText(sentence.as_bytes()).to_string()
    }
}

/// The explanation and, for the operator, the remedy.
impl fmt::Display for ExplainedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.explanation)?;
        self.remedy.map_or(Ok(()), |remedy| write!(f, "; {remedy}"))
    }
}

/// Builds a page about requests that failed. `content` is HTML. A link leads back to the folder: the
/// path of the request is that of the folder or of a file in it.
pub(super) fn page(status: StatusCode, content: &str) -> Response {
    let back = "<p>Back to the <a href=\"./\">folder</a>.</p>\n";
    error_page::html(status, &format!("{content}{back}"))
}

impl From<Errno> for ExplainedError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOSPC | Errno::DQUOT => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "the disk is full or its quota is exceeded",
            )
            .with_remedy("free some space on the disk of the root"),
            Errno::ACCESS | Errno::PERM | Errno::ROFS => {
                Self::forbidden("the server has no permission to write here")
            }
            Errno::EXIST => Self::conflict("the file already exists")
                .with_remedy("allow replacing it with --upload-overwrite"),
            Errno::ISDIR | Errno::NOTEMPTY => {
                Self::conflict("the path exists and is not a regular file")
            }
            Errno::NOENT | Errno::NOTDIR => Self::conflict("the folder no longer exists"),
            Errno::NAMETOOLONG => Self::new(StatusCode::BAD_REQUEST, "the file name is too long"),
            Errno::FBIG => Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "the file is too large for the file system",
            ),
            Errno::MFILE | Errno::NFILE | Errno::NOMEM => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "out of file descriptors or memory",
            ),
            errno => {
                log::error!("files: {}", io::Error::from(errno));
                Self::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "the file could not be stored",
                )
            }
        }
    }
}

impl From<OpenError> for ExplainedError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::NotFound => Self::new(StatusCode::NOT_FOUND, "the folder does not exist"),
            OpenError::Forbidden => Errno::ACCESS.into(),
            OpenError::OutOfDescriptors => Errno::MFILE.into(),
            OpenError::Modified | OpenError::WouldBlock => Errno::AGAIN.into(),
            OpenError::Failed(error) => Errno::from_io_error(&error).unwrap_or(Errno::IO).into(),
        }
    }
}

impl From<FormError> for ExplainedError {
    fn from(error: FormError) -> Self {
        match error {
            FormError::Read(error) => Self::interrupted(&error),
            FormError::Malformed(reason) => Self::new(StatusCode::BAD_REQUEST, reason),
            FormError::Write(error) => Errno::from_io_error(&error).unwrap_or(Errno::IO).into(),
            FormError::Input(_) | FormError::TooLarge { .. } => {
                Self::new(error.status(), error.to_string())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_errors_have_a_status() {
        let table = [
            (Errno::NOSPC, 507),
            (Errno::DQUOT, 507),
            (Errno::ACCESS, 403),
            (Errno::ROFS, 403),
            (Errno::EXIST, 409),
            (Errno::ISDIR, 409),
            (Errno::NOENT, 409),
            (Errno::FBIG, 413),
            (Errno::MFILE, 503),
            (Errno::IO, 500),
        ];
        for (errno, status) in table {
            assert_eq!(ExplainedError::from(errno).status, status, "{errno}");
        }
    }
}
