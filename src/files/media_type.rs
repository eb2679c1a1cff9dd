//! File name extension to media type. The table is `mime_guess`'s; what it lacks is the charset
//! that text needs to be read as what it is.

use ::http::HeaderValue;

/// The Content-Type of a file with this name. Text is UTF-8, as nearly all text is; what has no
/// known extension is bytes.
pub(super) fn of(name: &[u8]) -> HeaderValue {
    let extension = std::str::from_utf8(extension(name)).unwrap_or_default();
    match mime_guess::from_ext(extension).first_raw() {
        None => HeaderValue::from_static("application/octet-stream"),
        Some("text/html") => HeaderValue::from_static("text/html; charset=utf-8"),
        // RFC 9239 §6.
        Some("application/javascript" | "text/javascript") => {
            HeaderValue::from_static("text/javascript; charset=utf-8")
        }
        Some(text) if text.starts_with("text/") => {
            HeaderValue::try_from(format!("{text}; charset=utf-8"))
                .unwrap_or(HeaderValue::from_static(text))
        }
        Some(other) => HeaderValue::from_static(other),
    }
}

fn extension(name: &[u8]) -> &[u8] {
    match name.iter().rposition(|&byte| matches!(byte, b'.' | b'/')) {
        Some(at) if name[at] == b'.' => &name[at + 1..],
        _ => b"",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        let table: &[(&[u8], &str)] = &[
            (b"index.html", "text/html; charset=utf-8"),
            (b"a/b.css", "text/css; charset=utf-8"),
            (b"app.js", "text/javascript; charset=utf-8"),
            (b"app.mjs", "text/javascript; charset=utf-8"),
            (b"bigfile.txt", "text/plain; charset=utf-8"),
            (b"photo.JPG", "image/jpeg"),
            (b"a.png", "image/png"),
            (b"a.webp", "image/webp"),
            (b"a.svg", "image/svg+xml"),
            (b"a.json", "application/json"),
            (b"a.pdf", "application/pdf"),
            (b"a.wasm", "application/wasm"),
            (b"a.woff2", "font/woff2"),
            (b"a.mp4", "video/mp4"),
            (b"a.tar.gz", "application/gzip"),
            (b"README", "application/octet-stream"),
            (b"a.b/README", "application/octet-stream"),
            (b"a.unheard-of", "application/octet-stream"),
            (b"a.\xFF", "application/octet-stream"),
            (b"", "application/octet-stream"),
        ];
        for (name, expected) in table {
            assert_eq!(of(name), expected, "{name:?}");
        }
    }
}
