//! Uploads: a file with PUT (RFC 9110 §9.3.4), and a form's files with POST to a folder (RFC 7578).
//!
//! The content is written to a [`temp_file`], which gets its name when it is complete and on the
//! disk, and before the client gets its response. Pages of other origins, which can make a browser
//! send a form to any server that it reaches, are rejected ([`origin`]).

mod destination;
pub(super) mod origin;
mod parent_folder;
pub(super) mod policy;
mod report;
pub(super) mod target;
pub(crate) mod temp_file;

use std::io::Read;
use std::sync::Arc;
use std::time::Instant;

use ::http::header::LOCATION;
use ::http::{Method, StatusCode};

use super::client_slots::NoSlot;
use super::explained_error::ExplainedError;
use super::lookup::Lookup;
use super::root::Blocking;
use super::serve::SiteFiles;
use super::tree::RootSnapshot;
use crate::client_key::ClientKey;
use crate::explain_log::{self, Escaped, explain};
use crate::handler::{BodyPolicy, DiskJob, Outcome};
use crate::http::multipart_form::FormData;
use crate::http::{Fields, Rejection, Request, Response, negotiation, target as url};
use crate::site::Size;
use destination::UploadDestination;
use parent_folder::ParentFolder;
use policy::UploadPolicy;
use report::UploadReport;
use target::{MAX_NAME_BYTES, UploadTarget, check_name};
use temp_file::{ExistingEntry, Folder, SaveResult};

/// The most files of one form: each has a line in the response.
const MAX_FILES: usize = 1000;

impl SiteFiles {
    /// True if requests with this method are uploads.
    pub(super) fn is_upload(&self, method: &Method) -> bool {
        self.uploads.is_some() && matches!(*method, Method::PUT | Method::POST)
    }

    /// Decides on an upload by its head, before the content is read.
    pub(super) fn admit_upload(&self, request: &Request<'_>) -> BodyPolicy {
        let Some(policy) = &self.uploads else {
            return BodyPolicy::Reject(self.reject_method(request));
        };
        match UploadTarget::of(&self.tree.rules, request) {
            Err(error) => BodyPolicy::Reject(self.upload_error(request, &error)),
            Ok(target) => {
                if explain_log::is_explained() {
                    let snapshot = self.tree.snapshot_blocking(Instant::now());
                    let upload = self.upload_request(policy, &snapshot, request);
                    upload.dry_run(&target);
                }
                BodyPolicy::Stream {
                    max: policy.max_bytes,
                }
            }
        }
    }

    /// Stores an upload on a blocking thread.
    pub(super) fn start_upload(self: &Arc<Self>, request: &Request<'_>) -> Outcome {
        let Some(policy) = &self.uploads else {
            return self.reject_method(request).into();
        };
        if let Err(error) = UploadTarget::of(&self.tree.rules, request) {
            return self.upload_error(request, &error).into();
        }
        let client = ClientKey::of(request.client_addr().ip());
        let slot = match policy.concurrent.acquire(client) {
            Ok(slot) => slot,
            Err(no_slot) => {
                let reason = match no_slot {
                    NoSlot::Full => "too many uploads in progress; try again",
                    NoSlot::ClientFull => "too many uploads of this client in progress; try again",
                };
                let error = ExplainedError::new(StatusCode::SERVICE_UNAVAILABLE, reason);
                return self.upload_error(request, &error).into();
            }
        };
        let content = request.reader();
        let site = Arc::clone(self);
        let (is_streamed, device) = (
            request.is_streamed(),
            self.tree.device_of(request.path_bytes()),
        );
        let request = request.clone().into_owned();
        let job = move || {
            let _held_until_the_end = slot;
            site.store(&request, content)
        };
        if is_streamed {
            // It waits for the client as well.
            Outcome::blocking(job)
        } else {
            Outcome::BlockingOnDisk(DiskJob::long(device, job))
        }
    }

    fn store(&self, request: &Request<'_>, content: impl Read) -> Response {
        let Some(policy) = &self.uploads else {
            return self.reject_method(request);
        };
        let rules = &self.tree.rules;
        let snapshot = self.tree.snapshot_blocking(Instant::now());
        let upload = self.upload_request(policy, &snapshot, request);
        let stored = UploadTarget::of(rules, request).and_then(|target| match target {
            UploadTarget::File(name) => upload.store_file(name, content),
            UploadTarget::Form { folder, boundary } => {
                upload.store_form(folder, FormData::new(content, &boundary))
            }
        });
        match stored {
            Ok(mut response) => {
                rules.add_security_headers(response.headers_mut());
                response
            }
            Err(error) => self.upload_error(request, &error),
        }
    }

    fn upload_request<'a>(
        &'a self,
        policy: &'a UploadPolicy,
        snapshot: &'a Arc<RootSnapshot>,
        request: &'a Request<'a>,
    ) -> UploadRequest<'a> {
        let lookup = Lookup {
            tree: &self.tree,
            snapshot,
            request,
            blocking: Blocking::Allowed,
            now: Instant::now(),
        };
        UploadRequest { policy, lookup }
    }

    /// Makes the response to an upload whose body is rejected because it exceeds the limit of uploads.
    /// `None` if it is rejected for another reason.
    pub(super) fn reject_too_large(
        &self,
        request: &Request<'_>,
        rejection: &Rejection,
    ) -> Option<Response> {
        let policy = self.uploads.as_ref()?;
        let status = rejection.status();
        if status != StatusCode::PAYLOAD_TOO_LARGE || !self.is_upload(request.method()) {
            return None;
        }
        let limit = Size::of_bytes(policy.max_bytes);
        let explanation = format!("the upload is larger than the limit of {limit}");
        let error = ExplainedError::new(status, explanation).with_remedy("--upload-max raises it");
        Some(self.upload_error(request, &error).closing())
    }

    fn upload_error(&self, request: &Request<'_>, error: &ExplainedError) -> Response {
        explain!("upload", "refused: {error}");
        let mut response = error.response(negotiation::response_format(request.fields()));
        let rules = &self.tree.rules;
        rules.add_security_headers(response.headers_mut());
        response
    }
}

