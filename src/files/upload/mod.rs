//! Uploads: a file with PUT (RFC 9110 §9.3.4), and forms with files with POST to a folder
//! (RFC 7578). What may be stored where; a [`temp_file`](super::upload::temp_file) becomes the file, [`error`] and
//! [`report`] say what is answered.
//!
//! A file is there when all of it is, and on the disk before the client hears of it. Pages of other
//! origins, which may make a browser send a form to any server it reaches, store nothing
//! ([`origin`]).

mod error;
mod origin;
mod report;
pub(crate) mod temp_file;

use std::io::{self, Read, Write};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, PoisonError};

use ::http::header::LOCATION;
use ::http::{Method, StatusCode};
use rustix::io::Errno;

use super::media_type;
use super::resolve::file_name;
use super::root::{Blocking, OpenError, OpenedPath};
use super::rules::CleanUrls;
use super::tree::{RootSnapshot, ServeError, Tree};
use super::{Hosts, SemaphorePermit};
use crate::explain_log::{self, Escaped, explain};
use crate::handler::{BodyPolicy, Outcome};
use crate::http::conditional::{self, Precondition};
use crate::http::multipart_form::{self, FormData};
use crate::http::{Fields, Request, Response, negotiation, target};
use crate::site::{Compress, SITE_FILE, Size, Upload};
use error::{UploadError, broken_off};
use origin::check_origin;
use report::UploadReport;
use temp_file::{ExistingEntry, Folder, OverwritePolicy, SaveResult, TempFile};

/// More than the helpers there are, and each waits for its client.
const MAX_AT_ONCE: usize = 64;

/// What one request may store; more, and the answer alone would be long.
const MAX_FILES: usize = 1000;

/// Linux' NAME_MAX.
const MAX_NAME_BYTES: usize = 255;

const DEFAULT_MAX_BYTES: u64 = 1 << 30;

/// The uploads to one site.
#[derive(Debug)]
pub(super) struct Uploads {
    max_bytes: u64,
    overwrite: OverwritePolicy,
    running: Arc<AtomicUsize>,
    /// Held from a look at what is there to its replacement: of two clients that expect the same
    /// version there, one is too late.
    publishing: Mutex<()>,
}

impl Uploads {
    pub(super) fn new(upload: &Upload) -> Self {
        Self {
            max_bytes: upload.max.map_or(DEFAULT_MAX_BYTES, Size::bytes),
            overwrite: match upload.overwrite {
                true => OverwritePolicy::Replace,
                false => OverwritePolicy::Keep,
            },
            running: Arc::default(),
            publishing: Mutex::new(()),
        }
    }
}

