//! The site file, `.tws.toml`: what a site says about itself. Read into values that are valid by
//! construction; nothing here opens anything but the site file.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use ::http::{Method, StatusCode};
use serde::Deserialize;

use crate::error::Error;
use crate::http::target::{Target, encode_path};

/// The name under which a root holds its site file. It is never served.
pub const SITE_FILE: &str = ".tws.toml";

/// What a site says about itself.
///
/// ```toml
/// clean-urls = true                 # /about is about.html
/// index = ["index.html"]
///
/// [[route]]
/// path = "/logo"
/// file = "images/logo.svg"          # beneath the root
///
/// [[route]]
/// path = "/download/test.bin"
/// size = "1 GiB"                    # so many zeros, made on the fly
///
/// [error-pages]
/// 404 = "error.html"
///
/// [users]
/// store = "sqlite:users.db"         # in the state directory
/// ```
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
#[non_exhaustive]
pub struct Site {
    /// Whether `/about` is `about.html`.
    pub clean_urls: bool,
    /// The names that stand for a directory, the first that exists; `index.html` if there is none.
    pub index: Vec<String>,
    /// Addresses that are not files' names.
    #[serde(rename = "route")]
    pub routes: Vec<Route>,
    /// What is shown for a status of 400 or more: files beneath the root.
    pub error_pages: BTreeMap<ErrorStatus, String>,
    /// The users of the sample application; without it there are none.
    pub users: Option<Users>,
}

/// One `[[route]]`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "RawRoute")]
pub struct Route {
    /// The decoded path.
    pub path: String,
    /// What is served there.
    pub source: Source,
}

/// What a route serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A file, relative to the root.
    File(String),
    /// So many zero bytes: something large to download that takes no room.
    Zeros(u64),
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
        toml::from_str(&text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start.min(text.len()));
            let line = text[..start].matches('\n').count() + 1;
            let reason = explain(error.message());
            Error::Setting(format!("{}:{line}: {reason}", path.display()))
        })
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
}

/// serde's words in the words of the format, on one line.
fn explain(message: &str) -> String {
    message
        .replace("unknown field", "unknown key")
        .replace("missing field", "missing key")
        .replace("duplicate field", "duplicate key")
        .replace(", expected one of", "; the keys here are")
        .replace(", expected `", "; the key here is `")
        .replace('\n', " ")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRoute {
    path: String,
    file: Option<String>,
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
            (Some(file), None) => Source::File(relative("file", file)?),
            (None, Some(size)) => Source::Zeros(parse_size(&size)?),
            _ => return Err(format!("route {path:?} needs either a file or a size")),
        };
        Ok(Self { path, source })
    }
}

/// A name beneath the root.
fn relative(key: &str, name: String) -> Result<String, String> {
    if Path::new(&name)
        .file_name()
        .is_some_and(|last| last == SITE_FILE)
    {
        return Err(format!(
            "{key} = {name:?} is the site file, which is never served"
        ));
    }
    let leaves = Path::new(&name)
        .components()
        .any(|component| !matches!(component, Component::Normal(_) | Component::CurDir));
    match name.is_empty() || leaves || name.contains('\0') {
        true => Err(format!(
            "{key} = {name:?} is not the name of a file beneath the root"
        )),
        false => Ok(name),
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

impl ErrorStatus {
    /// The status.
    pub fn status(self) -> StatusCode {
        StatusCode::from_u16(self.0).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
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
