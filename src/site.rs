//! The site file, `.tws.toml`: what a site says about itself. Read into values that are valid by
//! construction; nothing here opens anything but the site file.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use ::http::{HeaderName, HeaderValue, Method, StatusCode};
use serde::Deserialize;

use crate::error::Error;
use crate::http::glob::{Glob, Template};
use crate::http::target::{Target, encode_path};

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
/// cors = "*"                        # who may read from other origins
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
/// store = "sqlite:users.db"         # in the state directory
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
    /// The origin that may read answers from its own pages; `*` is every one.
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
    /// Sites of their own, by the name the client asks for.
    #[serde(rename = "host")]
    pub hosts: Vec<Site>,
    /// In `[[host]]`: its names.
    pub names: Vec<HostName>,
    /// In `[[host]]`: its folder, relative to the default root.
    pub root: Option<PathBuf>,
}

/// Whether directories without an index are listed.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Listing {
    /// If the root was named on the command line and has no index.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// Whether content codings are negotiated.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Compress {
    /// Files `.br`, `.zst`, `.gz` beside the file; text without them is compressed when asked for.
    #[default]
    Auto,
    /// Files beside the file only.
    Sidecar,
    /// Never.
    Off,
}

/// What entity tags are made of.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum EtagSource {
    /// Modification time and size.
    #[default]
    Mtime,
    /// The content: for trees whose modification times mean nothing.
    Content,
}

/// Which symbolic links are followed.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Symlinks {
    /// None.
    Never,
    /// Those that stay beneath the root.
    #[default]
    Inside,
    /// All, wherever they lead.
    Follow,
}

/// Declares how a word of the site file is read from a flag.
macro_rules! words {
    ($name:ident: $($word:literal => $value:ident),+) => {
        impl $name {
            /// The words there are.
            pub const WORDS: &[&str] = &[$($word),+];
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok(Self::$value),)+
                    _ => Err(format!("{text:?} is none of {}", Self::WORDS.join(", "))),
                }
            }
        }
    };
}

words!(Listing: "auto" => Auto, "on" => On, "off" => Off);
words!(Compress: "auto" => Auto, "sidecar" => Sidecar, "off" => Off);
words!(EtagSource: "mtime" => Mtime, "content" => Content);
words!(Symlinks: "never" => Never, "inside" => Inside, "follow" => Follow);

/// Declares a string that is checked when it is read.
macro_rules! checked_string {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
        #[serde(try_from = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                $check(&text)?;
                Ok(Self(text))
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                text.to_owned().try_into()
            }
        }
    };
}

checked_string! {
    /// The name of a file, relative to the root or to a folder beneath it.
    FileName, check_file_name
}
checked_string! {
    /// The name of a file in any folder.
    IndexName, check_index_name
}
checked_string! {
    /// An origin (`https://example.org`), or `*`.
    Origin, check_origin
}
checked_string! {
    /// The name of a charset.
    Charset, check_token
}
checked_string! {
    /// A media type, perhaps with parameters.
    MediaType, check_media_type
}
checked_string! {
    /// The name of a host, in lower case; a first label of `*` stands for any labels.
    HostName, check_host_name
}

fn check_file_name(name: &str) -> Result<(), String> {
    let leaves = Path::new(name)
        .components()
        .any(|component| !matches!(component, Component::Normal(_) | Component::CurDir));
    if Path::new(name)
        .file_name()
        .is_some_and(|last| last == SITE_FILE)
    {
        return Err(format!("{name:?} is the site file, which is never served"));
    }
    match name.is_empty() || leaves || name.contains('\0') {
        true => Err(format!(
            "{name:?} is not the name of a file beneath the root"
        )),
        false => Ok(()),
    }
}

fn check_index_name(name: &str) -> Result<(), String> {
    check_file_name(name)?;
    match name.contains('/') || name == "." {
        true => Err(format!("{name:?} is not the name of a file in a folder")),
        false => Ok(()),
    }
}

fn check_origin(origin: &str) -> Result<(), String> {
    let has_scheme = origin.split_once("://").is_some_and(|(scheme, host)| {
        !scheme.is_empty() && !host.is_empty() && !host.contains('/')
    });
    let fits = HeaderValue::from_str(origin).is_ok() && !origin.contains([' ', ',']);
    match origin == "*" || (has_scheme && fits) {
        true => Ok(()),
        false => Err(format!(
            "{origin:?} is not an origin, as \"https://example.org\" and \"*\" are"
        )),
    }
}

fn check_token(text: &str) -> Result<(), String> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+:".contains(&byte);
    match !text.is_empty() && text.bytes().all(token) {
        true => Ok(()),
        false => Err(format!("{text:?} is not a charset, as \"utf-8\" is")),
    }
}

