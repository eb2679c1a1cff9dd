//! wrk as the client, for as long as asked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Result;
use crate::process::{Core, Cores, Process};
use crate::site::MANY;

/// What wrk is told to do.
#[derive(Debug)]
pub(crate) struct Drive<'a> {
    pub(crate) url: &'a str,
    pub(crate) connections: usize,
    pub(crate) fields: &'a [String],
    pub(crate) script: Option<&'a Path>,
    pub(crate) duration: Duration,
}

/// What wrk counted.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Count {
    pub(crate) answers: u64,
    /// Those with a status from 400 on.
    pub(crate) refused: u64,
    /// Connections that broke, timeouts.
    pub(crate) errors: u64,
}

pub(crate) fn run(wrk: &Path, drive: &Drive<'_>, cores: Cores) -> Result<Count> {
    let mut command = Command::new(wrk);
    // wrk counts whole seconds; a signal ends it at any time, and it still sums up.
    command.args(["--threads", "1", "--duration", "600s"]);
    command.args(["--connections", &drive.connections.to_string()]);
    for field in drive.fields {
        command.args(["--header", field]);
    }
    if let Some(script) = drive.script {
        command.arg("--script").arg(script);
    }
    command
        .arg(drive.url)
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let process = Process::start(&mut command, cores, Core::Client)?;
    std::thread::sleep(drive.duration);
    process.interrupt();
    process.wait_for(Duration::from_secs(10))?;
    let text = process.output()?;
    let count = parse(&text).ok_or_else(|| format!("wrk said: {}", text.trim()))?;
    match count.answers {
        0 => Err("wrk got no answer".to_owned()),
        _ => Ok(count),
    }
}

fn parse(text: &str) -> Option<Count> {
    let mut count = Count::default();
    let mut has_sum = false;
    for line in text.lines().map(str::trim) {
        if let Some((answers, _)) = line.split_once(" requests in ") {
            count.answers = answers.parse().ok()?;
            has_sum = true;
        } else if let Some(refused) = line.strip_prefix("Non-2xx or 3xx responses: ") {
            count.refused = refused.parse().ok()?;
        } else if let Some(errors) = line.strip_prefix("Socket errors: ") {
            let numbers = errors.split(|letter: char| !letter.is_ascii_digit());
            count.errors = numbers
                .filter_map(|number| number.parse::<u64>().ok())
                .sum();
        }
    }
    has_sum.then_some(count)
}

/// The scripts, written where wrk can read them.
#[derive(Debug)]
pub(crate) struct Scripts {
    pub(crate) pipelined: PathBuf,
    pub(crate) zipf: PathBuf,
}

impl Scripts {
    pub(crate) fn write(folder: &Path, depth: usize) -> Result<Self> {
        let write = |name: &str, text: String| {
            let path = folder.join(name);
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
                pipelined.replace("DEPTH", &depth.to_string()),
            )?,
            zipf: write("zipf.lua", zipf.replace("FILES", &MANY.to_string()))?,
        })
    }
}
