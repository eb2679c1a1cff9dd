//! What a request asks to change, as far as its head says: without a look at the disk.

use ::http::{Method, StatusCode};

use crate::files::explained_error::ExplainedError;
use crate::files::rules::Rules;
use crate::files::upload::origin::check_origin;
use crate::files::upload::target::{check_name, check_well_known};
use crate::http::Request;
use crate::http::host::is_of_host;

/// A change. The names are beneath the root, without a slash at the end.
pub(super) enum Change<'r> {
    CreateFolder(&'r [u8]),
    Rename {
        from: ChangedPath<'r>,
        to: Vec<u8>,
        to_form: PathForm,
    },
    Delete(ChangedPath<'r>),
}

/// The path of what is renamed or deleted.
pub(super) struct ChangedPath<'r> {
    pub(super) name: &'r [u8],
    pub(super) form: PathForm,
}

/// What a path can be of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathForm {
    /// It ends with a slash, so it is that of a folder.
    Folder,
    FileOrFolder,
}

impl<'r> ChangedPath<'r> {
    fn of(path: &'r [u8]) -> Self {
        let name = path.strip_prefix(b"/").unwrap_or(path);
        match name.strip_suffix(b"/") {
            Some(name) => Self {
                name,
                form: PathForm::Folder,
            },
            None => Self {
                name,
                form: PathForm::FileOrFolder,
            },
        }
    }
}

impl<'r> Change<'r> {
    pub(super) fn of(rules: &Rules, request: &'r Request<'_>) -> Result<Self, ExplainedError> {
        check_origin(request.fields())?;
        let path = ChangedPath::of(request.path_bytes());
        let name = path.name;
        if name.is_empty() {
            return Err(ExplainedError::forbidden(
                "the root itself cannot be changed",
            ));
        }
        check_well_known(name)?;
        if rules.shadows(request.path_bytes()) {
            return Err(ExplainedError::conflict("a site rule answers at this path"));
        }
        Ok(match request.method().as_str() {
            "MKCOL" => {
                check_name(rules, name)?;
                Self::CreateFolder(name)
            }
            "MOVE" => {
                let destination = destination(request)?;
                let to = ChangedPath::of(&destination);
                check_name(rules, to.name)?;
                Self::Rename {
                    from: path,
                    to: to.name.to_vec(),
                    to_form: to.form,
                }
            }
            _ => Self::Delete(path),
        })
    }
}

/// Returns the path in the Destination field, which is a URL of this server, or its path (RFC 4918
/// §10.3).
fn destination(request: &Request<'_>) -> Result<Vec<u8>, ExplainedError> {
    let wrong = |status, explanation: &'static str| ExplainedError::new(status, explanation);
    let bad = |explanation| wrong(StatusCode::BAD_REQUEST, explanation);
    let field = request.header("destination");
    let field = field.ok_or_else(|| bad("MOVE needs a Destination field with a path"))?;
    let path = if field.starts_with('/') && !field.starts_with("//") {
        field
    } else {
        let (scheme, rest) = field
            .split_once("://")
            .ok_or_else(|| bad("the Destination is neither a path nor a URL"))?;
        let end = rest
            .find('/')
            .ok_or_else(|| bad("the Destination has no path"))?;
        let origin = format!("{scheme}://{}", &rest[..end]);
        let host = request.fields().first("host").unwrap_or_default();
        if !is_of_host(origin.as_bytes(), host) {
            let explanation = "the Destination is on another server";
            return Err(wrong(StatusCode::BAD_GATEWAY, explanation));
        }
        &rest[end..]
    };
    let parsed = Request::parse(Method::GET, path);
    let parsed = parsed.map_err(|_| bad("the path in the Destination is malformed"))?;
    if parsed.query_str().is_some() {
        return Err(bad(
            "the Destination has a query; encode a question mark as %3F",
        ));
    }
    // A site may be nested below a prefix.
    let prefix = request.prefix_bytes();
    let path = parsed.path_bytes().strip_prefix(prefix);
    let path = path.filter(|path| path.starts_with(b"/"));
    let path = path.ok_or_else(|| bad("the Destination is outside of this site"))?;
    Ok(path.to_vec())
}
