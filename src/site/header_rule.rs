//! `[[header]]`: header fields for responses, by path, status and media type.

use std::fmt;

use ::http::{HeaderName, HeaderValue, StatusCode};
use serde::de::{self, DeserializeSeed, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::SourceLocation;
use super::keys::{SITE_KEYS, is_same_key};
use super::pattern::PathPattern;
use super::rules::rule;
use super::values::Strings;
use crate::error::SettingError;

/// One `[[header]]`.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HeaderRule {
    /// The paths whose responses get the fields.
    pub(crate) path: PathPattern,
    /// The fields.
    pub(crate) fields: Vec<(HeaderName, HeaderValue)>,
    /// Which responses get the fields.
    pub(crate) condition: HeaderCondition,
    /// Whether files named `x.br`, `x.zst` and `x.gz` are sent as `x` in that content coding.
    pub(crate) encoded: bool,
    pub(crate) location: SourceLocation,
}

/// Which responses a header rule applies to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeaderCondition {
    /// Errors get the fields as well.
    always: bool,
    /// Only these statuses; any if it is empty.
    statuses: Vec<StatusRange>,
    /// Only these media types; any if it is empty.
    media_types: Vec<MediaRange>,
}

/// One status, or a class of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StatusRange {
    /// `404`
    One(u16),
    /// `4xx`, by its first digit.
    Class(u16),
}

/// A media type, or all subtypes of one: `text/html`, `image/*`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct MediaRange(String);

impl HeaderCondition {
    /// Returns whether a response gets the fields. The status of a file is 200, whether it is sent
    /// whole, in part (206), or not again (304).
    pub(crate) fn applies(&self, status: StatusCode, media_type: Option<&HeaderValue>) -> bool {
        let has_status = if self.statuses.is_empty() {
            self.always || status.as_u16() < 400
        } else {
            self.statuses.iter().any(|range| range.contains(status))
        };
        let is_of_type = |media_type: &HeaderValue| {
            let mut ranges = self.media_types.iter();
            ranges.any(|range| range.contains(media_type))
        };
        has_status && (self.media_types.is_empty() || media_type.is_some_and(is_of_type))
    }

    /// Returns whether it names no other statuses than those of a file that is sent in part, or not again.
    pub(crate) fn is_only_of_parts(&self) -> bool {
        let is_of_part = |range: &StatusRange| matches!(range, StatusRange::One(206 | 304));
        !self.statuses.is_empty() && self.statuses.iter().all(is_of_part)
    }

    /// Returns whether an error may get the fields.
    pub(crate) fn may_apply_to_errors(&self) -> bool {
        if self.statuses.is_empty() {
            return self.always;
        }
        self.statuses.iter().any(|range| range.first() >= 400)
    }

    /// Returns whether all responses that `other` applies to get these fields too, as far as that is
    /// known.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        if self == other {
            return true;
        }
        let is_general = self.statuses.is_empty() && self.media_types.is_empty();
        is_general && (self.always || !other.may_apply_to_errors())
    }
}

impl StatusRange {
    fn contains(self, status: StatusCode) -> bool {
        match self {
            Self::One(one) => status.as_u16() == one,
            Self::Class(digit) => status.as_u16() / 100 == digit,
        }
    }

    fn first(self) -> u16 {
        match self {
            Self::One(one) => one,
            Self::Class(digit) => digit * 100,
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let class = text.strip_suffix("xx").and_then(|digit| digit.parse().ok());
        match (class, text.parse()) {
            (Some(digit @ 2..=5), _) => Ok(Self::Class(digit)),
            (_, Ok(one @ 200..=599)) => Ok(Self::One(one)),
            _ => Err(format!(
                "status must be a number between 200 and 599, or a class such as \"4xx\" (got {text:?})"
            )),
        }
    }
}

impl MediaRange {
    fn contains(&self, media_type: &HeaderValue) -> bool {
        let text = media_type.as_bytes();
        let end = text.iter().position(|&byte| byte == b';');
        let essence = text[..end.unwrap_or(text.len())].trim_ascii();
        match self.0.strip_suffix('*') {
            Some(prefix) => essence
                .get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes())),
            None => essence.eq_ignore_ascii_case(self.0.as_bytes()),
        }
    }

    fn parse(text: &str) -> Result<Self, String> {
        let is_name = |name: &str| {
            let is_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
            !name.is_empty() && name.bytes().all(is_byte)
        };
        match text.split_once('/') {
            Some((kind, subtype)) if is_name(kind) && (is_name(subtype) || subtype == "*") => {
                Ok(Self(text.to_owned()))
            }
            _ => Err(format!(
                "media-type must be a media type without parameters, such as text/html or image/* (got {text:?})"
            )),
        }
    }
}

