//! Error responses in the format that the client prefers (HTML, JSON or text), for errors without a
//! custom page. They contain nothing from the request but the prefix of the handler, in a link.

use ::http::StatusCode;
use ::http::header::{ALLOW, CONNECTION, CONTENT_SECURITY_POLICY, VARY};
use serde_json::json;

use super::fields::Fields;
use super::html_text::HtmlText;
use super::negotiation::{self, ResponseFormat};
use super::{Request, Response};

/// The style of error pages, with which those of listings and of the admin interface begin.
pub(crate) const BASE_STYLE: &str = include_str!("page.css");

/// The hash of [`BASE_STYLE`] in a Content-Security-Policy. A test compares it.
pub(crate) const BASE_STYLE_HASH: &str = "mddoKvdxDJQyHH+Kg8U0wZfX17+Z+48g+vZlCmOYF9w=";

/// Replaces a one-line text error by a page if the client prefers HTML or JSON. The Allow and
/// Connection fields are kept. The page has no link: it is for handlers that may be outside of the
/// prefix of a site, or that refuse the index as well.
pub(crate) fn instead_of(plain: Response, fields: &Fields<'_>) -> Response {
    replaced(plain, fields, None)
}

/// As [`instead_of`], with a link to the index of the site that the handler belongs to.
pub(crate) fn with_index(plain: Response, request: &Request<'_>) -> Response {
    replaced(plain, request.fields(), Some(&index_of(request)))
}

/// Returns the encoded path of the index of the site that the handler belongs to.
pub(crate) fn index_of(request: &Request<'_>) -> String {
    request.encoded_prefix() + "/"
}

fn replaced(plain: Response, fields: &Fields<'_>, index: Option<&str>) -> Response {
    let format = negotiation::response_format(fields);
    if format == ResponseFormat::Text {
        return plain.with_built_in_content().with_header(VARY, "Accept");
    }
    let page = page(plain.status(), format, index).with_built_in_content();
    let kept =
        [ALLOW, CONNECTION].map(|name| plain.headers().get(&name).map(|value| (name, value)));
    kept.into_iter()
        .flatten()
        .fold(page, |page, (name, value)| {
            page.with_header(name, value.clone())
        })
}

/// Builds the error response for a status, with a hint to visit the index at this encoded path.
pub(crate) fn page(status: StatusCode, format: ResponseFormat, index: Option<&str>) -> Response {
    let (number, reason) = number_and_reason(status);
    let explanation = explanation(status);
    let response = match format {
        ResponseFormat::Html => {
            let hint = index.map_or(String::new(), |index| {
                let index = HtmlText(index.as_bytes());
                format!("<p>Hint: visit the <a href=\"{index}\">index page</a>.</p>\n")
            });
            html(status, &format!("<p>{explanation}</p>\n{hint}"))
        }
        ResponseFormat::Json => Response::json(&json!({
            "status": number,
            "error": reason,
            "explanation": explanation,
        })),
        ResponseFormat::Text => {
            let hint = index.map_or(String::new(), |index| {
                format!("Hint: visit the index page at {index}\n")
            });
            Response::text(format!("Error: {number} {reason}\n{explanation}\n{hint}"))
        }
    };
    response.with_status(status).with_header(VARY, "Accept")
}

/// Builds an HTML page about an error. `content` is HTML; it follows the heading.
pub(crate) fn html(status: StatusCode, content: &str) -> Response {
    let (number, reason) = number_and_reason(status);
    Response::html(format!(
        "<!DOCTYPE html>\n\
         <html lang=\"en\">\n\
         <meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>{number} {reason}</title>\n\
         <style>{BASE_STYLE}</style>\n\
         <header><h1>Error: {number} {reason}</h1></header>\n\
         <main><div class=\"card text\">\n\
         {content}\
         </div></main>\n\
         </html>\n"
    ))
    .with_status(status)
    .with_header(
        CONTENT_SECURITY_POLICY,
        format!(
            "default-src 'none'; style-src 'sha256-{BASE_STYLE_HASH}'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'"
        ),
    )
}

