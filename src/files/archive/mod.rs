//! Folders as archives: `/folder/?download=zip`.
//!
//! An archive contains what a client could also request file by file: it has the entries of listings
//! (no hidden names, symbolic links as the site follows them), each opened through the root. It is made
//! while it is sent, in bounded memory: [`walk`] lists one folder after the other, [`producer`] reads
//! the files, [`writer`] writes the format. Before the head is sent, the sizes are added up, so that a
//! folder that is too large gets an error, and the names are remembered ([`measured`]). A file that changes
//! while it is read, or an entry that is removed or renamed before its turn, breaks the response off: the
//! connection or the stream is reset, so that the client can tell that the archive is incomplete. New entries
//! do not, as folders that receive uploads could not be downloaded else. What the server cannot read is
//! listed in a text file at the end of the archive ([`unreadable`]), as `tar` and `zip` go on and report it:
//! one such file must not keep clients from all others.

mod measured;
#[cfg(not(feature = "archive"))]
mod no_writer;
pub(super) mod policy;
mod producer;
mod unreadable;
mod walk;
#[cfg(feature = "archive")]
mod writer;

use std::sync::Arc;
use std::time::Instant;

use ::http::StatusCode;
use ::http::header::{CONTENT_DISPOSITION, CONTENT_TYPE};

use super::archive_format::{ArchiveFormat, ArchiveQuery};
use super::client_slots::{ClientSlot, NoSlot};
use super::explained_error::ExplainedError;
use super::lookup::Postponed;
use super::root::{Blocking, OpenError};
use super::rules::ServeScope;
use super::serve::SiteFiles;
use crate::body::{BodyStream, Cancellation};
use crate::client_key::ClientKey;
use crate::explain_log::explain;
use crate::http::disposition::attachment;
use crate::http::{Body, Request, Response, negotiation};
use crate::site::Listing;
use measured::MeasuredEntries;
#[cfg(not(feature = "archive"))]
use no_writer::ArchiveWriter;
use policy::ArchivePolicy;
use producer::ArchiveProducer;
use unreadable::UnreadableEntries;
use walk::{FolderWalk, WalkError, WalkedKind};
#[cfg(feature = "archive")]
use writer::ArchiveWriter;

/// The most files and folders of an archive: a zip archive has a directory of all of them at its end,
/// which is in memory until then.
const MAX_ENTRIES: usize = 500_000;

impl SiteFiles {
    /// Returns what a request for a folder says about archives.
    pub(super) fn archive_query(&self, request: &Request<'_>) -> ArchiveQuery {
        let path = request.path_bytes();
        let rules = &self.tree.rules;
        let is_folder =
            path.ends_with(b"/") && rules.scope == ServeScope::Tree && !rules.shadows(path);
        if is_folder {
            ArchiveQuery::parse(request.query_str())
        } else {
            ArchiveQuery::None
        }
    }

    /// Returns the response to a request for an archive, unless it asks for none.
    pub(super) fn check_archive(
        &self,
        request: &Request<'_>,
    ) -> Option<Result<Response, Postponed>> {
        let query = self.archive_query(request);
        match (query, &self.archives) {
            (ArchiveQuery::None, _) => None,
            (ArchiveQuery::Asked(format), Some(_)) => {
                explain!(
                    "archive",
                    "the query asks for the folder as {}",
                    format.extension()
                );
                Some(Err(Postponed::Archive(format)))
            }
            // The query may be one of the page that is the index of the folder.
            _ if self.tree.rules.listing != Listing::On => None,
            (ArchiveQuery::Unknown, Some(_)) => {
                let formats = ArchiveFormat::ALL.iter().map(|format| format.extension());
                let formats = formats.collect::<Vec<_>>().join(", ");
                let explanation = format!("unknown archive format; the formats are {formats}");
                let error = ExplainedError::new(StatusCode::BAD_REQUEST, explanation);
                Some(Ok(self.explained(request, &error)))
            }
            (ArchiveQuery::Asked(_) | ArchiveQuery::Unknown, None) => {
                let error = ExplainedError::forbidden("folders cannot be downloaded as archives")
                    .with_remedy("allow it with --archive on");
                Some(Ok(self.explained(request, &error)))
            }
        }
    }

