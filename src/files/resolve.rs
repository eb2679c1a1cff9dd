//! From a path to what stands there: routes, index files, slash redirects, clean URLs.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::http::HeaderValue;
use rustix::fs::{MemfdFlags, Timespec, Timestamps, ftruncate, futimens, memfd_create};

use super::media_type;
use super::root::{Miss, Opened, OpenedFile, Root};
use crate::http::conditional::{EntityTag, Strength, Validators};

/// One version of what is served at an address: the open file, and what is true of *it*.
#[derive(Clone, Debug)]
pub(super) struct Representation {
    pub(super) file: Arc<File>,
    pub(super) len: u64,
    pub(super) media_type: HeaderValue,
    pub(super) validators: Validators,
}

/// What a path leads to.
#[derive(Debug)]
pub(super) enum Resolved {
    Representation(Representation),
    /// To the directory with this decoded path, which ends with a slash.
    Redirect(Vec<u8>),
}

/// The rules of one site.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) index: Vec<String>,
    pub(super) clean_urls: CleanUrls,
    pub(super) routes: HashMap<Vec<u8>, Destination>,
    pub(super) scope: Scope,
    /// Names beneath the root that are nobody's business although they have no dot.
    pub(super) hidden: Vec<Vec<u8>>,
}

/// Whether `/about` may be `about.html`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CleanUrls {
    On,
    Off,
}

/// Where a route leads.
#[derive(Debug)]
pub(super) enum Destination {
    /// A name beneath the root.
    File(Vec<u8>),
    /// A file that exists only in memory.
    Generated(Representation),
}

/// What is served beside the routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    Tree,
    Nothing,
}

impl Rules {
    /// `path` is decoded and normal: `/a/b`, or `/a/` for a directory.
    pub(super) fn resolve(&self, root: &Root, path: &[u8]) -> Result<Resolved, Miss> {
        match self.routes.get(path) {
            Some(Destination::Generated(made)) => {
                return Ok(Resolved::Representation(made.clone()));
            }
            Some(Destination::File(name)) => return self.file(root, name),
            None if self.scope == Scope::Nothing => return Err(Miss::NotFound),
            None => {}
        }
        let name = path.strip_prefix(b"/").ok_or(Miss::NotFound)?;
        if is_dotted(name) || self.hidden.iter().any(|hidden| hidden == name) {
            return Err(Miss::NotFound);
        }
        if name.is_empty() || name.ends_with(b"/") {
            return self.index_of(root, name);
        }
        match root.get(name) {
            Ok(Opened::File(opened)) => Ok(Resolved::Representation(represent(opened, name))),
            Ok(Opened::Directory) => match self.clean(root, name) {
                Err(Miss::NotFound) => Ok(Resolved::Redirect([path, b"/"].concat())),
                found => found,
            },
            Err(Miss::NotFound) => self.clean(root, name),
            Err(miss) => Err(miss),
        }
    }

    /// A file by its name, whatever the name looks like: for routes and error pages.
    pub(super) fn file(&self, root: &Root, name: &[u8]) -> Result<Resolved, Miss> {
        match root.get(name)? {
            Opened::File(opened) => Ok(Resolved::Representation(represent(opened, name))),
            Opened::Directory => Err(Miss::NotFound),
        }
    }

    fn index_of(&self, root: &Root, directory: &[u8]) -> Result<Resolved, Miss> {
        for index in &self.index {
            let name = [directory, index.as_bytes()].concat();
            match root.get(&name) {
                Ok(Opened::File(opened)) => {
                    return Ok(Resolved::Representation(represent(opened, &name)));
                }
                Ok(Opened::Directory) | Err(Miss::NotFound) => {}
                Err(miss) => return Err(miss),
            }
        }
        Err(Miss::NotFound)
    }

    fn clean(&self, root: &Root, name: &[u8]) -> Result<Resolved, Miss> {
        match self.clean_urls {
            CleanUrls::On => self.file(root, &[name, b".html"].concat()),
            CleanUrls::Off => Err(Miss::NotFound),
        }
    }
}