/// Displays the rule on one line, with its location.
impl fmt::Display for HeaderRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "header {}{}", self.path, self.location)
    }
}

impl<'de> Deserialize<'de> for HeaderRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        rule::<RawHeader, _, _>(deserializer)
    }
}

/// The keys of a rule that are no header fields.
const RULE_KEYS: [&str; 5] = ["path", "always", "status", "media-type", "encoded"];

#[derive(Default)]
struct RawHeader {
    path: Option<String>,
    always: bool,
    status: Strings,
    media_type: Strings,
    encoded: bool,
    fields: Vec<(HeaderName, HeaderValue)>,
}

/// Parses the fields while the parser is at each, so that an error has its line.
impl<'de> Deserialize<'de> for RawHeader {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct RawHeaderVisitor;

        impl<'de> Visitor<'de> for RawHeaderVisitor {
            type Value = RawHeader;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<RawHeader, A::Error> {
                let mut raw = RawHeader::default();
                while let Some(key) = table.next_key::<String>()? {
                    match key.as_str() {
                        "path" => raw.path = Some(table.next_value()?),
                        "always" => raw.always = table.next_value()?,
                        "status" => raw.status = table.next_value()?,
                        "media-type" => raw.media_type = table.next_value()?,
                        "encoded" => raw.encoded = table.next_value()?,
                        name => {
                            let known = &raw.fields;
                            let field = table.next_value_seed(FieldSeed { name, known })?;
                            raw.fields.push(field);
                        }
                    }
                }
                Ok(raw)
            }
        }

        deserializer.deserialize_map(RawHeaderVisitor)
    }
}

/// Parses the value of the key `name` as that of a header field.
struct FieldSeed<'a> {
    name: &'a str,
    /// The fields before.
    known: &'a [(HeaderName, HeaderValue)],
}

impl<'de> DeserializeSeed<'de> for FieldSeed<'_> {
    type Value = (HeaderName, HeaderValue);

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        let name = field_name(self.name).map_err(de::Error::custom)?;
        check_not_a_key(self.name).map_err(de::Error::custom)?;
        if self.known.iter().any(|(known, _)| *known == name) {
            return Err(de::Error::custom(
                "the field is given twice, in upper and lower case; remove one",
            ));
        }
        let value = deserializer.deserialize_str(FieldText)?;
        let value = field_value(&value).map_err(de::Error::custom)?;
        Ok((name, value))
    }
}

/// Parses the text of a field.
struct FieldText;

impl Visitor<'_> for FieldText {
    type Value = String;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string in quotes")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<String, E> {
        Ok(text.to_owned())
    }
}

/// Rejects a key that is meant for another place: TOML adds it to the table above it.
fn check_not_a_key(name: &str) -> Result<(), String> {
    let is_named = |key: &&&str| is_same_key(name, key);
    if let Some(key) = RULE_KEYS.iter().find(is_named) {
        return Err(format!("not a header field; write it as {key}"));
    }
    if SITE_KEYS.iter().any(|key| is_same_key(name, key)) {
        return Err(
            "a key of the site, not a header field; move it above the first [table]".to_owned(),
        );
    }
    Ok(())
}

impl TryFrom<RawHeader> for HeaderRule {
    type Error = SettingError;

