//! The static table (RFC 7541 Appendix A).

/// Names and values; the first one has the index 1.
const FIELDS: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// The number of fields, and the largest index.
pub(super) const LEN: usize = FIELDS.len();

/// The most fields with different names of one length.
const MAX_SAME_LENGTH: usize = 6;

/// The length of the longest name.
const MAX_NAME_BYTES: usize = 27;

/// For each length, the indexes of the names of that length, the first one of each name; zeros follow.
static INDEXES_BY_LENGTH: [[u8; MAX_SAME_LENGTH]; MAX_NAME_BYTES + 1] = indexes_by_length();

const fn indexes_by_length() -> [[u8; MAX_SAME_LENGTH]; MAX_NAME_BYTES + 1] {
    let mut rows = [[0; MAX_SAME_LENGTH]; MAX_NAME_BYTES + 1];
    let mut row_lens = [0; MAX_NAME_BYTES + 1];
    let mut index = 1;
    while index <= LEN {
        let name = FIELDS[index - 1].0.as_bytes();
        if index == 1 || !are_equal(name, FIELDS[index - 2].0.as_bytes()) {
            let row_len = &mut row_lens[name.len()];
            rows[name.len()][*row_len] = index as u8;
            *row_len += 1;
        }
        index += 1;
    }
    rows
}

const fn are_equal(one: &[u8], other: &[u8]) -> bool {
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

/// Returns the field of an index from 1 on.
pub(super) fn get(index: usize) -> Option<(&'static str, &'static str)> {
    FIELDS.get(index.checked_sub(1)?).copied()
}

/// The index of an entry that a field can be encoded with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    Field(usize),
    Name(usize),
}

/// Returns the entry with that name and value, or else the first one with that name.
pub(super) fn find(name: &[u8], value: &[u8]) -> Option<Match> {
    let has_name = |index: usize| get(index).is_some_and(|field| field.0.as_bytes() == name);
    let has_value = |index: usize| get(index).is_some_and(|field| field.1.as_bytes() == value);
    let candidates = INDEXES_BY_LENGTH.get(name.len())?.iter();
    let mut candidates = candidates.map(|index| usize::from(*index));
    let first = candidates.find(|index| has_name(*index))?;
    // The fields of one name are consecutive.
    let mut same_name = (first..).take_while(|index| has_name(*index));
    let same_field = same_name.find(|index| has_value(*index));
    Some(same_field.map_or(Match::Name(first), Match::Field))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_field_is_found_by_its_name_and_value() {
        for (index, (name, value)) in (1..).zip(FIELDS) {
            let found = find(name.as_bytes(), value.as_bytes());
            assert_eq!(found, Some(Match::Field(index)));
            assert_eq!(get(index), Some((name, value)));
        }
        assert_eq!((get(0), get(LEN + 1)), (None, None));
    }

    #[test]
    fn each_name_is_found_with_another_value() {
        for (name, _) in FIELDS {
            let first = FIELDS.iter().position(|field| field.0 == name);
            let expected = first.map(|position| Match::Name(position + 1));
            assert_eq!(find(name.as_bytes(), b"other"), expected);
        }
    }

    #[test]
    fn other_names_are_not_found() {
        let long = [b'a'; 28];
        for name in [
            &b""[..],
            b"x",
            b"agf",
            b"Age",
            b"alt-svc",
            b"content-typf",
            &long,
        ] {
            assert_eq!(find(name, b""), None);
        }
    }
}
