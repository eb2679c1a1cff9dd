//! Validators and preconditions (RFC 9110 §8.8, §13).

use std::time::SystemTime;

use ::http::Method;

use super::request::Fields;
use super::{date, range};

/// What identifies one version of a representation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Validators {
    pub(crate) etag: Option<EntityTag>,
    pub(crate) last_modified: Option<SystemTime>,
}

/// An entity tag (RFC 9110 §8.8.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntityTag {
    /// With its quotes, without `W/`.
    opaque: String,
    strength: Strength,
}

/// Whether equal tags promise equal bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strength {
    Strong,
    Weak,
}

impl EntityTag {
    /// `opaque` must consist of `etagc` only; the quotes are added here.
    pub(crate) fn new(opaque: &str, strength: Strength) -> Self {
        Self {
            opaque: format!("\"{opaque}\""),
            strength,
        }
    }

    /// The tag of the same version in a coding that was made here: weak, because another version
    /// of the server may make other bytes of it.
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

    /// RFC 9110 §8.8.3.2: weak comparison ignores strength, strong wants it on both sides.
    fn matches(&self, other: Tag<'_>, comparison: Strength) -> bool {
        let strong = self.strength == Strength::Strong && other.strength == Strength::Strong;
        self.opaque.as_bytes() == other.opaque && (comparison == Strength::Weak || strong)
    }
}

/// An entity tag as a request has it.
#[derive(Clone, Copy)]
struct Tag<'a> {
    opaque: &'a [u8],
    strength: Strength,
}

/// Takes one entity tag from the front of `text`. Commas may stand inside the quotes.
fn take_tag(text: &[u8]) -> Option<(Tag<'_>, &[u8])> {
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
        .then_some((Tag { opaque, strength }, rest))
}

/// If-Match or If-None-Match: `*` or a list of tags, over all field lines of the name.
enum Tags {
    Any,
    List {
        matched: bool,
    },
    /// It is ignored, but it is there: the date that it has precedence over does not count.
    Malformed,
}

/// `None` if the field is absent.
fn tags(fields: &Fields<'_>, name: &str, of: &Validators, comparison: Strength) -> Option<Tags> {
    let mut found = None;
    for value in fields.all(name) {
        if value == b"*" {
            return Some(Tags::Any);
        }
        let mut rest = value;
        let mut matched = matches!(found, Some(Tags::List { matched: true }));
        loop {
            while let [b' ' | b'\t' | b',', tail @ ..] = rest {
                rest = tail;
            }
            if rest.is_empty() {
                break;
            }
            let Some((tag, tail)) = take_tag(rest) else {
                return Some(Tags::Malformed);
            };
            matched |= of.etag.as_ref().is_some_and(|e| e.matches(tag, comparison));
            rest = tail;
        }
        found = Some(Tags::List { matched });
    }
    found
}

/// The fields that are preconditions (RFC 9110 §13.1), but for If-Range, which is about ranges.
pub(crate) const PRECONDITIONS: [&str; 4] = [
    "If-Match",
    "If-None-Match",
    "If-Modified-Since",
    "If-Unmodified-Since",
];

/// What the preconditions of a request come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precondition {
    /// Do what the method says.
    Proceed,
    /// 304.
    NotModified,
    /// 412.
    Failed,
}

/// Evaluates the preconditions for an existing representation, in the order of RFC 9110 §13.2.2
/// (If-Range, its last step, is [`range_applies`]).
pub(crate) fn evaluate(
    method: &Method,
    fields: &Fields<'_>,
    validators: &Validators,
) -> Precondition {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    match tags(fields, "if-match", validators, Strength::Strong) {
        Some(Tags::List { matched: false }) => return Precondition::Failed,
        Some(_) => {}
        None => {
            if let (Some(since), Some(modified)) = (
                one_date(fields, "if-unmodified-since"),
                validators.last_modified,
            ) && date::seconds(modified) > date::seconds(since)
            {
                return Precondition::Failed;
            }
        }
    }
    match tags(fields, "if-none-match", validators, Strength::Weak) {
        Some(Tags::List { matched: false } | Tags::Malformed) => {}
        Some(_) if reads => return Precondition::NotModified,
        Some(_) => return Precondition::Failed,
        None if reads => {
            if let (Some(since), Some(modified)) = (
                one_date(fields, "if-modified-since"),
                validators.last_modified,
            ) && date::seconds(modified) <= date::seconds(since)
            {
                return Precondition::NotModified;
            }
        }
        None => {}
    }
    Precondition::Proceed
}

