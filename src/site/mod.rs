//! The site file, `.tws.toml`: the settings of a site. It is parsed into types that are valid by
//! construction; no other file is opened here.
//!
//! `keys` are its keys, `values` its keywords and strings, `rules` its tables, `pattern` the paths in rules,
//! `pattern_index` many of them; `location` says where rules are written, `warnings` finds rules without effect. `config_file` is a whole file, which may have other keys
//! too.

mod access;
#[cfg(feature = "config-file")]
mod config_file;
mod header_rule;
mod keys;
mod location;
pub(crate) mod pattern;
mod pattern_index;
mod rewrite;
mod root_opener;
mod rules;
mod values;
mod warnings;

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

pub use access::{AccessRule, AuthRequirement, AuthRule, RequiredPasswords};
#[cfg(feature = "config-file")]
pub use config_file::{ConfigFile, OtherKey};
pub use header_rule::HeaderRule;
#[cfg(feature = "config-file")]
use location::SettingsSource;
pub use location::SourceLocation;
pub(crate) use pattern_index::PatternIndex;
pub use rewrite::{RewriteRule, SpaRule};
pub use root_opener::{DirectoryId, OpenRequest, RootOpener};
pub use rules::{
    ErrorStatus, Manage, PostgresUrl, RedirectRule, RouteRule, RouteSource, Store, Upload,
    UsersConfig,
};
pub use values::{
    Archive, Charset, Compress, Deletion, EtagSource, FileName, HostName, IndexName, Listing,
    MediaType, Origin, Period, Readme, SITE_FILE, Size, Symlinks,
};