fn check_media_type(text: &str) -> Result<(), String> {
    let (essence, _) = text.split_once(';').unwrap_or((text, ""));
    let two = essence
        .trim()
        .split('/')
        .filter(|part| check_token(part).is_ok())
        .count()
        == 2;
    match two && HeaderValue::from_str(text).is_ok() {
        true => Ok(()),
        false => Err(format!(
            "{text:?} is not a media type, as \"text/markdown\" is"
        )),
    }
}

fn check_host_name(name: &str) -> Result<(), String> {
    let rest = name.strip_prefix("*.").unwrap_or(name);
    let label =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._:[]".contains(&byte);
    match !rest.is_empty() && rest.bytes().all(label) {
        true => Ok(()),
        false => Err(format!(
            "{name:?} is not the name of a host in lower case, as \"example.org\" and \"*.example.org\" are"
        )),
    }
}

/// One `[[route]]`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "RawRoute")]
#[non_exhaustive]
pub struct Route {
    /// The decoded path.
    pub path: String,
    /// What is served there.
    pub source: Source,
}

/// What a route serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file.
    File(FileName),
    /// So many zero bytes: something large to download that takes no room.
    Zeros(u64),
}

/// One `[[redirect]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "RawRedirect")]
#[non_exhaustive]
pub struct Redirect {
    /// The paths it is about.
    pub(crate) from: Glob,
    /// Where they are.
    pub(crate) to: Template,
    /// How that is said.
    pub(crate) status: StatusCode,
}

/// One `[[header]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>")]
#[non_exhaustive]
pub struct HeaderRule {
    /// The paths it is about.
    pub(crate) path: Glob,
    /// What is set.
    pub(crate) fields: Vec<(HeaderName, HeaderValue)>,
}

/// A status that can have an error page.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
pub struct ErrorStatus(u16);

/// `[users]`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Users {
    /// Where they are kept.
    pub store: Store,
}

/// Where users are kept.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
#[non_exhaustive]
pub enum Store {
    /// An embedded database; a relative path lies in the state directory.
    Sqlite(PathBuf),
}

impl Site {
    /// Reads a site file.
    ///
    /// # Errors
    ///
    /// [`Error::Path`] if it cannot be read, [`Error::Setting`] with file, line and the way out if
    /// it says what it may not.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = fs::read_to_string(path)
            .map_err(|source| Error::path("read the site file", path, source))?;
        let site: Self = toml::from_str(&text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = text[..start].matches('\n').count() + 1;
            let reason = explain(error.message());
            Error::Setting(format!("{}:{line}: {reason}", path.display()))
        })?;
        site.check_hosts()
            .map_err(|reason| Error::Setting(format!("{}: {reason}", path.display())))?;
        Ok(site)
    }

    /// Reads the site file of a root, if it has one.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn of_root(root: &Path) -> Result<Option<Self>, Error> {
        let path = root.join(SITE_FILE);
        match fs::metadata(&path) {
            // A FIFO would be waited for.
            Ok(metadata) if !metadata.is_file() => {
                let source = io::Error::other("it is not a regular file");
                Err(Error::path("read the site file", path, source))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            // A root that is a single file has no site file beside it that would be its own.
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => Ok(None),
            _ => Self::read(&path).map(Some),
        }
    }

    fn check_hosts(&self) -> Result<(), String> {
        if !self.names.is_empty() || self.root.is_some() {
            return Err("names and root are for [[host]]; the default site is PATH".to_owned());
        }
        let mut known = Vec::new();
        for host in &self.hosts {
            let Some(first) = host.names.first() else {
                return Err("a [[host]] needs names, as [\"example.org\"]".to_owned());
            };
            let name = first.as_str();
            if host.root.is_none() {
                return Err(format!("the [[host]] {name:?} needs a root"));
            }
            if !host.hosts.is_empty() || host.users.is_some() {
                return Err(format!(
                    "the [[host]] {name:?} cannot have hosts or users of its own"
                ));
            }
            for name in &host.names {
                if known.contains(&name) {
                    return Err(format!("the host {:?} is named twice", name.as_str()));
                }
                known.push(name);
            }
        }
        Ok(())
    }
}

