//! CPU time per MiB of a download of 1 GiB.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::Result;
use crate::servers::{Profile, RunningServer, ServerKind, Transport};
use crate::test_files::LARGE_FILE_LEN;

use super::context::BenchContext;
use super::measurement::{Measurements, measure_running};
use super::result::{Metric, Plot};

pub(super) const METRICS: &[Metric] = &[
    Metric {
        name: "CPU per MiB",
        unit: "µs",
        plot: Plot::Cpu,
    },
    Metric {
        name: "CPU per MiB, client included",
        unit: "µs",
        plot: Plot::None,
    },
];

const MIB: u64 = 1 << 20;

pub(super) fn measure(context: &BenchContext<'_>, transport: Transport) -> Result<Measurements> {
    let path = context.files.large_file()?;
    let root = &context.files.root;
    // A MiB at the beginning, in the middle and at the end is compared; the length is checked with
    // each download.
    let check = |running: &RunningServer| {
        let file = File::open(root.join(&path[1..])).map_err(|error| error.to_string())?;
        for from in [0, LARGE_FILE_LEN / 2, LARGE_FILE_LEN - MIB] {
            let range = format!("Range: bytes={from}-{}", from + MIB - 1);
            let (_, content) = running.fetch(path, &[range])?;
            let mut expected = vec![0; MIB as usize];
            file.read_exact_at(&mut expected, from)
                .map_err(|error| error.to_string())?;
            if content != expected {
                return Err("the content differs from the file".to_owned());
            }
        }
        if (running.setup.server, transport) == (ServerKind::Tws, Transport::Http1) {
            context.save_response(running, path, &[])?;
        }
        Ok(())
    };
    let measure = |running: &RunningServer, (): &()| {
        let failed = |error| format!("download failed: {error}");
        let before = running.process.cpu_time();
        let client_before = own_cpu_time();
        let mut client = running.connect()?;
        let mut received = 0;
        let count = |bytes: &[u8]| received += bytes.len() as u64;
        client.download(path, &[], count).map_err(failed)?;
        let cpu_time = running.process.cpu_time().since(&before);
        let of_client = own_cpu_time() - client_before;
        let each = |time: f64| time / 1e3 / (LARGE_FILE_LEN / MIB) as f64;
        match received {
            LARGE_FILE_LEN => Ok(vec![each(cpu_time), each(cpu_time + of_client)]),
            _ => Err(format!("received {received} of {LARGE_FILE_LEN} bytes")),
        }
    };
    let mut lineup = context.lineup_over(transport, Profile::LargeFiles);
    if transport == Transport::Http1 {
        lineup.others.push(context.bare_loop(Profile::LargeFiles));
    }
    measure_running(context, root, lineup, check, measure)
}

/// Returns the CPU time of this thread in nanoseconds.
fn own_cpu_time() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let first = text.split_whitespace().next();
    first.and_then(|time| time.parse().ok()).unwrap_or(0.0)
}
