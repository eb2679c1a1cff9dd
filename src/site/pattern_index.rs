//! A list of path patterns in which those that match a path are found without a comparison with
//! each: by a hash if they have no star, and otherwise by the text before the first star.

use std::collections::{BTreeMap, HashMap};

use super::pattern::PathPattern;

/// Path patterns, which are identified by their positions in the list. Their order has a meaning
/// for the caller, so results are in this order.
#[derive(Debug, Default)]
pub(crate) struct PatternIndex {
    /// The positions of the patterns without a star, in ascending order, by the only path that they
    /// match.
    exact: HashMap<Vec<u8>, Vec<u32>>,
    /// The patterns with stars, in the order of the prefixes.
    prefixes: Vec<Prefix>,
}

/// The patterns with the same text before the first star.
#[derive(Debug)]
struct Prefix {
    text: Vec<u8>,
    /// The index of the longest other prefix that this one begins with.
    parent: Option<usize>,
    /// With their positions, in ascending order.
    patterns: Vec<(u32, PathPattern)>,
}

impl PatternIndex {
    pub(crate) fn new<'a>(patterns: impl Iterator<Item = &'a PathPattern>) -> Self {
        let mut exact: HashMap<Vec<u8>, Vec<u32>> = HashMap::new();
        let mut by_prefix: BTreeMap<&[u8], Vec<(u32, PathPattern)>> = BTreeMap::new();
        for (position, pattern) in (0..).zip(patterns) {
            let text = pattern.prefix();
            if pattern.stars() == 0 {
                exact.entry(text.to_vec()).or_default().push(position);
            } else {
                let patterns = by_prefix.entry(text).or_default();
                patterns.push((position, pattern.clone()));
            }
        }
        let mut prefixes: Vec<Prefix> = Vec::with_capacity(by_prefix.len());
        for (text, patterns) in by_prefix {
            // The previous prefix in this order, or one that it begins with.
            let mut parent = prefixes.len().checked_sub(1);
            while let Some(at) = parent
                && !text.starts_with(&prefixes[at].text)
            {
                parent = prefixes[at].parent;
            }
            prefixes.push(Prefix {
                text: text.to_vec(),
                parent,
                patterns,
            });
        }
        Self { exact, prefixes }
    }

    /// Returns the position of the first pattern that matches a path.
    pub(crate) fn first(&self, path: &[u8]) -> Option<usize> {
        let mut first = self.exact_matches(path).first().copied();
        for prefix in self.prefixes_of(path) {
            let earlier = prefix
                .patterns
                .iter()
                .take_while(|(position, _)| first.is_none_or(|first| *position < first));
            let mut matching = earlier.filter(|(_, pattern)| pattern.is_match(path));
            if let Some((position, _)) = matching.next() {
                first = Some(*position);
            }
        }
        first.map(|position| position as usize)
    }

    /// Returns the positions of all patterns that match a path, in ascending order.
    pub(crate) fn all(&self, path: &[u8]) -> Vec<u32> {
        let mut all = self.exact_matches(path).to_vec();
        for prefix in self.prefixes_of(path) {
            let matching = prefix
                .patterns
                .iter()
                .filter(|(_, pattern)| pattern.is_match(path));
            all.extend(matching.map(|(position, _)| *position));
        }
        all.sort_unstable();
        all
    }

    /// Returns how many patterns are compared with a path at most.
    pub(crate) fn candidates(&self, path: &[u8]) -> usize {
        let prefixes = self.prefixes_of(path);
        let with_stars: usize = prefixes.map(|prefix| prefix.patterns.len()).sum();
        self.exact_matches(path).len() + with_stars
    }

    fn exact_matches(&self, path: &[u8]) -> &[u32] {
        self.exact.get(path).map_or(&[], Vec::as_slice)
    }

    /// Yields the prefixes that a path begins with, the longest first.
    fn prefixes_of(&self, path: &[u8]) -> impl Iterator<Item = &Prefix> {
        // The last one in the order that is not after the path: all prefixes of the path that are
        // in the list are prefixes of it too.
        let after = self
            .prefixes
            .partition_point(|prefix| prefix.text[..] <= *path);
        let above = |at: &usize| self.prefixes[*at].parent;
        std::iter::successors(after.checked_sub(1), above)
            .map(|at| &self.prefixes[at])
            .filter(|prefix| path.starts_with(&prefix.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn results_equal_those_of_comparing_each_pattern(
            patterns in proptest::collection::vec("/[ab/]{0,3}(\\*[ab/]{0,2}){0,2}", 0..30),
            path in "/[ab/]{0,6}",
        ) {
            let patterns: Vec<PathPattern> = patterns
                .iter()
                .map(|pattern| PathPattern::new(pattern).expect("a pattern"))
                .collect();
            let index = PatternIndex::new(patterns.iter());
            let matching: Vec<u32> = (0..)
                .zip(&patterns)
                .filter(|(_, pattern)| pattern.is_match(path.as_bytes()))
                .map(|(position, _)| position)
                .collect();
            let all = index.all(path.as_bytes());
            prop_assert!(index.candidates(path.as_bytes()) >= all.len());
            prop_assert_eq!(index.first(path.as_bytes()), all.first().map(|first| *first as usize));
            prop_assert_eq!(all, matching);
        }
    }

    #[test]
    fn rules_of_other_paths_are_not_compared() {
        let patterns: Vec<PathPattern> = (0..10_000)
            .flat_map(|number| [format!("/exact/{number}"), format!("/below/{number}/*")])
            .map(|pattern| PathPattern::new(&pattern).expect("a pattern"))
            .collect();
        let index = PatternIndex::new(patterns.iter());
        for (path, candidates) in [
            ("/exact/7", 1),
            ("/exact/x", 0),
            ("/below/7/a", 1),
            ("/below/7", 0),
        ] {
            assert_eq!(index.candidates(path.as_bytes()), candidates, "{path}");
        }
    }
}
