//! Latency of small requests during running and stalled downloads of a large file.

use crate::Result;
use crate::servers::{Profile, RunningServer, ServerKind, ServerSetup, Transport};

use super::context::BenchContext;
use super::latency::{BackgroundLoad, measure_during};
use super::measurement::{Measurements, measure_running};

const RUNNING: usize = 4;
const STALLED: usize = 200;

pub(super) fn measure(context: &BenchContext<'_>, transport: Transport) -> Result<Measurements> {
    let path = context.files.large_file()?;
    let mut lineup = context.lineup_over(transport, Profile::LargeFiles);
    if context.environment.has(ServerKind::Nginx) {
        let reference = ServerSetup {
            server: ServerKind::Nginx,
            profile: match transport {
                Transport::Http1 => Profile::DistributionDefault,
                _ => Profile::WithoutTls,
            },
            transport: Transport::Http1,
        };
        lineup.others.insert(1, reference);
    }
    let measure = |running: &RunningServer, (): &()| {
        let load = BackgroundLoad {
            stalled: STALLED,
            paths: vec![path.to_owned(); RUNNING],
        };
        measure_during(load, context, running)
    };
    measure_running(context, &context.files.root, lineup, |_| Ok(()), measure)
}
