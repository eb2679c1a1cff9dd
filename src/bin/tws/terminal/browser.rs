//! `--open`: the browser that the desktop prefers, as a process of its own that outlives the server.
//! It is started before the sandbox is entered, for the sandbox would be its own, too.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Stdio};
use std::thread;

use tws::Error;

/// What was asked to open an address.
pub(crate) struct Browser {
    url: String,
    launcher: io::Result<Child>,
}

impl Browser {
    /// Asks for `url` to be opened, and waits for nothing. What becomes of it, [`watch`](Self::watch)
    /// says.
    pub(crate) fn open(url: String) -> Self {
        let mut launcher = Err(io::ErrorKind::NotFound.into());
        for mut command in open::commands(&url) {
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                // Ctrl-C is meant for the server.
                .process_group(0);
            launcher = command.spawn();
            if launcher.is_ok() {
                break;
            }
        }
        Self { url, launcher }
    }

    /// Warns if it comes to nothing, and leaves no dead process behind. That is a thread's work.
    pub(crate) fn watch(self) -> Result<(), Error> {
        let Self { url, launcher } = self;
        let warn = move |why: &str| log::warn!("--open: {why}; open {url} yourself");
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
