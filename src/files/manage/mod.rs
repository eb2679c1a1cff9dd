//! Changes of the tree: MKCOL creates a folder, MOVE renames a file or a folder, DELETE removes one (the
//! methods of RFC 4918, without the rest of WebDAV). Listings have buttons that send them.
//!
//! What a request cannot reach with GET cannot be changed: hidden names, what symbolic links lead to
//! outside of the root, the files of the server itself, and folders that contain one. Neither can what
//! a rule about access protects, unless the rule is about the requested path as well, with or without its
//! slash. A symbolic link is renamed or deleted itself. Nothing is replaced. Pages of other origins are rejected as with uploads.

mod erase;
mod target;
mod trash;

use std::sync::Arc;
use std::time::Instant;

use ::http::header::LOCATION;
use ::http::{Method, StatusCode};
use rustix::fs::{AtFlags, Mode, RenameFlags, mkdirat, renameat, renameat_with, statat};
use rustix::io::Errno;

use super::explained_error::ExplainedError;
use super::lookup::Lookup;
use super::resolve::file_name;
use super::root::{Blocking, OpenError, OpenedPath};
use super::serve::SiteFiles;
use super::upload::temp_file::{ExistingEntry, Folder};
use crate::explain_log::{self, Escaped, explain};
use crate::handler::{BodyPolicy, DiskJob, Outcome};
use crate::http::conditional;
use crate::http::{Request, Response, negotiation, target as url};
use crate::site::Deletion;
use target::{Change, ChangedPath, PathForm};

/// Readable by all users, subject to the umask, as uploaded files are.
const FOLDER_MODE: Mode = Mode::from_raw_mode(0o755);

/// The most of a request's content that is read: none of the methods has any.
const MAX_IGNORED_BYTES: usize = 64 * 1024;

impl SiteFiles {
    /// True if requests with this method change the tree.
    pub(super) fn is_change(&self, method: &Method) -> bool {
        self.management.is_some() && matches!(method.as_str(), "DELETE" | "MKCOL" | "MOVE")
    }

    /// Decides on a change by its head.
    pub(super) fn admit_change(&self, request: &Request<'_>) -> BodyPolicy {
        match Change::of(&self.tree.rules, request) {
            Ok(_) => BodyPolicy::Buffer {
                max: MAX_IGNORED_BYTES,
            },
            Err(error) => BodyPolicy::Reject(self.change_error(request, &error)),
        }
    }

    /// Makes a change on a thread for long jobs: deleting a large folder takes a while.
    pub(super) fn start_change(self: &Arc<Self>, request: &Request<'_>) -> Outcome {
        let site = Arc::clone(self);
        let device = self.tree.device_of(request.path_bytes());
        let request = request.clone().into_owned();
        let job = move || site.change(&request);
        Outcome::BlockingOnDisk(DiskJob::long(device, job))
    }

    fn change(&self, request: &Request<'_>) -> Response {
        let Some(deletion) = self.management else {
            return self.reject_method(request);
        };
        let now = Instant::now();
        let snapshot = self.tree.snapshot_blocking(now);
        let lookup = self.lookup(&snapshot, request, Blocking::Allowed, now);
        let changed = Change::of(&self.tree.rules, request).and_then(|change| match change {
            Change::CreateFolder(name) => lookup.create_folder(name),
            Change::Rename { from, to, to_form } => lookup.rename(&from, &to, to_form),
            Change::Delete(path) => lookup.delete(&path, deletion),
        });
        snapshot.cache.forget_absent();
        match changed {
            Ok(mut response) => {
                let rules = &self.tree.rules;
                rules.add_security_headers(response.headers_mut());
                response
            }
            Err(error) => self.change_error(request, &error),
        }
    }

    fn change_error(&self, request: &Request<'_>, error: &ExplainedError) -> Response {
        explain!("change", "refused: {error}");
        let mut response = error.response(negotiation::response_format(request.fields()));
        self.tree.rules.add_security_headers(response.headers_mut());
        response
    }
}

/// What is to be renamed or deleted.
struct Source {
    folder: Folder,
    is_folder: bool,
}

