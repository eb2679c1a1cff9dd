//! `--open`: the default browser of the desktop, as a process of its own that outlives the server. It is
//! started before the sandbox is entered, since it would inherit the sandbox.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::thread;

use tws::Error;

/// The program that opens a URL in a browser.
pub(crate) struct Browser {
    url: String,
    launcher: io::Result<Child>,
}

impl Browser {
    /// Starts the program and does not wait for it. [`watch`](Self::watch) reports errors.
    pub(crate) fn open(url: String) -> Self {
        let mut launcher = Err(io::ErrorKind::NotFound.into());
        for mut command in open::commands(&url) {
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                // Not in the process group of the terminal: Ctrl-C must only reach the server.
                .process_group(0);
            launcher = command.spawn();
            if launcher.is_ok() {
                break;
            }
        }
        Self { url, launcher }
    }

    /// Starts a thread that waits for the program, so that no zombie remains, and warns if it fails.
    pub(crate) fn watch(self) -> Result<(), Error> {
        let Self { url, launcher } = self;
        let warn = move |cause: &str| log::warn!("--open: {cause}; open {url} yourself");
        let mut launcher = match launcher {
            Ok(launcher) => launcher,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                warn("no xdg-open or similar program is installed");
                return Ok(());
            }
            Err(error) => {
                warn(&format!("cannot start a browser ({error})"));
                return Ok(());
            }
        };
        let wait = move || match launcher.wait() {
            Ok(status) if !status.success() => warn("no browser could be opened"),
            _ => {}
        };
        thread::Builder::new()
            .name("browser".to_owned())
            .spawn(wait)
            .map(|_| ())
            .map_err(|source| Error::System {
                doing: "wait for the browser",
                source,
            })
    }
}
