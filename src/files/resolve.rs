//! From a path to what stands there: routes, index files, slash redirects, clean URLs.

use std::borrow::Cow;
use std::io;

use super::root::{Miss, Opened, OpenedFile, Patience, Root};
use super::rules::{CleanUrls, Destination, Dotted, Rules, Scope};
use super::upload::temp_file::is_draft;
use crate::explain_log::{self, Shown, decided};

/// What a path leads to.
#[derive(Debug)]
pub(super) enum Resolved<'p> {
    /// A file, and its name beneath the root.
    File(OpenedFile, Cow<'p, [u8]>),
    /// A directory whose address ends with a slash, which this path lacks.
    Directory,
    /// A directory without an index.
    NoIndex,
}

/// `path` is decoded and normal: `/a/b`, or `/a/` for a directory.
pub(super) fn resolve<'p>(
    rules: &'p Rules,
    root: &Root,
    path: &'p [u8],
    patience: Patience,
) -> Result<Resolved<'p>, Miss> {
    match rules.routes.get(path) {
        Some(Destination::Generated(made)) => {
            let len = made.facts.len;
            decided!(
                "route",
                "{} is a route to {len} generated zero bytes",
                Shown(path)
            );
            let copy = made.try_clone().map_err(Miss::Failed)?;
            return Ok(Resolved::File(copy, Cow::Borrowed(path)));
        }
        Some(Destination::File(name)) => {
            decided!("route", "{} is a route to {}", Shown(path), Shown(name));
            return file(root, Cow::Borrowed(name), patience);
        }
        None if rules.scope == Scope::Nothing => {
            decided!(
                "route",
                "{} is not served because the root is a single file, served at / and its name",
                Shown(path)
            );
            return Err(Miss::NotFound);
        }
        None if rules.routes.is_empty() => {}
        None => decided!("route", "no route for {}", Shown(path)),
    }
    let name = path.strip_prefix(b"/").ok_or(Miss::NotFound)?;
    if rules.hides(name) {
        return Err(Miss::NotFound);
    }
    if name.is_empty() || name.ends_with(b"/") {
        return index_of(rules, root, name, patience);
    }
    match get(root, name, patience) {
        Ok(Opened::File(opened)) => Ok(Resolved::File(opened, Cow::Borrowed(name))),
        Ok(Opened::Directory) => match clean(rules, root, name, patience) {
            Err(Miss::NotFound) => Ok(Resolved::Directory),
            found => found,
        },
        Err(Miss::NotFound) => clean(rules, root, name, patience),
        Err(miss) => Err(miss),
    }
}

/// A file by its name, whatever the name looks like: for routes and error pages.
pub(super) fn file<'p>(
    root: &Root,
    name: Cow<'p, [u8]>,
    patience: Patience,
) -> Result<Resolved<'p>, Miss> {
    match get(root, &name, patience)? {
        Opened::File(opened) => Ok(Resolved::File(opened, name)),
        Opened::Directory => Err(Miss::NotFound),
    }
}

fn index_of<'p>(
    rules: &Rules,
    root: &Root,
    directory: &[u8],
    patience: Patience,
) -> Result<Resolved<'p>, Miss> {
    for index in &rules.index {
        let name = [directory, index.as_bytes()].concat();
        match get(root, &name, patience) {
            Ok(Opened::File(opened)) => return Ok(Resolved::File(opened, Cow::Owned(name))),
            Ok(Opened::Directory) | Err(Miss::NotFound) => {}
            Err(miss) => return Err(miss),
        }
    }
    match get(root, directory, patience)? {
        Opened::Directory => {
            decided!("index", "{} has no index file", folder(directory));
            Ok(Resolved::NoIndex)
        }
        Opened::File(_) => Err(Miss::NotFound),
    }
}

fn clean<'p>(
    rules: &Rules,
    root: &Root,
    name: &[u8],
    patience: Patience,
) -> Result<Resolved<'p>, Miss> {
    match rules.clean_urls {
        CleanUrls::On => file(root, Cow::Owned([name, b".html"].concat()), patience),
        CleanUrls::Off => {
            if explain_log::is_explained()
                && let Ok(Opened::File(_)) = root.get(&[name, b".html"].concat(), patience)
            {
                let name = Shown(name);
                decided!("clean", "{name}.html exists, but clean-urls is off");
            }
            Err(Miss::NotFound)
        }
    }
}

/// What the root has of that name.
fn get(root: &Root, name: &[u8], patience: Patience) -> Result<Opened, Miss> {
    let got = root.get(name, patience);
    match &got {
        Ok(Opened::File(opened)) => {
            decided!("file", "{} has {} bytes", Shown(name), opened.facts.len);
        }
        Ok(Opened::Directory) => decided!("file", "{} is a folder", folder(name)),
        Err(Miss::NotFound) => decided!("file", "{} is not found", folder(name)),
        Err(Miss::Forbidden) => {
            let why = "cannot be read by this process or is neither a file nor a folder";
            decided!("file", "{} {why}", folder(name));
        }
        // It is asked for again.
        Err(Miss::Cold) => {}
        Err(Miss::Overloaded | Miss::Changing) => {
            decided!(
                "file",
                "{} cannot be opened now because it changes or descriptors are short",
                folder(name)
            );
        }
        Err(Miss::Failed(error)) => decided!("file", "{} cannot be opened: {error}", folder(name)),
    }
    got
}

/// The root's name is empty.
fn folder(name: &[u8]) -> Shown<'_> {
    Shown(if name.is_empty() { b"the root" } else { name })
}

impl Rules {
    /// True if a name is nobody's business.
    pub(super) fn hides(&self, name: &[u8]) -> bool {
        if let Some(dotted) = dotted(name).filter(|_| self.dotted == Dotted::Hidden) {
            let (name, dotted) = (Shown(name), Shown(dotted));
            decided!(
                "path",
                "/{name} is refused because {dotted} is hidden (--hidden serves it)"
            );
            return true;
        }
        if is_ours(name) {
            let why = "the site file and unfinished uploads are never served";
            decided!("path", "/{} is refused because {why}", Shown(name));
            return true;
        }
        let is_secret = self.hidden_names.iter().any(|hidden| hidden == name);
        if is_secret {
            let why = "the files of --config and --auth-file are never served";
            decided!("path", "/{} is refused because {why}", Shown(name));
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
fn is_ours(name: &[u8]) -> bool {
    let last = last_of(name);
    last == crate::site::SITE_FILE.as_bytes() || is_draft(last)
}

/// What is behind the last slash.
pub(super) fn last_of(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

impl OpenedFile {
    fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            file: self.file.try_clone()?,
            facts: self.facts,
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