impl Lookup<'_> {
    fn create_folder(&self, name: &[u8]) -> Result<Response, ExplainedError> {
        // RFC 4918 §9.3: a body is not ignored, because it would say what the folder is to contain.
        if !self.request.content().is_empty() {
            return Err(ExplainedError::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "MKCOL with a body is not supported",
            ));
        }
        self.check_access_beneath(name)?;
        let folder = self.parent_of(name)?;
        self.check_new(name)?;
        let exists = || ExplainedError::conflict("the name exists already");
        // Before the preconditions, which are only for requests that would succeed (RFC 9110 §13.2.1).
        if folder.entry(file_name(name))? != ExistingEntry::Absent {
            return Err(exists());
        }
        ExplainedError::check(conditional::evaluate_absent(self.request.fields()))?;
        if explain_log::is_explained() {
            explain!(
                "answer",
                "201 Created: the folder /{} would be created",
                Escaped(name)
            );
            return Ok(Response::new(StatusCode::CREATED));
        }
        match mkdirat(&folder, file_name(name), FOLDER_MODE) {
            Ok(()) => {}
            Err(Errno::EXIST) => return Err(exists()),
            Err(errno) => return Err(errno.into()),
        }
        folder.sync()?;
        Ok(self.created(&[name, b"/"].concat()))
    }

    fn rename(
        &self,
        path: &ChangedPath<'_>,
        to: &[u8],
        to_form: PathForm,
    ) -> Result<Response, ExplainedError> {
        let source = self.source(path)?;
        let from = path.name;
        if to_form == PathForm::Folder && !source.is_folder {
            let explanation = "the destination is the path of a folder, and the source is a file";
            return Err(ExplainedError::conflict(explanation));
        }
        check_access(self.tree.rules.permit_name_as_well(self.request, to))?;
        if source.is_folder {
            self.check_access_beneath(to)?;
        }
        let is_beneath = to
            .strip_prefix(from)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"));
        if is_beneath {
            let explanation = "the destination is the same, or beneath what is renamed";
            return Err(ExplainedError::conflict(explanation));
        }
        let folder = self.parent_of(to)?;
        self.check_new(to)?;
        if explain_log::is_explained() {
            let (from, to) = (Escaped(from), Escaped(to));
            explain!("answer", "201 Created: /{from} would be renamed to /{to}");
            return Ok(Response::new(StatusCode::CREATED));
        }
        rename(&source.folder, file_name(from), &folder, file_name(to)).map_err(
            |errno| match errno {
                Errno::EXIST | Errno::NOTEMPTY => ExplainedError::new(
                    StatusCode::PRECONDITION_FAILED,
                    "the destination exists, and nothing is replaced",
                ),
                Errno::XDEV => {
                    ExplainedError::conflict("the destination is on another file system")
                }
                // A symbolic link may lead from the destination to the source.
                Errno::INVAL => ExplainedError::conflict(
                    "the destination is beneath what is renamed, or its file system rejects the name",
                ),
                errno => errno.into(),
            },
        )?;
        source.folder.sync()?;
        folder.sync()?;
        let slash: &[u8] = if source.is_folder { b"/" } else { b"" };
        Ok(self.created(&[to, slash].concat()))
    }

    fn delete(
        &self,
        path: &ChangedPath<'_>,
        deletion: Deletion,
    ) -> Result<Response, ExplainedError> {
        let source = self.source(path)?;
        let name = path.name;
        if explain_log::is_explained() {
            explain!(
                "answer",
                "204 No Content: /{} would be deleted",
                Escaped(name)
            );
            return Ok(Response::new(StatusCode::NO_CONTENT));
        }
        let root = self.snapshot.root.folder(b"")?;
        match deletion {
            Deletion::Trash => trash::keep(&root, &source.folder, name)?,
            Deletion::Permanent => trash::erase(&root, &source.folder, file_name(name))?,
        }
        source.folder.sync()?;
        Ok(Response::new(StatusCode::NO_CONTENT))
    }

    /// Opens the folder of what is to be renamed or deleted, if a client can request it.
    fn source(&self, path: &ChangedPath<'_>) -> Result<Source, ExplainedError> {
        let name = path.name;
        let not_found = || ExplainedError::new(StatusCode::NOT_FOUND, "the name does not exist");
        if self.tree.rules.is_hidden(name) {
            return Err(not_found());
        }
        let root = &self.snapshot.root;
        let is_folder = match root.get(name, Blocking::Allowed) {
            Ok(OpenedPath::File(_)) if path.form == PathForm::FileOrFolder => false,
            Ok(OpenedPath::Directory) => true,
            Ok(OpenedPath::File(_)) | Err(OpenError::NotFound) => return Err(not_found()),
            Err(error) => return Err(error.into()),
        };
        if root.would_replace_server_file(name) || is_folder && root.has_server_file_beneath(name) {
            let explanation = "the server itself reads or writes this file, or one in this folder";
            return Err(ExplainedError::forbidden(explanation));
        }
        if is_folder {
            self.check_access_beneath(name)?;
        }
        ExplainedError::check(self.precondition(name, self.request.method())?)?;
        let folder = self.parent_of(name)?;
        Ok(Source { folder, is_folder })
    }

    /// Checks the rules about access to what is or may be beneath a folder.
    fn check_access_beneath(&self, folder: &[u8]) -> Result<(), ExplainedError> {
        check_access(self.tree.rules.permit_beneath_as_well(self.request, folder))
    }

    /// Opens the folder of `name`, which may not exist.
    fn parent_of(&self, name: &[u8]) -> Result<Folder, ExplainedError> {
        let parent = &name[..name.len() - file_name(name).len()];
        let folder = self.snapshot.root.folder(parent);
        folder.map_err(|error| match error {
            OpenError::NotFound => {
                ExplainedError::conflict("the folder does not exist; create it first")
            }
            error => error.into(),
        })
    }

    fn created(&self, name: &[u8]) -> Response {
        let location = url::encode_path(&[b"/", name].concat());
        Response::text("201 Created\n")
            .with_status(StatusCode::CREATED)
            .with_header(LOCATION, self.request.encoded_prefix() + &location)
    }

    fn check_new(&self, name: &[u8]) -> Result<(), ExplainedError> {
        if self.snapshot.root.would_replace_server_file(name) {
            let explanation = "the server itself reads or writes this file";
            return Err(ExplainedError::forbidden(explanation));
        }
        Ok(())
    }
}

/// Checks the result of the rules about access to what is changed: the request was checked for its own path
/// only.
fn check_access(is_permitted: bool) -> Result<(), ExplainedError> {
    if is_permitted {
        return Ok(());
    }
    Err(ExplainedError::forbidden(
        "a rule about access protects the destination or a part of the folder, but not the requested path",
    ))
}

/// Renames, and replaces nothing: `EEXIST` otherwise.
fn rename(from: &Folder, name: &[u8], to: &Folder, new_name: &[u8]) -> Result<(), Errno> {
    match renameat_with(from, name, to, new_name, RenameFlags::NOREPLACE) {
        // Not every file system supports the flag.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
            match statat(to, new_name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => renameat(from, name, to, new_name),
                Ok(_) => Err(Errno::EXIST),
                Err(errno) => Err(errno),
            }
        }
        result => result,
    }
}
