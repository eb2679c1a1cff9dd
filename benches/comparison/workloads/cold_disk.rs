//! Latency of small requests during downloads from a slow disk.

use crate::Result;
use crate::cleanup::CleanupGuard;
use crate::servers::{Profile, RunningServer};
use crate::slow_disk::SlowDisk;

use super::context::BenchContext;
use super::latency::{BackgroundLoad, measure_during};
use super::measurement::{Measurements, measure_running};

pub(super) fn measure(context: &BenchContext<'_>) -> Result<Measurements> {
    let disk = context.slow_disk()?;
    let check = |running: &RunningServer| {
        let throttle = disk.throttle(running)?;
        disk.check(running).map(|()| throttle)
    };
    let measure = |running: &RunningServer, _: &CleanupGuard| {
        disk.drop_page_cache()?;
        let load = BackgroundLoad {
            stalled: 0,
            paths: SlowDisk::paths(),
        };
        measure_during(load, context, running)
    };
    let lineup = context.lineup(Profile::ColdDisk);
    measure_running(context, &disk.root, lineup, check, measure)
}
