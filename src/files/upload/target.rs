//! What an upload is to store, as far as its request's head says: without a look at the disk.

use ::http::{Method, StatusCode};

use super::origin::check_origin;
use crate::files::explained_error::ExplainedError;
use crate::files::resolve::file_name;
use crate::files::root::OpenError;
use crate::files::rules::Rules;
use crate::http::{Fields, Request, multipart_form};
use crate::site::SITE_FILE;

/// Linux' NAME_MAX.
pub(super) const MAX_NAME_BYTES: usize = 255;

/// Linux' PATH_MAX without the NUL. Folders that are deeper could be created, but not opened.
pub(in crate::files) const MAX_PATH_BYTES: usize = 4095;

/// What a request asks to store.
pub(super) enum UploadTarget<'r> {
    /// The content, as the file of this name beneath the root.
    File(&'r [u8]),
    /// The files of the form, in this folder beneath the root.
    Form { folder: &'r [u8], boundary: Vec<u8> },
}

impl<'r> UploadTarget<'r> {
    pub(super) fn of(rules: &Rules, request: &'r Request<'_>) -> Result<Self, ExplainedError> {
        check_origin(request.fields())?;
        check_coding(request.fields())?;
        let path = request.path_bytes();
        let name = path.strip_prefix(b"/").unwrap_or(path);
        match *request.method() {
            Method::PUT => Self::file(rules, request, name),
            _ => Self::form(rules, request, name),
        }
    }

    fn file(rules: &Rules, request: &Request<'_>, name: &'r [u8]) -> Result<Self, ExplainedError> {
        if is_folder(name) {
            return Err(ExplainedError::conflict(
                "the path is a folder; PUT needs a file name",
            ));
        }
        // The part would replace the whole file (RFC 9110 §14.5).
        if request.fields().first("content-range").is_some() {
            let explanation = "partial uploads (Content-Range) are not supported";
            return Err(ExplainedError::new(StatusCode::BAD_REQUEST, explanation));
        }
        check_name(rules, name)?;
        Ok(Self::File(name))
    }

    fn form(
        rules: &Rules,
        request: &Request<'_>,
        folder: &'r [u8],
    ) -> Result<Self, ExplainedError> {
        let Some(boundary) = multipart_form::boundary(request.fields()) else {
            return Err(ExplainedError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "POST requires multipart/form-data; use PUT for other types",
            ));
        };
        let boundary = boundary?;
        if !is_folder(folder) {
            let explanation = "a form must be sent to a folder; its path ends with a slash";
            return Err(ExplainedError::conflict(explanation));
        }
        if rules.is_hidden(folder) {
            return Err(OpenError::NotFound.into());
        }
        Ok(Self::Form { folder, boundary })
    }
}

fn is_folder(name: &[u8]) -> bool {
    name.is_empty() || name.ends_with(b"/")
}

/// Rejects `.well-known` and names in it, which speak for the whole host: certificate authorities issue
/// certificates for proof of writing there (RFC 8615 §4.1, RFC 8555 §8.3).
pub(in crate::files) fn check_well_known(name: &[u8]) -> Result<(), ExplainedError> {
    const WELL_KNOWN: &[u8] = b".well-known";
    // A subfolder may be the root of another host.
    let mut components = name.split(|&byte| byte == b'/');
    if components.any(|component| component.eq_ignore_ascii_case(WELL_KNOWN)) {
        let explanation = "what is in .well-known speaks for the whole host";
        return Err(ExplainedError::forbidden(explanation).with_remedy("change it on the server"));
    }
    Ok(())
}

/// Checks that a file of this name, relative to the root, could be served at its own path, and may be
/// created.
pub(in crate::files) fn check_name(rules: &Rules, name: &[u8]) -> Result<(), ExplainedError> {
    let bad = |explanation| Err(ExplainedError::new(StatusCode::BAD_REQUEST, explanation));
    let last = file_name(name);
    match last {
        b"" => return bad("the file name is missing"),
        b"." | b".." => return bad("a file cannot be named . or .."),
        _ => {}
    }
    if last.iter().any(u8::is_ascii_control) {
        return bad("the file name contains a control character");
    }
    if last.len() > MAX_NAME_BYTES {
        return bad("the file name is longer than 255 bytes");
    }
    if name.len() > MAX_PATH_BYTES {
        return bad("the path is longer than 4095 bytes");
    }
    // A folder may have a second name, through a link or in another case, so only the last
    // component of a hidden name is compared.
    let hidden = rules.hidden_names.iter().map(|name| file_name(name));
    let mut reserved = hidden.chain([SITE_FILE.as_bytes()]);
    if rules.is_hidden(name) || reserved.any(|name| last.eq_ignore_ascii_case(name)) {
        return Err(ExplainedError::forbidden(
            "files with this name are not served",
        ));
    }
    check_well_known(name)?;
    if rules.shadows(&[b"/", name].concat()) {
        return Err(ExplainedError::conflict(
            "a site rule answers at this path and would hide the file",
        ));
    }
    Ok(())
}

/// Rejects encoded content: it would be stored as it is, and served without its Content-Encoding.
fn check_coding(fields: &Fields<'_>) -> Result<(), ExplainedError> {
    if fields.has_content_coding() {
        let explanation = "Content-Encoding is not supported for uploads";
        let status = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        Err(ExplainedError::new(status, explanation))
    } else {
        Ok(())
    }
}
