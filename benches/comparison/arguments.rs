//! What was typed, and how long everything takes because of it.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// tws beside other servers: CPU time per request, memory, latency
#[derive(Debug, Parser)]
#[command(bin_name = "cargo bench --bench comparison --")]
pub(crate) struct Arguments {
    /// Only works whose name contains NAME
    #[arg(value_name = "NAME")]
    named: Vec<String>,

    /// The same; may be repeated
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,

    /// Short runs and one round, in two minutes: shows that it works, says little
    #[arg(long)]
    quick: bool,

    /// Write comparison.md, comparison-cpu.svg and comparison-latency.svg there
    #[arg(long, value_name = "FOLDER")]
    pub(crate) write: Option<PathBuf>,

    /// What cargo says to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    pub(crate) fn parse() -> Self {
        <Self as Parser>::parse()
    }

    pub(crate) fn names(&self) -> Vec<&str> {
        let names = self.named.iter().chain(&self.only);
        names.map(String::as_str).collect()
    }

    pub(crate) fn plan(&self) -> Plan {
        match self.quick {
            true => Plan::QUICK,
            false => Plan::FULL,
        }
    }

    /// What reproduces the figures.
    pub(crate) fn command_line(&self) -> String {
        let mut line = "cargo bench --bench comparison".to_owned();
        let mut flags = Vec::new();
        flags.extend(self.quick.then(|| "--quick".to_owned()));
        flags.extend(self.names().iter().map(|name| format!("--only {name}")));
        let folder = self.write.as_ref();
        flags.extend(folder.map(|folder| format!("--write {}", folder.display())));
        if !flags.is_empty() {
            line = format!("{line} -- {}", flags.join(" "));
        }
        line
    }
}

/// How often and how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// Pairs of each work.
    pub(crate) rounds: usize,
    /// Pairs of works that are over in milliseconds.
    pub(crate) short_rounds: usize,
    /// One measurement under load.
    pub(crate) load: Duration,
    /// One measurement of latencies.
    pub(crate) probe: Duration,
    /// Idle connections held.
    pub(crate) idle: usize,
    seconds_per_work: u64,
}

impl Plan {
    const FULL: Self = Self {
        rounds: 3,
        short_rounds: 9,
        load: Duration::from_secs(2),
        probe: Duration::from_secs(3),
        idle: 15_000,
        seconds_per_work: 55,
    };
    const QUICK: Self = Self {
        rounds: 1,
        short_rounds: 3,
        load: Duration::from_millis(350),
        probe: Duration::from_millis(700),
        idle: 4_000,
        seconds_per_work: 7,
    };

    /// How long it lasts with all peers installed.
    pub(crate) fn announcement(self, works: usize) -> String {
        let seconds = self.seconds_per_work * works as u64;
        let duration = match seconds {
            0..90 => format!("{seconds} seconds"),
            _ => format!("{} minutes", seconds.div_ceil(60)),
        };
        match self.rounds {
            1 => format!("at most {duration}"),
            _ => format!("about {duration}"),
        }
    }

    /// How much the figures are worth.
    pub(crate) fn worth(self) -> String {
        match self.rounds {
            1 => "One short pair of each: not to be quoted.".to_owned(),
            rounds => format!("{rounds} pairs of each."),
        }
    }
}
