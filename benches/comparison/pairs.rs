//! Pairs: each measurement of a peer stands beside one of ours.

use crate::Result;
use crate::statistics::Spread;

/// What ours and another did, side by side, in one metric.
#[derive(Clone, Debug)]
pub(crate) struct Pairs {
    pub(crate) ours: Vec<f64>,
    pub(crate) theirs: Vec<f64>,
}

impl Pairs {
    /// The ratios ours / theirs, or nothing where there are none.
    pub(crate) fn ratio(&self) -> Option<Spread> {
        let pairs = self.ours.iter().zip(&self.theirs);
        let ratios: Vec<f64> = pairs
            .filter(|(_, theirs)| **theirs > 0.0)
            .map(|(ours, theirs)| ours / theirs)
            .collect();
        Spread::of(&ratios)
    }
}

/// Measures `ours` beside each of `others`, `rounds` times, and gives for each of them its pairs by
/// metric, or why it has none. Between two of ours stand two others, so that every pair is made of
/// neighbours; who comes first in a pair changes from round to round.
pub(crate) fn run<C>(
    ours: &C,
    others: &[C],
    rounds: usize,
    mut measure: impl FnMut(&C) -> Result<Vec<f64>>,
) -> Result<Vec<Result<Vec<Pairs>>>> {
    let mut results: Vec<Result<Vec<Pairs>>> = others.iter().map(|_| Ok(Vec::new())).collect();
    if others.is_empty() {
        // Our own figure is worth having alone.
        measure(ours)?;
    }
    for round in 0..rounds {
        let mut neighbour: Option<Vec<f64>> = None;
        for (index, (other, result)) in others.iter().zip(&mut results).enumerate() {
            let Ok(pairs) = result else {
                continue;
            };
            let we_begin = (index + round) % 2 == 0;
            let before = match (we_begin, neighbour.take()) {
                (true, Some(ours)) => Some(ours),
                (true, None) => Some(measure(ours)?),
                (false, _) => None,
            };
            match measure(other) {
                Ok(theirs) => {
                    let ours = match before {
                        Some(ours) => ours,
                        None => neighbour.insert(measure(ours)?).clone(),
                    };
                    add(pairs, &ours, &theirs);
                }
                Err(reason) => *result = Err(reason),
            }
        }
    }
    Ok(results)
}

fn add(pairs: &mut Vec<Pairs>, ours: &[f64], theirs: &[f64]) {
    let none = Pairs {
        ours: Vec::new(),
        theirs: Vec::new(),
    };
    pairs.resize(ours.len(), none);
    for ((pairs, ours), theirs) in pairs.iter_mut().zip(ours).zip(theirs) {
        pairs.ours.push(*ours);
        pairs.theirs.push(*theirs);
    }
}