/// What a request wants to be done.
enum UploadTarget<'r> {
    /// To store the content as the file of this name.
    File(&'r [u8]),
    /// To store the files of the form in the folder of this name.
    Form { folder: &'r [u8], boundary: Vec<u8> },
}

impl Hosts {
    /// Takes an upload, on a helper thread.
    pub(super) fn take(self: &Arc<Self>, request: &Request<'_>) -> Outcome {
        let tree = self.tree(request);
        let Some(uploads) = &tree.uploads else {
            return tree.reject_method(request).into();
        };
        if let Err(problem) = tree.plan(request) {
            return tree.explain(request, &problem).into();
        }
        let Some(place) = SemaphorePermit::take(&uploads.running, 1, MAX_AT_ONCE) else {
            return Response::unavailable("too many uploads in progress; try again").into();
        };
        let content = request.reader();
        let inner = Arc::clone(self);
        let request = request.clone().into_owned();
        Outcome::blocking(move || {
            let _held_until_the_end = place;
            inner.tree(&request).store(&request, content)
        })
    }
}

impl Tree {
    /// Whether requests of that method are uploads.
    pub(super) fn takes(&self, method: &Method) -> bool {
        self.uploads.is_some() && matches!(*method, Method::PUT | Method::POST)
    }

    pub(super) fn admit_upload(&self, request: &Request<'_>) -> BodyPolicy {
        match (self.plan(request), &self.uploads) {
            (Err(problem), _) => BodyPolicy::Reject(self.explain(request, &problem)),
            (Ok(plan), Some(uploads)) => {
                if explain_log::is_explained() {
                    self.intake(uploads).dry_run(request, &plan);
                }
                BodyPolicy::Stream {
                    max: uploads.max_bytes,
                }
            }
            (Ok(_), None) => BodyPolicy::Reject(self.reject_method(request)),
        }
    }

    fn explain(&self, request: &Request<'_>, problem: &UploadError) -> Response {
        explain!("upload", "refused: {}", problem.explanation);
        let mut response = problem.response(negotiation::response_format(request.fields()));
        self.rules.add_security_headers(response.headers_mut());
        response
    }

    /// The root as it is now, for one upload.
    fn intake<'t>(&'t self, uploads: &'t Uploads) -> UploadRequest<'t> {
        UploadRequest {
            tree: self,
            uploads,
            at: self.snapshot(Blocking::Allowed),
        }
    }

    /// All that can be said without asking the disk.
    fn plan<'r>(&self, request: &'r Request<'_>) -> Result<UploadTarget<'r>, UploadError> {
        check_origin(request.fields())?;
        check_coding(request.fields())?;
        let path = request.path_bytes();
        let name = path.strip_prefix(b"/").unwrap_or(path);
        let is_folder = name.is_empty() || name.ends_with(b"/");
        match *request.method() {
            Method::PUT => {
                if is_folder {
                    return Err(UploadError::conflict(
                        "the path is a folder; PUT needs a file name",
                    ));
                }
                // A part would become the whole (RFC 9110 §14.5).
                if request.fields().first("content-range").is_some() {
                    let explanation = "partial uploads (Content-Range) are not supported";
                    return Err(UploadError::new(StatusCode::BAD_REQUEST, explanation));
                }
                self.check_name(name)?;
                Ok(UploadTarget::File(name))
            }
            _ => {
                let content_type = request.fields().first("content-type").unwrap_or_default();
                let Some(boundary) = multipart_form::boundary(content_type) else {
                    return Err(UploadError::new(
                        StatusCode::UNSUPPORTED_MEDIA_TYPE,
                        "POST requires multipart/form-data; use PUT for other types",
                    ));
                };
                let boundary = boundary?;
                if !is_folder {
                    let explanation = "a form must be sent to a folder; its path ends with a slash";
                    return Err(UploadError::conflict(explanation));
                }
                if self.rules.is_hidden(name) {
                    return Err(OpenError::NotFound.into());
                }
                Ok(UploadTarget::Form {
                    folder: name,
                    boundary,
                })
            }
        }
    }

    /// Whether a file of that name, relative to the root, could be served at its own path.
    fn check_name(&self, name: &[u8]) -> Result<(), UploadError> {
        let bad = |explanation| Err(UploadError::new(StatusCode::BAD_REQUEST, explanation));
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
        // A folder may have two names, by a link or without case: here the last part decides.
        let hidden = self.rules.hidden_names.iter().map(|name| file_name(name));
        let mut reserved = hidden.chain([SITE_FILE.as_bytes()]);
        if self.rules.is_hidden(name) || reserved.any(|name| last.eq_ignore_ascii_case(name)) {
            return Err(UploadError::forbidden(
                "files with this name are not served",
            ));
        }
        if self.rules.shadows(&[b"/", name].concat()) {
            return Err(UploadError::conflict(
                "a site rule answers at this path and would hide the file",
            ));
        }
        Ok(())
    }

    fn store(&self, request: &Request<'_>, content: impl Read) -> Response {
        let Some(uploads) = &self.uploads else {
            return self.reject_method(request);
        };
        let stored = self.plan(request).and_then(|plan| match plan {
            UploadTarget::File(name) => self.intake(uploads).store_file(request, name, content),
            UploadTarget::Form { folder, boundary } => {
                let form = FormData::new(content, &boundary);
                self.intake(uploads).store_form(request, folder, form)
            }
        });
        match stored {
            Ok(mut response) => {
                self.rules.add_security_headers(response.headers_mut());
                response
            }
            Err(problem) => self.explain(request, &problem),
        }
    }
}

/// One upload, on its way in.
struct UploadRequest<'t> {
    tree: &'t Tree,
    uploads: &'t Uploads,
    /// The root when it came.
    at: Arc<RootSnapshot>,
}