/// One upload that was accepted by its head.
#[derive(Clone, Copy)]
struct UploadRequest<'a> {
    policy: &'a UploadPolicy,
    lookup: Lookup<'a>,
}

impl<'a> UploadRequest<'a> {
    /// Explains what the response would be if the content was sent, and stores nothing.
    fn dry_run(self, target: &UploadTarget<'_>) {
        let result = match target {
            UploadTarget::File(name) => self.dry_run_file(name),
            UploadTarget::Form { folder, .. } => self.dry_run_form(folder),
        };
        if let Err(error) = result {
            explain!("answer", "{}: {error}", error.status);
        }
    }

    fn dry_run_file(self, name: &[u8]) -> Result<(), ExplainedError> {
        let most = self.policy.max_bytes;
        let parent = ParentFolder::of(name, self.policy, &self.lookup)?;
        let fields = self.lookup.request.fields();
        let existing = self.destination(&parent, name, fields).check()?;
        let name = Escaped(name);
        if existing == ExistingEntry::Absent {
            explain!(
                "answer",
                "201 Created: up to {most} bytes would be stored as /{name}"
            );
        } else {
            explain!(
                "answer",
                "204 No Content: up to {most} bytes would replace /{name}"
            );
        }
        Ok(())
    }

    fn dry_run_form(self, folder: &[u8]) -> Result<(), ExplainedError> {
        let most = self.policy.max_bytes;
        self.form_folder(folder)?;
        let folder = Escaped(folder);
        explain!(
            "answer",
            "201 Created (303 for browsers): the files of a form of up to {most} bytes \
             would be stored in /{folder} if their names are free"
        );
        Ok(())
    }

    fn destination<'d>(
        self,
        parent: &'d ParentFolder,
        name: &'d [u8],
        fields: &'d Fields<'d>,
    ) -> UploadDestination<'d>
    where
        'a: 'd,
    {
        UploadDestination {
            policy: self.policy,
            lookup: self.lookup,
            parent,
            name,
            fields,
        }
    }

    fn store_file(self, name: &[u8], content: impl Read) -> Result<Response, ExplainedError> {
        let parent = ParentFolder::of(name, self.policy, &self.lookup)?;
        let fields = self.lookup.request.fields();
        let saved = self.destination(&parent, name, fields).store(content)?;
        self.lookup.snapshot.cache.forget_absent();
        Ok(match saved {
            SaveResult::Replaced => Response::new(StatusCode::NO_CONTENT),
            SaveResult::Created => {
                let prefix = self.lookup.request.encoded_prefix();
                let location = prefix + &url::encode_path(&[b"/", name].concat());
                Response::text("201 Created\n")
                    .with_status(StatusCode::CREATED)
                    .with_header(LOCATION, location)
            }
        })
    }

    /// Checks the rules about access to a file that a form names: the request was checked for the folder.
    fn check_access(self, name: &[u8]) -> Result<(), ExplainedError> {
        let lookup = self.lookup;
        if lookup.tree.rules.permit_name_as_well(lookup.request, name) {
            return Ok(());
        }
        let explanation = "a rule about access protects this file, but not its folder";
        Err(ExplainedError::forbidden(explanation).with_remedy("send it with PUT"))
    }

    /// Opens the folder of a form, which is the target resource that preconditions apply to.
    fn form_folder(self, name: &[u8]) -> Result<Folder, ExplainedError> {
        let folder = self.lookup.snapshot.root.folder(name)?;
        let method = self.lookup.request.method();
        ExplainedError::check(self.lookup.precondition(name, method)?)?;
        Ok(folder)
    }

    fn store_form(
        self,
        parent: &[u8],
        mut form: FormData<impl Read>,
    ) -> Result<Response, ExplainedError> {
        let rules = &self.lookup.tree.rules;
        let folder = ParentFolder::Existing(self.form_folder(parent)?);
        let mut report = UploadReport::default();
        loop {
            let filename = match form.next_head() {
                Ok(Some(part)) => part.filename,
                Ok(None) => break,
                Err(error) => {
                    report.end_with(error.into());
                    break;
                }
            };
            let Some(filename) = filename else {
                continue;
            };
            if report.stored.len() + report.failed.len() == MAX_FILES {
                let explanation = format!("a form can store at most {MAX_FILES} files");
                report.end_with(ExplainedError::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    explanation,
                ));
                break;
            }
            let last = basename(&filename);
            let name = [parent, last].concat();
            let no_fields = Fields::default();
            let destination = self.destination(&folder, &name, &no_fields);
            let checked = check_name(rules, &name).and_then(|()| self.check_access(&name));
            match checked.and_then(|()| destination.store_part(&mut form)) {
                Ok(len) => report.stored.push((name, len)),
                Err(error) => {
                    // Shortened to what a file can have: the response may be in memory for long.
                    let last = &last[..last.len().min(MAX_NAME_BYTES)];
                    report.failed.push((last.to_vec(), error));
                }
            }
        }
        if !report.stored.is_empty() {
            self.lookup.snapshot.cache.forget_absent();
        }
        report.response(self.lookup.request)
    }
}

/// Returns the last component of a file name sent by a browser, which may be a path of the client's
/// system.
fn basename(filename: &[u8]) -> &[u8] {
    let is_separator = |byte: &u8| matches!(byte, b'/' | b'\\');
    filename.rsplit(is_separator).next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
