//! The listing of a folder as a response.
//!
//! The entries of a folder are read once for all requests that wait for them at the same time, on a
//! thread for long jobs. Each request then has them in its own order and format.

use std::io::Read;
use std::sync::Arc;

use ::http::header::{CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, VARY};
use ::http::{Method, StatusCode};

use super::compress::{self, EncodedProducer};
use super::listing::{
    self, Entries, FolderEntries, ListingError, ListingFormat, ListingPage, ListingRenderer,
    PageFeatures, SharedListing, SortOrder, readme,
};
use super::lookup::{Lookup, Postponed, ServeError};
use super::resolve::TRASH;
use super::root::{Blocking, OpenError, OpenedPath, Root};
use super::rules::DotFiles;
use super::single_flight::Entered;
use super::tree::{ListingTicket, RootSnapshot, Tree};
use crate::body::{BodyProducer, BodyStream};
use crate::explain_log::explain;
use crate::http::negotiation::{self, AcceptEncoding, Coding, ResponseFormat};
use crate::http::{Body, Response};
use crate::site::{Compress, Readme, SITE_FILE};

/// The memory that an entry takes, by which that of a README is counted.
const ENTRY_BYTES: usize = 50;

impl Lookup<'_> {
    /// Returns the listing of the folder at the request's path: to HEAD at once where blocking is
    /// allowed, as the fields do not depend on the entries, and else postponed.
    pub(super) fn list(&self, features: PageFeatures) -> Result<Response, ServeError> {
        let folder = self.folder();
        if *self.request.method() != Method::HEAD {
            let ticket = RootSnapshot::listing_ticket(self.snapshot, folder);
            return Err(Postponed::Listing(ticket).into());
        }
        if self.blocking == Blocking::Forbidden {
            return Err(Postponed::Lookup.into());
        }
        let directory = self.snapshot.root.directory(folder)?;
        Entries::probe(&directory).map_err(OpenError::from)?;
        Ok(self.listing(features, || Ok(None)))
    }

    /// Returns the listing with the entries of a ticket.
    pub(super) fn list_entries(
        &self,
        ticket: ListingTicket,
        features: PageFeatures,
        free_descriptors: impl FnOnce(),
    ) -> Result<Response, Postponed> {
        let ListingTicket { snapshot, ticket } = ticket;
        let shared = match ticket.enter() {
            Entered::Done(shared) => shared,
            Entered::Busy(ticket) => {
                let ticket = ListingTicket { snapshot, ticket };
                return Err(Postponed::ListingInProgress(ticket));
            }
            Entered::Run(run) => {
                let shared = self.read_entries(free_descriptors);
                run.finish(shared.clone());
                shared
            }
        };
        let entries = match shared {
            Ok(entries) => entries,
            Err(error) => return self.listing_error(&error),
        };
        let order = SortOrder::from_query(self.request.query_str());
        let format = self.listing_format();
        let page = ListingPage {
            path: self.path().to_vec(),
            root_name: self.tree.name(),
            order,
            features,
        };
        let mut renderer = ListingRenderer::new(entries, page, format);
        Ok(self.listing(features, move || Ok(renderer.next_piece())))
    }

    fn listing(&self, features: PageFeatures, body: impl BodyProducer + 'static) -> Response {
        let coding = self.listing_coding();
        let body = match coding {
            Coding::Identity => BodyStream::produced(body),
            coding => BodyStream::produced(EncodedProducer::new(body, coding)),
        };
        let mut response = Response::new(StatusCode::OK).with_body(Body::Stream(body));
        if coding != Coding::Identity {
            response = response.with_header(CONTENT_ENCODING, coding.name());
        }
        let rules = &self.tree.rules;
        let varying = if self.tree.rules.compress == Compress::Auto {
            "Accept, Accept-Encoding"
        } else {
            "Accept"
        };
        let response = response.with_header(VARY, varying);
        let response = match self.listing_format() {
            ListingFormat::Json => response.with_header(CONTENT_TYPE, "application/json"),
            ListingFormat::Html => response.with_header(CONTENT_TYPE, "text/html; charset=utf-8"),
        };
        let response = rules.add_headers_without_caching(response, self.path());
        match self.listing_format() {
            ListingFormat::Json => response,
            ListingFormat::Html => {
                response.with_header(CONTENT_SECURITY_POLICY, listing::policy(&features))
            }
        }
    }

    /// Returns the coding in which the listing is sent: the one that Accept-Encoding prefers, unless the
    /// site compresses nothing itself.
    fn listing_coding(&self) -> Coding {
        if self.tree.rules.compress != Compress::Auto || !compress::is_built_in() {
            explain!(
                "coding",
                "not compressed: listings have no sidecars, and compress is not auto"
            );
            return Coding::Identity;
        }
        let accepted = AcceptEncoding::parse(self.request.fields());
        let preferred = accepted.ranked().next();
        let coding = preferred.unwrap_or(Coding::Identity);
        match coding {
            Coding::Identity => explain!(
                "coding",
                "not compressed: Accept-Encoding asks for none of br, zstd, gzip"
            ),
            coding => explain!(
                "coding",
                "compressed here with {} (--compress auto)",
                coding.name()
            ),
        }
        coding
    }

    fn listing_format(&self) -> ListingFormat {
        match negotiation::response_format(self.request.fields()) {
            ResponseFormat::Json => ListingFormat::Json,
            ResponseFormat::Html | ResponseFormat::Text => {
                ListingFormat::from_query(self.request.query_str())
            }
        }
    }

    fn listing_error(&self, error: &ListingError) -> Result<Response, Postponed> {
        match error {
            ListingError::Open(error) => self.open_error(error),
            ListingError::TooManyEntries => Ok(Response::unavailable(
                "too many folder listings in progress; try again",
            )),
        }
    }

    /// The name of the folder at the request's path: empty for the root, and else with a slash at the
    /// end.
    fn folder(&self) -> &[u8] {
        let path = self.path();
        path.strip_prefix(b"/").unwrap_or(path)
    }

    /// Reads the entries of the folder. If the process is out of file descriptors, `free_descriptors`
    /// is called and the folder is read once more.
    fn read_entries(&self, free_descriptors: impl FnOnce()) -> SharedListing {
        let entries = match self.entries() {
            Err(OpenError::OutOfDescriptors) => {
                free_descriptors();
                self.entries()
            }
            entries => entries,
        };
        let entries = entries.map_err(|error| Arc::new(ListingError::Open(error)))?;
        let readme = self.readme(&entries);
        let size = entries.len() + readme.len() / ENTRY_BYTES;
        match self.tree.listed_entries.try_acquire(size) {
            Some(permit) => Ok(Arc::new(FolderEntries::new(entries, readme, permit))),
            None => Err(Arc::new(ListingError::TooManyEntries)),
        }
    }

    /// Returns the README of the folder as HTML: empty if there is none, or if it cannot be read.
    fn readme(&self, entries: &Entries) -> String {
        if self.tree.rules.readme == Readme::Off {
            return String::new();
        }
        let Some((name, syntax)) = readme::find(entries) else {
            return String::new();
        };
        let name = [self.folder(), name].concat();
        if !self.tree.rules.permit_as_well(self.request, &name) {
            return String::new();
        }
        let Ok(OpenedPath::File(opened)) = self.snapshot.root.get(&name, self.blocking) else {
            return String::new();
        };
        let mut content = Vec::new();
        let most = readme::MAX_README_BYTES;
        let depth = memchr::memchr_iter(b'/', self.folder()).count();
        match (&opened.file).take(most + 1).read_to_end(&mut content) {
            Ok(1..) if content.len() as u64 <= most => readme::render(&content, syntax, depth),
            _ => String::new(),
        }
    }

    fn entries(&self) -> Result<Entries, OpenError> {
        self.tree.entries(&self.snapshot.root, self.folder())
    }
}

impl Tree {
    /// Reads the entries of the folder `folder`, without those that are not served. Its name is empty for
    /// the root, and else has a slash at the end.
    pub(super) fn entries(&self, root: &Root, folder: &[u8]) -> Result<Entries, OpenError> {
        let rules = &self.rules;
        let directory = root.directory(folder)?;
        let stat = |entry: &[u8]| root.stat(&[folder, entry].concat());
        let is_omitted = |stat: &_| root.is_server_file(stat);
        let mut entries = Entries::read(&directory, rules.dot_files, stat, is_omitted)?;
        entries.omit(SITE_FILE.as_bytes());
        entries.omit(TRASH);
        if !folder.is_empty() && rules.dot_files == DotFiles::Hidden {
            // It is public in the root only (RFC 8615).
            entries.omit(b".well-known");
        }
        for hidden in &rules.hidden_names {
            if let Some(entry) = hidden.strip_prefix(folder)
                && !entry.contains(&b'/')
            {
                entries.omit(entry);
            }
        }
        Ok(entries)
    }
}
