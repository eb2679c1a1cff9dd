//! A server in this process.

use std::net::SocketAddr;
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use tws::{Config, Error, Handler, Server, ServerHandle, StaticFiles, Timeouts};

use super::{Client, eventually};

/// A server on a free port of this machine; it shuts down when it is dropped.
pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) handle: ServerHandle,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl TestServer {
    pub(crate) fn start(handler: impl Handler + 'static) -> Self {
        Self::configured(handler, |_| {})
    }

    pub(crate) fn configured(
        handler: impl Handler + 'static,
        change: impl FnOnce(&mut Config),
    ) -> Self {
        Self::with(handler, change, |server| server)
    }

    pub(crate) fn with(
        handler: impl Handler + 'static,
        change: impl FnOnce(&mut Config),
        finish: impl FnOnce(Server) -> Server,
    ) -> Self {
        let mut config = Config::default();
        config.port = 0;
        wait_for_clients(&mut config.timeouts);
        change(&mut config);
        let server = finish(Server::bind(config).expect("bind server"));
        let handle = server.handle();
        Self {
            address: handle.local_addresses()[0],
            handle,
            thread: Some(std::thread::spawn(move || server.serve(handler))),
        }
    }

    /// Serves a folder.
    pub(crate) fn of(folder: &Path) -> Self {
        Self::start(StaticFiles::new(folder).expect("open site root"))
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.address)
    }

    /// Waits until the server has ended, and asserts that it reported no error.
    pub(crate) fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            eventually!(|| thread.is_finished());
            let result = thread.join().expect("thread does not panic");
            result.expect("server ends without an error");
        }
    }
}

/// Makes a server wait for its clients for longer than any test takes: on a slow machine the client
/// of a test pauses for longer than the default timeouts allow. Tests of timeouts set their own.
fn wait_for_clients(timeouts: &mut Timeouts) {
    const LONG: Duration = Duration::from_secs(3600);
    timeouts.header = LONG;
    timeouts.body = LONG;
    timeouts.send = LONG;
    timeouts.min_rate_grace = LONG;
    timeouts.keep_alive = LONG;
    timeouts.keep_alive_h2 = LONG;
    timeouts.drain = LONG;
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.handle.shut_down();
        if !std::thread::panicking() {
            self.join();
        }
    }
}