/// serde's words in the words of the format, on one line.
fn explain(message: &str) -> String {
    message
        .replace("unknown field", "unknown key")
        .replace("missing field", "missing key")
        .replace("duplicate field", "duplicate key")
        .replace("unknown variant", "unknown value")
        .replace(", expected one of", "; there are")
        .replace(", expected `", "; there is `")
        .replace('\n', " ")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRoute {
    path: String,
    file: Option<FileName>,
    size: Option<String>,
}

impl TryFrom<RawRoute> for Route {
    type Error = String;

    fn try_from(raw: RawRoute) -> Result<Self, String> {
        let path = raw.path;
        let normal = Target::parse(&Method::GET, &encode_path(path.as_bytes()))
            .is_ok_and(|target| *target.path == *path.as_bytes());
        if !path.starts_with('/') || path.contains(['?', '#']) || !normal {
            return Err(format!(
                "path = {path:?} is not the path of an address, as \"/logo\" is"
            ));
        }
        let source = match (raw.file, raw.size) {
            (Some(file), None) => Source::File(file),
            (None, Some(size)) => Source::Zeros(parse_size(&size)?),
            _ => return Err(format!("route {path:?} needs either a file or a size")),
        };
        Ok(Self { path, source })
    }
}

/// A number of bytes: `1024`, `512 KiB`, `1 GiB`.
fn parse_size(text: &str) -> Result<u64, String> {
    let wrong =
        || format!("size = {text:?} is not a size, as \"512 KiB\", \"100 MiB\", \"1 GiB\" are");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim() {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    // The largest offset a file can have.
    let fits = number
        .checked_mul(1 << shift)
        .filter(|size| i64::try_from(*size).is_ok());
    fits.ok_or_else(wrong)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRedirect {
    from: String,
    to: String,
    #[serde(default = "moved_permanently")]
    status: u16,
}

fn moved_permanently() -> u16 {
    301
}

impl TryFrom<RawRedirect> for Redirect {
    type Error = String;

    fn try_from(raw: RawRedirect) -> Result<Self, String> {
        let from = Glob::new(&raw.from)?;
        let absolute = raw.to.starts_with("https://") || raw.to.starts_with("http://");
        if !absolute && !raw.to.starts_with('/') {
            let to = &raw.to;
            return Err(format!("to = {to:?} is neither a path nor an http URL"));
        }
        if HeaderValue::from_str(&raw.to).is_err() || raw.to.contains(char::is_whitespace) {
            return Err(format!("to = {:?} is not a URL", raw.to));
        }
        let to = Template::new(&raw.to, from.stars())?;
        match raw.status {
            301 | 302 | 307 | 308 => Ok(Self {
                from,
                to,
                status: StatusCode::from_u16(raw.status).map_err(|error| error.to_string())?,
            }),
            status => Err(format!(
                "status = {status} is not one of 301, 302, 307, 308"
            )),
        }
    }
}

impl TryFrom<BTreeMap<String, String>> for HeaderRule {
    type Error = String;

    fn try_from(mut raw: BTreeMap<String, String>) -> Result<Self, String> {
        let path = raw
            .remove("path")
            .ok_or("a header rule needs a path, as \"/*.js\"")?;
        let fields = raw.iter().map(|(name, value)| field(name, value));
        Ok(Self {
            path: Glob::new(&path)?,
            fields: fields.collect::<Result<_, _>>()?,
        })
    }
}

impl HeaderRule {
    /// A field for every path, from `Name: value`.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn for_all(line: &str) -> Result<Self, String> {
        let (name, value) = line
            .split_once(':')
            .ok_or_else(|| format!("{line:?} is not a field, as \"Cache-Control: no-cache\" is"))?;
        Ok(Self {
            path: Glob::new("/*")?,
            fields: vec![field(name.trim(), value.trim())?],
        })
    }
}

/// A header field that a site may set.
fn field(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), String> {
    /// They say how the connection or the content is read; a site cannot know.
    const NOT_THE_SITES: &[&str] = &[
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "date",
        "keep-alive",
        "transfer-encoding",
        "upgrade",
    ];
    let parsed = HeaderName::try_from(name)
        .map_err(|_| format!("{name:?} is not the name of a header field"))?;
    if NOT_THE_SITES.contains(&parsed.as_str()) {
        return Err(format!("{name} is set by the server, not by a site"));
    }
    let value = HeaderValue::try_from(value)
        .map_err(|_| format!("{value:?} cannot be the value of a header field"))?;
    Ok((parsed, value))
}

impl From<StatusCode> for ErrorStatus {
    fn from(status: StatusCode) -> Self {
        Self(status.as_u16())
    }
}

impl TryFrom<String> for ErrorStatus {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.parse() {
            Ok(status @ 400..=599) => Ok(Self(status)),
            _ => Err(format!(
                "{text:?} is not the status of an error (400 to 599)"
            )),
        }
    }
}

impl TryFrom<String> for Store {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
        }
    }
}

impl FromStr for Store {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("sqlite:") {
            Some(path) if !path.is_empty() => Ok(Self::Sqlite(PathBuf::from(path))),
            _ => Err(format!(
                "{text:?} is not a store, as \"sqlite:users.db\" is"
            )),
        }
    }
}
