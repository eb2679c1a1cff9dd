use std::collections::BTreeSet;

use super::*;
use proptest::prelude::*;

fn part(start: u64, end: u64) -> RangeRequest {
    RangeRequest::Part(ByteRange { start, end })
}

fn parts(parts: &[(u64, u64)]) -> RangeRequest {
    let range = |&(start, end): &(u64, u64)| ByteRange { start, end };
    RangeRequest::Parts(parts.iter().map(range).collect())
}

#[test]
fn single_range_is_parsed() {
    use RangeRequest::{Full, Unsatisfiable};
    let table = [
        ("bytes=0-99", 1000, part(0, 100)),
        ("bytes=0-0", 1000, part(0, 1)),
        ("Bytes=5-", 1000, part(5, 1000)),
        ("bytes=-5", 1000, part(995, 1000)),
        ("bytes=-5000", 1000, part(0, 1000)),
        ("bytes=999-5000", 1000, part(999, 1000)),
        ("bytes= 1-2 ", 1000, part(1, 3)),
        ("bytes=0-18446744073709551615", 1000, part(0, 1000)),
        ("bytes=0-99999999999999999999999", 1000, part(0, 1000)),
        ("bytes=1000-", 1000, Unsatisfiable),
        ("bytes=99999999999999999999999-", 1000, Unsatisfiable),
        ("bytes=-0", 1000, Unsatisfiable),
        ("bytes=0-", 0, Unsatisfiable),
        ("bytes=-1", 0, Unsatisfiable),
        ("bytes=2-1", 1000, Full),
        ("bytes=-", 1000, Full),
        ("bytes=", 1000, Full),
        ("bytes=a-b", 1000, Full),
        ("bytes=+1-2", 1000, Full),
        ("bytes=1 - 2", 1000, Full),
        ("lines=1-2", 1000, Full),
        ("bytes", 1000, Full),
    ];
    for (value, length, expected) in table {
        assert_eq!(parse(value.as_bytes(), length), expected, "{value}");
    }
    assert_eq!(parse(b"bytes=\xFF-", 1000), Full);
}

#[test]
fn several_ranges_are_merged_or_kept_in_request_order() {
    use RangeRequest::{Full, Unsatisfiable};
    let max = u64::MAX;
    let table = [
        ("bytes=0-0,-1", 1000, parts(&[(0, 1), (999, 1000)])),
        // In the order of the request.
        ("bytes=-1,0-0", 1000, parts(&[(999, 1000), (0, 1)])),
        (
            "bytes=500-509,0-9,900-909",
            1000,
            parts(&[(500, 510), (0, 10), (900, 910)]),
        ),
        // Ranges that overlap, adjoin or nearly do are merged, at the position of the first.
        ("bytes=0-1,2-3", 1000, part(0, 4)),
        ("bytes=2-3,0-1", 1000, part(0, 4)),
        ("bytes=0-9,5-20", 1000, part(0, 21)),
        ("bytes=0-99,5-20", 1000, part(0, 100)),
        ("bytes=0-0,0-0,0-0", 1000, part(0, 1)),
        ("bytes=0-9,89-99", 1000, part(0, 100)),
        ("bytes=0-9,90-99", 1000, parts(&[(0, 10), (90, 100)])),
        (
            "bytes=500-509,0-9,510-519",
            1000,
            parts(&[(500, 520), (0, 10)]),
        ),
        // The last range connects two that were apart.
        ("bytes=0-9,200-209,10-199", 1000, part(0, 210)),
        (
            "bytes=800-809,200-209,0-9,10-199",
            1000,
            parts(&[(800, 810), (0, 210)]),
        ),
        ("bytes=0-,-1", 1000, part(0, 1000)),
        (
            "bytes=0-0,18446744073709551614-",
            max,
            parts(&[(0, 1), (max - 1, max)]),
        ),
        ("bytes=0-,-18446744073709551615", max, part(0, max)),
        // Unsatisfiable ranges are skipped, unless all are.
        ("bytes=5000-,0-9,-0", 1000, part(0, 10)),
        ("bytes=5000-,0-9,-9", 1000, parts(&[(0, 10), (991, 1000)])),
        ("bytes=1000-,-0", 1000, Unsatisfiable),
        ("bytes=0-,-1", 0, Unsatisfiable),
        // Lists with empty members and white space.
        ("bytes=,0-1,, ,\t2-3 ,", 1000, part(0, 4)),
        ("bytes=,", 1000, Full),
        ("bytes= , ", 1000, Full),
        // One ill-formed member makes the whole field ill-formed.
        ("bytes=0-1,2", 1000, Full),
        ("bytes=0-1,3-2", 1000, Full),
        ("bytes=x-,0-1", 1000, Full),
        ("bytes=0-1;2-3", 1000, Full),
        ("bytes=5000-,-", 1000, Full),
        ("bytes=0-1,bytes=2-3", 1000, Full),
    ];
    for (value, length, expected) in table {
        assert_eq!(parse(value.as_bytes(), length), expected, "{value}");
    }
}