    /// Begins an archive of the folder at a request's path. Examines all its files, so it must run on a
    /// thread for long jobs. Stops when the exchange is cancelled.
    pub(super) fn archive(
        self: &Arc<Self>,
        request: &Request<'_>,
        format: ArchiveFormat,
        device: u64,
        cancellation: &Cancellation,
    ) -> Result<Response, Postponed> {
        let now = Instant::now();
        let snapshot = self.tree.snapshot_blocking(now);
        let folder = request.path_bytes();
        let folder = folder.strip_prefix(b"/").unwrap_or(folder);
        let lookup = self.lookup(&snapshot, request, Blocking::Allowed, now);
        if self.tree.rules.is_hidden(folder) {
            return lookup.open_error(&OpenError::NotFound);
        }
        let walk = || FolderWalk::new(self, &snapshot, request, folder);
        let modified = snapshot.root.stat(folder).map_or(0, |stat| stat.st_mtime);
        let begun = self
            .begin_archive(request, format)
            .and_then(|(policy, slot)| {
                let measured = measure(walk()?, policy.max_bytes, cancellation)?;
                let name = archive_name(self, request);
                let top = [&name[..], b"/"].concat();
                let writer = begin_writing(format, &top, modified)?;
                let walk = walk()?;
                let producer = ArchiveProducer {
                    site: Arc::clone(self),
                    measured,
                    unreadable: UnreadableEntries::default(),
                    unreadable_file: unreadable::file_name(|name| walk.has_entry(name)),
                    walk,
                    writer: Some(writer),
                    current: None,
                    top,
                    prefix_len: folder.len(),
                    bytes_left: policy.max_bytes,
                    device,
                    buffer: Vec::new(),
                    _held_until_the_end: slot,
                };
                Ok((name, producer))
            });
        match begun {
            Ok((name, producer)) => {
                let body = Body::Stream(BodyStream::produced(producer));
                let response = Response::new(StatusCode::OK)
                    .with_header(CONTENT_TYPE, format.media_type())
                    .with_body(body);
                let rules = &self.tree.rules;
                let response = rules.add_headers_without_caching(response, request.path_bytes());
                Ok(response.with_header(CONTENT_DISPOSITION, disposition(&name, format)))
            }
            Err(ArchiveError::Open(error)) => lookup.open_error(&error),
            Err(ArchiveError::Busy) => Ok(Response::unavailable(
                "too many folder listings in progress; try again",
            )),
            // It is not sent.
            Err(ArchiveError::Cancelled) => Ok(Response::unavailable("the request was cancelled")),
            Err(ArchiveError::Explained(error)) => Ok(self.explained(request, &error)),
        }
    }

    fn begin_archive(
        &self,
        request: &Request<'_>,
        format: ArchiveFormat,
    ) -> Result<(&ArchivePolicy, ClientSlot), ArchiveError> {
        let Some(policy) = &self.archives else {
            let text = format!("folders cannot be downloaded as {}", format.extension());
            return Err(ExplainedError::new(StatusCode::FORBIDDEN, text).into());
        };
        let client = ClientKey::of(request.client_addr().ip());
        let slot = policy.concurrent.acquire(client).map_err(|no_slot| {
            let reason = match no_slot {
                NoSlot::Full => "too many archives in progress; try again",
                NoSlot::ClientFull => "too many archives of this client in progress; try again",
            };
            ExplainedError::new(StatusCode::SERVICE_UNAVAILABLE, reason)
        })?;
        Ok((policy, slot))
    }

    fn explained(&self, request: &Request<'_>, error: &ExplainedError) -> Response {
        explain!("archive", "refused: {error}");
        let mut response = error.response(negotiation::response_format(request.fields()));
        self.tree.rules.add_security_headers(response.headers_mut());
        response
    }
}

/// Checks that the files beneath a folder are within the limits, and returns the entries. This takes long
/// for a huge folder, so it ends when the exchange is cancelled.
fn measure(
    mut walk: FolderWalk,
    max_bytes: u64,
    cancellation: &Cancellation,
) -> Result<MeasuredEntries, ArchiveError> {
    let mut measured = MeasuredEntries::default();
    let (mut bytes, mut entries) = (0_u64, 0_usize);
    while let Some(entry) = walk.next()? {
        if cancellation.is_cancelled() {
            return Err(ArchiveError::Cancelled);
        }
        // What cannot be read now may be removed as well.
        if !matches!(entry.kind, WalkedKind::Unreadable(_)) {
            measured.add(&entry.name);
        }
        bytes = bytes.saturating_add(entry.size);
        entries += 1;
        let explanation = if bytes > max_bytes {
            format!("the folder has more than {max_bytes} bytes")
        } else if entries > MAX_ENTRIES {
            format!("the folder has more than {MAX_ENTRIES} files and folders")
        } else {
            continue;
        };
        let error = ExplainedError::new(StatusCode::FORBIDDEN, explanation);
        return Err(error.with_remedy("--archive-max sets the limit").into());
    }
    Ok(measured)
}

