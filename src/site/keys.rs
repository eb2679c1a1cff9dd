//! The keys at the top of a site file.

/// The keys at the top of a site file.
pub(super) const SITE_KEYS: &[&str] = &[
    "index",
    "clean-urls",
    "listing",
    "readme",
    "archive",
    "archive-max",
    "compress",
    "etag",
    "symlinks",
    "hidden",
    "keep-previous",
    "spa",
    "cors",
    "charset",
    "route",
    "redirect",
    "rewrite",
    "header",
    "auth",
    "access",
    "error-pages",
    "media-types",
    "users",
    "upload",
    "manage",
    "host",
    "names",
    "root",
];

/// Returns whether a name is a key, perhaps in another spelling: `clean_urls`, `Clean-URLs`.
pub(super) fn is_same_key(name: &str, key: &str) -> bool {
    let letters = |text: &str| {
        let bytes = text.bytes().filter(|byte| !b"-_".contains(byte));
        bytes
            .map(|byte| byte.to_ascii_lowercase())
            .collect::<Vec<_>>()
    };
    letters(name) == letters(key)
}
