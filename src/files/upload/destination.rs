//! The name that an uploaded file is to get: whether it may, and how it does.

use std::io::{self, Read, Write};

use ::http::Method;
use rustix::io::Errno;

use super::parent_folder::{ParentFolder, parent_name};
use super::policy::UploadPolicy;
use super::temp_file::{ExistingEntry, OverwritePolicy, SaveResult, TempFile};
use crate::files::explained_error::ExplainedError;
use crate::files::lookup::{Lookup, ServeError};
use crate::files::media_type;
use crate::files::resolve::file_name;
use crate::files::root::{OpenError, OpenedPath};
use crate::files::rules::CleanUrls;
use crate::http::Fields;
use crate::http::conditional::{self, Precondition};
use crate::http::multipart_form::FormData;
use crate::site::Compress;

/// Where an uploaded file is stored.
pub(super) struct UploadDestination<'a> {
    pub(super) policy: &'a UploadPolicy,
    pub(super) lookup: Lookup<'a>,
    pub(super) parent: &'a ParentFolder,
    /// Relative to the root.
    pub(super) name: &'a [u8],
    /// The fields with the preconditions.
    pub(super) fields: &'a Fields<'a>,
}

impl UploadDestination<'_> {
    /// Returns what exists there now, if it may be replaced.
    pub(super) fn check(&self) -> Result<ExistingEntry, ExplainedError> {
        let root = &self.lookup.snapshot.root;
        if root.would_replace_server_file(self.name) {
            return Err(ExplainedError::forbidden(
                "the server itself reads or writes this file",
            ));
        }
        let existing = self.parent.entry(file_name(self.name))?;
        let precondition = match existing {
            ExistingEntry::NotAFile => return Err(Errno::ISDIR.into()),
            ExistingEntry::Absent => conditional::evaluate_absent(self.fields),
            ExistingEntry::File if !conditional::has_preconditions(self.fields) => {
                Precondition::Proceed
            }
            ExistingEntry::File => match self.lookup.validators(self.name) {
                Ok(current) => conditional::evaluate(&Method::PUT, self.fields, &current),
                Err(ServeError::Open(OpenError::NotFound)) => {
                    conditional::evaluate_absent(self.fields)
                }
                Err(ServeError::Open(error)) => return Err(error.into()),
                Err(ServeError::Postponed(_)) => return Err(OpenError::WouldBlock.into()),
            },
        };
        ExplainedError::check(precondition)?;
        match (existing, self.policy.overwrite) {
            (ExistingEntry::File, OverwritePolicy::Keep) => Err(Errno::EXIST.into()),
            (ExistingEntry::Absent, OverwritePolicy::Keep) if self.would_shadow()? => {
                let explanation = "the file would be served in place of another";
                let remedy = "allow this with --upload-overwrite";
                Err(ExplainedError::conflict(explanation).with_remedy(remedy))
            }
            _ => Ok(existing),
        }
    }

    /// True if a new file would be served where another one is served now: as its sidecar, at its
    /// path without `.html`, or as the index file of a folder that has one.
    ///
    /// # Errors
    ///
    /// A rule about access is about such a file, which may exist, and not about the requested path.
    fn would_shadow(&self) -> Result<bool, ExplainedError> {
        let rules = &self.lookup.tree.rules;
        let plain = [&b".br"[..], b".zst", b".gz"]
            .iter()
            .find_map(|extension| self.name.strip_suffix(*extension))
            .filter(|_| rules.compress != Compress::Off)
            .filter(|plain| media_type::may_be_coded(&rules.media_types.of(plain)));
        let page = match rules.clean_urls {
            CleanUrls::On => Some([self.name, b".html"].concat()),
            CleanUrls::Off => None,
        };
        let others = plain.map(<[u8]>::to_vec).into_iter().chain(page);
        let others: Vec<_> = others.chain(self.shadowed_indexes()).collect();
        let lookup = self.lookup;
        let is_permitted = |name: &Vec<u8>| rules.permit_as_well(lookup.request, name);
        if !others.iter().all(is_permitted) {
            let explanation =
                "the file could be served in place of one that a rule about access protects";
            return Err(ExplainedError::forbidden(explanation));
        }
        let is_file = |name: &Vec<u8>| {
            let opened = lookup.snapshot.root.get(name, lookup.blocking);
            matches!(opened, Ok(OpenedPath::File(_)))
        };
        Ok(others.iter().any(is_file))
    }

    /// Returns the names of index files that a new file would precede: in its own folder those after
    /// its name, and with clean URLs those of the folder that has its name without `.html`.
    fn shadowed_indexes(&self) -> Vec<Vec<u8>> {
        let rules = &self.lookup.tree.rules;
        let in_folder = |folder: &[u8], indexes: &[String]| {
            let name = |index: &String| [folder, index.as_bytes()].concat();
            indexes.iter().map(name).collect::<Vec<_>>()
        };
        let last = file_name(self.name);
        let position = rules
            .index
            .iter()
            .position(|index| index.as_bytes() == last);
        let mut names = Vec::new();
        if let Some(position) = position {
            let folder = &self.name[..self.name.len() - last.len()];
            names.extend(in_folder(folder, &rules.index[position + 1..]));
        }
        if rules.clean_urls == CleanUrls::On
            && let Some(folder) = self.name.strip_suffix(b".html")
        {
            names.extend(in_folder(&[folder, b"/"].concat(), &rules.index));
        }
        names
    }

    /// Stores a request's content, and waits until it is on the disk.
    pub(super) fn store(&self, mut content: impl Read) -> Result<SaveResult, ExplainedError> {
        const BUFFER_BYTES: usize = 128 * 1024;
        // Before the content is read: a client that waits for 100 (Continue) need not send it.
        self.check()?;
        let mut temp_file = self.parent.temp_folder().create_temp_file()?;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => write(&mut temp_file, &buffer[..count])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ExplainedError::interrupted(&error)),
            }
        }
        self.save(temp_file)
    }

    /// Stores the content of the form's current part, and returns its length in bytes.
    pub(super) fn store_part(&self, form: &mut FormData<impl Read>) -> Result<u64, ExplainedError> {
        self.check()?;
        let mut temp_file = self.parent.temp_folder().create_temp_file()?;
        let mut len = 0;
        while let Some(piece) = form.next_piece()? {
            write(&mut temp_file, piece)?;
            len += piece.len() as u64;
        }
        self.save(temp_file)?;
        Ok(len)
    }

    fn save(&self, temp_file: TempFile<'_>) -> Result<SaveResult, ExplainedError> {
        temp_file.sync()?;
        let _held_until_the_end = self.policy.lock_saving();
        let (last, overwrite) = (file_name(self.name), self.policy.overwrite);
        // Since the first check, the folder may have been created, renamed or removed, and the file created
        // or replaced.
        let parent = ParentFolder::of(self.name, self.policy, &self.lookup)?;
        let now = UploadDestination {
            parent: &parent,
            ..*self
        };
        now.check()?;
        let folder = match parent {
            ParentFolder::Existing(folder) => folder,
            ParentFolder::Missing(_) => {
                let root = &self.lookup.snapshot.root;
                root.create_folders(parent_name(self.name))?
            }
        };
        let saved = temp_file.save(&folder, last, overwrite)?;
        folder.sync()?;
        Ok(saved)
    }
}

fn write(temp_file: &mut TempFile<'_>, piece: &[u8]) -> Result<(), ExplainedError> {
    let failed = |error: io::Error| Errno::from_io_error(&error).unwrap_or(Errno::IO);
    Ok(temp_file.write_all(piece).map_err(failed)?)
}
