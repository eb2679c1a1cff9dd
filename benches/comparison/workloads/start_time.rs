//! Time from the start of the program to the first byte of the first response.

use crate::Result;
use crate::servers::{Profile, ServerSetup};

use super::context::BenchContext;
use super::measurement::{Measurements, measure_setups};
use super::result::{Metric, Plot};

pub(super) const METRICS: &[Metric] = &[Metric {
    name: "time",
    unit: "ms",
    plot: Plot::None,
}];

pub(super) fn measure(context: &BenchContext<'_>) -> Result<Measurements> {
    let measure = |setup: &ServerSetup| {
        let running = context.start(*setup, &context.files.root)?;
        Ok(vec![running.start_time.as_secs_f64() * 1e3])
    };
    let lineup = context.lineup(Profile::SmallFiles);
    measure_setups(&lineup, context.plan.short_rounds, measure)
}