/// True if a component begins with a dot. `.well-known` is public by definition (RFC 8615).
fn is_dotted(name: &[u8]) -> bool {
    let mut components = name.split(|&byte| byte == b'/').enumerate();
    components.any(|(depth, component)| {
        component.starts_with(b".") && (depth > 0 || component != b".well-known")
    })
}

fn represent(opened: OpenedFile, name: &[u8]) -> Representation {
    Representation {
        validators: validators(opened.modified, opened.len, SystemTime::now()),
        file: Arc::new(opened.file),
        len: opened.len,
        media_type: media_type::of(name),
    }
}

/// The tag is made from modification time and size, not from the inode: machines with the same
/// files agree. It is weak while the file is so young that a second change could leave the same
/// time behind (RFC 9110 §8.8.1); file systems count in up to 2 s.
fn validators(modified: SystemTime, len: u64, now: SystemTime) -> Validators {
    const YOUNG: Duration = Duration::from_secs(2);
    let nanoseconds = match modified.duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_nanos() as i128,
        Err(before) => -(before.duration().as_nanos() as i128),
    };
    // A time in the future may come again.
    let strength = match now.duration_since(modified) {
        Ok(age) if age >= YOUNG => Strength::Strong,
        _ => Strength::Weak,
    };
    let opaque = format!("{nanoseconds:x}-{len:x}");
    Validators {
        etag: Some(EntityTag::new(&opaque, strength)),
        // RFC 9110 §8.8.2.1: a date in the future is not sent as it is.
        last_modified: Some(modified.min(now)),
    }
}

/// A file of zeros that takes no room: a hole in memory. Sending it is like sending any file.
pub(super) fn zeros(path: &[u8], len: u64) -> io::Result<Representation> {
    // The same at every start and on every machine, so that a download can be resumed.
    const MODIFIED_SECONDS: i64 = 1_767_225_600;
    let descriptor = memfd_create("tws-zeros", MemfdFlags::CLOEXEC)?;
    ftruncate(&descriptor, len)?;
    let time = Timespec {
        tv_sec: MODIFIED_SECONDS,
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    futimens(&descriptor, &times)?;
    let opened = OpenedFile {
        file: File::from(descriptor),
        len,
        modified: UNIX_EPOCH + Duration::from_secs(MODIFIED_SECONDS.unsigned_abs()),
    };
    Ok(represent(opened, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dotted_names_are_hidden_but_one() {
        for name in [
            ".tws.toml",
            "a/.git/config",
            ".git/",
            "a/.well-known/x",
            "...",
        ] {
            assert!(is_dotted(name.as_bytes()), "{name}");
        }
        for name in ["", "a.b", ".well-known/acme", "a/b./c"] {
            assert!(!is_dotted(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_tag_is_weak_while_the_file_is_young() {
        let modified = UNIX_EPOCH + Duration::new(0x10, 1);
        let tag = |age: i64| {
            let now = UNIX_EPOCH + Duration::new(0x10, 1) + Duration::from_secs(100);
            let now = now - Duration::from_secs((100 - age).unsigned_abs());
            let etag = validators(modified, 0x2A, now).etag;
            etag.map(|etag| etag.to_field()).unwrap_or_default()
        };
        assert_eq!(tag(2), "\"3b9aca001-2a\"");
        assert!(tag(1).starts_with("W/"));
        assert!(tag(0).starts_with("W/"));
    }

    #[test]
    fn a_date_in_the_future_is_not_told() {
        let now = UNIX_EPOCH + Duration::from_secs(100);
        let later = now + Duration::from_secs(50);
        let future = validators(later, 1, now);
        assert_eq!(future.last_modified, Some(now));
        let tag = future.etag.map(|etag| etag.to_field()).unwrap_or_default();
        assert!(tag.starts_with("W/"));
    }
}
