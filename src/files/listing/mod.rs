//! Folder listings: a page for people, and JSON for programs.
//!
//! [`Entries`] holds a folder's entries compactly; a [`ListingRenderer`] renders them piece by
//! piece, so that a folder of any size needs memory for its names and one piece, however slowly the
//! client reads. Neither knows requests, sockets or threads. Reading a folder stats every entry on
//! the disk, so it is to be done on a blocking thread.

mod entries;
mod html;
mod json;
mod order;
#[cfg(test)]
mod tests;

use bytes::Bytes;

pub(super) use entries::Entries;
pub(super) use html::{UploadForm, policy};
pub(super) use order::SortOrder;

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

/// Renders the listing of one folder.
#[derive(Debug)]
pub(super) struct ListingRenderer {
    entries: Entries,
    /// Decoded and normal, with a slash at both ends.
    path: Vec<u8>,
    order: SortOrder,
    format: ListingFormat,
    upload_form: UploadForm,
    position: RenderPosition,
}

/// What is rendered next.
#[derive(Clone, Copy, Debug)]
enum RenderPosition {
    Start,
    Entry(usize),
    End,
}

impl ListingRenderer {
    /// `path` is decoded and normal, and ends with a slash; it is only displayed.
    pub(super) fn new(
        mut entries: Entries,
        path: &[u8],
        order: SortOrder,
        format: ListingFormat,
        upload_form: UploadForm,
    ) -> Self {
        entries.sort(order);
        Self {
            entries,
            path: path.to_vec(),
            order,
            format,
            upload_form,
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
        self.position = match self.position {
            RenderPosition::Start => {
                match self.format {
                    ListingFormat::Html => {
                        html::start(out, &self.entries, &self.path, self.order)?;
                    }
                    ListingFormat::Json => json::start(out),
                }
                RenderPosition::Entry(0)
            }
            RenderPosition::Entry(at) => match self.entries.get(at) {
                Some(entry) => {
                    match self.format {
                        ListingFormat::Html => html::entry(out, &entry, self.order)?,
                        ListingFormat::Json => json::entry(out, &entry, at)?,
                    }
                    RenderPosition::Entry(at + 1)
                }
                None => {
                    match self.format {
                        ListingFormat::Html => html::end(out, self.order, self.upload_form)?,
                        ListingFormat::Json => json::end(out),
                    }
                    RenderPosition::End
                }
            },
            RenderPosition::End => RenderPosition::End,
        };
        Ok(())
    }
}