impl UploadRequest<'_> {
    /// Says what would become of an upload. Nothing is stored for that.
    fn dry_run(&self, request: &Request<'_>, plan: &UploadTarget<'_>) {
        let most = self.uploads.max_bytes;
        let problem = match plan {
            UploadTarget::File(name) => {
                let standing = self.folder_of(name).and_then(|folder| {
                    let place = UploadDestination {
                        intake: self,
                        folder: &folder,
                        name,
                        fields: request.fields(),
                    };
                    place.check()
                });
                let name = Escaped(name);
                match standing {
                    Ok(ExistingEntry::Absent) => {
                        explain!(
                            "answer",
                            "201 Created: up to {most} bytes would be stored as /{name}"
                        );
                        return;
                    }
                    Ok(_) => {
                        explain!(
                            "answer",
                            "204 No Content: up to {most} bytes would replace /{name}"
                        );
                        return;
                    }
                    Err(problem) => problem,
                }
            }
            UploadTarget::Form { folder, .. } => match self.at.root.folder(folder) {
                Ok(_) => {
                    let folder = Escaped(folder);
                    explain!(
                        "answer",
                        "201 Created (303 for browsers): the files of a form of up to {most} bytes \
                         would be stored in /{folder} if their names are free"
                    );
                    return;
                }
                Err(miss) => miss.into(),
            },
        };
        explain!("answer", "{}: {}", problem.status, problem.explanation);
    }

    /// The folder of the file of that name.
    fn folder_of(&self, name: &[u8]) -> Result<Folder, UploadError> {
        let (parent, _) = name.split_at(name.len() - file_name(name).len());
        self.at.root.folder(parent).map_err(|miss| match miss {
            OpenError::NotFound => {
                UploadError::conflict("the folder does not exist; create it first")
            }
            miss => miss.into(),
        })
    }

    fn store_file(
        &self,
        request: &Request<'_>,
        name: &[u8],
        mut content: impl Read,
    ) -> Result<Response, UploadError> {
        let folder = self.folder_of(name)?;
        let place = UploadDestination {
            intake: self,
            folder: &folder,
            name,
            fields: request.fields(),
        };
        // Now, too: what is refused need not be sent.
        place.check()?;
        let mut temp_file = folder.temp_file()?;
        let mut piece = vec![0; 128 * 1024];
        loop {
            match content.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => write(&mut temp_file, &piece[..count])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken_off(&error)),
            }
        }
        let published = place.save(temp_file)?;
        folder.sync()?;
        Ok(match published {
            SaveResult::Replaced => Response::new(StatusCode::NO_CONTENT),
            SaveResult::Created => {
                let location = target::encode_path(&[b"/", name].concat());
                Response::text("201 Created\n")
                    .with_status(StatusCode::CREATED)
                    .with_header(LOCATION, location)
            }
        })
    }

    fn store_form(
        &self,
        request: &Request<'_>,
        parent: &[u8],
        mut form: FormData<impl Read>,
    ) -> Result<Response, UploadError> {
        let folder = self.at.root.folder(parent)?;
        let mut report = UploadReport::default();
        loop {
            let filename = match form.next_part() {
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
                report.end_with(UploadError::new(StatusCode::PAYLOAD_TOO_LARGE, explanation));
                break;
            }
            let last = basename(&filename);
            let name = [parent, last].concat();
            let place = UploadDestination {
                intake: self,
                folder: &folder,
                name: &name,
                // Preconditions are about what the path names, and that is the folder.
                fields: &Fields::default(),
            };
            match self
                .tree
                .check_name(&name)
                .and_then(|()| place.store(&mut form))
            {
                Ok(size) => report.stored.push((name, size)),
                Err(problem) => {
                    // No more of it than a file can have: the answer may wait for its client.
                    let last = &last[..last.len().min(MAX_NAME_BYTES)];
                    report.failed.push((last.to_vec(), problem));
                }
            }
        }
        if !report.stored.is_empty() {
            folder.sync()?;
        }
        report.response(request)
    }
}

/// Where a file shall be.
struct UploadDestination<'a> {
    intake: &'a UploadRequest<'a>,
    folder: &'a Folder,
    /// Relative to the root.
    name: &'a [u8],
    /// With the preconditions.
    fields: &'a Fields<'a>,
}

