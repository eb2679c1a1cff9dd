//! CPU time of the first request for a text, which the server compresses.

use crate::Result;
use crate::servers::{Profile, ServerSetup};
use crate::test_files::TEXT_COUNT;

use super::context::BenchContext;
use super::measurement::{Measurements, measure_setups};

pub(super) fn measure(context: &BenchContext<'_>) -> Result<Measurements> {
    let measure = |setup: &ServerSetup| {
        // A new server, which has compressed nothing yet.
        let running = context.start(*setup, &context.files.root)?;
        let mut client = running.connect()?;
        let fields = ["Accept-Encoding: gzip".to_owned()];
        let before = running.process.cpu_time();
        for index in 0..TEXT_COUNT {
            let path = format!("/text/{index}.html");
            let fetched = client.fetch(&path, &fields);
            let (head, _) = fetched.map_err(|error| format!("{path}: {error}"))?;
            if head.field("Content-Encoding") != Some("gzip") {
                return Err(format!("{path}: not compressed"));
            }
        }
        let cpu_time = running.process.cpu_time().since(&before);
        Ok(vec![cpu_time / TEXT_COUNT as f64 / 1e3])
    };
    let lineup = context.lineup(Profile::Compression);
    measure_setups(&lineup, context.plan.rounds, measure)
}
