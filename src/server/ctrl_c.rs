//! Shutdown by Ctrl-C, for programs without signal handlers of their own.

use std::ffi::c_int;

use signal_hook::consts::signal::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use super::Server;
use super::handle::ServerHandle;
use crate::error::Error;

const HANDLE_SIGNALS: &str = "handle signals";

impl Server {
    /// Shuts the server down gracefully on SIGINT, which Ctrl-C sends, and on SIGTERM: responses in
    /// progress are finished, for at most [`Timeouts::drain`](crate::Timeouts::drain), and
    /// [`serve`](Self::serve) returns. A second signal ends the process at once.
    ///
    /// The signals are handled from now on, in the whole process and until it ends.
    ///
    /// ```no_run
    /// use tws::{Config, Request, Response, Server};
    ///
    /// # fn main() -> Result<(), tws::Error> {
    /// let hello = |_: &Request<'_>| Response::text("hello\n");
    /// Server::bind(Config::default())?.with_ctrl_c()?.serve(hello)?;
    /// println!("all responses are sent");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::System`] if a signal handler or a thread cannot be created.
    pub fn with_ctrl_c(self) -> Result<Self, Error> {
        shut_down_on(&[SIGINT, SIGTERM], self.handle())?;
        Ok(self)
    }
}

/// Starts a thread that waits for the signals.
fn shut_down_on(signals: &[c_int], server: ServerHandle) -> Result<(), Error> {
    let mut signals = Signals::new(signals).map_err(Error::system(HANDLE_SIGNALS))?;
    let thread = std::thread::Builder::new().name("signals".to_owned());
    let waiting = thread.spawn(move || {
        let mut received = signals.forever();
        if received.next().is_some() {
            server.shut_down();
        }
        if let Some(signal) = received.next() {
            // It fails for signals alone that do not exist.
            let _ = emulate_default_handler(signal);
        }
    });
    waiting.map(drop).map_err(Error::system(HANDLE_SIGNALS))
}

#[cfg(test)]
mod tests {
    use signal_hook::consts::signal::SIGUSR2;
    use signal_hook::low_level::raise;

    use super::*;
    use crate::config::Config;
    use crate::http::{Request, Response};

    /// With a signal that nothing else in this process uses.
    #[test]
    fn first_signal_shuts_the_server_down() {
        let server = Server::bind(Config::default().with_port(0)).expect("bind");
        shut_down_on(&[SIGUSR2], server.handle()).expect("handle signals");
        raise(SIGUSR2).expect("raise a signal");
        // It returns, whether the signal was handled before or after its start.
        let hello = |_: &Request<'_>| Response::text("hello\n");
        server.serve(hello).expect("serve");
    }
}
