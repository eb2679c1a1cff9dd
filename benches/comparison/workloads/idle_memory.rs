//! Memory of the server process per idle kept-alive connection.

use std::time::Duration;

use crate::Result;
use crate::client::Client;
use crate::process;
use crate::servers::{Profile, ServerSetup};

use super::context::BenchContext;
use super::measurement::{Measurements, measure_setups};
use super::result::{Metric, Plot};

pub(super) const METRICS: &[Metric] = &[Metric {
    name: "memory per connection",
    unit: "bytes",
    plot: Plot::None,
}];

/// Descriptors of this process that are not available for connections.
const RESERVED_DESCRIPTORS: u64 = 500;

pub(super) fn measure(context: &BenchContext<'_>) -> Result<Measurements> {
    let available = process::descriptor_limit().saturating_sub(RESERVED_DESCRIPTORS);
    let available = usize::try_from(available).unwrap_or(usize::MAX);
    let count = context.plan.idle.min(available);
    let measure = |setup: &ServerSetup| {
        let running = context.start(*setup, &context.files.root)?;
        let before = running.process.private_memory();
        let open = |_| {
            let mut client = Client::connect(running.address)?;
            client.fetch("/1K.png", &[])?;
            client.free_buffer();
            Ok(client)
        };
        let count = count.min(setup.server.max_connections());
        let connections: std::io::Result<Vec<_>> = (0..count).map(open).collect();
        let connections =
            connections.map_err(|error| format!("cannot open {count} connections: {error}"))?;
        std::thread::sleep(Duration::from_millis(300));
        let grown = running.process.private_memory().saturating_sub(before);
        drop(connections);
        Ok(vec![grown as f64 / count as f64])
    };
    measure_setups(&context.lineup(Profile::SmallFiles), 1, measure)
}
