//! What is in a folder, as a page for people and as JSON for programs.
//!
//! [`Entries`] is the folder as it was read, small in memory; a [`Listing`] renders it piece by
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

pub(super) use entries::{Entries, Hidden};
pub(super) use html::policy;
pub(super) use order::Order;

/// A piece is handed out when it has grown to this: few enough writes, little enough memory.
/// nginx renders a listing whole.
const PIECE_BYTES: usize = 32 << 10;

/// What a listing is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `text/html; charset=utf-8`, with its [`policy`].
    Html,
    /// `application/json`, as nginx's `autoindex_format json` writes it.
    Json,
}

impl Form {
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
pub(super) struct Listing {
    entries: Entries,
    /// Decoded and normal, with a slash at both ends.
    path: Vec<u8>,
    order: Order,
    form: Form,
    upload_form: UploadForm,
    part: Part,
}

/// What comes next.
#[derive(Clone, Copy, Debug)]
enum Part {
    Start,
    Entry(usize),
    Done,
}

impl Listing {
    /// `path` is decoded and normal, and ends with a slash; it is shown, and never opened.
    pub(super) fn new(
        mut entries: Entries,
        path: &[u8],
        order: Order,
        form: Form,
        upload_form: UploadForm,
    ) -> Self {
        entries.sort(order);
        Self {
            entries,
            path: path.to_vec(),
            order,
            form,
            upload_form,
            part: Part::Start,
        }
    }

    /// The next piece, never empty; `None` when all has been said.
    pub(super) fn next_piece(&mut self) -> Option<Bytes> {
        if matches!(self.part, Part::Done) {
            return None;
        }
        let mut piece = String::with_capacity(PIECE_BYTES + PIECE_BYTES / 8);
        while !matches!(self.part, Part::Done) && piece.len() < PIECE_BYTES {
            if self.write(&mut piece).is_err() {
                // A String takes everything.
                self.part = Part::Done;
            }
        }
        Some(Bytes::from(piece))
    }

    fn write(&mut self, out: &mut String) -> std::fmt::Result {
        self.part = match self.part {
            Part::Start => {
                match self.form {
                    Form::Html => html::start(out, &self.entries, &self.path, self.order)?,
                    Form::Json => json::start(out),
                }
                Part::Entry(0)
            }
            Part::Entry(at) => match self.entries.get(at) {
                Some(entry) => {
                    match self.form {
                        Form::Html => html::entry(out, &entry, self.order)?,
                        Form::Json => json::entry(out, &entry, at)?,
                    }
                    Part::Entry(at + 1)
                }
                None => {
                    match self.form {
                        Form::Html => html::end(out, self.order, self.upload_form)?,
                        Form::Json => json::end(out),
                    }
                    Part::Done
                }
            },
            Part::Done => Part::Done,
        };
        Ok(())
    }
}
