//! The words and strings of a site file: checked when they are read, from the file or from a flag.

use std::path::{Component, Path};
use std::str::FromStr;

use ::http::HeaderValue;
use serde::Deserialize;

use super::SITE_FILE;

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
                    _ => Err(format!("must be one of {} (got {text:?})", Self::WORDS.join(", "))),
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

/// A number of bytes: `1024`, `512 KiB`, `1 GiB`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
pub struct Size(u64);

impl Size {
    /// So many bytes.
    pub const fn of_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl TryFrom<String> for Size {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("must be a size such as 512 KiB, 100 MiB or 1 GiB (got {text:?})");
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
        fits.map(Self).ok_or_else(wrong)
    }
}

fn check_file_name(name: &str) -> Result<(), String> {
    let leaves = Path::new(name)
        .components()
        .any(|component| !matches!(component, Component::Normal(_) | Component::CurDir));
    if Path::new(name)
        .file_name()
        .is_some_and(|last| last == SITE_FILE)
    {
        return Err(format!(
            "{name:?} is the site file, which is never served; name another file"
        ));
    }
    match name.is_empty() || leaves || name.contains('\0') {
        true => Err(format!(
            "must be the name of a file below the root (got {name:?})"
        )),
        false => Ok(()),
    }
}

fn check_index_name(name: &str) -> Result<(), String> {
    check_file_name(name)?;
    match name.contains('/') || name == "." {
        true => Err(format!(
            "must be the name of a file without folders (got {name:?})"
        )),
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
            "must be an origin such as https://example.org, or * (got {origin:?})"
        )),
    }
}

fn check_token(text: &str) -> Result<(), String> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+:".contains(&byte);
    match !text.is_empty() && text.bytes().all(token) {
        true => Ok(()),
        false => Err(format!("must be a charset such as utf-8 (got {text:?})")),
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
            "must be a media type such as text/markdown (got {text:?})"
        )),
    }
}

fn check_host_name(name: &str) -> Result<(), String> {
    let rest = name.strip_prefix("*.").unwrap_or(name);
    let label =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._:[]".contains(&byte);
    // As a request's host is compared: without port, without the root's dot.
    let colons = rest.contains(':') && !(rest.starts_with('[') && rest.ends_with(']'));
    match !rest.is_empty() && rest.bytes().all(label) && !colons && !rest.ends_with('.') {
        true => Ok(()),
        false => Err(format!(
            "must be the name of a host in lower case without a port, such as example.org or \
             *.example.org (got {name:?})"
        )),
    }
}
