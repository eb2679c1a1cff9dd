//! The command line, and the durations and repetitions that follow from it.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// Compare tws with other servers: CPU time per request, memory, latency
#[derive(Debug, Parser)]
#[command(bin_name = "cargo bench --bench comparison --")]
pub(crate) struct Arguments {
    /// Run only workloads whose name contains NAME
    #[arg(value_name = "NAME")]
    named: Vec<String>,

    /// The same as the positional NAME; may be repeated
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,

    /// Short runs, one round, four minutes in total: a smoke test
    #[arg(long)]
    quick: bool,

    /// Write comparison.md and the plots (comparison-*.svg) to DIRECTORY, and the figures into README.md beside it
    #[arg(long, value_name = "DIRECTORY")]
    pub(crate) write: Option<PathBuf>,

    /// The flag that cargo passes to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    pub(crate) fn parse() -> Self {
        <Self as Parser>::parse()
    }

    /// Returns the names given with and without `--only`.
    pub(crate) fn names(&self) -> Vec<&str> {
        let names = self.named.iter().chain(&self.only);
        names.map(String::as_str).collect()
    }

    pub(crate) fn plan(&self) -> Plan {
        if self.quick { Plan::QUICK } else { Plan::FULL }
    }

    /// Returns the command that reproduces the figures.
    pub(crate) fn command_line(&self) -> String {
        let mut line = "cargo bench --bench comparison".to_owned();
        let mut flags = Vec::new();
        flags.extend(self.quick.then(|| "--quick".to_owned()));
        flags.extend(self.names().iter().map(|name| format!("--only {name}")));
        let directory = self.write.as_ref();
        flags.extend(directory.map(|directory| format!("--write {}", directory.display())));
        if !flags.is_empty() {
            line = format!("{line} -- {}", flags.join(" "));
        }
        line
    }
}

/// How often and for how long each workload is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Pairs of measurements per workload and server.
    pub(crate) rounds: usize,
    /// The same for workloads whose measurement takes milliseconds.
    pub(crate) short_rounds: usize,
    /// The duration of one measurement of CPU time.
    pub(crate) load: Duration,
    /// The duration of one measurement of latencies.
    pub(crate) probe: Duration,
    /// The number of idle connections held open.
    pub(crate) idle: usize,
    seconds_per_workload: u64,
}

impl Plan {
    const FULL: Self = Self {
        rounds: 3,
        short_rounds: 9,
        load: Duration::from_secs(1),
        probe: Duration::from_secs(2),
        idle: 15_000,
        seconds_per_workload: 38,
    };
    const QUICK: Self = Self {
        rounds: 1,
        short_rounds: 3,
        load: Duration::from_millis(250),
        probe: Duration::from_millis(700),
        idle: 4_000,
        seconds_per_workload: 7,
    };

    /// Estimates the total duration with all servers installed.
    pub(crate) fn estimate(self, workloads: usize) -> String {
        let seconds = self.seconds_per_workload * workloads as u64;
        let duration = match seconds {
            0..90 => format!("{seconds} seconds"),
            _ => format!("{} minutes", seconds.div_ceil(60)),
        };
        match self.rounds {
            1 => format!("at most {duration}"),
            _ => format!("about {duration}"),
        }
    }

    /// Describes how significant the figures are.
    pub(crate) fn significance(self) -> String {
        match self.rounds {
            1 => "One short pair of measurements each: figures are not significant.".to_owned(),
            rounds => format!("{rounds} pairs of measurements each."),
        }
    }
}
