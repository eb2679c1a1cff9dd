//! The response to a form with files: for browsers a redirect, or a page if a file is not stored; JSON
//! or text for other clients.

use ::http::StatusCode;
use serde_json::json;

use crate::files::explained_error::{self, ExplainedError};
use crate::files::resolve::file_name;
use crate::http::html_text::HtmlText;
use crate::http::negotiation::{self, ResponseFormat};
use crate::http::{Request, Response, target};

/// The results of the files of one form.
#[derive(Default)]
pub(super) struct UploadReport {
    /// Names beneath the root, and lengths in bytes.
    pub(super) stored: Vec<(Vec<u8>, u64)>,
    /// Names as they were sent, perhaps shortened; empty for an error of the form itself.
    pub(super) failed: Vec<(Vec<u8>, ExplainedError)>,
}

impl UploadReport {
    /// Adds the error that ends the form, unless the last file has reported the same.
    pub(super) fn end_with(&mut self, problem: ExplainedError) {
        let reported = |(_, last): &(_, ExplainedError)| last.explanation == problem.explanation;
        if !self.failed.last().is_some_and(reported) {
            self.failed.push((Vec::new(), problem));
        }
    }

    pub(super) fn response(self, request: &Request<'_>) -> Result<Response, ExplainedError> {
        if self.stored.is_empty() && self.failed.is_empty() {
            return Err(ExplainedError::new(
                StatusCode::BAD_REQUEST,
                "the form contains no files",
            ));
        }
        let form = negotiation::response_format(request.fields());
        if self.failed.is_empty() && form == ResponseFormat::Html {
            // With a redirect, reloading the page does not send the files again.
            let folder = target::encode_path(request.full_path_bytes());
            return Ok(Response::redirect(StatusCode::SEE_OTHER, &folder));
        }
        let (status, response) = match form {
            ResponseFormat::Json => self.json(&request.encoded_prefix()),
            ResponseFormat::Html => self.html(),
            ResponseFormat::Text => self.text(),
        };
        Ok(response.with_status(status))
    }

    /// Returns the status of the first failure, or 201 (Created).
    fn status(&self) -> StatusCode {
        let first = self.failed.first();
        first.map_or(StatusCode::CREATED, |(_, problem)| problem.status)
    }

    fn json(&self, prefix: &str) -> (StatusCode, Response) {
        let status = self.status();
        let stored: Vec<_> = self
            .stored
            .iter()
            .map(|(name, size)| {
                json!({
                    "name": printable(file_name(name)),
                    "size": size,
                    "path": prefix.to_owned() + &target::encode_path(&[b"/", &name[..]].concat()),
                })
            })
            .collect();
        let response = match self.failed.first() {
            None => Response::json(&stored),
            Some((_, first)) => {
                let failed = self.failed.iter().map(|(name, problem)| {
                    json!({
                        "name": printable(name),
                        "status": problem.status.as_u16(),
                        "explanation": problem.to_string(),
                    })
                });
                Response::json(&json!({
                    "status": status.as_u16(),
                    "error": status.canonical_reason(),
                    "explanation": first.to_string(),
                    "stored": stored,
                    "failed": failed.collect::<Vec<_>>(),
                }))
            }
        };
        (status, response)
    }

    fn html(&self) -> (StatusCode, Response) {
        let status = self.status();
        let mut list = String::from("<ul>\n");
        for (name, problem) in &self.failed {
            let reason = problem.sentence();
            list += &match &name[..] {
                b"" => format!("<li>{reason}</li>\n"),
                name => format!("<li>Not stored: <b>{}</b>. {reason}</li>\n", HtmlText(name)),
            };
        }
        for (name, size) in &self.stored {
            let name = file_name(name);
            let (link, name) = (target::encode_component(name), HtmlText(name));
            list += &format!("<li>Stored: <a href=\"{link}\">{name}</a> ({size} bytes)</li>\n");
        }
        (status, explained_error::page(status, &(list + "</ul>\n")))
    }

    fn text(&self) -> (StatusCode, Response) {
        let status = self.status();
        let mut text = format!("{status}\n");
        for (name, problem) in &self.failed {
            let subject = match &name[..] {
                b"" => "the form".to_owned(),
                name => printable(name),
            };
            text += &format!("not stored: {subject}: {problem}\n");
        }
        for (name, size) in &self.stored {
            text += &format!("stored: /{} ({size} bytes)\n", printable(name));
        }
        (status, Response::text(text))
    }
}

/// Returns a name as text without control characters.
fn printable(name: &[u8]) -> String {
    String::from_utf8_lossy(name).replace(char::is_control, "\u{FFFD}")
}
