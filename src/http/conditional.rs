//! Validators and conditional requests (RFC 9110 §8.8, §13).

use std::cmp::Ordering;

use ::http::Method;

use super::date::HttpDate;
use super::fields::{Fields, NameFilter, Repeated};
use super::range;

/// The validators of one version of a representation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Validators {
    pub(crate) etag: Option<EntityTag>,
    pub(crate) last_modified: Option<HttpDate>,
    /// Whether `last_modified` is a strong validator (RFC 9110 §8.8.2.2). It is not if it stands for a
    /// time in the future, or if a second change could leave the same time behind.
    pub(crate) date_strength: Strength,
}

impl Validators {
    /// Those of a resource that exists and has no version.
    pub(crate) const NONE: Self = Self {
        etag: None,
        last_modified: None,
        date_strength: Strength::Weak,
    };
}

/// An entity tag (RFC 9110 §8.8.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntityTag {
    /// Includes the quotes, but not `W/`.
    opaque: String,
    strength: Strength,
}

/// Whether equal tags guarantee equal bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strength {
    Strong,
    Weak,
}

impl EntityTag {
    /// `opaque` must consist of `etagc` characters only; the quotes are added here.
    pub(crate) fn new(opaque: &str, strength: Strength) -> Self {
        Self {
            opaque: format!("\"{opaque}\""),
            strength,
        }
    }

    /// Returns the tag of the same version in a content coding that the server applied itself. It is
    /// weak, because another release of the server may compress to different bytes.
    pub(crate) fn recoded(&self, coding: &str) -> Self {
        Self::new(
            &format!("{}-{coding}", self.opaque.trim_matches('"')),
            Strength::Weak,
        )
    }

    pub(crate) fn to_field(&self) -> String {
        match self.strength {
            Strength::Strong => self.opaque.clone(),
            Strength::Weak => format!("W/{}", self.opaque),
        }
    }

    /// Compares two tags (RFC 9110 §8.8.3.2). Weak comparison ignores the strength; strong comparison
    /// requires both tags to be strong.
    fn matches(&self, other: ReceivedTag<'_>, comparison: Strength) -> bool {
        let strong = self.strength == Strength::Strong && other.strength == Strength::Strong;
        self.opaque.as_bytes() == other.opaque && (comparison == Strength::Weak || strong)
    }
}

/// An entity tag in a request field.
#[derive(Clone, Copy)]
struct ReceivedTag<'a> {
    opaque: &'a [u8],
    strength: Strength,
}

/// Parses one entity tag at the start of `text` and returns the rest. The quotes may contain commas.
fn take_tag(text: &[u8]) -> Option<(ReceivedTag<'_>, &[u8])> {
    let (strength, rest) = match text.strip_prefix(b"W/") {
        Some(rest) => (Strength::Weak, rest),
        None => (Strength::Strong, text),
    };
    let inner = rest.strip_prefix(b"\"")?;
    let close = memchr::memchr(b'"', inner)?;
    let etagc = |byte: &u8| *byte == 0x21 || (0x23..=0x7E).contains(byte) || *byte >= 0x80;
    let (opaque, rest) = rest.split_at(close + 2);
    inner[..close]
        .iter()
        .all(etagc)
        .then_some((ReceivedTag { opaque, strength }, rest))
}

/// The value of If-Match or If-None-Match over all field lines: `*` or a list of tags.
enum TagCondition {
    Any,
    List {
        matched: bool,
    },
    /// Ignored, but present: the date condition that the field has precedence over is skipped.
    Malformed,
}

/// Compares the tags of a field with the validators. `None` if the field is absent.
fn tags(
    fields: &Fields<'_>,
    name: &str,
    of: &Validators,
    comparison: Strength,
) -> Option<TagCondition> {
    let mut found = None;
    for value in fields.all(name) {
        if value == b"*" {
            return Some(TagCondition::Any);
        }
        let mut rest = value;
        let mut matched = matches!(found, Some(TagCondition::List { matched: true }));
        loop {
            while let [b' ' | b'\t' | b',', tail @ ..] = rest {
                rest = tail;
            }
            if rest.is_empty() {
                break;
            }
            let Some((tag, tail)) = take_tag(rest) else {
                return Some(TagCondition::Malformed);
            };
            matched |= of.etag.as_ref().is_some_and(|e| e.matches(tag, comparison));
            rest = tail;
        }
        found = Some(TagCondition::List { matched });
    }
    found
}

