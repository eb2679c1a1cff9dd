//! Media types by file name extension: the site's own, then those of `new_mime_guess`. Text gets a
//! charset parameter, without which browsers guess the encoding.

use std::collections::HashMap;

use ::http::HeaderValue;

use crate::site::Site;

/// Types that `new_mime_guess` lacks, or has under an older name.
const OVERRIDES: &[(&str, &str)] = &[
    ("appinstaller", "application/appinstaller"),
    ("cjs", "text/javascript"),
    ("diff", "text/x-diff"),
    ("importmap", "application/importmap+json"),
    ("ipynb", "application/x-ipynb+json"),
    ("jsonl", "application/jsonl"),
    ("m3u8", "application/vnd.apple.mpegurl"),
    ("m4s", "video/iso.segment"),
    ("map", "application/json"),
    ("mjs", "text/javascript"),
    ("mobileconfig", "application/x-apple-aspen-config"),
    ("msix", "application/msix"),
    ("msixbundle", "application/msixbundle"),
    ("ndjson", "application/x-ndjson"),
    ("obj", "model/obj"),
    ("patch", "text/x-diff"),
    ("srt", "text/plain"),
    ("topojson", "application/json"),
    ("wgsl", "text/wgsl"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
];

/// The media types of one site.
#[derive(Debug)]
pub(super) struct MediaTypes {
    /// By extension in lower case.
    own: HashMap<String, HeaderValue>,
    charset: String,
}

impl MediaTypes {
    pub(super) fn new(site: &Site) -> Self {
        let charset = site
            .charset
            .as_ref()
            .map_or("utf-8", |charset| charset.as_str());
        let own = site
            .media_types
            .iter()
            .filter_map(|(extension, media_type)| {
                let extension = extension.trim_start_matches('.').to_ascii_lowercase();
                let media_type = with_charset(media_type.as_str(), charset)?;
                Some((extension, media_type))
            });
        Self {
            own: own.collect(),
            charset: charset.to_owned(),
        }
    }

    /// Returns the Content-Type of a file with this name; without a known extension it is
    /// `application/octet-stream`.
    pub(super) fn of(&self, name: &[u8]) -> HeaderValue {
        let extension = std::str::from_utf8(extension(name)).unwrap_or_default();
        if !self.own.is_empty()
            && let Some(own) = self.own.get(&extension.to_ascii_lowercase())
        {
            return own.clone();
        }
        let overridden = OVERRIDES
            .iter()
            .find(|(known, _)| extension.eq_ignore_ascii_case(known));
        let default = match overridden {
            Some((_, media_type)) => media_type,
            None => new_mime_guess::from_ext(extension)
                .first_raw()
                .unwrap_or("application/octet-stream"),
        };
        with_charset(default, &self.charset).unwrap_or(HeaderValue::from_static(default))
    }
}

/// Adds the charset parameter to text, unless it has one.
fn with_charset(media_type: &str, charset: &str) -> Option<HeaderValue> {
    let has_charset = media_type.contains("charset=");
    let value = if media_type.starts_with("text/") && !has_charset {
        HeaderValue::try_from(format!("{media_type}; charset={charset}"))
    } else {
        HeaderValue::from_str(media_type)
    };
    value.ok()
}

/// True for documents that a browser navigates to.
pub(super) fn is_page(media_type: &HeaderValue) -> bool {
    let text = media_type.to_str().unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim();
    matches!(essence, "text/html" | "application/xhtml+xml")
}

/// True for types that may have a sidecar: those that compress, and two whose content may.
pub(super) fn may_be_coded(media_type: &HeaderValue) -> bool {
    compresses(media_type)
        || media_type == "application/octet-stream"
        || media_type == "application/pdf"
}

/// True for types that compression makes clearly smaller: text, text-based formats, and some binary
/// ones.
pub(super) fn compresses(media_type: &HeaderValue) -> bool {
    const COMPRESSIBLE_BINARY: &[&str] = &[
        "application/vnd.ms-fontobject",
        "application/wasm",
        "application/x-tar",
        "font/otf",
        "font/ttf",
        "model/obj",
        "model/stl",
        "image/bmp",
        "image/x-icon",
    ];
    const TEXT_BASED: &[&str] = &[
        "application/appinstaller",
        "application/javascript",
        "application/json",
        "application/jsonl",
        "application/vnd.apple.mpegurl",
        "application/x-ndjson",
        "application/toml",
        "application/xml",
        "application/x-sh",
        "application/yaml",
    ];
    let text = media_type.to_str().unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim();
    essence.starts_with("text/")
        || essence.ends_with("+json")
        || essence.ends_with("+xml")
        || TEXT_BASED.contains(&essence)
        || COMPRESSIBLE_BINARY.contains(&essence)
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
    fn media_type_follows_the_extension() {
        let types = MediaTypes::new(&Site::default());
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
            (b"a.woff", "font/woff"),
            (b"app.js.MAP", "application/json"),
            (b"a.ts", "video/mp2t"),
            (b"a.otf", "font/otf"),
            (b"a.rpm", "application/x-rpm"),
            (b"a.usdz", "model/vnd.usdz+zip"),
            (b"a.stl", "model/stl"),
            (b"a.obj", "model/obj"),
            (b"a.zst", "application/zstd"),
            (b"a.ktx2", "image/ktx2"),
            (b"a.mobileconfig", "application/x-apple-aspen-config"),
            (b"a.importmap", "application/importmap+json"),
            (b"a.topojson", "application/json"),
            (b"a.wgsl", "text/wgsl; charset=utf-8"),
            (b"a.ipynb", "application/x-ipynb+json"),
            (b"a.patch", "text/x-diff; charset=utf-8"),
            (b"a.msix", "application/msix"),
            (b"a.appinstaller", "application/appinstaller"),
            (b"a.avif", "image/avif"),
            (b"a.jxl", "image/jxl"),
            (b"a.flac", "audio/flac"),
            (b"a.mp4", "video/mp4"),
            (b"a.tar.gz", "application/gzip"),
            (b"README", "application/octet-stream"),
            (b"a.b/README", "application/octet-stream"),
            (b"a.unheard-of", "application/octet-stream"),
            (b"a.\xFF", "application/octet-stream"),
            (b"", "application/octet-stream"),
        ];
        for (name, expected) in table {
            assert_eq!(types.of(name), expected, "{name:?}");
        }
    }

    #[test]
    fn site_types_and_charset_override_the_defaults() {
        let text = "charset = \"latin1\"\n[media-types]\nfoo = \"text/x-foo\"\n\".TXT\" = \"text/plain; charset=utf-16\"\n";
        let site: Site = toml::from_str(text).expect("a site");
        let types = MediaTypes::new(&site);
        assert_eq!(types.of(b"a.FOO"), "text/x-foo; charset=latin1");
        assert_eq!(types.of(b"a.txt"), "text/plain; charset=utf-16");
        assert_eq!(types.of(b"a.html"), "text/html; charset=latin1");
    }

    #[test]
    fn text_compresses_and_images_do_not() {
        let types = MediaTypes::new(&Site::default());
        for name in [
            "a.html",
            "a.js",
            "a.json",
            "a.svg",
            "a.xml",
            "a.wasm",
            "a.webmanifest",
            "a.txt",
        ] {
            assert!(compresses(&types.of(name.as_bytes())), "{name}");
        }
        for name in [
            "a.png", "a.jpg", "a.mp4", "a.zip", "a.gz", "a.woff2", "a.pdf", "a",
        ] {
            assert!(!compresses(&types.of(name.as_bytes())), "{name}");
        }
    }
}
