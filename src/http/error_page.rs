//! Errors for which nobody has a page of their own, in the form the client prefers. They repeat
//! nothing of the request.

use ::http::StatusCode;
use ::http::header::{ALLOW, CONNECTION, CONTENT_SECURITY_POLICY, VARY};
use serde_json::json;

use super::Response;
use super::negotiation::{self, Form};
use super::request::Fields;

/// An error that is one line of text, as a page if the client prefers one. What it says of methods
/// and of the connection stays.
pub(crate) fn instead_of(plain: Response, fields: &Fields<'_>) -> Response {
    let form = negotiation::form(fields);
    if form == Form::Text {
        return plain.with_header(VARY, "Accept");
    }
    let kept =
        [ALLOW, CONNECTION].map(|name| plain.headers().get(&name).map(|value| (name, value)));
    let page = page(plain.status(), form);
    kept.into_iter()
        .flatten()
        .fold(page, |page, (name, value)| {
            page.with_header(name, value.clone())
        })
}

/// The page for a status.
pub(crate) fn page(status: StatusCode, form: Form) -> Response {
    let reason = status.canonical_reason().unwrap_or("Error");
    let number = status.as_u16();
    let explanation = explanation(status);
    let response = match form {
        Form::Html => html(number, reason, explanation),
        Form::Json => Response::json(&json!({
            "status": number,
            "error": reason,
            "explanation": explanation,
        })),
        Form::Text => Response::text(format!(
            "Error: {number} {reason}\n{explanation}\nHint: visit the index page at /\n"
        )),
    };
    response.with_status(status).with_header(VARY, "Accept")
}

fn html(number: u16, reason: &str, explanation: &str) -> Response {
    Response::html(format!(
        "<!DOCTYPE html>\n\
         <html lang=\"en\">\n\
         <meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{number} {reason}</title>\n\
         <h1>Error: {number} {reason}</h1>\n\
         <p>{explanation}</p>\n\
         <p>Hint: visit the <a href=\"/\">index page</a>.</p>\n\
         </html>\n"
    ))
    .with_header(
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    )
}

fn explanation(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "The requested file could not be found.",
        StatusCode::UNAUTHORIZED => "This is only for those who have a name and a password.",
        StatusCode::FORBIDDEN => "The requested file is not for everybody to read.",
        StatusCode::PRECONDITION_FAILED => "The file is not the version that was asked for.",
        StatusCode::TOO_MANY_REQUESTS => "So many requests in so short a time are too many.",
        StatusCode::RANGE_NOT_SATISFIABLE => "The file has no such part.",
        _ => "The server could not do what was asked.",
    }
}
