//! Runs wrk, the load generator.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Result;
use crate::process::{CoreAssignment, CoreRole, Process};
use crate::test_files::SMALL_FILE_COUNT;

/// How many requests the pipelined script writes at once.
pub(crate) const PIPELINE_DEPTH: usize = 16;

/// The parameters of one run of wrk.
#[derive(Debug)]
pub(crate) struct WrkRun<'a> {
    pub(crate) url: &'a str,
    pub(crate) connections: usize,
    pub(crate) headers: &'a [String],
    pub(crate) script: Option<&'a Path>,
    pub(crate) duration: Duration,
}

/// What wrk counted.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct WrkCounts {
    /// All responses, those with an error status included.
    pub(crate) responses: u64,
    /// Responses with a status of 400 or above.
    pub(crate) error_responses: u64,
    /// Broken connections and timeouts.
    pub(crate) connection_errors: u64,
    /// The CPU time of wrk, in nanoseconds.
    pub(crate) cpu_time: f64,
}

pub(crate) fn run(wrk: &Path, run: &WrkRun<'_>, cores: CoreAssignment) -> Result<WrkCounts> {
    let mut command = Command::new(wrk);
    // wrk's durations are whole seconds. SIGINT ends it at any time, and it still prints its
    // counts.
    command.args(["--threads", "1", "--duration", "600s"]);
    command.args(["--connections", &run.connections.to_string()]);
    for field in run.headers {
        command.args(["--header", field]);
    }
    if let Some(script) = run.script {
        command.arg("--script").arg(script);
    }
    command
        .arg(run.url)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let process = Process::start(&mut command, cores, CoreRole::Client)?;
    let before = process.cpu_time();
    std::thread::sleep(run.duration);
    let cpu_time = process.cpu_time().since(&before);
    process.interrupt();
    process.wait_for(Duration::from_secs(10))?;
    let text = process.output()?;
    let counts =
        parse(&text).ok_or_else(|| format!("unexpected output of wrk: {}", text.trim()))?;
    match counts.responses {
        0 => Err("wrk received no response".to_owned()),
        _ => Ok(WrkCounts { cpu_time, ..counts }),
    }
}

fn parse(text: &str) -> Option<WrkCounts> {
    let mut counts = WrkCounts::default();
    let mut has_total = false;
    for line in text.lines().map(str::trim) {
        if let Some((responses, _)) = line.split_once(" requests in ") {
            counts.responses = responses.parse().ok()?;
            has_total = true;
        } else if let Some(errors) = line.strip_prefix("Non-2xx or 3xx responses: ") {
            counts.error_responses = errors.parse().ok()?;
        } else if let Some(errors) = line.strip_prefix("Socket errors: ") {
            let numbers = errors.split(|letter: char| !letter.is_ascii_digit());
            counts.connection_errors = numbers
                .filter_map(|number| number.parse::<u64>().ok())
                .sum();
        }
    }
    has_total.then_some(counts)
}

/// The Lua scripts, written to files for wrk.
#[derive(Debug)]
pub(crate) struct WrkScripts {
    pub(crate) pipelined: PathBuf,
    pub(crate) zipf: PathBuf,
}

impl WrkScripts {
    pub(crate) fn write(directory: &Path) -> Result<Self> {
        let write = |name: &str, text: String| {
            let path = directory.join(name);
            match fs::write(&path, text) {
                Ok(()) => Ok(path),
                Err(error) => Err(format!("{}: {error}", path.display())),
            }
        };
        let pipelined = include_str!("scripts/pipelined.lua");
        let zipf = include_str!("scripts/zipf.lua");
        Ok(Self {
            pipelined: write(
                "pipelined.lua",
                pipelined.replace("DEPTH", &PIPELINE_DEPTH.to_string()),
            )?,
            zipf: write(
                "zipf.lua",
                zipf.replace("FILES", &SMALL_FILE_COUNT.to_string()),
            )?,
        })
    }
}
