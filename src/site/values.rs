//! The keywords and strings of a site file, validated when they are parsed from the file or a flag.

use std::fmt::{self, Display, Formatter};
use std::path::{Component, Path};
use std::str::FromStr;
use std::time::Duration;

use ::http::HeaderValue;
use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::error::SettingError;

/// The name of the site file in a root. It is never served.
pub const SITE_FILE: &str = ".tws.toml";

/// Whether directories without an index are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Listing {
    /// Only if the root was given on the command line and has no index.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// Whether the README of a folder is shown below its listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Readme {
    /// `README.md`, else `README.txt`, of at most 256 KiB.
    #[default]
    On,
    /// Never.
    Off,
}

/// Whether folders can be downloaded as archives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Archive {
    /// If folders are listed.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// What becomes of deleted files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Deletion {
    /// They are moved to `.tws-trash` in the root, which is never served, below the time of the deletion.
    /// It may be emptied at any time, which the server does not do.
    #[default]
    Trash,
    /// They are removed.
    Permanent,
}

/// Whether content codings are negotiated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compress {
    /// Sidecar files `.br`, `.zst`, `.gz`; text of 1 KiB to 16 MiB without them is compressed here, that
    /// of more than 1 MiB in the background, for later responses. Listings are compressed, too.
    #[default]
    Auto,
    /// Sidecar files only.
    Sidecar,
    /// Never.
    Off,
}

/// What entity tags are made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum EtagSource {
    /// Modification time and size.
    #[default]
    Mtime,
    /// The content: for trees with meaningless modification times.
    Content,
}

/// Which symbolic links are followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Symlinks {
    /// None.
    Never,
    /// Those that stay beneath the root.
    #[default]
    Inside,
    /// All, wherever they lead.
    Follow,
}

/// The words of a key whose value is a string, an integer, or an array of these.
#[derive(Clone, Debug, Default)]
pub(super) struct Strings(pub(super) Vec<String>);

impl<'de> Deserialize<'de> for Strings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct StringsVisitor;

        impl<'de> Visitor<'de> for StringsVisitor {
            type Value = Strings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array of strings")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Strings, E> {
                Ok(Strings(vec![text.to_owned()]))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Strings, E> {
                Ok(Strings(vec![number.to_string()]))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Strings, E> {
                Ok(Strings(vec![number.to_string()]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Strings, A::Error> {
                let mut words = Vec::new();
                while let Some(Strings(more)) = seq.next_element()? {
                    words.extend(more);
                }
                Ok(Strings(words))
            }
        }

        deserializer.deserialize_any(StringsVisitor)
    }
}

/// Parses one origin, or an array of them.
pub(super) fn origins<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Origin>, D::Error> {
    let Strings(words) = Strings::deserialize(deserializer)?;
    let origins = words.into_iter().map(Origin::try_from);
    origins.collect::<Result<_, _>>().map_err(de::Error::custom)
}

/// Parses a keyword of a file.
struct KeywordVisitor<T> {
    keywords: &'static [&'static str],
    parse: fn(&str) -> Result<T, SettingError>,
}

impl<T> Visitor<'_> for KeywordVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "one of {}", self.keywords.join(", "))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }
}

