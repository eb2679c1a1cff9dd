//! A child process that ends with its test.

use std::ops::{Deref, DerefMut};
use std::process::{Child, Command, ExitStatus};

use rustix::process::{Pid, Signal, kill_process};

use super::eventually;

/// Settings of `tws` in tests. They send whatever Host they like, and on a slow machine their clients
/// pause for longer than the default timeouts allow.
const VARIABLES: [(&str, &str); 4] = [
    ("TWS_HOST_NAME", "*"),
    ("TWS_DRAIN_TIMEOUT", "3600"),
    ("TWS_KEEP_ALIVE_TIMEOUT", "3600"),
    ("TWS_MIN_RATE", "0"),
];

/// A child process; it is killed when this is dropped.
pub(crate) struct ChildProcess(Child);

impl ChildProcess {
    /// Starts it with [`VARIABLES`], unless the command sets or removes them itself.
    pub(crate) fn start(command: &mut Command) -> Self {
        for (variable, value) in VARIABLES {
            if command.get_envs().all(|(name, _)| name != variable) {
                command.env(variable, value);
            }
        }
        let started = command.spawn();
        let program = command.get_program().to_string_lossy();
        Self(started.unwrap_or_else(|error| panic!("{program}: {error}")))
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(&self.0)
    }

    /// Waits for the process to exit by itself.
    #[track_caller]
    pub(crate) fn wait_for_exit(&mut self) -> ExitStatus {
        let mut status = None;
        eventually!(|| {
            status = self.try_wait().expect("query child process");
            status.is_some()
        });
        status.expect("exit status")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("signal process");
    }
}

impl Deref for ChildProcess {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl DerefMut for ChildProcess {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.0
    }
}

impl Drop for ChildProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
