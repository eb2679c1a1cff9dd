//! Signals and what each does. One thread waits for them.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;
use tws::access_log::Reopener;
use tws::{Error, ServerHandle};

use super::reload::Reload;
use super::systemd::Supervisor;
use super::upgrade::Upgrade;

const HANDLE_SIGNALS: &str = "handle signals";

/// Registers the signals: from now on they are queued for [`SignalHandlers::spawn`].
pub(crate) fn register() -> Result<Signals, Error> {
    let signals = Signals::new([SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2]);
    signals.map_err(Error::system(HANDLE_SIGNALS))
}

/// What the signals act on.
pub(crate) struct SignalHandlers {
    /// SIGHUP reloads the settings. If it announces that the terminal is gone in which the process
    /// was started, it shuts down as SIGTERM does.
    pub(crate) reload: Reload,
    /// SIGUSR1 reopens the files of the access log.
    pub(crate) reopener: Option<Reopener>,
    /// SIGUSR2 starts the program file as it is now, and shuts this process down once the new one
    /// serves.
    pub(crate) upgrade: Upgrade,
    /// SIGINT and SIGTERM shut these down gracefully, after the drain delay, in which load balancers
    /// can notice. The second such signal ends the process at once.
    pub(crate) servers: Vec<ServerHandle>,
    /// Notified of the shutdown.
    pub(crate) supervisor: Supervisor,
    /// Set when a signal ends the process, and no other process continues to serve.
    pub(crate) is_ended: Arc<AtomicBool>,
}

impl SignalHandlers {
    /// Starts the thread that handles the signals.
    pub(crate) fn spawn(self, signals: Signals) -> Result<(), Error> {
        let thread = std::thread::Builder::new().name("signals".to_owned());
        let thread = thread.spawn(move || self.run(signals));
        thread.map(drop).map_err(Error::system(HANDLE_SIGNALS))
    }

    fn run(self, mut signals: Signals) {
        let had_terminal = io::stdin().is_terminal();
        let mut is_shutting_down = false;
        for signal in &mut signals {
            let has_lost_terminal = had_terminal && !io::stdin().is_terminal();
            match signal {
                SIGHUP if !has_lost_terminal => self.reload.begin(),
                SIGUSR1 => {
                    if let Some(reopener) = &self.reopener {
                        reopener.reopen();
                    }
                }
                SIGUSR2 => self.upgrade.begin(self.reload.check_of_files()),
                _ if !is_shutting_down => {
                    is_shutting_down = true;
                    self.shut_down();
                }
                _ => {
                    #[cfg(feature = "tui")]
                    crate::terminal::tui::restore_terminal();
                    std::process::exit(1)
                }
            }
        }
    }

    fn shut_down(&self) {
        log::info!("shutdown: finishing responses in progress; a second signal exits at once");
        self.is_ended.store(true, Ordering::Relaxed);
        self.upgrade.cancel();
        self.supervisor.notify_stopping();
        let delay = self.reload.drain_delay();
        for server in &self.servers {
            server.shut_down_after(delay);
        }
    }
}
