//! The listing of a folder as a response.
//!
//! The entries of a folder are read once for all requests that wait for them at the same time, on a
//! thread for long jobs. Each request then has them in its own order and format.

use std::sync::Arc;

use ::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE, VARY};
use ::http::{Method, StatusCode};

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
use crate::http::negotiation::{self, ResponseFormat};
use crate::http::{Body, Response};
use crate::site::SITE_FILE;

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
        let order = SortOrder::from_query(self.request.query_str());
        let format = self.listing_format();
        let mut renderer = ListingRenderer::new(entries, self.path(), order, format, upload_form);
        Ok(self.listing(upload_form, move || Ok(renderer.next_piece())))
    }

    fn listing(&self, upload_form: UploadForm, body: impl BodyProducer + 'static) -> Response {
        explain!(
            "coding",
            "not compressed: listings are sent while they are generated, in no content coding"
        );
        let body = Body::Stream(BodyStream::produced(body));
        let response = Response::new(StatusCode::OK).with_body(body);
        let rules = &self.tree.rules;
        let response = rules
            .add_headers_without_caching(response, self.path())
            .with_header(VARY, "Accept");
        match self.listing_format() {
            ListingFormat::Json => response.with_header(CONTENT_TYPE, "application/json"),
            ListingFormat::Html => response
                .with_header(CONTENT_TYPE, "text/html; charset=utf-8")
                .with_header(CONTENT_SECURITY_POLICY, listing::policy(upload_form)),
        }
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
