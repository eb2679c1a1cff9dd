//! Medians, ranges and percentiles.

/// The median, the smallest and the greatest of a set of values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Summary {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Summary {
    /// Summarizes `values`; `None` if they are empty.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let sorted = sorted(values);
        let middle = sorted.len() / 2;
        let median = match sorted.len() {
            0 => return None,
            odd if odd % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        };
        Some(Self {
            median,
            min: sorted[0],
            max: sorted[sorted.len() - 1],
        })
    }
}

/// Returns the smallest value that is at least as great as `fraction` (0 to 1) of all values
/// (nearest rank); `None` if `values` is empty.
pub(crate) fn percentile(values: &[f64], fraction: f64) -> Option<f64> {
    let sorted = sorted(values);
    let rank = (fraction * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied()
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Tests this module. A bench without a harness cannot have unit tests, so `main` calls this.
pub(crate) fn self_test() {
    let summary = |median, min, max| Some(Summary { median, min, max });
    assert_eq!(Summary::of(&[]), None);
    assert_eq!(Summary::of(&[2.0]), summary(2.0, 2.0, 2.0));
    assert_eq!(Summary::of(&[9.0, 1.0, 2.0]), summary(2.0, 1.0, 9.0));
    assert_eq!(Summary::of(&[4.0, 1.0, 2.0, 9.0]), summary(3.0, 1.0, 9.0));
    let hundred: Vec<f64> = (1..=100).rev().map(f64::from).collect();
    assert_eq!(percentile(&hundred, 0.5), Some(50.0));
    assert_eq!(percentile(&hundred, 0.99), Some(99.0));
    assert_eq!(percentile(&hundred, 1.0), Some(100.0));
    assert_eq!(percentile(&[7.0], 0.99), Some(7.0));
    assert_eq!(percentile(&[], 0.5), None);
}
