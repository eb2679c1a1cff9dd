//! From a path to the file or directory there: routes, index files, missing slashes, clean URLs,
//! hidden names.

use std::borrow::Cow;
use std::io;

use super::root::{Blocking, OpenError, OpenedFile, OpenedPath, Root};
use super::rules::{CleanUrls, DotFiles, RouteTarget, Rules, ServeScope};
use super::upload::temp_file::is_temp_file;
use crate::explain_log::{self, Escaped, explain};
use crate::site::SITE_FILE;

/// What a path resolves to.
#[derive(Debug)]
pub(super) enum Resolved<'p> {
    /// A file, and its name beneath the root.
    File(OpenedFile, Cow<'p, [u8]>),
    /// As [`File`](Self::File), for a rewrite of missing paths: nothing is at the path itself.
    Fallback(OpenedFile, Cow<'p, [u8]>),
    /// A directory, and the path lacks its trailing slash.
    MissingSlash,
    /// A directory without an index file.
    NoIndex,
    /// Nothing, but the path without its slash at the end leads to a page.
    ExtraSlash,
}

/// Resolves paths by the rules of a site.
#[derive(Clone, Copy)]
pub(super) struct Resolver<'a> {
    pub(super) rules: &'a Rules,
    pub(super) root: &'a Root,
    pub(super) blocking: Blocking,
}

impl<'a> Resolver<'a> {
    /// Resolves a path that is decoded and normal: `/a/b`, or `/a/` for a directory. It is rewritten at
    /// most once.
    pub(super) fn resolve(self, path: &'a [u8]) -> Result<Resolved<'a>, OpenError> {
        if !self.rules.routes.contains_key(path)
            && let Some(rewritten) = self.rules.rewrites.apply(path)
        {
            let (opened, name) = self.resolve_rewritten(&rewritten)?;
            return Ok(Resolved::File(opened, name.into()));
        }
        match self.resolve_plain(path) {
            Err(OpenError::NotFound) => match self.rules.fallback_rewrites.apply(path) {
                Some(rewritten) => {
                    let (opened, name) = self.resolve_rewritten(&rewritten)?;
                    Ok(Resolved::Fallback(opened, name.into()))
                }
                None => Err(OpenError::NotFound),
            },
            resolved => resolved,
        }
    }

    /// Returns the file, and its name, at a path that a rule has led to. A client cannot be redirected to
    /// its slash, nor is it listed, because the client does not know it.
    fn resolve_rewritten(self, path: &[u8]) -> Result<(OpenedFile, Vec<u8>), OpenError> {
        match self.resolve_plain(path)? {
            Resolved::File(opened, name) => Ok((opened, name.into_owned())),
            Resolved::MissingSlash => match self.resolve_plain(&[path, b"/"].concat())? {
                Resolved::File(opened, name) => Ok((opened, name.into_owned())),
                _ => Err(OpenError::NotFound),
            },
            _ => Err(OpenError::NotFound),
        }
    }

    fn resolve_plain<'n>(self, path: &'n [u8]) -> Result<Resolved<'n>, OpenError>
    where
        'a: 'n,
    {
        match self.rules.routes.get(path) {
            Some(RouteTarget::Generated(generated)) => {
                let len = generated.metadata.len;
                explain!(
                    "route",
                    "{} is a route to {len} generated zero bytes",
                    Escaped(path)
                );
                let copy = generated.try_clone().map_err(OpenError::Failed)?;
                return Ok(Resolved::File(copy, Cow::Borrowed(path)));
            }
            Some(RouteTarget::File(name)) => {
                explain!("route", "{} is a route to {}", Escaped(path), Escaped(name));
                return self.file(Cow::Borrowed(name));
            }
            None if self.rules.scope == ServeScope::RoutesOnly => {
                explain!(
                    "route",
                    "{} is not served because the root is a single file, served at / and its name",
                    Escaped(path)
                );
                return Err(OpenError::NotFound);
            }
            None if self.rules.routes.is_empty() => {}
            None => explain!("route", "no route for {}", Escaped(path)),
        }
        let name = path.strip_prefix(b"/").ok_or(OpenError::NotFound)?;
        if self.rules.is_hidden(name) {
            return Err(OpenError::NotFound);
        }
        if name.is_empty() || name.ends_with(b"/") {
            return match self.index(name) {
                Err(OpenError::NotFound) => self.extra_slash(name),
                resolved => resolved,
            };
        }
        match self.open(name) {
            Ok(OpenedPath::File(opened)) => Ok(Resolved::File(opened, Cow::Borrowed(name))),
            Ok(OpenedPath::Directory) => match self.clean_url(name) {
                Err(OpenError::NotFound) => Ok(Resolved::MissingSlash),
                resolved => resolved,
            },
            Err(OpenError::NotFound) => self.clean_url(name),
            Err(error) => Err(error),
        }
    }

