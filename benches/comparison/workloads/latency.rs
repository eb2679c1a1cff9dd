//! What the latency workloads share: a latency probe, and downloads in the background.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Result;
use crate::process::{CoreRole, Process};
use crate::servers::RunningServer;
use crate::subprocess::Subprocess;

use super::context::BenchContext;
use super::result::{Metric, Plot};

pub(super) const METRICS: &[Metric] = &[metric("p50"), metric("p99"), metric("max")];

const fn metric(name: &'static str) -> Metric {
    Metric {
        name,
        unit: "ms",
        plot: Plot::Latency,
    }
}

/// The downloads that run while latencies are measured.
pub(super) struct BackgroundLoad {
    /// Downloads of the first path whose content is not read.
    pub(super) stalled: usize,
    /// One download after another of each of these.
    pub(super) paths: Vec<String>,
}

/// Returns the latencies of small requests during `load` in milliseconds: the median, the 99th
/// percentile, the greatest.
pub(super) fn measure_during(
    load: BackgroundLoad,
    context: &BenchContext<'_>,
    running: &RunningServer,
) -> Result<Vec<f64>> {
    let _load = start_load(load, context, running)?;
    probe(context, running)
}

/// Starts downloads that continue until the returned process is dropped.
fn start_load(
    load: BackgroundLoad,
    context: &BenchContext<'_>,
    running: &RunningServer,
) -> Result<Process> {
    let expected = load.stalled;
    let subprocess = Subprocess::Load {
        port: running.address.port(),
        uses_tls: running.setup.transport.uses_tls(),
        stalled: load.stalled,
        paths: load.paths,
    };
    let mut command = Command::new(current_program()?);
    command.args(subprocess.arguments()).stdout(Stdio::piped());
    let process = Process::start(&mut command, context.environment.cores, CoreRole::Client)?;
    let mut line = String::new();
    if let Some(stdout) = process.stdout() {
        let mut stdout = BufReader::new(stdout);
        stdout
            .read_line(&mut line)
            .map_err(|error| error.to_string())?;
    }
    // The running downloads reach their full windows in this time.
    std::thread::sleep(Duration::from_millis(200));
    match line.trim().parse::<usize>() {
        Ok(started) if started == expected => Ok(process),
        Ok(started) => Err(format!(
            "only {started} of {expected} stalled downloads started within 10 s"
        )),
        Err(_) => Err("the downloads did not start".to_owned()),
    }
}

fn probe(context: &BenchContext<'_>, running: &RunningServer) -> Result<Vec<f64>> {
    let duration = context.plan.probe;
    let subprocess = Subprocess::Probe {
        port: running.address.port(),
        uses_tls: running.setup.transport.uses_tls(),
        path: "/1K.png".to_owned(),
        duration,
    };
    let program = current_program()?;
    let mut command = match &context.environment.chrt {
        Some(chrt) => {
            let mut command = Command::new(chrt);
            command.args(["-f", "10"]).arg(program);
            command
        }
        None => Command::new(program),
    };
    command.args(subprocess.arguments()).stdout(Stdio::piped());
    let process = Process::start(&mut command, context.environment.cores, CoreRole::Client)?;
    process.wait_for(duration + Duration::from_secs(30))?;
    let text = process.output()?;
    let values: Vec<f64> = text.lines().filter_map(|line| line.parse().ok()).collect();
    if values.len() == METRICS.len() {
        Ok(values)
    } else {
        Err("the latency probe printed no result".to_owned())
    }
}

fn current_program() -> Result<PathBuf> {
    std::env::current_exe().map_err(|error| format!("path of this program: {error}"))
}
