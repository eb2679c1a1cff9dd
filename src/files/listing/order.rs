//! The sort order of entries: the query parameters for it, and the comparison of names.

use std::cmp::Ordering;

/// What entries are sorted by. Folders come first in any order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum SortKey {
    #[default]
    Name,
    Size,
    Date,
}

/// The direction of a sort order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum SortDirection {
    #[default]
    Ascending,
    Descending,
}

/// The order of a listing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::files) struct SortOrder {
    pub(super) key: SortKey,
    pub(super) direction: SortDirection,
}

impl SortOrder {
    /// Parses `sort=name|size|date` and `order=asc|desc`. Other parameters and values are ignored,
    /// so that a URL with another program's query shows the folder.
    pub(in crate::files) fn from_query(query: Option<&str>) -> Self {
        let mut order = Self::default();
        for parameter in query.unwrap_or_default().split('&') {
            match parameter {
                "sort=name" => order.key = SortKey::Name,
                "sort=size" => order.key = SortKey::Size,
                "sort=date" => order.key = SortKey::Date,
                "order=asc" => order.direction = SortDirection::Ascending,
                "order=desc" => order.direction = SortDirection::Descending,
                _ => {}
            }
        }
        order
    }

    /// The number of orders.
    pub(super) const COUNT: usize = 6;

    /// Returns the position of the order among all orders.
    pub(super) fn index(self) -> usize {
        2 * self.key as usize + self.direction as usize
    }

    /// Returns the order as a query; `None` for the default.
    pub(super) fn to_query(self) -> Option<&'static str> {
        match (self.key, self.direction) {
            (SortKey::Name, SortDirection::Ascending) => None,
            (SortKey::Name, SortDirection::Descending) => Some("sort=name&order=desc"),
            (SortKey::Size, SortDirection::Ascending) => Some("sort=size&order=asc"),
            (SortKey::Size, SortDirection::Descending) => Some("sort=size&order=desc"),
            (SortKey::Date, SortDirection::Ascending) => Some("sort=date&order=asc"),
            (SortKey::Date, SortDirection::Descending) => Some("sort=date&order=desc"),
        }
    }
}

/// Compares names in natural order: case-insensitively, and numbers by value, so that `page 9`
/// precedes `page 10`. Names that are equal so far are compared by their bytes: the order is total.
pub(super) fn compare_names(one: &[u8], other: &[u8]) -> Ordering {
    let (mut left, mut right) = (one, other);
    while let (&[a, ref left_tail @ ..], &[b, ref right_tail @ ..]) = (left, right) {
        let found = if a.is_ascii_digit() && b.is_ascii_digit() {
            let (a, left_rest) = split_number(left);
            let (b, right_rest) = split_number(right);
            (left, right) = (left_rest, right_rest);
            // Without leading zeros, the number with more digits is the greater one.
            a.len().cmp(&b.len()).then_with(|| a.cmp(b))
        } else {
            (left, right) = (left_tail, right_tail);
            a.to_ascii_lowercase().cmp(&b.to_ascii_lowercase())
        };
        if found.is_ne() {
            return found;
        }
    }
    left.len().cmp(&right.len()).then_with(|| one.cmp(other))
}

/// Splits off the leading digits, without leading zeros, from the remaining text.
fn split_number(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !byte.is_ascii_digit());
    let (digits, rest) = text.split_at(end.unwrap_or(text.len()));
    let start = digits.iter().position(|&digit| digit != b'0');
    (&digits[start.unwrap_or(digits.len())..], rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn unknown_query_parameters_are_ignored() {
        use SortDirection::{Ascending, Descending};
        let table = [
            (None, SortKey::Name, Ascending),
            (Some(""), SortKey::Name, Ascending),
            (Some("sort=size"), SortKey::Size, Ascending),
            (Some("sort=date&order=desc"), SortKey::Date, Descending),
            (Some("order=desc"), SortKey::Name, Descending),
            (
                Some("json&order=desc&utm=x&sort=size"),
                SortKey::Size,
                Descending,
            ),
            (Some("sort=colour&order=down"), SortKey::Name, Ascending),
            (Some("sort=size&sort=name"), SortKey::Name, Ascending),
            (Some("&&=&%00"), SortKey::Name, Ascending),
        ];
        for (query, key, direction) in table {
            let order = SortOrder::from_query(query);
            assert_eq!(order, SortOrder { key, direction }, "{query:?}");
            assert_eq!(SortOrder::from_query(order.to_query()), order, "{query:?}");
        }
    }

    #[test]
    fn names_compare_in_natural_order() {
        let sorted: &[&[u8]] = &[
            b" a",
            b"2026-01-02",
            b"2026-1-10",
            b"A",
            b"a",
            b"a0",
            b"a00",
            b"a01",
            b"a1",
            b"A2",
            b"a10",
            b"a99999999999999999999999",
            b"a100000000000000000000000",
            b"ab",
            b"B",
            b"\xFF",
        ];
        for (at, one) in sorted.iter().enumerate() {
            for (with, other) in sorted.iter().enumerate() {
                let shown = (one.escape_ascii(), other.escape_ascii());
                let found = compare_names(one, other);
                assert_eq!(found, at.cmp(&with), "{} {}", shown.0, shown.1);
            }
        }
    }

    proptest! {
        // Sorting may panic if the order is not total.
        #[test]
        fn name_order_is_total(
            a in "[aB0-2.]{0,6}", b in "[aB0-2.]{0,6}", c in "[aB0-2.]{0,6}",
        ) {
            let (a, b, c) = (a.as_bytes(), b.as_bytes(), c.as_bytes());
            prop_assert_eq!(compare_names(a, b), compare_names(b, a).reverse());
            prop_assert_eq!(compare_names(a, b).is_eq(), a == b);
            if compare_names(a, b).is_le() && compare_names(b, c).is_le() {
                prop_assert!(compare_names(a, c).is_le());
            }
        }
    }
}