/// Implements parsing of a keyword from a flag or a file.
macro_rules! keywords {
    ($name:ident: $($keyword:literal => $value:ident),+) => {
        impl $name {
            /// The keywords.
            pub const VALUES: &[&str] = &[$($keyword),+];
        }

        impl FromStr for $name {
            type Err = SettingError;

            fn from_str(text: &str) -> Result<Self, SettingError> {
                match text {
                    $($keyword => Ok(Self::$value),)+
                    _ => Err(format!("must be one of {} (got {text:?})", Self::VALUES.join(", ")).into()),
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(KeywordVisitor {
                    keywords: Self::VALUES,
                    parse: Self::from_str,
                })
            }
        }
    };
}

keywords!(Listing: "auto" => Auto, "on" => On, "off" => Off);
keywords!(Archive: "auto" => Auto, "on" => On, "off" => Off);
keywords!(Readme: "on" => On, "off" => Off);
keywords!(Deletion: "trash" => Trash, "permanent" => Permanent);
keywords!(Compress: "auto" => Auto, "sidecar" => Sidecar, "off" => Off);
keywords!(EtagSource: "mtime" => Mtime, "content" => Content);
keywords!(Symlinks: "never" => Never, "inside" => Inside, "follow" => Follow);

/// Declares a string type that is validated when it is parsed.
macro_rules! checked_string {
    ($(#[$doc:meta])* $name:ident, $check:path) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
        #[serde(try_from = "String")]
        pub struct $name(String);

        impl $name {
            /// Returns the text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = SettingError;

            fn try_from(text: String) -> Result<Self, SettingError> {
                $check(&text)?;
                Ok(Self(text))
            }
        }

        impl FromStr for $name {
            type Err = SettingError;

            fn from_str(text: &str) -> Result<Self, SettingError> {
                text.to_owned().try_into()
            }
        }
    };
}

checked_string! {
    /// A file name, relative to the root or a folder beneath it.
    FileName, check_file_name
}
checked_string! {
    /// A file name without folders.
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
    /// A host name in lower case; a first label of `*` matches one or more labels.
    HostName, check_host_name
}

impl Origin {
    /// Returns why no browser sends this origin, if that is certain (RFC 6454 §6.2).
    pub fn reason_against(&self) -> Option<&'static str> {
        let (scheme, host) = self.0.split_once("://")?;
        if host.contains('*') {
            return Some("a star stands for nothing; name each origin, or give * for all");
        }
        if self.0.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Some("browsers send it in lower case");
        }
        let default_port = match scheme {
            "http" => ":80",
            "https" => ":443",
            _ => return None,
        };
        let has_default_port = host.ends_with(default_port);
        has_default_port.then_some("browsers omit the default port")
    }
}

impl HostName {
    /// Returns whether a host in any case, without its port, has this name or one that the wildcard
    /// stands for.
    pub(crate) fn matches(&self, host: &[u8]) -> bool {
        let Some(suffix) = self.wildcard_suffix() else {
            return host.eq_ignore_ascii_case(self.as_str().as_bytes());
        };
        let start = host.len().checked_sub(suffix.len());
        start.is_some_and(|start| start > 0 && host[start..].eq_ignore_ascii_case(suffix))
    }

    /// Returns `.example.org` of `*.example.org`.
    pub(crate) fn wildcard_suffix(&self) -> Option<&[u8]> {
        self.as_str().as_bytes().strip_prefix(b"*")
    }
}

/// A number of bytes: `1024`, `512 KiB`, `1 GiB`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
pub struct Size(u64);

impl Size {
    /// Makes a size from a number of bytes.
    pub const fn of_bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// Returns the number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

/// Displays the size exactly, in the largest unit of which it is a multiple.
impl Display for Size {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let units = [(40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")];
        let whole = |(shift, _): &(u32, _)| self.0 > 0 && self.0.trailing_zeros() >= *shift;
        let (shift, unit) = units.into_iter().find(whole).unwrap_or((0, "B"));
        write!(f, "{} {unit}", self.0 >> shift)
    }
}

impl TryFrom<String> for Size {
    type Error = SettingError;

    fn try_from(text: String) -> Result<Self, SettingError> {
        text.parse()
    }
}

impl FromStr for Size {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        let wrong = || {
            SettingError::from(format!(
                "must be a size such as 512 KiB, 100 MiB or 1 GiB (got {text:?})"
            ))
        };
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
        // File offsets are signed (off_t).
        let fits = number
            .checked_mul(1 << shift)
            .filter(|size| i64::try_from(*size).is_ok());
        fits.map(Self).ok_or_else(wrong)
    }
}

/// A time: `30s`, `10m`, `1h`, `7d`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
#[serde(try_from = "String")]
pub struct Period(Duration);

impl Period {
    /// The longest period, in seconds: some ten years.
    const MAX_SECONDS: u64 = 10 * 366 * 24 * 60 * 60;

    /// Returns the time.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl TryFrom<String> for Period {
    type Error = SettingError;

    fn try_from(text: String) -> Result<Self, SettingError> {
        text.parse()
    }
}

impl FromStr for Period {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        let wrong = || {
            SettingError::from(format!(
                "must be a time such as 30s, 10m, 1h or 7d (got {text:?})"
            ))
        };
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = text.split_at(digits);
        let unit = match unit.trim() {
            "s" => 1,
            "m" => 60,
            "h" => 60 * 60,
            "d" => 24 * 60 * 60,
            _ => return Err(wrong()),
        };
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let seconds = number.checked_mul(unit);
        let seconds = seconds.filter(|seconds| *seconds <= Self::MAX_SECONDS);
        seconds.map(Duration::from_secs).map(Self).ok_or_else(wrong)
    }
}

