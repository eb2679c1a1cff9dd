//! The listing of a folder as a response.
//!
//! The entries of a folder are read once for all requests that wait for them at the same time, on a
//! thread for long jobs. Each request then has them in its own order and format.

use std::sync::Arc;

use ::http::header::{CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, VARY};
use ::http::{Method, StatusCode};

use super::compress::{self, EncodedProducer};
use super::listing::{
    self, Entries, FolderEntries, ListingError, ListingFormat, ListingRenderer, SharedListing,
    SortOrder, UploadForm,
};
use super::lookup::{Lookup, Postponed, ServeError};
use super::root::{Blocking, OpenError};
use super::rules::DotFiles;
use super::single_flight::Entered;
use super::tree::{ListingTicket, RootSnapshot};
use crate::body::{BodyProducer, BodyStream};
use crate::explain_log::explain;
use crate::http::negotiation::{self, AcceptEncoding, Coding, ResponseFormat};
use crate::http::{Body, Response};
use crate::site::{Compress, SITE_FILE};

impl Lookup<'_> {
    /// Returns the listing of the folder at the request's path: to HEAD at once where blocking is
    /// allowed, as the fields do not depend on the entries, and else postponed.
    pub(super) fn list(&self, upload_form: UploadForm) -> Result<Response, ServeError> {
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
        Ok(self.listing(upload_form, || Ok(None)))
    }

    /// Returns the listing with the entries of a ticket.
    pub(super) fn list_entries(
        &self,
        ticket: ListingTicket,
        upload_form: UploadForm,
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
        let order = SortOrder::from_query(self.request.query());
        let format = self.listing_format();
        let mut renderer = ListingRenderer::new(entries, self.path(), order, format, upload_form);
        Ok(self.listing(upload_form, move || Ok(renderer.next_piece())))
    }

    fn listing(&self, upload_form: UploadForm, body: impl BodyProducer + 'static) -> Response {
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
                response.with_header(CONTENT_SECURITY_POLICY, listing::policy(upload_form))
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
                ListingFormat::from_query(self.request.query())
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
        match self.tree.listed_entries.try_acquire(entries.len()) {
            Some(permit) => Ok(Arc::new(FolderEntries::new(entries, permit))),
            None => Err(Arc::new(ListingError::TooManyEntries)),
        }
    }

    /// Reads the entries of the folder, without those that are not served.
    fn entries(&self) -> Result<Entries, OpenError> {
        let (root, rules) = (&self.snapshot.root, &self.tree.rules);
        let folder = self.folder();
        let directory = root.directory(folder)?;
        let stat = |entry: &[u8]| root.stat(&[folder, entry].concat());
        let is_omitted = |stat: &_| root.is_server_file(stat);
        let mut entries = Entries::read(&directory, rules.dot_files, stat, is_omitted)?;
        entries.omit(SITE_FILE.as_bytes());
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
