//! From a path to what stands there: routes, index files, slash redirects, clean URLs.

use std::borrow::Cow;
use std::io;

use super::root::{Blocking, OpenError, OpenedFile, OpenedPath, Root};
use super::rules::{CleanUrls, DotFiles, RouteTarget, Rules, ServeScope};
use super::upload::temp_file::is_temp_file;
use crate::explain_log::{self, Escaped, explain};

/// What a path leads to.
#[derive(Debug)]
pub(super) enum Resolved<'p> {
    /// A file, and its name beneath the root.
    File(OpenedFile, Cow<'p, [u8]>),
    /// A directory whose address ends with a slash, which this path lacks.
    MissingSlash,
    /// A directory without an index.
    NoIndex,
}

/// `path` is decoded and normal: `/a/b`, or `/a/` for a directory.
pub(super) fn resolve<'p>(
    rules: &'p Rules,
    root: &Root,
    path: &'p [u8],
    blocking: Blocking,
) -> Result<Resolved<'p>, OpenError> {
    match rules.routes.get(path) {
        Some(RouteTarget::Generated(made)) => {
            let len = made.metadata.len;
            explain!(
                "route",
                "{} is a route to {len} generated zero bytes",
                Escaped(path)
            );
            let copy = made.try_clone().map_err(OpenError::Failed)?;
            return Ok(Resolved::File(copy, Cow::Borrowed(path)));
        }
        Some(RouteTarget::File(name)) => {
            explain!("route", "{} is a route to {}", Escaped(path), Escaped(name));
            return file(root, Cow::Borrowed(name), blocking);
        }
        None if rules.scope == ServeScope::RoutesOnly => {
            explain!(
                "route",
                "{} is not served because the root is a single file, served at / and its name",
                Escaped(path)
            );
            return Err(OpenError::NotFound);
        }
        None if rules.routes.is_empty() => {}
        None => explain!("route", "no route for {}", Escaped(path)),
    }
    let name = path.strip_prefix(b"/").ok_or(OpenError::NotFound)?;
    if rules.is_hidden(name) {
        return Err(OpenError::NotFound);
    }
    if name.is_empty() || name.ends_with(b"/") {
        return index_of(rules, root, name, blocking);
    }
    match get(root, name, blocking) {
        Ok(OpenedPath::File(opened)) => Ok(Resolved::File(opened, Cow::Borrowed(name))),
        Ok(OpenedPath::Directory) => match clean(rules, root, name, blocking) {
            Err(OpenError::NotFound) => Ok(Resolved::MissingSlash),
            found => found,
        },
        Err(OpenError::NotFound) => clean(rules, root, name, blocking),
        Err(miss) => Err(miss),
    }
}

/// A file by its name, whatever the name looks like: for routes and error pages.
pub(super) fn file<'p>(
    root: &Root,
    name: Cow<'p, [u8]>,
    blocking: Blocking,
) -> Result<Resolved<'p>, OpenError> {
    match get(root, &name, blocking)? {
        OpenedPath::File(opened) => Ok(Resolved::File(opened, name)),
        OpenedPath::Directory => Err(OpenError::NotFound),
    }
}

fn index_of<'p>(
    rules: &Rules,
    root: &Root,
    directory: &[u8],
    blocking: Blocking,
) -> Result<Resolved<'p>, OpenError> {
    for index in &rules.index {
        let name = [directory, index.as_bytes()].concat();
        match get(root, &name, blocking) {
            Ok(OpenedPath::File(opened)) => return Ok(Resolved::File(opened, Cow::Owned(name))),
            Ok(OpenedPath::Directory) | Err(OpenError::NotFound) => {}
            Err(miss) => return Err(miss),
        }
    }
    match get(root, directory, blocking)? {
        OpenedPath::Directory => {
            explain!("index", "{} has no index file", folder(directory));
            Ok(Resolved::NoIndex)
        }
        OpenedPath::File(_) => Err(OpenError::NotFound),
    }
}