fn check_file_name(name: &str) -> Result<(), String> {
    let leaves_root = Path::new(name)
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
    if name.is_empty() || leaves_root || name.contains('\0') {
        return Err(format!(
            "must be the name of a file below the root (got {name:?})"
        ));
    }
    Ok(())
}

fn check_index_name(name: &str) -> Result<(), String> {
    check_file_name(name)?;
    if name.contains('/') || name == "." {
        return Err(format!(
            "must be the name of a file without folders (got {name:?})"
        ));
    }
    Ok(())
}

fn check_origin(origin: &str) -> Result<(), String> {
    let has_scheme = origin.split_once("://").is_some_and(|(scheme, host)| {
        !scheme.is_empty() && !host.is_empty() && !host.contains('/')
    });
    let fits = HeaderValue::from_str(origin).is_ok() && !origin.contains([' ', ',']);
    if origin == "*" || (has_scheme && fits) {
        return Ok(());
    }
    Err(format!(
        "must be an origin such as https://example.org, or * (got {origin:?})"
    ))
}

fn check_token(text: &str) -> Result<(), String> {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+:".contains(&byte);
    if !text.is_empty() && text.bytes().all(token) {
        return Ok(());
    }
    Err(format!("must be a charset such as utf-8 (got {text:?})"))
}

fn check_media_type(text: &str) -> Result<(), String> {
    let (essence, _) = text.split_once(';').unwrap_or((text, ""));
    let has_type_and_subtype = essence
        .trim()
        .split('/')
        .filter(|part| check_token(part).is_ok())
        .count()
        == 2;
    if has_type_and_subtype && HeaderValue::from_str(text).is_ok() {
        return Ok(());
    }
    Err(format!(
        "must be a media type such as text/markdown (got {text:?})"
    ))
}

fn check_host_name(name: &str) -> Result<(), String> {
    let rest = name.strip_prefix("*.").unwrap_or(name);
    let label =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._:[]".contains(&byte);
    // A request's host is compared without port and trailing dot.
    let has_port = rest.contains(':') && !(rest.starts_with('[') && rest.ends_with(']'));
    if !rest.is_empty() && rest.bytes().all(label) && !has_port && !rest.ends_with('.') {
        return Ok(());
    }
    Err(format!(
        "must be the name of a host in lower case without a port, such as example.org or \
             *.example.org (got {name:?})"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn period_has_a_unit() {
        let seconds = |text: &str| text.parse::<Period>().map(|it| it.duration().as_secs());
        for (text, expected) in [
            ("0s", 0),
            ("30s", 30),
            ("10m", 600),
            ("1h", 3600),
            ("7 d", 604_800),
        ] {
            assert_eq!(seconds(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "10",
            "m",
            "-1s",
            "1.5h",
            "10 min",
            "9999999999999d",
            "99999d",
        ] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn size_is_displayed_exactly_and_can_be_parsed_again() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1025, "1025 B"),
            (1536 << 10, "1536 KiB"),
            (1 << 30, "1 GiB"),
            (1 << 50, "1024 TiB"),
            (i64::MAX as u64, "9223372036854775807 B"),
        ] {
            let size = Size::of_bytes(bytes);
            assert_eq!(size.to_string(), text);
            assert_eq!(text.parse::<Size>(), Ok(size));
        }
    }

    #[test]
    fn host_names_match_in_any_case_and_wildcards_match_labels_before_them() {
        for (name, host, expected) in [
            ("example.org", "example.org", true),
            ("example.org", "EXAMPLE.org", true),
            ("example.org", "a.example.org", false),
            ("*.example.org", "a.example.org", true),
            ("*.example.org", "A.Example.ORG", true),
            ("*.example.org", "a.b.example.org", true),
            ("*.example.org", "example.org", false),
            ("*.example.org", ".example.org", false),
            ("*.example.org", "aexample.org", false),
            ("*.example.org", "ñ.example.org", true),
            ("*.example.org", "", false),
        ] {
            let name: HostName = name.parse().expect("a host name");
            assert_eq!(name.matches(host.as_bytes()), expected, "{host}");
        }
    }
}
