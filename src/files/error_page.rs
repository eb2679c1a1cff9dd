//! The page for an error for which the site has none. It repeats nothing of the request.

use ::http::StatusCode;

use crate::http::Response;

pub(super) fn page(status: StatusCode) -> Response {
    let reason = status.canonical_reason().unwrap_or("Error");
    let number = status.as_u16();
    let explanation = explanation(status);
    Response::html(format!(
        "<!DOCTYPE html>\n\
         <html lang=\"en\">\n\
         <meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{number} {reason}</title>\n\
         <h1>Error: {number} {reason}</h1>\n\
         <p>{explanation}</p>\n\
         <p>Hint: visit the <a href=\"/\">index page</a>.</p>\n\
         </html>\n"
    ))
    .with_status(status)
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