fn number_and_reason(status: StatusCode) -> (u16, &'static str) {
    (
        status.as_u16(),
        status.canonical_reason().unwrap_or("Error"),
    )
}

fn explanation(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "The requested file could not be found.",
        StatusCode::BAD_REQUEST => "The request is malformed.",
        StatusCode::UNAUTHORIZED => "Authentication required.",
        StatusCode::FORBIDDEN => "You don't have access to this page.",
        StatusCode::METHOD_NOT_ALLOWED => "This request method is not allowed here.",
        StatusCode::PRECONDITION_FAILED => "The file is not the requested version.",
        StatusCode::PAYLOAD_TOO_LARGE => "The request body is too large.",
        StatusCode::RANGE_NOT_SATISFIABLE => "The requested range is outside the file.",
        StatusCode::TOO_MANY_REQUESTS => "Too many requests; slow down.",
        StatusCode::INTERNAL_SERVER_ERROR => "The server encountered an internal error.",
        StatusCode::SERVICE_UNAVAILABLE => {
            "The server is temporarily unavailable; try again shortly."
        }
        _ => "The request could not be completed.",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(status: StatusCode, format: ResponseFormat) -> String {
        content_with(status, format, Some("/"))
    }

    fn content_with(status: StatusCode, format: ResponseFormat, index: Option<&str>) -> String {
        let content = page(status, format, index)
            .into_content()
            .expect("bytes in memory");
        String::from_utf8(content).expect("UTF-8")
    }

    #[test]
    fn not_found_in_each_format_matches_the_golden_text() {
        let html = "<!DOCTYPE html>\n\
            <html lang=\"en\">\n\
            <meta charset=\"utf-8\">\n\
            <meta name=\"viewport\" content=\"width=device-width\">\n\
            <title>404 Not Found</title>\n\
            <style></style>\n\
            <header><h1>Error: 404 Not Found</h1></header>\n\
            <main><div class=\"card text\">\n\
            <p>The requested file could not be found.</p>\n\
            <p>Hint: visit the <a href=\"/\">index page</a>.</p>\n\
            </div></main>\n\
            </html>\n";
        let text = "Error: 404 Not Found\n\
            The requested file could not be found.\n\
            Hint: visit the index page at /\n";
        let page = content(StatusCode::NOT_FOUND, ResponseFormat::Html);
        assert_eq!(page.replace(BASE_STYLE, ""), html);
        assert_eq!(content(StatusCode::NOT_FOUND, ResponseFormat::Text), text);
        let json: serde_json::Value =
            serde_json::from_str(&content(StatusCode::NOT_FOUND, ResponseFormat::Json))
                .expect("JSON");
        let expected = json!({
            "status": 404,
            "error": "Not Found",
            "explanation": "The requested file could not be found.",
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn hint_leads_to_the_index_or_is_left_out() {
        let found = |format, index| content_with(StatusCode::NOT_FOUND, format, index);
        let odd = Some("/a&'b/");
        assert!(found(ResponseFormat::Html, odd).contains(r#"href="/a&amp;&#39;b/""#));
        assert!(found(ResponseFormat::Text, odd).ends_with(" at /a&'b/\n"));
        for format in [ResponseFormat::Html, ResponseFormat::Text] {
            assert!(!found(format, None).contains("Hint"));
        }
    }

    #[test]
    fn explanation_is_one_short_sentence() {
        for number in 400..600 {
            let status = StatusCode::from_u16(number).expect("a status");
            let explanation = explanation(status);
            assert!(explanation.starts_with(char::is_uppercase), "{explanation}");
            assert!(explanation.ends_with('.'), "{explanation}");
            assert_eq!(explanation.matches('.').count(), 1, "{explanation}");
            // The text is inserted into HTML without escaping.
            assert!(!explanation.contains(['<', '>', '&', '"']), "{explanation}");
        }
    }
}
