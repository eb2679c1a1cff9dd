//! CPU time of a connection with TLS for one small response: handshake, request, close.

use std::time::Instant;

use crate::Result;
use crate::servers::{Profile, RunningServer, Transport};
use crate::tls_client::{self, Sessions};

use super::context::BenchContext;
use super::measurement::{Measurements, measure_running};
use super::result::{Metric, Plot};

pub(super) const METRICS: &[Metric] = &[Metric {
    name: "CPU per connection",
    unit: "µs",
    plot: Plot::Cpu,
}];

const PATH: &str = "/1K.png";

/// Connections before the first that is measured: they get sessions.
const WARM_UP: usize = 8;

pub(super) fn measure(context: &BenchContext<'_>, sessions: Sessions) -> Result<Measurements> {
    let lineup = context.lineup_over(Transport::Http1Tls, Profile::SmallFiles);
    let check = |running: &RunningServer| {
        let (head, content) = running.fetch(PATH, &[])?;
        match (head.status, content.len()) {
            (200, 1024) => tls_client::config(sessions),
            (status, len) => Err(format!("status {status} with {len} bytes")),
        }
    };
    let measure = |running: &RunningServer, config: &_| {
        let close = ["Connection: close".to_owned()];
        let connect = || {
            let mut client = running.connect_with(config)?;
            let fetched = client.fetch(PATH, &close);
            fetched.map_err(|error| format!("{PATH}: {error}"))?;
            Ok::<bool, String>(client.is_resumed())
        };
        for _ in 0..WARM_UP {
            connect()?;
        }
        let before = running.process.cpu_time();
        let end = Instant::now() + context.plan.load;
        let (mut count, mut resumed) = (0, 0);
        while Instant::now() < end {
            resumed += usize::from(connect()?);
            count += 1;
        }
        let cpu_time = running.process.cpu_time().since(&before);
        match sessions {
            // Some servers send the next session after the response, which may come too late.
            Sessions::Resumed if resumed * 10 < count * 9 => {
                Err(format!("resumed {resumed} of {count} sessions"))
            }
            _ => Ok(vec![cpu_time / f64::from(count as u32) / 1e3]),
        }
    };
    measure_running(context, &context.files.root, lineup, check, measure)
}