/// Begins with the folder that contains everything: it may be empty.
fn begin_writing(
    format: ArchiveFormat,
    top: &[u8],
    modified: i64,
) -> Result<ArchiveWriter, ExplainedError> {
    let begun = ArchiveWriter::new(format).and_then(|mut writer| {
        writer.add_folder(top, modified)?;
        Ok(writer)
    });
    begun.map_err(|error| {
        log::error!("archive: {error}");
        let text = "the archive could not be begun";
        ExplainedError::new(StatusCode::INTERNAL_SERVER_ERROR, text)
    })
}

/// Why an archive is not begun.
#[derive(Debug)]
enum ArchiveError {
    Open(OpenError),
    /// It may be possible later.
    Busy,
    /// The client has disconnected.
    Cancelled,
    Explained(ExplainedError),
}

impl From<WalkError> for ArchiveError {
    fn from(error: WalkError) -> Self {
        match error {
            WalkError::Open(error) => Self::Open(error),
            WalkError::TooManyEntries => Self::Busy,
            WalkError::FolderTooLarge => Self::Explained(ExplainedError::new(
                StatusCode::FORBIDDEN,
                "a folder has more files and folders than a listing can have",
            )),
        }
    }
}

impl From<ExplainedError> for ArchiveError {
    fn from(error: ExplainedError) -> Self {
        Self::Explained(error)
    }
}

/// Returns the name of the folder at a request's path: of the file, and of the folder in it that contains
/// everything. Prefixes are no part of it: one may be a secret (`--random-path`), and archives are passed on.
fn archive_name(site: &SiteFiles, request: &Request<'_>) -> Vec<u8> {
    let path = request.path_bytes();
    let last = path
        .split(|&byte| byte == b'/')
        .rfind(|name| !name.is_empty());
    let name = match last {
        Some(name) => name.to_vec(),
        None => site.tree.name(),
    };
    // A colon could be that of a drive, and a dot at the beginning hides a folder.
    let name: Vec<u8> = name
        .iter()
        .map(|&byte| match byte {
            b':' | b'\\' | b'/' | 0..0x20 | 0x7F => b'_',
            byte => byte,
        })
        .collect();
    match name.iter().position(|&byte| byte != b'.') {
        Some(start) => name[start..].to_vec(),
        None => b"files".to_vec(),
    }
}

/// Returns a Content-Disposition with the name of the archive.
fn disposition(name: &[u8], format: ArchiveFormat) -> String {
    /// A longer name is cut by clients, with its extension.
    const MAX_NAME_CHARS: usize = 150;
    let text = String::from_utf8_lossy(name);
    let short: String = text.chars().take(MAX_NAME_CHARS).collect();
    attachment(&format!("{short}.{}", format.extension()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archive_of_any_folder_has_its_extension_and_is_not_disguised() {
        for (name, expected) in [
            (
                "a \"b\"",
                "attachment; filename=\"a _b_.zip\"; filename*=UTF-8''a%20%22b%22.zip",
            ),
            ("\u{202E}gpj", "attachment; filename=\"gpj.zip\""),
        ] {
            let value = disposition(name.as_bytes(), ArchiveFormat::Zip);
            assert_eq!(value, expected, "{name:?}");
        }
        let longest = disposition("é".repeat(127).as_bytes(), ArchiveFormat::Tar);
        assert!(longest.ends_with(".tar"), "{longest}");
    }

    #[test]
    fn folder_with_too_many_entries_is_an_error_that_stays() {
        match ArchiveError::from(WalkError::FolderTooLarge) {
            ArchiveError::Explained(error) => assert_eq!(error.status, StatusCode::FORBIDDEN),
            error => panic!("{error:?}"),
        }
        let error = ArchiveError::from(WalkError::TooManyEntries);
        assert!(matches!(error, ArchiveError::Busy), "{error:?}");
    }
}