/// The settings of a site. All of them have defaults.
///
/// ```toml
/// index = ["index.html"]            # the index of a folder: the first that exists
/// clean-urls = true                 # /about is about.html, and /about/ redirects there
/// listing = "off"                   # auto, on, off: folders without an index
/// readme = "on"                     # on, off: README.md below the listing
/// archive = "auto"                  # auto, on, off: folders as .zip or .tar; auto: if listed
/// archive-max = "16 GiB"            # of the files in an archive
/// compress = "auto"                 # auto, sidecar, off
/// etag = "mtime"                    # mtime, content: content hashes every file once
/// symlinks = "inside"               # never, inside, follow
/// hidden = false                    # whether .names are served
/// keep-previous = "10m"             # how long assets of a former root are served after a deploy
/// cors = "*"                        # the origins whose pages may read files; or an array
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
/// from = "/old/*"                   # a star matches anything, slashes too
/// to = "/new/$1"
/// status = 301                      # 301, 302, 307, 308
///
/// [[rewrite]]
/// from = "/blog/*"
/// to = "/posts/$1.html"             # the path that is looked up instead, once
/// missing = false                   # true: only where nothing is found
///
/// [[spa]]                           # navigations that find nothing get the page; for one
/// path = "/admin/"                  # application, spa = "index.html"; the longest path decides
/// page = "admin/index.html"
///
/// [[header]]
/// path = "/assets/*"
/// Cache-Control = "public, max-age=31536000, immutable"
///
/// [[header]]
/// path = "/*"                       # or the path of the file: "/*.html" is / and /docs/, too
/// always = true                     # errors get the fields, too, if the request has a valid target
/// status = [404, "5xx"]             # only these statuses; 304 and 206 count as 200
/// media-type = ["text/html"]        # only these media types; also "image/*"
/// X-Frame-Options = "DENY"
///
/// [[header]]
/// path = "/Build/*"
/// encoded = true                    # x.wasm.br is sent as x.wasm with Content-Encoding: br
///
/// [[auth]]                          # only in a file of the operator
/// path = "/private/*"
/// file = "private.htpasswd"         # beside this file
///
/// [[auth]]                          # the last that matches decides
/// path = "/private/logo.svg"
/// public = true                     # to be read; other methods still need the password
///
/// [[access]]
/// path = "/internal/*"
/// allow = ["10.0.0.0/8", "::1"]     # or deny; all is every client, unix a peer on a Unix socket
///
/// [error-pages]
/// 404 = "error.html"                # also 401, 403, 405, 412, 416, 429, 500 and 503
///
/// [media-types]
/// md = "text/markdown"
///
/// [users]
/// store = "sqlite:users.db"         # in the state directory; or "postgres://user:password@host/database"
///
/// [upload]                          # accepts PUT, and forms with files
/// max = "1 GiB"
/// overwrite = false                 # whether a file that is there may be replaced
/// parents = false                   # whether PUT creates the folders above a file
///
/// [manage]                          # lets clients create folders, rename and delete
/// delete = "trash"                  # trash, permanent
///
/// [[host]]                          # another site, with any of the keys above
/// names = ["example.org", "*.example.org"]
/// root = "/srv/example"
/// ```
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[non_exhaustive]
pub struct Site {
    /// The index files of a directory, of which the first that exists is served; `index.html` if it
    /// is empty.
    pub index: Vec<IndexName>,
    /// Whether `/about` is answered with `about.html`.
    pub clean_urls: bool,
    /// Whether directories without an index are listed.
    pub listing: Listing,
    /// Whether the README of a folder is shown below its listing.
    pub readme: Readme,
    /// Whether folders can be downloaded as archives.
    pub archive: Archive,
    /// The maximum size of the files in an archive; `None` is 16 GiB.
    pub archive_max: Option<Size>,
    /// Whether content codings are negotiated.
    pub compress: Compress,
    /// What entity tags are made from.
    pub etag: EtagSource,
    /// Which symbolic links are followed.
    pub symlinks: Symlinks,
    /// Whether names that begin with a dot are served.
    pub hidden: bool,
    /// How long files of a former root, HTML excepted, are served that the current one lacks. `None` is
    /// not at all.
    pub keep_previous: Option<Period>,
    /// The pages for navigations to paths that do not exist. The longest path decides.
    #[serde(deserialize_with = "rewrite::spa_rules")]
    pub spa: Vec<SpaRule>,
    /// The origins whose pages may read files; `*` is any.
    #[serde(deserialize_with = "values::origins")]
    pub cors: Vec<Origin>,
    /// The charset of text; `None` is UTF-8.
    pub charset: Option<Charset>,
    /// Paths that are not names of files.
    #[serde(rename = "route")]
    pub routes: Vec<RouteRule>,
    /// Redirects. The first that matches is used.
    #[serde(rename = "redirect")]
    pub redirects: Vec<RedirectRule>,
    /// Paths that are looked up as others. The first that matches is used, once. Routes have
    /// precedence.
    #[serde(rename = "rewrite")]
    pub rewrites: Vec<RewriteRule>,
    /// Header fields by path, which is that of the request or that of the file. All that match are
    /// used; the last one decides about a field.
    #[serde(rename = "header")]
    pub headers: Vec<HeaderRule>,
    /// The passwords that paths require. The last that matches decides. They apply on every host, whose
    /// own rules come after them.
    pub auth: Vec<AuthRule>,
    /// The networks from which paths can be requested. All that match are applied, on every host.
    pub access: Vec<AccessRule>,
    /// The pages for statuses of 400 and more: files beneath the root.
    pub error_pages: BTreeMap<ErrorStatus, FileName>,
    /// Media types by extension, which override the built-in ones.
    pub media_types: BTreeMap<String, MediaType>,
    /// The users of the sample application, if it has any.
    pub users: Option<UsersConfig>,
    /// The uploads that are accepted, if any are.
    pub upload: Option<Upload>,
    /// The changes of the tree that are accepted, if any are.
    pub manage: Option<Manage>,
    /// Other sites by host name.
    #[serde(rename = "host")]
    pub hosts: Vec<Site>,
    /// In `[[host]]`: its names.
    pub names: Vec<HostName>,
    /// In `[[host]]`: its folder. A relative one is beneath the default root; in a file it is relative to
    /// the folder of the file.
    pub root: Option<PathBuf>,
    /// Where the keys are written: `spa`, `error-pages.404`.
    #[serde(skip)]
    pub(crate) key_locations: BTreeMap<String, SourceLocation>,
}

impl Site {
    /// Returns where a key is written; that of a page or a media type is `error-pages.404` or
    /// `media-types.md`.
    pub fn location_of(&self, key: &str) -> SourceLocation {
        self.key_locations.get(key).cloned().unwrap_or_default()
    }

    /// The keys at the top of a site file.
    pub const KEYS: &[&str] = keys::SITE_KEYS;
}