/// The fields that carry preconditions (RFC 9110 §13.1), except If-Range, which applies to ranges.
pub(crate) const PRECONDITIONS: [&str; 4] = [
    "If-Match",
    "If-None-Match",
    "If-Modified-Since",
    "If-Unmodified-Since",
];

/// True if a request that would replace or remove a resource has preconditions.
pub(crate) fn has_preconditions(fields: &Fields<'_>) -> bool {
    ["if-match", "if-none-match", "if-unmodified-since"]
        .iter()
        .any(|name| fields.first(name).is_some())
}

/// The result of evaluating the preconditions of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precondition {
    /// Perform the method.
    Proceed,
    /// Respond with 304 Not Modified.
    NotModified,
    /// Respond with 412 Precondition Failed.
    Failed,
}

/// Evaluates the preconditions for an existing representation, in the order of RFC 9110 §13.2.2
/// (If-Range, its last step, is [`range_applies`]).
pub(crate) fn evaluate(
    method: &Method,
    fields: &Fields<'_>,
    validators: &Validators,
) -> Precondition {
    const NAMES: NameFilter = NameFilter::of(&PRECONDITIONS);
    if !fields.may_have_any(NAMES) {
        return Precondition::Proceed;
    }
    let modified = validators.last_modified.as_ref();
    let reads = matches!(*method, Method::GET | Method::HEAD);
    match tags(fields, "if-match", validators, Strength::Strong) {
        Some(TagCondition::List { matched: false }) => return Precondition::Failed,
        Some(_) => {}
        None => {
            if compare_date(modified, fields, "if-unmodified-since") == Some(Ordering::Greater) {
                return Precondition::Failed;
            }
        }
    }
    match tags(fields, "if-none-match", validators, Strength::Weak) {
        Some(TagCondition::List { matched: false } | TagCondition::Malformed) => {}
        Some(_) if reads => return Precondition::NotModified,
        Some(_) => return Precondition::Failed,
        None if reads => {
            let order = compare_date(modified, fields, "if-modified-since");
            if order.is_some_and(Ordering::is_le) {
                return Precondition::NotModified;
            }
        }
        None => {}
    }
    Precondition::Proceed
}

/// Evaluates the preconditions for a resource without a representation: nothing matches If-Match, and
/// nothing conflicts with If-None-Match or a date (RFC 9110 §13.1).
pub(crate) fn evaluate_absent(fields: &Fields<'_>) -> Precondition {
    if fields.first("if-match").is_some() {
        Precondition::Failed
    } else {
        Precondition::Proceed
    }
}

/// Returns the ranges to send for a GET: those of the Range field, unless If-Range makes it void
/// (RFC 9110 §13.1.5, §14.2).
pub(crate) fn range_of(
    fields: &Fields<'_>,
    validators: &Validators,
    length: u64,
) -> range::RangeRequest {
    match fields.single("range") {
        // Ranges of an empty representation are ignored, as nginx and Go do: an empty 200 helps
        // the client more than a 416.
        _ if length == 0 => range::RangeRequest::Full,
        Ok(Some(value)) if range_applies(fields, validators) => range::parse(value, length),
        _ => range::RangeRequest::Full,
    }
}

fn range_applies(fields: &Fields<'_>, validators: &Validators) -> bool {
    let Some(value) = fields.first("if-range") else {
        return true;
    };
    if let Some((tag, [])) = take_tag(value) {
        let etag = validators.etag.as_ref();
        return etag.is_some_and(|etag| etag.matches(tag, Strength::Strong));
    }
    // The dates must be equal; the order does not matter (RFC 9110 §13.1.5). A date does not tell two
    // codings made by the server apart, whose tags are weak.
    let strong = validators.date_strength == Strength::Strong
        && matches!(&validators.etag, Some(etag) if etag.strength == Strength::Strong);
    let modified = validators.last_modified.as_ref();
    strong && modified.and_then(|date| date.compare(value)) == Some(Ordering::Equal)
}

/// Compares a date with that of a field, which must occur once; otherwise it is ignored (RFC 9110
/// §13.1.3).
fn compare_date(date: Option<&HttpDate>, fields: &Fields<'_>, name: &str) -> Option<Ordering> {
    match fields.single(name) {
        Ok(Some(value)) => date?.compare(value),
        Ok(None) | Err(Repeated) => None,
    }
}

#[cfg(test)]
mod tests;
