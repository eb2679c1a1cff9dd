//! Signals, and what each is for. One thread waits for them.

use std::io::IsTerminal;

use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use tws::access_log::Reopener;
use tws::{Error, ServerHandle};

use super::reload::Reload;
use super::systemd::Supervisor;
use super::upgrade::Upgrade;

/// From now on they wait for whoever watches.
pub(crate) fn catch() -> Result<Signals, Error> {
    let signals = Signals::new([SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2]);
    signals.map_err(failed)
}

/// What they are for.
pub(crate) struct Heeded {
    /// SIGHUP reads the settings anew, and ends what was started in a terminal that is gone.
    pub(crate) reload: Reload,
    /// SIGUSR1 opens the files of the access log anew.
    pub(crate) reopener: Option<Reopener>,
    /// SIGUSR2 starts the program anew, as it is on the disk now, and ends when the new process
    /// serves.
    pub(crate) upgrade: Upgrade,
    /// Ctrl-C and SIGTERM end gracefully, after a while in which load balancers can notice; a second
    /// one at once.
    pub(crate) ends: Vec<ServerHandle>,
    /// It is told of the end.
    pub(crate) supervisor: Supervisor,
}

impl Heeded {
    /// Starts the thread that heeds them.
    pub(crate) fn heed(self, signals: Signals) -> Result<(), Error> {
        let thread = std::thread::Builder::new().name("signals".to_owned());
        let thread = thread.spawn(move || self.watch(signals));
        thread.map(|_| ()).map_err(failed)
    }

    fn watch(self, mut signals: Signals) {
        let had_terminal = std::io::stdin().is_terminal();
        let mut ends = 0;
        for signal in &mut signals {
            let is_hangup = had_terminal && !std::io::stdin().is_terminal();
            match (signal, ends) {
                (SIGHUP, _) if !is_hangup => self.reload.begin(),
                (SIGUSR1, _) => {
                    if let Some(reopener) = &self.reopener {
                        reopener.reopen();
                    }
                }
                (SIGUSR2, _) => self.upgrade.begin(),
                (_, 0) => {
                    ends = 1;
                    log::info!(
                        "shutdown: finishing responses in progress; a second signal exits at once"
                    );
                    self.upgrade.give_up();
                    self.supervisor.ends();
                    let delay = self.reload.drain_delay();
                    for server in &self.ends {
                        server.shut_down_after(delay);
                    }
                }
                _ => {
                    #[cfg(feature = "tui")]
                    crate::terminal::tui::restore_terminal();
                    std::process::exit(1)
                }
            }
        }
    }
}

fn failed(source: std::io::Error) -> Error {
    Error::System {
        doing: "handle signals",
        source,
    }
}
