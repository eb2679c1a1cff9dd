//! What became of the files of a form, as it is told: to a page, to a program, to a person.

use ::http::StatusCode;
use serde_json::json;

use super::error::UploadError;
use crate::files::resolve::file_name;
use crate::http::negotiation::{self, ResponseFormat};
use crate::http::{Request, Response, target};

/// What became of the files of a form.
#[derive(Default)]
pub(super) struct UploadReport {
    /// By their names beneath the root, with their sizes.
    pub(super) stored: Vec<(Vec<u8>, u64)>,
    /// By their names as they were sent, or the beginning of those; the form itself has none.
    pub(super) failed: Vec<(Vec<u8>, UploadError)>,
}

impl UploadReport {
    /// What ends the form, unless a file has said it already.
    pub(super) fn end_with(&mut self, problem: UploadError) {
        let said = |(_, last): &(_, UploadError)| last.explanation == problem.explanation;
        if !self.failed.last().is_some_and(said) {
            self.failed.push((Vec::new(), problem));
        }
    }

    pub(super) fn response(self, request: &Request<'_>) -> Result<Response, UploadError> {
        if self.stored.is_empty() && self.failed.is_empty() {
            return Err(UploadError::new(
                StatusCode::BAD_REQUEST,
                "the form contains no files",
            ));
        }
        let form = negotiation::response_format(request.fields());
        if self.failed.is_empty() && form == ResponseFormat::Html {
            // So that a reload does not send the files again.
            let folder = target::encode_path(request.path_bytes());
            return Ok(Response::redirect(StatusCode::SEE_OTHER, &folder));
        }
        let (status, response) = match form {
            ResponseFormat::Json => self.json(),
            ResponseFormat::Html | ResponseFormat::Text => self.text(),
        };
        Ok(response.with_status(status))
    }

    /// That of the first failure.
    fn status(&self) -> StatusCode {
        let first = self.failed.first();
        first.map_or(StatusCode::CREATED, |(_, problem)| problem.status)
    }

    fn json(&self) -> (StatusCode, Response) {
        let status = self.status();
        let stored: Vec<_> = self
            .stored
            .iter()
            .map(|(name, size)| {
                json!({
                    "name": shown(file_name(name)),
                    "size": size,
                    "path": target::encode_path(&[b"/", &name[..]].concat()),
                })
            })
            .collect();
        let response = match self.failed.first() {
            None => Response::json(&stored),
            Some((_, first)) => {
                let failed = self.failed.iter().map(|(name, problem)| {
                    json!({
                        "name": shown(name),
                        "status": problem.status.as_u16(),
                        "explanation": problem.explanation,
                    })
                });
                Response::json(&json!({
                    "status": status.as_u16(),
                    "error": status.canonical_reason(),
                    "explanation": first.explanation,
                    "stored": stored,
                    "failed": failed.collect::<Vec<_>>(),
                }))
            }
        };
        (status, response)
    }

    fn text(&self) -> (StatusCode, Response) {
        let status = self.status();
        let mut text = format!("{status}\n");
        for (name, problem) in &self.failed {
            let subject = match &name[..] {
                b"" => "the form".to_owned(),
                name => shown(name),
            };
            text += &format!("not stored: {subject}: {}\n", problem.explanation);
        }
        for (name, size) in &self.stored {
            text += &format!("stored: /{} ({size} bytes)\n", shown(name));
        }
        (status, Response::text(text))
    }
}

/// A name as one line of text.
fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).replace(char::is_control, "\u{FFFD}")
}