    fn try_from(raw: RawHeader) -> Result<Self, SettingError> {
        let path = raw
            .path
            .ok_or("path is missing; add a pattern such as \"/*.js\"")?;
        let statuses = raw.status.0.iter().map(|text| StatusRange::parse(text));
        let media_types = raw.media_type.0.iter().map(|text| MediaRange::parse(text));
        Ok(Self {
            path: PathPattern::new(&path)?,
            fields: raw.fields,
            condition: HeaderCondition {
                always: raw.always,
                statuses: statuses.collect::<Result<_, _>>()?,
                media_types: media_types.collect::<Result<_, _>>()?,
            },
            encoded: raw.encoded,
            location: SourceLocation::default(),
        })
    }
}

impl HeaderRule {
    /// Parses `Name: value` into a rule for all paths.
    ///
    /// # Errors
    ///
    /// If the name or the value is invalid, or the server sets this field.
    pub fn for_all(line: &str) -> Result<Self, SettingError> {
        let (name, value) = line.split_once(':').ok_or_else(|| {
            format!("must be a header field such as \"Cache-Control: no-cache\" (got {line:?})")
        })?;
        Ok(Self {
            path: PathPattern::every(),
            fields: vec![(field_name(name.trim())?, field_value(value.trim())?)],
            condition: HeaderCondition::default(),
            encoded: false,
            location: SourceLocation::Flag("--header"),
        })
    }
}

/// Parses the name of a header field that a site may set.
fn field_name(name: &str) -> Result<HeaderName, String> {
    /// Fields about the connection, the framing or the representation, which only the server knows.
    const SERVER_FIELDS: &[&str] = &[
        "accept-ranges",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "date",
        "etag",
        "keep-alive",
        "last-modified",
        "transfer-encoding",
        "upgrade",
    ];
    let parsed = HeaderName::try_from(name).map_err(|_| {
        format!("{name:?} is not the name of a header field; use letters, digits and -")
    })?;
    if SERVER_FIELDS.contains(&parsed.as_str()) {
        return Err(format!("{name} is set by the server; remove it"));
    }
    Ok(parsed)
}

fn field_value(value: &str) -> Result<HeaderValue, String> {
    HeaderValue::try_from(value).map_err(|_| {
        format!("{value:?} is not the value of a header field; remove control characters")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn condition(text: &str) -> HeaderCondition {
        let rule = toml::from_str::<HeaderRule>(&format!("path = '/*'\n{text}\n"));
        rule.expect("a rule").condition
    }

    #[test]
    fn condition_depends_on_status_and_media_type() {
        let html = HeaderValue::from_static("text/html; charset=utf-8");
        for (text, status, expected) in [
            ("", 200, true),
            ("", 301, true),
            ("", 404, false),
            ("always = true", 404, true),
            ("always = true", 500, true),
            ("status = 404", 404, true),
            ("status = 404", 200, false),
            ("status = ['5xx', 404]", 503, true),
            ("status = '5xx'\nalways = true", 404, false),
            ("media-type = 'text/html'", 200, true),
            ("media-type = 'TEXT/*'", 200, true),
            ("media-type = ['image/*', 'application/json']", 200, false),
            ("media-type = 'text/htm'", 200, false),
            ("media-type = 'text/html'", 404, false),
            ("media-type = 'text/html'\nalways = true", 404, true),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let applies = condition(text).applies(status, Some(&html));
            assert_eq!(applies, expected, "{text} {status}");
        }
        let status = StatusCode::OK;
        assert!(!condition("media-type = 'text/*'").applies(status, None));
    }

    #[test]
    fn invalid_conditions_are_rejected() {
        for text in [
            "status = 99",
            "status = '9xx'",
            "status = 'xx'",
            "status = true",
            "media-type = 'html'",
            "media-type = '*/*'",
            "media-type = 'text/html; charset=utf-8'",
            "always = 'yes'",
            "ETag = 'x'",
            "X-A = 1",
            "X-A = true",
            "X-A = 'a'\nx-a = 'b'",
            // Keys of the rule in another spelling, and keys of the site.
            "media_type = 'text/html'",
            "Always = 'true'",
            "index = 'a.html'",
            "clean_urls = 'on'",
            "compress = 'off'",
        ] {
            let rule = toml::from_str::<HeaderRule>(&format!("path = '/*'\n{text}\n"));
            assert!(rule.is_err(), "{text}");
        }
    }
}
