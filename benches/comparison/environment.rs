//! The machine and who is there: a figure without them says nothing.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::Result;
use crate::process::Cores;
use crate::servers::Server;

#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) cores: Cores,
    cpu: String,
    kernel: String,
    /// Installed servers with their versions.
    pub(crate) peers: Vec<(Server, String)>,
    missing: Vec<String>,
    pub(crate) wrk: Option<PathBuf>,
    /// A command that gives what follows it real-time priority, where that is allowed.
    pub(crate) real_time: Option<PathBuf>,
}

pub(crate) fn gather() -> Result<Facts> {
    let mut facts = Facts {
        cores: Cores::of_this_machine()?,
        cpu: cpu(),
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default(),
        peers: Vec::new(),
        missing: Vec::new(),
        wrk: program("wrk"),
        real_time: program("chrt").filter(|chrt| {
            let mut try_it = Command::new(chrt);
            try_it.args(["-f", "10", "true"]).stderr(Stdio::null());
            try_it.status().is_ok_and(|status| status.success())
        }),
    };
    for peer in Server::PEERS {
        match peer.version() {
            Some(version) => facts.peers.push((peer, version)),
            None => facts.missing.push(peer.name().to_owned()),
        }
    }
    if facts.wrk.is_none() {
        facts.missing.push("wrk".to_owned());
    }
    if facts.real_time.is_none() {
        let text = "real-time priority for the probe (chrt), so latencies shake";
        facts.missing.push(text.to_owned());
    }
    Ok(facts)
}

impl Facts {
    pub(crate) fn has(&self, server: Server) -> bool {
        !Server::PEERS.contains(&server) || self.peers.iter().any(|(peer, _)| *peer == server)
    }

    pub(crate) fn text(&self) -> String {
        let tws = format!("tws {}", env!("CARGO_PKG_VERSION"));
        let versions = self.peers.iter().map(|(_, version)| version.clone());
        let versions: Vec<String> = std::iter::once(tws).chain(versions).collect();
        let missing = match self.missing.is_empty() {
            true => "nothing".to_owned(),
            false => self.missing.join(", "),
        };
        format!(
            "{}, one core for the server and one for the client; Linux {}\n{}\nNot installed here, so not compared: {missing}.",
            self.cpu,
            self.kernel.trim(),
            versions.join(", ")
        )
    }
}

fn cpu() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(": "));
    name.map_or("unknown processor", |(_, name)| name)
        .to_owned()
}

/// Where a program lies; servers are often not in a user's `PATH`.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    let folders = env::split_paths(&path).chain(usual);
    let mut places = folders.map(|folder| folder.join(name));
    places.find(|place| is_program(place))
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
}

/// The first line that a program prints, on either stream.
pub(crate) fn first_line(program: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new(program).args(args).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines().next().map(str::to_owned)
}
