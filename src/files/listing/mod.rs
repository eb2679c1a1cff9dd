//! Folder listings: a page for people, and JSON for programs.
//!
//! [`Entries`] holds a folder's entries compactly; a [`ListingRenderer`] renders them piece by
//! piece, so that a folder of any size needs memory for its names and one piece, however slowly the
//! client reads. Several renderers share the entries of one folder ([`FolderEntries`]). None of them
//! knows requests, sockets or threads. Reading a folder stats every entry on the disk, so it is to be
//! done on a blocking thread.

mod assets;
mod entries;
mod html;
mod json;
#[cfg(feature = "markdown")]
mod markdown;
mod order;
mod page;
pub(super) mod readme;
#[cfg(test)]
mod tests;
mod units;

use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::root::OpenError;
use crate::semaphore::SemaphorePermit;
pub(super) use assets::policy;
pub(super) use entries::{Completeness, DirEntry, Entries, EntryKind};
pub(super) use order::SortOrder;
pub(super) use page::{ListingPage, PageFeatures};

/// A piece is complete at this length: large enough for few writes, small enough in memory. nginx
/// renders a listing as a whole.
const PIECE_BYTES: usize = 32 << 10;

/// The format of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListingFormat {
    /// `text/html; charset=utf-8`, with its [`policy`].
    Html,
    /// `application/json`, as nginx's `autoindex_format json` writes it.
    Json,
}

impl ListingFormat {
    /// Returns the format that a query asks for: `?json` means JSON.
    pub(super) fn from_query(query: Option<&str>) -> Self {
        let mut parameters = query.unwrap_or_default().split('&');
        if parameters.any(|parameter| parameter == "json" || parameter.starts_with("json=")) {
            Self::Json
        } else {
            Self::Html
        }
    }
}

/// The entries of one folder, shared by all listings of it that are made of them.
#[derive(Debug)]
pub(super) struct FolderEntries {
    entries: Entries,
    /// The positions of the entries in each order, once it was asked for.
    sorted: [OnceLock<Box<[u32]>>; SortOrder::COUNT],
    /// The README as HTML; empty if there is none.
    readme: String,
    _held_until_the_end: SemaphorePermit,
}

/// The entries of a folder, or why there are none, for all requests that have waited for them.
pub(super) type SharedListing = Result<Arc<FolderEntries>, Arc<ListingError>>;

/// Why a folder cannot be listed.
#[derive(Debug)]
pub(super) enum ListingError {
    Open(OpenError),
    /// The listings that are being sent have too many entries.
    TooManyEntries,
}

impl FolderEntries {
    /// `readme` is HTML. `permit` is held as long as the entries are in memory.
    pub(super) fn new(entries: Entries, readme: String, permit: SemaphorePermit) -> Self {
        Self {
            entries,
            sorted: Default::default(),
            readme,
            _held_until_the_end: permit,
        }
    }

    fn sorted(&self, order: SortOrder) -> &[u32] {
        self.sorted[order.index()].get_or_init(|| self.entries.sorted(order))
    }

    /// Returns an entry by its position in an order.
    fn get(&self, order: SortOrder, at: usize) -> Option<DirEntry<'_>> {
        self.entries.get(*self.sorted(order).get(at)? as usize)
    }
}

/// Renders the listing of one folder.
#[derive(Debug)]
pub(super) struct ListingRenderer {
    folder: Arc<FolderEntries>,
    page: ListingPage,
    format: ListingFormat,
    position: RenderPosition,
}

/// What is rendered next.
#[derive(Clone, Copy, Debug)]
enum RenderPosition {
    Start,
    Entry(usize),
    /// The README from this byte on.
    Readme(usize),
    Footer,
    End,
}

impl ListingRenderer {
    /// Sorts the entries, unless they were sorted in this order before.
    pub(super) fn new(
        folder: Arc<FolderEntries>,
        page: ListingPage,
        format: ListingFormat,
    ) -> Self {
        folder.sorted(page.order);
        Self {
            folder,
            page,
            format,
            position: RenderPosition::Start,
        }
    }

    /// Returns the next piece, which is never empty, or `None` after the last one.
    pub(super) fn next_piece(&mut self) -> Option<Bytes> {
        if matches!(self.position, RenderPosition::End) {
            return None;
        }
        let mut piece = String::with_capacity(PIECE_BYTES + PIECE_BYTES / 8);
        while !matches!(self.position, RenderPosition::End) && piece.len() < PIECE_BYTES {
            if self.write(&mut piece).is_err() {
                // Writing to a String does not fail.
                self.position = RenderPosition::End;
            }
        }
        Some(Bytes::from(piece))
    }

    fn write(&mut self, out: &mut String) -> std::fmt::Result {
        self.position = match (self.format, self.position) {
            (ListingFormat::Html, position) => self.write_html(out, position)?,
            (ListingFormat::Json, position) => self.write_json(out, position)?,
        };
        Ok(())
    }

    fn write_html(
        &self,
        out: &mut String,
        position: RenderPosition,
    ) -> Result<RenderPosition, std::fmt::Error> {
        let (folder, page) = (&self.folder, &self.page);
        Ok(match position {
            RenderPosition::Start => {
                html::start(out, &folder.entries, page)?;
                RenderPosition::Entry(0)
            }
            RenderPosition::Entry(at) => match folder.get(page.order, at) {
                Some(entry) => {
                    html::entry(out, &entry, page.order)?;
                    RenderPosition::Entry(at + 1)
                }
                None => {
                    html::end_of_table(out, &page.features)?;
                    RenderPosition::Readme(0)
                }
            },
            RenderPosition::Readme(_) if folder.readme.is_empty() => RenderPosition::Footer,
            RenderPosition::Readme(start) => {
                if start == 0 {
                    out.push_str("<article class=\"card readme\" aria-label=\"README\">\n");
                }
                let mut end = folder.readme.len().min(start + PIECE_BYTES);
                while !folder.readme.is_char_boundary(end) {
                    end -= 1;
                }
                out.push_str(&folder.readme[start..end]);
                if end < folder.readme.len() {
                    RenderPosition::Readme(end)
                } else {
                    out.push_str("</article>\n");
                    RenderPosition::Footer
                }
            }
            RenderPosition::Footer | RenderPosition::End => {
                html::end(out, page)?;
                RenderPosition::End
            }
        })
    }

    fn write_json(
        &self,
        out: &mut String,
        position: RenderPosition,
    ) -> Result<RenderPosition, std::fmt::Error> {
        Ok(match position {
            RenderPosition::Start => {
                json::start(out);
                RenderPosition::Entry(0)
            }
            RenderPosition::Entry(at) => match self.folder.get(self.page.order, at) {
                Some(entry) => {
                    json::entry(out, &entry, at)?;
                    RenderPosition::Entry(at + 1)
                }
                None => {
                    json::end(out);
                    RenderPosition::End
                }
            },
            RenderPosition::Readme(_) | RenderPosition::Footer | RenderPosition::End => {
                RenderPosition::End
            }
        })
    }
}
