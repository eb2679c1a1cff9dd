//! Cross-site request forgery: only pages of the server's own origin may upload or change files.

use std::net::IpAddr;

use crate::files::explained_error::ExplainedError;
use crate::http::Fields;
use crate::http::host::is_of_host;

/// Rejects requests that a page of another origin makes a browser send (Fetch §3.1): forms need no
/// CORS preflight, and reach servers that are accessible from the browser's machine only.
pub(in crate::files) fn check_origin(fields: &Fields<'_>) -> Result<(), ExplainedError> {
    let rejected = ExplainedError::forbidden(
        "uploads and changes from pages of another origin are not allowed",
    );
    let own = |site: &[u8]| matches!(site, b"same-origin" | b"none");
    if !fields.all("sec-fetch-site").all(own) {
        return Err(rejected);
    }
    let host = fields.first("host").unwrap_or_default();
    for origin in fields.all("origin") {
        if origin == b"null" {
            check_hidden_origin(fields)?;
        } else if !is_of_host(origin, host) {
            return Err(rejected);
        }
    }
    // With DNS rebinding, the name of the page's own host resolves to this server's address, so
    // Origin and Host agree. Such a page has no password.
    let from_page = fields.first("origin").is_some();
    if from_page && fields.first("authorization").is_none() && !is_address_or_localhost(host) {
        let explanation = "uploads and changes from a page under this host name require a password";
        let remedy = "require one with --auth or --auth-file, or use an IP address or localhost";
        return Err(ExplainedError::forbidden(explanation).with_remedy(remedy));
    }
    Ok(())
}

/// Rejects `Origin: null`, unless the browser itself says that the page is of this origin (Fetch
/// Metadata §2.3): with `Referrer-Policy: no-referrer`, the server's own forms are sent with `null`
/// (Fetch §3.2), but so are those of sandboxed frames and of other origins with that policy.
///
/// Browsers send `Sec-Fetch-Site` to HTTPS and local servers only. `none`, that no page has caused
/// the request, does not suffice: a form is always sent by a page, and `none` with `null` may be a
/// reload of what a page of another origin has sent.
fn check_hidden_origin(fields: &Fields<'_>) -> Result<(), ExplainedError> {
    match fields.first("sec-fetch-site") {
        Some(b"same-origin") => Ok(()),
        _ => Err(ExplainedError::forbidden(
            "uploads and changes from pages that hide their origin are not allowed",
        )),
    }
}

/// True if a Host field is an IP address, or a name that always means the same machine.
fn is_address_or_localhost(host: &[u8]) -> bool {
    let host = std::str::from_utf8(host).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    let name = name.to_ascii_lowercase();
    bare.parse::<IpAddr>().is_ok() || name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origin_check_accepts_own_origin_only() {
        let table: &[(&[(&str, &str)], bool)] = &[
            (&[], true),
            (&[("Host", "a.test")], true),
            (
                &[("Host", "localhost"), ("Origin", "http://localhost")],
                true,
            ),
            (
                &[("Host", "Localhost"), ("Origin", "https://localhost")],
                true,
            ),
            (
                &[("Host", "a.localhost:80"), ("Origin", "http://a.localhost")],
                true,
            ),
            (
                &[("Host", "127.0.0.1"), ("Origin", "https://127.0.0.1:443")],
                true,
            ),
            (&[("Host", "a.test"), ("Origin", "http://a.test")], false),
            (
                &[
                    ("Host", "a.test"),
                    ("Origin", "http://a.test"),
                    ("Authorization", "Basic YTpi"),
                ],
                true,
            ),
            (
                &[("Host", "[::1]:8000"), ("Origin", "http://[::1]:8000")],
                true,
            ),
            (&[("Sec-Fetch-Site", "same-origin")], true),
            (&[("Sec-Fetch-Site", "none")], true),
            (
                &[("Host", "a.test:8000"), ("Origin", "http://a.test:3000")],
                false,
            ),
            (
                &[("Host", "a.test:8000"), ("Origin", "http://a.test")],
                false,
            ),
            (
                &[("Host", "a.test:80"), ("Origin", "https://a.test")],
                false,
            ),
            (&[("Host", "a.test"), ("Origin", "http://b.test")], false),
            (
                &[("Host", "a.test"), ("Origin", "http://a.test.b.test")],
                false,
            ),
            (&[("Host", "a.test"), ("Origin", "a.test")], false),
            (&[("Host", "a.test"), ("Origin", "null")], false),
            (&[("Host", "localhost"), ("Origin", "null")], false),
            (
                &[
                    ("Host", "localhost"),
                    ("Origin", "null"),
                    ("Sec-Fetch-Site", "same-origin"),
                ],
                true,
            ),
            // A page under this name may be one of DNS rebinding.
            (
                &[
                    ("Host", "a.test"),
                    ("Origin", "null"),
                    ("Sec-Fetch-Site", "same-origin"),
                ],
                false,
            ),
            (
                &[
                    ("Host", "a.test"),
                    ("Origin", "null"),
                    ("Sec-Fetch-Site", "same-origin"),
                    ("Authorization", "Basic YTpi"),
                ],
                true,
            ),
            (
                &[
                    ("Host", "localhost"),
                    ("Origin", "null"),
                    ("Sec-Fetch-Site", "none"),
                ],
                false,
            ),
            (
                &[
                    ("Host", "localhost"),
                    ("Origin", "null"),
                    ("Sec-Fetch-Site", "same-site"),
                ],
                false,
            ),
            (
                &[
                    ("Host", "localhost"),
                    ("Origin", "null"),
                    ("Sec-Fetch-Site", "same-origin"),
                    ("Sec-Fetch-Site", "cross-site"),
                ],
                false,
            ),
            (
                &[
                    ("Host", "localhost"),
                    ("Origin", "http://a.test"),
                    ("Sec-Fetch-Site", "same-origin"),
                ],
                false,
            ),
            (&[("Origin", "http://a.test")], false),
            (&[("Sec-Fetch-Site", "cross-site")], false),
            (&[("Sec-Fetch-Site", "same-site")], false),
        ];
        for (fields, expected) in table {
            let request = crate::http::request::get_with(fields);
            let checked = check_origin(request.fields());
            assert_eq!(checked.is_ok(), *expected, "{fields:?}");
        }
    }
}