impl UploadDestination<'_> {
    /// What is there now, if it may be replaced.
    fn check(&self) -> Result<ExistingEntry, UploadError> {
        let standing = self.folder.at(file_name(self.name))?;
        let precondition = match standing {
            ExistingEntry::NotAFile => return Err(Errno::ISDIR.into()),
            ExistingEntry::Absent => conditional::evaluate_absent(self.fields),
            ExistingEntry::File if !has_preconditions(self.fields) => Precondition::Proceed,
            ExistingEntry::File => match self.intake.tree.validators(&self.intake.at, self.name) {
                Ok(current) => conditional::evaluate(&Method::PUT, self.fields, &current),
                Err(ServeError::Open(OpenError::NotFound)) => {
                    conditional::evaluate_absent(self.fields)
                }
                Err(ServeError::Open(miss)) => return Err(miss.into()),
                Err(ServeError::WouldBlock) => return Err(OpenError::WouldBlock.into()),
            },
        };
        match (precondition, standing, self.intake.uploads.overwrite) {
            (Precondition::Proceed, ExistingEntry::File, OverwritePolicy::Keep) => {
                Err(Errno::EXIST.into())
            }
            (Precondition::Proceed, ExistingEntry::Absent, OverwritePolicy::Keep)
                if self.would_shadow() =>
            {
                Err(UploadError::conflict(
                    "the file would be served in place of another; allow this with --upload-overwrite",
                ))
            }
            (Precondition::Proceed, _, _) => Ok(standing),
            (Precondition::Failed | Precondition::NotModified, _, _) => Err(UploadError::new(
                StatusCode::PRECONDITION_FAILED,
                "the current file does not meet the precondition",
            )),
        }
    }

    /// Whether a new file would be served where another one is now: as its coding, or at an address
    /// without `.html`.
    fn would_shadow(&self) -> bool {
        let rules = &self.intake.tree.rules;
        let plain = [&b".br"[..], b".zst", b".gz"]
            .iter()
            .find_map(|extension| self.name.strip_suffix(*extension))
            .filter(|_| rules.compress != Compress::Off)
            .filter(|plain| media_type::may_be_coded(&rules.media_types.of(plain)));
        let page = match rules.clean_urls {
            CleanUrls::On => Some([self.name, b".html"].concat()),
            CleanUrls::Off => None,
        };
        let mut others = plain.map(<[u8]>::to_vec).into_iter().chain(page);
        let is_file = |name: Vec<u8>| {
            let there = self.intake.at.root.get(&name, Blocking::Allowed);
            matches!(there, Ok(OpenedPath::File(_)))
        };
        others.any(is_file)
    }

    /// Stores the content of the part at hand.
    fn store(&self, form: &mut FormData<impl Read>) -> Result<u64, UploadError> {
        self.check()?;
        let mut temp_file = self.folder.temp_file()?;
        let mut size = 0;
        while let Some(piece) = form.next_piece()? {
            write(&mut temp_file, piece)?;
            size += piece.len() as u64;
        }
        self.save(temp_file)?;
        Ok(size)
    }

    fn save(&self, temp_file: TempFile<'_>) -> Result<SaveResult, UploadError> {
        temp_file.sync()?;
        let lock = self.intake.uploads.publishing.lock();
        let _held_until_the_end = lock.unwrap_or_else(PoisonError::into_inner);
        // Somebody else may have been faster.
        self.check()?;
        Ok(temp_file.save(file_name(self.name), self.intake.uploads.overwrite)?)
    }
}

fn write(temp_file: &mut TempFile<'_>, piece: &[u8]) -> Result<(), UploadError> {
    let failed = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    Ok(temp_file.write_all(piece).map_err(failed)?)
}

/// What is left of a file's name as a browser sends it, which may be a path of its system.
fn basename(filename: &[u8]) -> &[u8] {
    let is_separator = |byte: &u8| matches!(byte, b'/' | b'\\');
    filename.rsplit(is_separator).next().unwrap_or_default()
}

fn has_preconditions(fields: &Fields<'_>) -> bool {
    ["if-match", "if-none-match", "if-unmodified-since"]
        .iter()
        .any(|name| fields.first(name).is_some())
}

