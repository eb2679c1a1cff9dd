//! The site file, `.tws.toml`: what a site says about itself. Read into values that are valid by
//! construction; nothing here opens anything but the site file.
//!
//! `values` are the words and strings in it, `rules` its tables, and `warnings` says which of them
//! are in vain; `document` is the file, in which there may be more than a site.

mod document;
pub(crate) mod pattern;
mod rules;
mod values;
mod warnings;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::Error;

pub use document::{Document, OtherKey};
pub(crate) use rules::Place;
pub use rules::{
    ErrorStatus, HeaderRule, PostgresUrl, Redirect, Route, Source, Store, Upload, Users,
};
pub use values::{
    Charset, Compress, EtagSource, FileName, HostName, IndexName, Listing, MediaType, Origin, Size,
    Symlinks,
};

/// The name under which a root holds its site file. It is never served.
pub const SITE_FILE: &str = ".tws.toml";

/// What a site says about itself. Everything has a default.
///
/// ```toml
/// index = ["index.html"]            # what stands for a folder: the first that exists
/// clean-urls = true                 # /about is about.html
/// listing = "off"                   # auto, on, off: folders without an index
/// compress = "auto"                 # auto, sidecar, off
/// etag = "mtime"                    # mtime, content: content hashes every file once
/// symlinks = "inside"               # never, inside, follow
/// hidden = false                    # whether .names are served
/// spa = "index.html"                # navigations that find nothing get this page
/// cors = "*"                        # who may read files from other origins
/// charset = "utf-8"                 # of text
///
/// [[route]]
/// path = "/logo"
/// file = "images/logo.svg"          # beneath the root
///
/// [[route]]
/// path = "/download/test.bin"
/// size = "1 GiB"                    # so many zeros, made on the fly
///
/// [[redirect]]
/// from = "/old/*"                   # a star stands for anything, slashes too
/// to = "/new/$1"
/// status = 301                      # 301, 302, 307, 308
///
/// [[header]]
/// path = "/assets/*"
/// Cache-Control = "public, max-age=31536000, immutable"
///
/// [error-pages]
/// 404 = "error.html"
///
/// [media-types]
/// md = "text/markdown"
///
/// [users]
/// store = "sqlite:users.db"         # in the state directory; or "postgres://user:password@host/database"
///
/// [upload]                          # takes PUT, and forms with files
/// max = "1 GiB"
/// overwrite = false                 # whether a file that is there may be replaced
///
/// [[host]]                          # another site, with any of the keys above
/// names = ["example.org", "*.example.org"]
/// root = "/srv/example"
/// ```
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[non_exhaustive]
pub struct Site {
    /// The names that stand for a directory, the first that exists; `index.html` if there is none.
    pub index: Vec<IndexName>,
    /// Whether `/about` is `about.html`.
    pub clean_urls: bool,
    /// Whether directories without an index are listed.
    pub listing: Listing,
    /// Whether content codings are negotiated.
    pub compress: Compress,
    /// What entity tags are made of.
    pub etag: EtagSource,
    /// Which symbolic links are followed.
    pub symlinks: Symlinks,
    /// Whether names that begin with a dot are served.
    pub hidden: bool,
    /// The page for navigations that find nothing.
    pub spa: Option<FileName>,
    /// The origin whose pages may read files; `*` is every one.
    pub cors: Option<Origin>,
    /// The charset of text; UTF-8 if it is `None`.
    pub charset: Option<Charset>,
    /// Addresses that are not files' names.
    #[serde(rename = "route")]
    pub routes: Vec<Route>,
    /// Addresses that are elsewhere. The first that matches counts.
    #[serde(rename = "redirect")]
    pub redirects: Vec<Redirect>,
    /// Header fields by path. All that match count, the last for each field.
    #[serde(rename = "header")]
    pub headers: Vec<HeaderRule>,
    /// What is shown for a status of 400 or more: files beneath the root.
    pub error_pages: BTreeMap<ErrorStatus, FileName>,
    /// Media types by extension, before the usual ones.
    pub media_types: BTreeMap<String, MediaType>,
    /// The users of the sample application; without it there are none.
    pub users: Option<Users>,
    /// Whether and which files are taken; without it none are.
    pub upload: Option<Upload>,
    /// Sites of their own, by the name the client asks for.
    #[serde(rename = "host")]
    pub hosts: Vec<Site>,
    /// In `[[host]]`: its names.
    pub names: Vec<HostName>,
    /// In `[[host]]`: its folder, relative to the default root.
    pub root: Option<PathBuf>,
}

impl Site {
    /// The keys at the top of a site file.
    pub const KEYS: &[&str] = &[
        "index",
        "clean-urls",
        "listing",
        "compress",
        "etag",
        "symlinks",
        "hidden",
        "spa",
        "cors",
        "charset",
        "route",
        "redirect",
        "header",
        "error-pages",
        "media-types",
        "users",
        "upload",
        "host",
        "names",
        "root",
    ];

    /// Reads a site file.
    ///
    /// # Errors
    ///
    /// [`Error::Path`] if it cannot be read, [`Error::Setting`] with file, line and the way out if
    /// it says what it may not.
    pub fn read(path: &Path) -> Result<Self, Error> {
        Document::read(path)?.only_site()
    }

    /// Reads the site file of a root, if it has one.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn of_root(root: &Path) -> Result<Option<Self>, Error> {
        Document::of_root(root)?
            .map(Document::only_site)
            .transpose()
    }

    /// The error is of a host, counted from 0, or of the default site.
    fn check_hosts(&self) -> Result<(), (Option<usize>, String)> {
        if !self.names.is_empty() || self.root.is_some() {
            let reason = "names and root are only allowed in [[host]]; remove them here";
            return Err((None, reason.to_owned()));
        }
        let mut known = Vec::new();
        for (index, host) in self.hosts.iter().enumerate() {
            let wrong = |reason| Err((Some(index), reason));
            let Some(first) = host.names.first() else {
                return wrong("a [[host]] has no names; add names = [\"example.org\"]".to_owned());
            };
            let name = first.as_str();
            if host.root.is_none() {
                return wrong(format!(
                    "the [[host]] {name:?} has no root; add root = \"FOLDER\""
                ));
            }
            if !host.hosts.is_empty() || host.users.is_some() {
                return wrong(format!(
                    "the [[host]] {name:?} must not have hosts or users; move them to the top of the file"
                ));
            }
            for name in &host.names {
                if known.contains(&name) {
                    return wrong(format!(
                        "the host {:?} is named twice; remove one",
                        name.as_str()
                    ));
                }
                known.push(name);
            }
        }
        Ok(())
    }
}
