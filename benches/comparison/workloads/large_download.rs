//! CPU time per MiB of a download of 1 GiB.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::Result;
use crate::client::{self, Client};
use crate::servers::{Profile, RunningServer};
use crate::test_files::LARGE_FILE_LEN;

use super::context::BenchContext;
use super::measurement::{Measurements, measure_running};
use super::result::{Metric, Plot};

pub(super) const METRICS: &[Metric] = &[Metric {
    name: "CPU per MiB",
    unit: "µs",
    plot: Plot::Cpu,
}];

const MIB: u64 = 1 << 20;

pub(super) fn measure(context: &BenchContext<'_>) -> Result<Measurements> {
    let path = context.files.large_file()?;
    let root = &context.files.root;
    // A MiB at the beginning, in the middle and at the end is compared; the length is checked with
    // each download.
    let check = |running: &RunningServer| {
        let file = File::open(root.join(&path[1..])).map_err(|error| error.to_string())?;
        for from in [0, LARGE_FILE_LEN / 2, LARGE_FILE_LEN - MIB] {
            let range = format!("Range: bytes={from}-{}", from + MIB - 1);
            let (_, content) = client::fetch(running.address, path, &[range])?;
            let mut expected = vec![0; MIB as usize];
            file.read_exact_at(&mut expected, from)
                .map_err(|error| error.to_string())?;
            if content != expected {
                return Err("the content differs from the file".to_owned());
            }
        }
        Ok(())
    };
    let measure = |running: &RunningServer, (): &()| {
        let failed = |error| format!("download failed: {error}");
        let before = running.process.cpu_time();
        let mut client = Client::connect(running.address).map_err(failed)?;
        let mut received = 0;
        let count = |bytes: &[u8]| received += bytes.len() as u64;
        client.download(path, &[], count).map_err(failed)?;
        let cpu_time = running.process.cpu_time().since(&before);
        match received {
            LARGE_FILE_LEN => Ok(vec![cpu_time / 1e3 / (LARGE_FILE_LEN / MIB) as f64]),
            _ => Err(format!("received {received} of {LARGE_FILE_LEN} bytes")),
        }
    };
    let lineup = context.lineup(Profile::LargeFiles);
    measure_running(context, root, lineup, check, measure)
}