fn clean<'p>(
    rules: &Rules,
    root: &Root,
    name: &[u8],
    blocking: Blocking,
) -> Result<Resolved<'p>, OpenError> {
    match rules.clean_urls {
        CleanUrls::On => file(root, Cow::Owned([name, b".html"].concat()), blocking),
        CleanUrls::Off => {
            if explain_log::is_explained()
                && let Ok(OpenedPath::File(_)) = root.get(&[name, b".html"].concat(), blocking)
            {
                let name = Escaped(name);
                explain!("clean", "{name}.html exists, but clean-urls is off");
            }
            Err(OpenError::NotFound)
        }
    }
}

/// What the root has of that name.
fn get(root: &Root, name: &[u8], blocking: Blocking) -> Result<OpenedPath, OpenError> {
    let got = root.get(name, blocking);
    match &got {
        Ok(OpenedPath::File(opened)) => {
            explain!(
                "file",
                "{} has {} bytes",
                Escaped(name),
                opened.metadata.len
            );
        }
        Ok(OpenedPath::Directory) => explain!("file", "{} is a folder", folder(name)),
        Err(OpenError::NotFound) => explain!("file", "{} is not found", folder(name)),
        Err(OpenError::Forbidden) => {
            let why = "cannot be read by this process or is neither a file nor a folder";
            explain!("file", "{} {why}", folder(name));
        }
        // It is asked for again.
        Err(OpenError::WouldBlock) => {}
        Err(OpenError::OutOfDescriptors | OpenError::Modified) => {
            explain!(
                "file",
                "{} cannot be opened now because it changes or descriptors are short",
                folder(name)
            );
        }
        Err(OpenError::Failed(error)) => {
            explain!("file", "{} cannot be opened: {error}", folder(name))
        }
    }
    got
}

/// The root's name is empty.
fn folder(name: &[u8]) -> Escaped<'_> {
    Escaped(if name.is_empty() { b"the root" } else { name })
}

impl Rules {
    /// True if a name is nobody's business.
    pub(super) fn is_hidden(&self, name: &[u8]) -> bool {
        if let Some(dotted) = dotted(name).filter(|_| self.dot_files == DotFiles::Hidden) {
            let (name, dotted) = (Escaped(name), Escaped(dotted));
            explain!(
                "path",
                "/{name} is refused because {dotted} is hidden (--hidden serves it)"
            );
            return true;
        }
        if is_internal(name) {
            let why = "the site file and unfinished uploads are never served";
            explain!("path", "/{} is refused because {why}", Escaped(name));
            return true;
        }
        let is_secret = self.hidden_names.iter().any(|hidden| hidden == name);
        if is_secret {
            let why = "the files of --config and --auth-file are never served";
            explain!("path", "/{} is refused because {why}", Escaped(name));
        }
        is_secret
    }
}

/// The first component that begins with a dot. `.well-known` is public by definition (RFC 8615).
fn dotted(name: &[u8]) -> Option<&[u8]> {
    let mut components = name.split(|&byte| byte == b'/').enumerate();
    let found = components.find(|(depth, component)| {
        component.starts_with(b".") && (*depth > 0 || *component != b".well-known")
    });
    found.map(|(_, component)| component)
}

/// True for the site file and for what is being uploaded.
fn is_internal(name: &[u8]) -> bool {
    let last = file_name(name);
    last == crate::site::SITE_FILE.as_bytes() || is_temp_file(last)
}

/// What is behind the last slash.
pub(super) fn file_name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

impl OpenedFile {
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
    fn dotted_names_are_hidden_but_one() {
        for name in [
            ".tws.toml",
            "a/.git/config",
            ".git/",
            "a/.well-known/x",
            "...",
        ] {
            assert!(dotted(name.as_bytes()).is_some(), "{name}");
        }
        for name in ["", "a.b", ".well-known/acme", "a/b./c"] {
            assert_eq!(dotted(name.as_bytes()), None, "{name}");
        }
    }
}