#[test]
fn too_many_ranges_are_ignored() {
    let field = |count: usize| format!("bytes={}", vec!["0-0"; count].join(",,"));
    assert_eq!(parse(field(MAX_RANGES).as_bytes(), 9), part(0, 1));
    assert_eq!(
        parse(field(MAX_RANGES + 1).as_bytes(), 9),
        RangeRequest::Full
    );
    // Unsatisfiable ranges count as well.
    assert_eq!(
        parse(field(MAX_RANGES + 1).as_bytes(), 0),
        RangeRequest::Full
    );
}

#[test]
fn content_range_names_first_and_last_byte() {
    let range = ByteRange { start: 0, end: 1 };
    let mut value = Vec::new();
    range.push_content_range(1000, &mut value);
    assert_eq!(value, b"bytes 0-0/1000");
}

proptest! {
    #[test]
    fn single_range_equals_slice(first in 0..40u64, last in 0..40u64, length in 0..30u64) {
        let whole: Vec<u64> = (0..length).collect();
        let wanted: Vec<u64> = (first..=last).filter(|at| *at < length).collect();
        match parse(format!("bytes={first}-{last}").as_bytes(), length) {
            RangeRequest::Part(range) => {
                prop_assert_eq!(&whole[range.start as usize..range.end as usize], &wanted[..]);
                prop_assert_eq!(range.len(), wanted.len() as u64);
            }
            RangeRequest::Unsatisfiable => prop_assert!(first <= last && wanted.is_empty()),
            RangeRequest::Full => prop_assert!(first > last),
            RangeRequest::Parts(_) => prop_assert!(false, "one range is one part"),
        }
    }

    /// Model: the set of requested positions, with the small gaps between them filled. Its runs are
    /// the parts, in the order in which the field first names one of their positions.
    #[test]
    fn parts_are_the_runs_of_a_set_of_positions(
        length in 0..1200u64,
        requested_ranges in proptest::collection::vec((0..1300u64, 0..60u64), 1..=MAX_RANGES),
    ) {
        let in_order: Vec<u64> = requested_ranges
            .iter()
            .flat_map(|(first, more)| *first..=first + more)
            .filter(|at| *at < length)
            .collect();
        let mut runs: Vec<ByteRange> = Vec::new();
        for &at in &BTreeSet::from_iter(in_order.iter().copied()) {
            match runs.last_mut() {
                Some(run) if at - run.end < MERGED_GAP_BYTES => run.end = at + 1,
                _ => runs.push(ByteRange { start: at, end: at + 1 }),
            }
        }
        runs.sort_by_key(|run| in_order.iter().position(|at| (run.start..run.end).contains(at)));
        let expected = match runs[..] {
            [] => RangeRequest::Unsatisfiable,
            [run] => RangeRequest::Part(run),
            _ => RangeRequest::Parts(runs),
        };
        let set: Vec<_> = requested_ranges.iter().map(|(first, more)| format!("{first}-{}", first + more)).collect();
        prop_assert_eq!(parse(format!("bytes={}", set.join(", ")).as_bytes(), length), expected);
    }

    #[test]
    fn arbitrary_fields_never_exceed_the_length(value in "(bytes=)?[-0-9, xb=]{0,40}", length in any::<u64>()) {
        let total: u64 = match parse(value.as_bytes(), length) {
            RangeRequest::Part(part) => part.len(),
            RangeRequest::Parts(parts) => parts.into_iter().map(ByteRange::len).sum(),
            RangeRequest::Full | RangeRequest::Unsatisfiable => 0,
        };
        prop_assert!(total <= length);
    }
}
