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
        last_modified: Some(HttpDate::new(
            UNIX_EPOCH + Duration::from_millis(784_111_777_900),
        )),
        date_strength: strength,
    }
}

#[test]
fn preconditions_follow_the_precedence_of_rfc_9110() {
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
fn matching_if_none_match_fails_unsafe_methods() {
    let request = request(&[("If-None-Match", "*")]);
    let strong = validators(Strength::Strong);
    let result = evaluate(&Method::PUT, request.fields(), &strong);
    assert_eq!(result, Precondition::Failed);
}

#[test]
fn if_range_requires_a_strong_match() {
    let part = || RangeRequest::Part(ByteRange { start: 0, end: 2 });
    let whole = || RangeRequest::Full;
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
    // The modification time is in the future: the tag decides, the date that stands for it does not.
    let future = Validators {
        date_strength: Strength::Weak,
        ..validators(Strength::Strong)
    };
    for (value, expected) in [("\"v,1\"", part()), (MODIFIED, whole()), (AFTER, whole())] {
        let request = request(&[("Range", "bytes=0-1"), ("If-Range", value)]);
        assert_eq!(range_of(request.fields(), &future, 10), expected, "{value}");
    }
    let twice = request(&[("Range", "bytes=0-1"), ("Range", "bytes=2-3")]);
    let strong = validators(Strength::Strong);
    assert_eq!(range_of(twice.fields(), &strong, 10), whole());
}

/// A precondition in the model: whether the field is present, and whether it holds for the file.
#[derive(Clone, Copy, Debug)]
enum Condition {
    Absent,
    True,
    False,
}

fn condition() -> impl Strategy<Value = Condition> {
    prop_oneof![
        Just(Condition::Absent),
        Just(Condition::True),
        Just(Condition::False)
    ]
}

/// RFC 9110 §13.2.2, step by step, for a GET of an existing file.
fn model(
    if_match: Condition,
    unmodified: Condition,
    if_none_match: Condition,
    modified: Condition,
) -> Precondition {
    match (if_match, unmodified) {
        (Condition::False, _) | (Condition::Absent, Condition::False) => {
            return Precondition::Failed;
        }
        _ => {}
    }
    match (if_none_match, modified) {
        (Condition::False, _) | (Condition::Absent, Condition::False) => Precondition::NotModified,
        _ => Precondition::Proceed,
    }
}

proptest! {
    #[test]
    fn preconditions_equal_the_model_of_the_rfc(
        if_match in condition(),
        unmodified in condition(),
        if_none_match in condition(),
        modified in condition(),
    ) {
        let fields = [
            ("If-Match", if_match, "\"v,1\"", "\"x\""),
            ("If-Unmodified-Since", unmodified, AFTER, BEFORE),
            // True if the tag differs, or if the file was modified since.
            ("If-None-Match", if_none_match, "\"x\"", "W/\"v,1\""),
            ("If-Modified-Since", modified, BEFORE, AFTER),
        ];
        let fields: Vec<(&str, &str)> = fields
            .into_iter()
            .filter_map(|(name, condition, yes, no)| match condition {
                Condition::Absent => None,
                Condition::True => Some((name, yes)),
                Condition::False => Some((name, no)),
            })
            .collect();
        let request = request(&fields);
        let result = evaluate(&Method::GET, request.fields(), &validators(Strength::Strong));
        prop_assert_eq!(result, model(if_match, unmodified, if_none_match, modified));
    }
}
