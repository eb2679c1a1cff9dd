//! What is in a folder, as a page for people and as JSON for programs.
//!
//! [`Entries`] is the folder as it was read, small in memory; a [`ListingRenderer`] renders it piece by
//! piece, so that a folder of any size costs its names and one piece, whatever the client does.
//! Neither knows of requests, sockets or threads. Reading a folder asks the disk about each entry:
//! it is work for a helper thread.

mod entries;
mod html;
mod json;
mod order;
#[cfg(test)]
mod tests;

use bytes::Bytes;

pub(super) use entries::Entries;
pub(super) use html::policy;
pub(super) use order::SortOrder;

/// A piece is handed out when it has grown to this: few enough writes, little enough memory.
/// nginx renders a listing whole.
const PIECE_BYTES: usize = 32 << 10;

/// What a listing is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListingFormat {
    /// `text/html; charset=utf-8`, with its [`policy`].
    Html,
    /// `application/json`, as nginx's `autoindex_format json` writes it.
    Json,
}

impl ListingFormat {
    /// `?json` asks for JSON.
    pub(super) fn from_query(query: Option<&str>) -> Self {
        let mut parameters = query.unwrap_or_default().split('&');
        match parameters.any(|parameter| parameter == "json" || parameter.starts_with("json=")) {
            true => Self::Json,
            false => Self::Html,
        }
    }
}

/// If people can add files to the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UploadForm {
    Shown,
    Absent,
}

/// The listing of one folder, on its way out.
#[derive(Debug)]
pub(super) struct ListingRenderer {
    entries: Entries,
    /// Decoded and normal, with a slash at both ends.
    path: Vec<u8>,
    order: SortOrder,
    form: ListingFormat,
    upload_form: UploadForm,
    part: Position,
}

/// What comes next.
#[derive(Clone, Copy, Debug)]
enum Position {
    Start,
    Entry(usize),
    End,
}

impl ListingRenderer {
    /// `path` is decoded and normal, and ends with a slash; it is shown, and never opened.
    pub(super) fn new(
        mut entries: Entries,
        path: &[u8],
        order: SortOrder,
        form: ListingFormat,
        upload_form: UploadForm,
    ) -> Self {
        entries.sort(order);
        Self {
            entries,
            path: path.to_vec(),
            order,
            form,
            upload_form,
            part: Position::Start,
        }
    }

    /// The next piece, never empty; `None` when all has been said.
    pub(super) fn next_piece(&mut self) -> Option<Bytes> {
        if matches!(self.part, Position::End) {
            return None;
        }
        let mut piece = String::with_capacity(PIECE_BYTES + PIECE_BYTES / 8);
        while !matches!(self.part, Position::End) && piece.len() < PIECE_BYTES {
            if self.write(&mut piece).is_err() {
                // A String takes everything.
                self.part = Position::End;
            }
        }
        Some(Bytes::from(piece))
    }

    fn write(&mut self, out: &mut String) -> std::fmt::Result {
        self.part = match self.part {
            Position::Start => {
                match self.form {
                    ListingFormat::Html => html::start(out, &self.entries, &self.path, self.order)?,
                    ListingFormat::Json => json::start(out),
                }
                Position::Entry(0)
            }
            Position::Entry(at) => match self.entries.get(at) {
                Some(entry) => {
                    match self.form {
                        ListingFormat::Html => html::entry(out, &entry, self.order)?,
                        ListingFormat::Json => json::entry(out, &entry, at)?,
                    }
                    Position::Entry(at + 1)
                }
                None => {
                    match self.form {
                        ListingFormat::Html => html::end(out, self.order, self.upload_form)?,
                        ListingFormat::Json => json::end(out),
                    }
                    Position::End
                }
            },
            Position::End => Position::End,
        };
        Ok(())
    }
}