/// What is coded would be served as if it were not.
fn check_coding(fields: &Fields<'_>) -> Result<(), UploadError> {
    let identity = |value: &[u8]| value.eq_ignore_ascii_case(b"identity") || value.is_empty();
    match fields.all("content-encoding").all(identity) {
        true => Ok(()),
        false => Err(UploadError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "Content-Encoding is not supported for uploads",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use ::http::header::ALLOW;
    use serde_json::json;
    use tempfile::TempDir;

    use super::*;
    use crate::files::StaticFiles;
    use crate::handler::Handler;
    use crate::http::Body;
    use crate::site::Site;

    fn site(upload: Upload) -> (TempDir, StaticFiles) {
        let folder = tempfile::tempdir().expect("a folder");
        let site = Site {
            upload: Some(upload),
            ..Site::default()
        };
        let files = StaticFiles::with_site(folder.path(), &site).expect("a folder");
        (folder, files)
    }

    fn put(target: &str, content: &str) -> Request<'static> {
        Request::new(Method::PUT, target).with_content(content)
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("a folder");
        let name = |entry: io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name());
        let mut names: Vec<_> = entries
            .map(|entry| {
                name(entry)
                    .expect("an entry")
                    .to_string_lossy()
                    .into_owned()
            })
            .collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_content_that_breaks_off_leaves_nothing() {
        struct Broken(&'static [u8]);
        impl Read for Broken {
            fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
                match self.0.read(room)? {
                    0 => Err(io::ErrorKind::ConnectionReset.into()),
                    count => Ok(count),
                }
            }
        }
        let (folder, files) = site(Upload::default());
        let tree = &files.inner.default;
        let status =
            |request: &Request<'_>, content| tree.store(request, Broken(content)).status().as_u16();
        assert_eq!(status(&put("/a", ""), b"half"), 400);
        let form =
            Request::post("/", "").with_header("Content-Type", "multipart/form-data; boundary=B");
        let half = b"--B\r\nContent-Disposition: form-data; filename=a\r\n\r\nhalf";
        assert_eq!(status(&form, half), 400);
        assert_eq!(names(folder.path()), [""; 0]);
    }

    #[test]
    fn so_many_at_once() {
        let (_folder, files) = site(Upload::default());
        let replies: Vec<_> = (0..=MAX_AT_ONCE)
            .map(|at| files.handle(&put(&format!("/{at}"), "")))
            .collect();
        let statuses: Vec<_> = replies
            .into_iter()
            .map(|reply| reply.wait().status().as_u16())
            .collect();
        let (last, others) = statuses.split_last().expect("some");
        assert_eq!((others, *last), (&[201; MAX_AT_ONCE][..], 503));
        assert_eq!(files.handle(&put("/again", "")).wait().status(), 201);
    }

    #[test]
    fn a_form_stores_so_many_files() {
        let (folder, files) = site(Upload::default());
        let mut form = String::new();
        for at in 0..=MAX_FILES {
            form += &format!("--B\r\nContent-Disposition: form-data; filename={at}\r\n\r\n\r\n");
        }
        let form = Request::post("/", form + "--B--")
            .with_header("Content-Type", "multipart/form-data; boundary=B");
        assert_eq!(files.handle(&form).wait().status(), 413);
        assert_eq!(names(folder.path()).len(), MAX_FILES);
    }

    #[test]
    fn the_size_is_said_before_the_content_is_read() {
        let (_folder, files) = site(Upload {
            max: Some(Size::of_bytes(5)),
            ..Upload::default()
        });
        match files.admit(&put("/a", "")) {
            BodyPolicy::Stream { max } => assert_eq!(max, 5),
            other => panic!("{other:?}"),
        }
        for request in [
            put("/.a", ""),
            put("/", ""),
            put("/a", "").with_header("Content-Range", "bytes 0-1/2"),
            Request::post("/", ""),
        ] {
            assert!(matches!(files.admit(&request), BodyPolicy::Reject(_)));
        }
        let options = files.handle(&Request::new(Method::OPTIONS, "/")).wait();
        assert_eq!(options.headers()[ALLOW], "GET, HEAD, OPTIONS, POST, PUT");
    }

    #[test]
    fn problems_are_told_in_the_form_that_is_asked_for() {
        let (_folder, files) = site(Upload::default());
        let told = |accept: &str| {
            let request = put("/.a", "").with_header("Accept", accept);
            match files.handle(&request).wait().take_body() {
                Body::Bytes(text) => String::from_utf8_lossy(&text).into_owned(),
                other => panic!("{other:?}"),
            }
        };
        let reason = "files with this name are not served";
        assert_eq!(told("*/*"), format!("403 Forbidden: {reason}\n"));
        let json: serde_json::Value =
            serde_json::from_str(&told("application/json")).expect("JSON");
        let expected = json!({ "status": 403, "error": "Forbidden", "explanation": reason });
        assert_eq!(json, expected);
    }
}
