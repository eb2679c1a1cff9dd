//! Runs h2load, the load generator for HTTP/2.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Result;
use crate::process::{CoreAssignment, CoreRole, Process};

/// The parameters of one run of h2load.
#[derive(Debug)]
pub(crate) struct H2loadRun<'a> {
    pub(crate) url: &'a str,
    pub(crate) connections: usize,
    /// Concurrent requests of each connection.
    pub(crate) streams: usize,
    pub(crate) amount: LoadAmount,
}

/// How long a run lasts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum LoadAmount {
    Requests(u64),
    Duration(Duration),
}

/// What h2load counted.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct H2loadCounts {
    /// Complete responses with a status below 400.
    pub(crate) succeeded: u64,
    /// Responses with another status, and those that did not complete.
    pub(crate) failed: u64,
    /// Bytes of response bodies.
    pub(crate) content_bytes: u64,
}

/// The longest time that a run takes beyond its duration.
const TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) fn run(
    h2load: &Path,
    run: &H2loadRun<'_>,
    cores: CoreAssignment,
) -> Result<H2loadCounts> {
    let mut command = Command::new(h2load);
    command.args(["--threads", "1"]);
    command.args(["--clients", &run.connections.to_string()]);
    command.args(["--max-concurrent-streams", &run.streams.to_string()]);
    let duration = match run.amount {
        LoadAmount::Requests(count) => {
            command.args(["--requests", &count.to_string()]);
            Duration::ZERO
        }
        LoadAmount::Duration(duration) => {
            command.args(["--duration", &format!("{}ms", duration.as_millis())]);
            duration
        }
    };
    command
        .arg(run.url)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let process = Process::start(&mut command, cores, CoreRole::Client)?;
    process.wait_for(duration + TIMEOUT)?;
    let text = process.output()?;
    let counts = parse(&text);
    let counts = counts.ok_or_else(|| format!("unexpected output of h2load: {}", text.trim()))?;
    match counts {
        H2loadCounts { failed: 1.., .. } => Err(format!("h2load: {} failed", counts.failed)),
        H2loadCounts { succeeded: 0, .. } => Err("h2load received no response".to_owned()),
        _ => Ok(counts),
    }
}

/// Parses the lines "requests: … 12 succeeded, 0 failed, …" and "traffic: … 4.00KB (4096) data".
fn parse(text: &str) -> Option<H2loadCounts> {
    let requests = text
        .lines()
        .find_map(|line| line.strip_prefix("requests: "))?;
    let count = |name: &str| {
        let mut parts = requests.split(", ");
        let number = parts.find_map(|part| part.strip_suffix(name));
        number?.trim().parse::<u64>().ok()
    };
    let traffic = text
        .lines()
        .find_map(|line| line.strip_prefix("traffic: "))?;
    let (_, content) = traffic.strip_suffix(") data")?.rsplit_once('(')?;
    Some(H2loadCounts {
        succeeded: count("succeeded")?,
        failed: count("failed")?,
        content_bytes: content.parse().ok()?,
    })
}