    /// Opens a file by its name, which the rules do not check: for routes and error pages.
    pub(super) fn file<'n>(self, name: Cow<'n, [u8]>) -> Result<Resolved<'n>, OpenError> {
        match self.open(&name)? {
            OpenedPath::File(opened) => Ok(Resolved::File(opened, name)),
            OpenedPath::Directory => Err(OpenError::NotFound),
        }
    }

    /// Opens the first index file that exists in a directory.
    fn index(self, directory: &[u8]) -> Result<Resolved<'static>, OpenError> {
        for index in &self.rules.index {
            let name = [directory, index.as_bytes()].concat();
            match self.open(&name) {
                Ok(OpenedPath::File(opened)) => {
                    return Ok(Resolved::File(opened, Cow::Owned(name)));
                }
                Ok(OpenedPath::Directory) | Err(OpenError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        match self.open(directory)? {
            OpenedPath::Directory => {
                explain!("index", "{} has no index file", folder(directory));
                Ok(Resolved::NoIndex)
            }
            OpenedPath::File(_) => Err(OpenError::NotFound),
        }
    }

    /// Checks whether `about.html` exists for `about/`, if the site has clean URLs.
    fn extra_slash(self, directory: &[u8]) -> Result<Resolved<'static>, OpenError> {
        let Some(name) = directory.strip_suffix(b"/") else {
            return Err(OpenError::NotFound);
        };
        match self.clean_url(name)? {
            Resolved::File(..) => Ok(Resolved::ExtraSlash),
            _ => Err(OpenError::NotFound),
        }
    }

    /// Opens `name.html`, if the site has clean URLs.
    fn clean_url(self, name: &[u8]) -> Result<Resolved<'static>, OpenError> {
        let page = [name, b".html"].concat();
        match self.rules.clean_urls {
            CleanUrls::On => self.file(Cow::Owned(page)),
            CleanUrls::Off => {
                if explain_log::is_explained()
                    && let Ok(OpenedPath::File(_)) = self.root.get(&page, Blocking::Allowed)
                {
                    let name = Escaped(name);
                    explain!("clean", "{name}.html exists, but clean-urls is off");
                }
                Err(OpenError::NotFound)
            }
        }
    }

    /// Opens a name beneath the root, and explains the result.
    fn open(self, name: &[u8]) -> Result<OpenedPath, OpenError> {
        let result = self.root.get(name, self.blocking);
        match &result {
            Ok(OpenedPath::File(opened)) => {
                let len = opened.metadata.len;
                explain!("file", "{} has {len} bytes", Escaped(name));
            }
            Ok(OpenedPath::Directory) => explain!("file", "{} is a folder", folder(name)),
            Err(OpenError::NotFound) => explain!("file", "{} is not found", folder(name)),
            Err(OpenError::Forbidden) => {
                let why = "cannot be read by this process or is neither a file nor a folder";
                explain!("file", "{} {why}", folder(name));
            }
            // The lookup is repeated where it may block, and explained there.
            Err(OpenError::WouldBlock) => {}
            Err(OpenError::OutOfDescriptors | OpenError::Modified) => {
                explain!(
                    "file",
                    "{} cannot be opened now because it changes or descriptors are short",
                    folder(name)
                );
            }
            Err(OpenError::Failed(error)) => {
                explain!("file", "{} cannot be opened: {error}", folder(name));
            }
        }
        result
    }
}

/// Displays a folder's name; the root's is empty.
fn folder(name: &[u8]) -> Escaped<'_> {
    Escaped(if name.is_empty() { b"the root" } else { name })
}

impl Rules {
    /// True for names beneath the root that are answered with 404 although they may exist.
    pub(super) fn is_hidden(&self, name: &[u8]) -> bool {
        if self.dot_files == DotFiles::Hidden
            && let Some(dotted) = dot_component(name)
        {
            let (name, dotted) = (Escaped(name), Escaped(dotted));
            explain!(
                "path",
                "/{name} is refused because {dotted} is hidden (--hidden serves it)"
            );
            return true;
        }
        if is_internal(name) {
            let why = "the site file, unfinished uploads and the trash are never served";
            explain!("path", "/{} is refused because {why}", Escaped(name));
            return true;
        }
        let is_hidden_name = self.hidden_names.iter().any(|hidden| hidden == name);
        if is_hidden_name {
            let why = "the server itself reads or writes this file, so it is never served";
            explain!("path", "/{} is refused because {why}", Escaped(name));
        }
        is_hidden_name
    }
}

/// Returns the first component that begins with a dot. `.well-known` in the root is public by
/// definition (RFC 8615).
fn dot_component(name: &[u8]) -> Option<&[u8]> {
    let mut components = name.split(|&byte| byte == b'/').enumerate();
    let found = components.find(|(depth, component)| {
        component.starts_with(b".") && (*depth > 0 || *component != b".well-known")
    });
    found.map(|(_, component)| component)
}

/// The folder in a root into which deleted files are moved. It is hidden in every folder, because that may
/// be the root of another host. The case is ignored, as some file systems do.
pub(super) const TRASH: &[u8] = b".tws-trash";

/// True for the site file, for unfinished uploads, and for a trash and what is in it.
fn is_internal(name: &[u8]) -> bool {
    let mut components = name.split(|&byte| byte == b'/');
    if components.any(|component| component.eq_ignore_ascii_case(TRASH)) {
        return true;
    }
    let last = file_name(name);
    last == SITE_FILE.as_bytes() || is_temp_file(last)
}

/// Returns what follows the last slash: the file name, which is empty for a directory.
pub(super) fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

impl OpenedFile {
    /// Duplicates the descriptor; both share one file offset.
    fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            file: self.file.try_clone()?,
            metadata: self.metadata,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_a_dot_are_hidden_except_well_known() {
        for name in [
            ".tws.toml",
            "a/.git/config",
            ".git/",
            "a/.well-known/x",
            "...",
        ] {
            assert!(dot_component(name.as_bytes()).is_some(), "{name}");
        }
        for name in ["", "a.b", ".well-known/acme", "a/b./c"] {
            assert_eq!(dot_component(name.as_bytes()), None, "{name}");
        }
    }
}
