//! Measures tws and the other servers in pairs and collects the samples.

use std::path::Path;

use crate::Result;
use crate::pairs::{self, PairedSamples};
use crate::servers::{RunningServer, ServerSetup};
use crate::statistics::Summary;

use super::context::{BenchContext, Lineup};
use super::result::{Comparison, ServerResult};

/// The samples of all servers.
#[derive(Debug)]
pub(super) struct Measurements {
    /// One list of samples per metric.
    tws: Vec<Vec<f64>>,
    others: Vec<(ServerSetup, Result<Vec<PairedSamples>>)>,
}

impl Measurements {
    /// Summarizes the samples of one metric: the median of tws and the results of the others.
    pub(super) fn metric(&self, index: usize) -> (Result<f64>, Vec<ServerResult>) {
        let tws = self.tws.get(index).and_then(|values| Summary::of(values));
        let compare = |samples: &Vec<PairedSamples>| {
            let samples = samples.get(index)?;
            Some(Comparison {
                value: Summary::of(&samples.other)?.median,
                ratio: samples.ratio()?,
            })
        };
        let result = |(setup, samples): &(ServerSetup, Result<Vec<PairedSamples>>)| ServerResult {
            setup: *setup,
            comparison: samples
                .as_ref()
                .map_err(Clone::clone)
                .and_then(|samples| compare(samples).ok_or_else(|| "no samples".to_owned())),
        };
        let tws = tws.map(|summary| summary.median);
        (
            tws.ok_or_else(|| "no samples".to_owned()),
            self.others.iter().map(result).collect(),
        )
    }
}

/// Measures servers that all run for the whole time. A server that does not start or fails `check`
/// is left out with the reason; `measure` gets the server and the result of its check.
pub(super) fn measure_running<T>(
    context: &BenchContext<'_>,
    root: &Path,
    lineup: Lineup,
    check: impl Fn(&RunningServer) -> Result<T>,
    measure: impl Fn(&RunningServer, &T) -> Result<Vec<f64>>,
) -> Result<Measurements> {
    let start = |setup: ServerSetup| {
        let running = context.start(setup, root)?;
        let checked = check(&running)?;
        Ok::<_, String>((running, checked))
    };
    let tws = start(lineup.tws)?;
    // All are started before the first one is measured.
    let started: Vec<_> = lineup
        .others
        .into_iter()
        .map(|other| (other, start(other)))
        .collect();
    let mut running = Vec::new();
    let mut left_out = Vec::new();
    for (setup, started) in started {
        match started {
            Ok(server) => running.push(server),
            Err(reason) => left_out.push((setup, Err(reason))),
        }
    }
    let each = |(running, checked): &(RunningServer, T)| measure(running, checked);
    let mut measurements = collect(&tws, &running, context.plan.rounds, each, |(running, _)| {
        running.setup
    })?;
    measurements.others.extend(left_out);
    Ok(measurements)
}

/// Measures setups; `measure` starts the server itself if it needs one.
pub(super) fn measure_setups(
    lineup: &Lineup,
    rounds: usize,
    measure: impl Fn(&ServerSetup) -> Result<Vec<f64>>,
) -> Result<Measurements> {
    collect(&lineup.tws, &lineup.others, rounds, measure, |setup| *setup)
}

fn collect<S>(
    tws: &S,
    others: &[S],
    rounds: usize,
    measure: impl Fn(&S) -> Result<Vec<f64>>,
    setup: impl Fn(&S) -> ServerSetup,
) -> Result<Measurements> {
    let mut samples: Vec<Vec<f64>> = Vec::new();
    let results = pairs::run(tws, others, rounds, |server| {
        let values = measure(server)?;
        if std::ptr::eq(server, tws) {
            samples.resize(values.len(), Vec::new());
            let columns = samples.iter_mut().zip(&values);
            columns.for_each(|(column, value)| column.push(*value));
        }
        Ok(values)
    })?;
    Ok(Measurements {
        tws: samples,
        others: others.iter().map(setup).zip(results).collect(),
    })
}