/// Evaluates the preconditions for what is not there: nothing matches If-Match, nothing is in
/// conflict with If-None-Match, and no date is later than another (RFC 9110 §13.1).
pub(crate) fn evaluate_absent(fields: &Fields<'_>) -> Precondition {
    match fields.first("if-match") {
        Some(_) => Precondition::Failed,
        None => Precondition::Proceed,
    }
}

/// The ranges that count for a GET: the Range field, if If-Range does not void it
/// (RFC 9110 §13.1.5, §14.2).
pub(crate) fn range_of(
    fields: &Fields<'_>,
    validators: &Validators,
    length: u64,
) -> range::RangeRequest {
    let mut values = fields.all("range");
    match (values.next(), values.next()) {
        // Nothing has no part; that it is nothing helps more than that (as nginx and Go answer).
        _ if length == 0 => range::RangeRequest::Whole,
        (Some(value), None) if range_applies(fields, validators) => range::parse(value, length),
        _ => range::RangeRequest::Whole,
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
    // An exact match is asked for, not an order (RFC 9110 §13.1.5). A date is a strong validator
    // here only if the tag made from the same modification time is strong too (§8.8.2.2).
    let strong = matches!(&validators.etag, Some(etag) if etag.strength == Strength::Strong);
    match (date::parse(value), validators.last_modified) {
        (Some(date), Some(modified)) => strong && date::seconds(date) == date::seconds(modified),
        _ => false,
    }
}

/// The date of a field that must stand once; anything else is ignored (RFC 9110 §13.1.3).
fn one_date(fields: &Fields<'_>, name: &str) -> Option<SystemTime> {
    let mut values = fields.all(name);
    match (values.next(), values.next()) {
        (Some(value), None) => date::parse(value),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::super::request::get_with as request;
    use proptest::prelude::*;

    use super::super::range::{ByteRange, RangeRequest};
    use super::*;

    const MODIFIED: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const BEFORE: &str = "Sun, 06 Nov 1994 08:49:36 GMT";
    const AFTER: &str = "Sunday, 06-Nov-94 08:49:38 GMT";

    fn validators(strength: Strength) -> Validators {
        Validators {
            etag: Some(EntityTag::new("v,1", strength)),
            last_modified: Some(UNIX_EPOCH + Duration::from_millis(784_111_777_900)),
        }
    }

    #[test]
    fn precedence_of_rfc_9110_13_2_2() {
        use Precondition::{Failed, NotModified, Proceed};
        let table: &[(&[(&str, &str)], Precondition)] = &[
            (&[], Proceed),
            // Step 1, If-Match: strong comparison.
            (&[("If-Match", "*")], Proceed),
            (&[("If-Match", "\"v,1\"")], Proceed),
            (&[("If-Match", "\"x\", \"v,1\"")], Proceed),
            (&[("If-Match", "W/\"v,1\"")], Failed),
            (&[("If-Match", "\"x\"")], Failed),
            (
                &[("If-Match", "\"x\""), ("If-None-Match", "\"v,1\"")],
                Failed,
            ),
            // Step 2, If-Unmodified-Since, only without If-Match.
            (&[("If-Unmodified-Since", BEFORE)], Failed),
            (&[("If-Unmodified-Since", MODIFIED)], Proceed),
            (&[("If-Unmodified-Since", "soon")], Proceed),
            (
                &[("If-Match", "*"), ("If-Unmodified-Since", BEFORE)],
                Proceed,
            ),
            // Step 3, If-None-Match: weak comparison.
            (&[("If-None-Match", "\"v,1\"")], NotModified),
            (&[("If-None-Match", "W/\"v,1\"")], NotModified),
            (&[("If-None-Match", "*")], NotModified),
            (&[("If-None-Match", "\"x\" , ,\"v,1\"")], NotModified),
            (
                &[("If-None-Match", "\"x\""), ("If-None-Match", "\"v,1\"")],
                NotModified,
            ),
            (&[("If-None-Match", "\"v\"")], Proceed),
            (&[("If-None-Match", "v,1")], Proceed),
            (&[("If-None-Match", "\"v,1")], Proceed),
            (
                &[("If-None-Match", "v,1"), ("If-Modified-Since", AFTER)],
                Proceed,
            ),
            (
                &[("If-Match", "v,1"), ("If-Unmodified-Since", BEFORE)],
                Proceed,
            ),
            // Step 4, If-Modified-Since, only without If-None-Match; whole seconds.
            (&[("If-Modified-Since", MODIFIED)], NotModified),
            (&[("If-Modified-Since", AFTER)], NotModified),
            (&[("If-Modified-Since", BEFORE)], Proceed),
            (
                &[("If-Modified-Since", "Sun Nov  6 08:49:37 1994")],
                NotModified,
            ),
            (&[("If-Modified-Since", "never")], Proceed),
            (
                &[("If-Modified-Since", AFTER), ("If-Modified-Since", AFTER)],
                Proceed,
            ),
            (
                &[("If-None-Match", "\"x\""), ("If-Modified-Since", AFTER)],
                Proceed,
            ),
        ];
        for (fields, expected) in table {
            let request = request(fields);
            let strong = validators(Strength::Strong);
            let result = evaluate(&Method::GET, request.fields(), &strong);
            assert_eq!(result, *expected, "{fields:?}");
        }
    }

    #[test]
    fn other_methods_fail_where_reading_is_not_modified() {
        let request = request(&[("If-None-Match", "*")]);
        let strong = validators(Strength::Strong);
        let result = evaluate(&Method::PUT, request.fields(), &strong);
        assert_eq!(result, Precondition::Failed);
    }

    #[test]
    fn if_range_wants_a_strong_match() {
        let part = || RangeRequest::Part(ByteRange { start: 0, end: 2 });
        let whole = || RangeRequest::Whole;
        let table = [
            ("\"v,1\"", Strength::Strong, part()),
            ("\"v,1\"", Strength::Weak, whole()),
            ("W/\"v,1\"", Strength::Strong, whole()),
            ("\"x\"", Strength::Strong, whole()),
            (MODIFIED, Strength::Strong, part()),
            (MODIFIED, Strength::Weak, whole()),
            (AFTER, Strength::Strong, whole()),
            ("rubbish", Strength::Strong, whole()),
        ];
        for (value, strength, expected) in table {
            let request = request(&[("Range", "bytes=0-1"), ("If-Range", value)]);
            let result = range_of(request.fields(), &validators(strength), 10);
            assert_eq!(result, expected, "{value} {strength:?}");
        }
        let twice = request(&[("Range", "bytes=0-1"), ("Range", "bytes=2-3")]);
        let strong = validators(Strength::Strong);
        assert_eq!(range_of(twice.fields(), &strong, 10), whole());
    }

    /// A precondition as a model has it: is the field there, and is it true of the file?
    #[derive(Clone, Copy, Debug)]
    enum Says {
        Absent,
        True,
        False,
    }

    fn says() -> impl Strategy<Value = Says> {
        prop_oneof![Just(Says::Absent), Just(Says::True), Just(Says::False)]
    }

    /// RFC 9110 §13.2.2, step by step, for a GET of a file that exists.
    fn model(
        if_match: Says,
        unmodified: Says,
        if_none_match: Says,
        modified: Says,
    ) -> Precondition {
        match (if_match, unmodified) {
            (Says::False, _) | (Says::Absent, Says::False) => return Precondition::Failed,
            _ => {}
        }
        match (if_none_match, modified) {
            (Says::False, _) | (Says::Absent, Says::False) => Precondition::NotModified,
            _ => Precondition::Proceed,
        }
    }

    proptest! {
        #[test]
        fn preconditions_are_evaluated_as_the_rfc_lists_them(
            if_match in says(),
            unmodified in says(),
            if_none_match in says(),
            modified in says(),
        ) {
            let fields = [
                ("If-Match", if_match, "\"v,1\"", "\"x\""),
                ("If-Unmodified-Since", unmodified, AFTER, BEFORE),
                // It is true if the tag is another, or if the file was modified since.
                ("If-None-Match", if_none_match, "\"x\"", "W/\"v,1\""),
                ("If-Modified-Since", modified, BEFORE, AFTER),
            ];
            let fields: Vec<(&str, &str)> = fields
                .into_iter()
                .filter_map(|(name, says, yes, no)| match says {
                    Says::Absent => None,
                    Says::True => Some((name, yes)),
                    Says::False => Some((name, no)),
                })
                .collect();
            let request = request(&fields);
            let result = evaluate(&Method::GET, request.fields(), &validators(Strength::Strong));
            prop_assert_eq!(result, model(if_match, unmodified, if_none_match, modified));
        }
    }
}
