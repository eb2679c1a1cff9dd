//! Processes that end with the bench, on the core they belong to, and what they cost.

use std::collections::HashMap;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Resource, Rlimit, Signal, WaitId, WaitIdOptions, getrlimit, kill_process,
    kill_process_group, setrlimit, waitid,
};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::Result;
use crate::cleanup::{self, Undo};

/// Where a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Core {
    Server,
    Client,
}

/// The cores for servers and for clients: one each, if the machine has two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cores {
    server: usize,
    client: usize,
}

impl Cores {
    pub(crate) fn of_this_machine() -> Result<Self> {
        let allowed = sched_getaffinity(None).map_err(|error| format!("no cores: {error}"))?;
        let mut allowed = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
        match (allowed.next(), allowed.next()) {
            (Some(server), Some(client)) => Ok(Self { server, client }),
            _ => Err("two cores are needed, one for the server and one for the client".to_owned()),
        }
    }

    /// Pins this thread, and with it what it starts from now on.
    pub(crate) fn move_to(self, core: Core) -> Result<()> {
        let mut set = CpuSet::new();
        set.set(match core {
            Core::Server => self.server,
            Core::Client => self.client,
        });
        sched_setaffinity(None, &set).map_err(|error| format!("cannot be pinned: {error}"))
    }
}

/// A process and its descendants, killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    child: Arc<Mutex<std::process::Child>>,
    _undo: Undo,
}

impl Process {
    /// Starts `command` as the leader of a process group: a server's workers end with it, and
    /// Ctrl-C at the terminal reaches the bench alone.
    pub(crate) fn start(command: &mut Command, cores: Cores, core: Core) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let spawn = || {
            // A child inherits the core of the thread that starts it.
            cores.move_to(core)?;
            let spawned = command.stdin(Stdio::null()).process_group(0).spawn();
            cores.move_to(Core::Client)?;
            let child = spawned.map_err(|error| format!("{name} does not start: {error}"))?;
            let pid = Pid::from_child(&child);
            let child = Arc::new(Mutex::new(child));
            let owned = Arc::clone(&child);
            let end = move || {
                // The number is still the group's: nobody has waited for its leader yet.
                let _ = kill_process_group(pid, Signal::KILL);
                let _ = owned.lock().unwrap_or_else(PoisonError::into_inner).wait();
            };
            Ok(((pid, child), end))
        };
        let ((pid, child), undo) = cleanup::make(spawn)?;
        Ok(Self {
            pid,
            child,
            _undo: undo,
        })
    }

    pub(crate) fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(self.pid), options), Ok(None))
    }

    pub(crate) fn wait_for(&self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !self.has_ended() {
            if Instant::now() > deadline {
                return Err(format!("process {:?} does not end", self.pid));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    pub(crate) fn interrupt(&self) {
        let _ = kill_process(self.pid, Signal::INT);
    }

    /// What it printed until its end; for processes whose output is short.
    pub(crate) fn output(self) -> Result<String> {
        let mut text = String::new();
        if let Some(mut stdout) = self.stdout() {
            std::io::Read::read_to_string(&mut stdout, &mut text)
                .map_err(|error| format!("its output cannot be read: {error}"))?;
        }
        Ok(text)
    }

    pub(crate) fn stdout(&self) -> Option<std::process::ChildStdout> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.stdout.take()
    }

    /// The processes of its group: a server's master, workers and helpers.
    pub(crate) fn members(&self) -> Vec<i32> {
        let group = self.pid.as_raw_nonzero().get();
        let Ok(entries) = fs::read_dir("/proc") else {
            return vec![group];
        };
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter(|&pid| Stat::of(pid).is_some_and(|stat| stat.group == group))
            .collect()
    }

    pub(crate) fn cpu_time(&self) -> CpuTime {
        let members = self.members();
        let stats = members.iter().filter_map(|&pid| Stat::of(pid));
        CpuTime {
            ticks: stats.map(|stat| stat.ticks).sum(),
            threads: members.iter().flat_map(|&pid| threads(pid)).collect(),
        }
    }

    /// Bytes of memory that are its own: no files, nothing shared, nothing of the kernel's.
    pub(crate) fn own_memory(&self) -> u64 {
        self.members().into_iter().map(own_memory).sum()
    }
}

/// CPU time so far.
#[derive(Debug)]
pub(crate) struct CpuTime {
    /// Nanoseconds of each living thread.
    threads: HashMap<u64, u64>,
    /// Of all threads that ever were, but coarse.
    ticks: u64,
}

impl CpuTime {
    /// Nanoseconds between `before` and this.
    pub(crate) fn since(&self, before: &Self) -> f64 {
        let spent = |(thread, now): (&u64, &u64)| {
            let then = before.threads.get(thread).copied().unwrap_or(0);
            now.saturating_sub(then)
        };
        let exact: u64 = self.threads.iter().map(spent).sum();
        // Threads that have ended are in the ticks only. A measurement is off by up to two of them.
        let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second();
        let coarse = (self.ticks - before.ticks).saturating_sub(2) * tick;
        exact.max(coarse) as f64
    }
}

struct Stat {
    group: i32,
    ticks: u64,
}

impl Stat {
    /// From `/proc/PID/stat`; the name in it may contain anything, so read behind its end.
    fn of(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, behind) = text.rsplit_once(')')?;
        let fields: Vec<&str> = behind.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            group: fields.get(2)?.parse().ok()?,
            ticks: number(11)? + number(12)?,
        })
    }
}

fn threads(pid: i32) -> Vec<(u64, u64)> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let time = |entry: fs::DirEntry| {
        let thread = entry.file_name().to_str()?.parse().ok()?;
        let text = fs::read_to_string(entry.path().join("schedstat")).ok()?;
        let on_cpu = text.split_whitespace().next()?.parse().ok()?;
        Some((thread, on_cpu))
    };
    entries.filter_map(|entry| time(entry.ok()?)).collect()
}

fn own_memory(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    kilobytes.unwrap_or(0u64) * 1024
}

/// Servers inherit it.
pub(crate) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // If it stays low, the work that needs more says so.
    let _ = setrlimit(Resource::Nofile, raised);
}

pub(crate) fn descriptor_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
