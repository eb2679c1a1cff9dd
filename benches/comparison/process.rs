//! Child processes: their start on an assigned core, their end with the bench, their CPU time and
//! memory.

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
use crate::cleanup::{self, CleanupGuard};

/// The core that a process runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CoreRole {
    Server,
    Client,
}

/// The cores for servers and for clients, one each.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CoreAssignment {
    server: usize,
    client: usize,
}

impl CoreAssignment {
    /// Takes the first two cores that this process may run on.
    pub(crate) fn detect() -> Result<Self> {
        let allowed = sched_getaffinity(None).map_err(|error| format!("CPU affinity: {error}"))?;
        let mut allowed = (0..CpuSet::MAX_CPU).filter(|&cpu| allowed.is_set(cpu));
        match (allowed.next(), allowed.next()) {
            (Some(server), Some(client)) => Ok(Self { server, client }),
            _ => Err("needs two cores, one for the server and one for the client".to_owned()),
        }
    }

    /// Pins the current thread, and the processes that it starts afterwards, to a core.
    pub(crate) fn pin(self, role: CoreRole) -> Result<()> {
        let mut set = CpuSet::new();
        set.set(match role {
            CoreRole::Server => self.server,
            CoreRole::Client => self.client,
        });
        sched_setaffinity(None, &set).map_err(|error| format!("CPU affinity: {error}"))
    }
}

/// A process and its process group, which is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    pid: Pid,
    child: Arc<Mutex<std::process::Child>>,
    _cleanup: CleanupGuard,
}

impl Process {
    /// Starts `command` as the leader of a new process group, so that a server's workers can be
    /// killed with it, and Ctrl-C in the terminal sends SIGINT to the bench only.
    pub(crate) fn start(
        command: &mut Command,
        cores: CoreAssignment,
        role: CoreRole,
    ) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let spawn = || {
            // A child process inherits the CPU affinity of the thread that starts it.
            cores.pin(role)?;
            let spawned = command.stdin(Stdio::null()).process_group(0).spawn();
            cores.pin(CoreRole::Client)?;
            let child = spawned.map_err(|error| format!("{name}: cannot start: {error}"))?;
            let pid = Pid::from_child(&child);
            let child = Arc::new(Mutex::new(child));
            let owned = Arc::clone(&child);
            let end = move || {
                // The leader has not been waited for yet, so its process id cannot have been
                // reused.
                let _ = kill_process_group(pid, Signal::KILL);
                let _ = owned.lock().unwrap_or_else(PoisonError::into_inner).wait();
            };
            Ok(((pid, child), end))
        };
        let ((pid, child), cleanup) = cleanup::acquire(spawn)?;
        Ok(Self {
            pid,
            child,
            _cleanup: cleanup,
        })
    }

    /// Returns whether the process has exited. It remains a zombie until the cleanup.
    pub(crate) fn has_exited(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        !matches!(waitid(WaitId::Pid(self.pid), options), Ok(None))
    }

    /// Waits until the process has exited; fails after `limit`.
    pub(crate) fn wait_for(&self, limit: Duration) -> Result<()> {
        let deadline = Instant::now() + limit;
        while !self.has_exited() {
            if Instant::now() > deadline {
                return Err(format!(
                    "process {:?}: did not exit within {} s",
                    self.pid,
                    limit.as_secs()
                ));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    /// Sends SIGINT.
    pub(crate) fn interrupt(&self) {
        let _ = kill_process(self.pid, Signal::INT);
    }

    /// Returns what an exited process has printed. The output must fit into the pipe.
    pub(crate) fn output(self) -> Result<String> {
        let mut text = String::new();
        if let Some(mut stdout) = self.stdout() {
            std::io::Read::read_to_string(&mut stdout, &mut text)
                .map_err(|error| format!("cannot read its output: {error}"))?;
        }
        Ok(text)
    }

    /// Takes the pipe of stdout; `None` if stdout is not piped, or if the pipe was taken before.
    pub(crate) fn stdout(&self) -> Option<std::process::ChildStdout> {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        child.stdout.take()
    }

    /// Returns the ids of the processes in its group: a server's master, workers and helpers.
    pub(crate) fn members(&self) -> Vec<i32> {
        let group = self.pid.as_raw_nonzero().get();
        let Ok(entries) = fs::read_dir("/proc") else {
            return vec![group];
        };
        let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        pids.filter(|&pid| ProcStat::of(pid).is_some_and(|stat| stat.group == group))
            .collect()
    }

    /// Returns the CPU time that its group has used so far.
    pub(crate) fn cpu_time(&self) -> CpuTime {
        let members = self.members();
        let stats = members.iter().filter_map(|&pid| ProcStat::of(pid));
        CpuTime {
            ticks: stats.map(|stat| stat.ticks).sum(),
            threads: members.iter().flat_map(|&pid| threads(pid)).collect(),
        }
    }

    /// Returns its anonymous memory in bytes (RssAnon): neither mapped files nor shared memory nor
    /// kernel memory.
    pub(crate) fn private_memory(&self) -> u64 {
        self.members().into_iter().map(private_memory).sum()
    }
}

/// The CPU time that a process group has used up to a point in time.
#[derive(Debug)]
pub(crate) struct CpuTime {
    /// Nanoseconds of each running thread, by thread id.
    threads: HashMap<u64, u64>,
    /// Clock ticks (usually 10 ms) of all threads, those that have ended included.
    ticks: u64,
}

impl CpuTime {
    /// Returns the nanoseconds used since `before`.
    pub(crate) fn since(&self, before: &Self) -> f64 {
        let used = |(thread, now): (&u64, &u64)| {
            let earlier = before.threads.get(thread).copied().unwrap_or(0);
            now.saturating_sub(earlier)
        };
        let exact: u64 = self.threads.iter().map(used).sum();
        // Threads that have ended are counted in the ticks only. The difference of two tick counts
        // may be too great by up to two ticks.
        let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second();
        let coarse = (self.ticks - before.ticks).saturating_sub(2) * tick;
        exact.max(coarse) as f64
    }
}

/// The fields of `/proc/PID/stat` that are used here.
struct ProcStat {
    group: i32,
    ticks: u64,
}

impl ProcStat {
    /// Reads `/proc/PID/stat`. The program name in parentheses may contain any byte, so the fields
    /// are counted from the last parenthesis on.
    fn of(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let (_, fields) = text.rsplit_once(')')?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse::<u64>().ok();
        Some(Self {
            group: fields.get(2)?.parse().ok()?,
            ticks: number(11)? + number(12)?,
        })
    }
}

/// Returns the id and the CPU time in nanoseconds of each thread.
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

fn private_memory(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"));
    let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok());
    kilobytes.unwrap_or(0u64) * 1024
}

/// Raises the soft limit of open files to the hard limit. Servers inherit it.
pub(crate) fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // If this fails, the workload that needs more descriptors reports an error.
    let _ = setrlimit(Resource::Nofile, raised);
}

/// Returns the soft limit of open files.
pub(crate) fn descriptor_limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
