//! Errors for which the site has no page of its own, in the form the client prefers. They repeat
//! nothing of the request.

use ::http::StatusCode;
use ::http::header::{CONTENT_SECURITY_POLICY, VARY};
use serde_json::json;

use crate::http::Response;
use crate::http::negotiation::Form;

pub(super) fn page(status: StatusCode, form: Form) -> Response {
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
        StatusCode::FORBIDDEN => "The requested file is not for everybody to read.",
        StatusCode::PRECONDITION_FAILED => "The file is not the version that was asked for.",
        StatusCode::RANGE_NOT_SATISFIABLE => "The file has no such part.",
        _ => "The server could not do what was asked.",
    }
}
