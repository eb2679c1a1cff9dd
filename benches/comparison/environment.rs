//! The machine and the installed programs. Figures are printed together with them.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::Result;
use crate::process::CoreAssignment;
use crate::programs::program;
use crate::servers::ServerKind;

/// The hardware, the kernel and the programs that this run uses.
#[derive(Debug)]
pub(crate) struct Environment {
    pub(crate) cores: CoreAssignment,
    cpu: String,
    kernel: String,
    /// The installed servers other than tws, with their versions.
    pub(crate) others: Vec<(ServerKind, String)>,
    missing: Vec<String>,
    pub(crate) wrk: Option<PathBuf>,
    pub(crate) h2load: Option<PathBuf>,
    /// `chrt`, if this user may give a process real-time priority.
    pub(crate) chrt: Option<PathBuf>,
}

impl Environment {
    /// Inspects the machine. Fails if it has fewer than two cores.
    pub(crate) fn detect() -> Result<Self> {
        let mut environment = Self {
            cores: CoreAssignment::detect()?,
            cpu: cpu_model(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default(),
            others: Vec::new(),
            missing: Vec::new(),
            wrk: program("wrk"),
            h2load: program("h2load"),
            chrt: program("chrt").filter(|chrt| {
                let mut attempt = Command::new(chrt);
                attempt.args(["-f", "10", "true"]).stderr(Stdio::null());
                attempt.status().is_ok_and(|status| status.success())
            }),
        };
        for server in ServerKind::OTHERS {
            match server.version() {
                Some(version) => environment.others.push((server, version)),
                None => environment.missing.push(server.name().to_owned()),
            }
        }
        for (program, name) in [(&environment.wrk, "wrk"), (&environment.h2load, "h2load")] {
            if program.is_none() {
                environment.missing.push(name.to_owned());
            }
        }
        if environment.chrt.is_none() {
            let text = "real-time priority for the latency probe (chrt), so latencies are noisy";
            environment.missing.push(text.to_owned());
        }
        Ok(environment)
    }

    /// Returns whether `server` can be measured: it is part of this package, or it is installed.
    pub(crate) fn has(&self, server: ServerKind) -> bool {
        !ServerKind::OTHERS.contains(&server)
            || self.others.iter().any(|(other, _)| *other == server)
    }

    /// Describes the environment in three lines.
    pub(crate) fn text(&self) -> String {
        let missing = if self.missing.is_empty() {
            "nothing".to_owned()
        } else {
            self.missing.join(", ")
        };
        format!(
            "{}, one core for the server and one for the client; Linux {}\n{}\nNot installed, so not compared: {missing}.",
            self.cpu,
            self.kernel.trim(),
            self.versions()
        )
    }

    /// Returns the names and versions of all servers.
    pub(crate) fn versions(&self) -> String {
        let tws = format!("tws {}", env!("CARGO_PKG_VERSION"));
        let versions = self.others.iter().map(|(_, version)| version.clone());
        let versions: Vec<String> = std::iter::once(tws).chain(versions).collect();
        versions.join(", ")
    }
}

fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(": "));
    name.map_or("unknown processor", |(_, name)| name)
        .to_owned()
}
