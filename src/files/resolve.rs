//! From a path to what stands there: routes, index files, slash redirects, clean URLs.

use std::borrow::Cow;
use std::io;

use super::root::{self, Miss, Opened, OpenedFile, Patience, Root};
use super::rules::{CleanUrls, Destination, Dotted, Rules, Scope};

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
            let copy = made.try_clone().map_err(Miss::Failed)?;
            return Ok(Resolved::File(copy, Cow::Borrowed(path)));
        }
        Some(Destination::File(name)) => return file(root, Cow::Borrowed(name), patience),
        None if rules.scope == Scope::Nothing => return Err(Miss::NotFound),
        None => {}
    }
    let name = path.strip_prefix(b"/").ok_or(Miss::NotFound)?;
    if rules.hides(name) {
        return Err(Miss::NotFound);
    }
    if name.is_empty() || name.ends_with(b"/") {
        return index_of(rules, root, name, patience);
    }
    match root.get(name, patience) {
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
    match root.get(&name, patience)? {
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
        match root.get(&name, patience) {
            Ok(Opened::File(opened)) => return Ok(Resolved::File(opened, Cow::Owned(name))),
            Ok(Opened::Directory) | Err(Miss::NotFound) => {}
            Err(miss) => return Err(miss),
        }
    }
    match root.get(directory, patience)? {
        Opened::Directory => Ok(Resolved::NoIndex),
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
        CleanUrls::Off => Err(Miss::NotFound),
    }
}

impl Rules {
    /// True if a name is nobody's business.
    pub(super) fn hides(&self, name: &[u8]) -> bool {
        let dotted = self.dotted == Dotted::Hidden && is_dotted(name);
        dotted || is_ours(name) || self.hidden_names.iter().any(|hidden| hidden == name)
    }
}

/// True if a component begins with a dot. `.well-known` is public by definition (RFC 8615).
fn is_dotted(name: &[u8]) -> bool {
    let mut components = name.split(|&byte| byte == b'/').enumerate();
    components.any(|(depth, component)| {
        component.starts_with(b".") && (depth > 0 || component != b".well-known")
    })
}

/// True for the site file and for what is being uploaded.
fn is_ours(name: &[u8]) -> bool {
    let last = name.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
    last == crate::site::SITE_FILE.as_bytes() || root::is_draft(last)
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
            assert!(is_dotted(name.as_bytes()), "{name}");
        }
        for name in ["", "a.b", ".well-known/acme", "a/b./c"] {
            assert!(!is_dotted(name.as_bytes()), "{name}");
        }
    }
}
