//! Measures in pairs: each measurement of another server is next to one of tws.

use crate::Result;
use crate::statistics::Summary;

/// The paired samples of one metric: `tws[i]` and `other[i]` were measured one after the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct PairedSamples {
    pub(crate) tws: Vec<f64>,
    pub(crate) other: Vec<f64>,
}

impl PairedSamples {
    /// Summarizes the ratios tws / other; `None` if there are no pairs.
    pub(crate) fn ratio(&self) -> Option<Summary> {
        let pairs = self.tws.iter().zip(&self.other);
        let ratios: Vec<f64> = pairs
            .filter(|(_, other)| **other > 0.0)
            .map(|(tws, other)| tws / other)
            .collect();
        Summary::of(&ratios)
    }
}

/// Measures `tws` next to each of `others` in `rounds` rounds. Returns for each of `others` its
/// samples, one entry per metric, or the reason why they are missing.
///
/// One measurement of tws serves the pairs before and after it, so every pair consists of
/// consecutive measurements. The order within a pair changes from round to round.
pub(crate) fn run<S>(
    tws: &S,
    others: &[S],
    rounds: usize,
    mut measure: impl FnMut(&S) -> Result<Vec<f64>>,
) -> Result<Vec<Result<Vec<PairedSamples>>>> {
    let mut results: Vec<Result<Vec<PairedSamples>>> =
        others.iter().map(|_| Ok(Vec::new())).collect();
    if others.is_empty() {
        // The figure of tws is reported even if there is nothing to compare it with.
        measure(tws)?;
    }
    for round in 0..rounds {
        let mut previous: Option<Vec<f64>> = None;
        for (index, (other, result)) in others.iter().zip(&mut results).enumerate() {
            let Ok(samples) = result else {
                continue;
            };
            let tws_first = (index + round) % 2 == 0;
            let before = match (tws_first, previous.take()) {
                (true, Some(values)) => Some(values),
                (true, None) => Some(measure(tws)?),
                (false, _) => None,
            };
            match measure(other) {
                Ok(other_values) => {
                    let tws_values = match before {
                        Some(values) => values,
                        None => previous.insert(measure(tws)?).clone(),
                    };
                    add(samples, &tws_values, &other_values);
                }
                Err(reason) => *result = Err(reason),
            }
        }
    }
    Ok(results)
}

fn add(samples: &mut Vec<PairedSamples>, tws: &[f64], other: &[f64]) {
    samples.resize(tws.len(), PairedSamples::default());
    for ((samples, tws), other) in samples.iter_mut().zip(tws).zip(other) {
        samples.tws.push(*tws);
        samples.other.push(*other);
    }
}
