//! The style and the scripts of the page, and the Content-Security-Policy that allows them.

use super::page::PageFeatures;
use crate::http::error_page::{BASE_STYLE, BASE_STYLE_HASH};

/// Follows [`BASE_STYLE`], which the page has in common with error pages.
pub(super) const STYLE: &str = include_str!("listing.css");
/// Filter, local times, links to copy, previews.
pub(super) const SCRIPT: &str = include_str!("listing.js");
/// Uploads by drag and drop, with progress; only where uploads are accepted.
pub(super) const UPLOAD_SCRIPT: &str = include_str!("upload.js");
/// New folders, renaming, deleting; only where the tree may be changed.
pub(super) const MANAGE_SCRIPT: &str = include_str!("manage.js");

// A test compares the hashes.
const STYLE_HASH: &str = "ZWINGe9AypxVQ/59rq1ljOpEmwHOKzvPl3faF/aK7hE=";
const SCRIPT_HASH: &str = "X+eXJstnCjs8l1+PtmHX0g+l80pbV4Udb6vFBU1VIgM=";
const UPLOAD_SCRIPT_HASH: &str = "lVqv/OstNDFR94e8KyMEvI4xIrCNd8a8pBx5Ma1aRpg=";
const MANAGE_SCRIPT_HASH: &str = "/1XghoePDJuJFhGhehxeJvQdwnPklR65CpAm5zI3eqs=";

/// Returns the Content-Security-Policy of the page: it runs only its own styles and scripts, and loads
/// images and text from this server only, for previews.
pub(in crate::files) fn policy(features: &PageFeatures) -> String {
    let form_action = match features.uploads {
        Some(_) => "'self'",
        None => "'none'",
    };
    let uploads = features.uploads.map(|_| UPLOAD_SCRIPT_HASH);
    let management = features.management.map(|_| MANAGE_SCRIPT_HASH);
    let scripts: String = std::iter::once(SCRIPT_HASH)
        .chain(uploads)
        .chain(management)
        .map(|hash| format!(" 'sha256-{hash}'"))
        .collect();
    format!(
        "default-src 'none'; \
         style-src 'sha256-{BASE_STYLE_HASH}' 'sha256-{STYLE_HASH}'; \
         script-src{scripts}; \
         connect-src 'self'; img-src 'self'; \
         base-uri 'none'; form-action {form_action}; frame-ancestors 'none'"
    )
}

/// Writes the script elements.
pub(super) fn scripts(out: &mut String, features: &PageFeatures) {
    let uploads = features.uploads.map(|_| UPLOAD_SCRIPT);
    let management = features.management.map(|_| MANAGE_SCRIPT);
    for script in std::iter::once(SCRIPT).chain(uploads).chain(management) {
        *out += "<script>";
        *out += script;
        *out += "</script>\n";
    }
}

/// Writes the style elements.
pub(super) fn styles(out: &mut String) {
    for style in [BASE_STYLE, STYLE] {
        *out += "<style>";
        *out += style;
        *out += "</style>\n";
    }
}
