//! SIGHUP: the settings are read anew while the server serves. Flags and environment are what they
//! were, so it is the file that has changed, or the passwords, or a certificate. What is new is made
//! first and exchanged then: a file with a mistake changes nothing, and the log says what is wrong.
//!
//! Some settings are those of the process, which has given up what it would need to change them. If
//! they differ the log says so; the program can be started anew (SIGUSR2) or restarted.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use tws::site::Symlinks;
use tws::{Error, Server, ServerHandle, StaticFiles};

use super::systemd::Supervisor;
use crate::cli::{Encryption, RawArgs, Settings};
use crate::confinement::sandbox::Confinement;
use crate::services::app::App;
use crate::services::https_redirect::RedirectHandle;
use crate::services::tls::{self, Tls};
use crate::users::UserStore;

/// Reads the settings anew when it is told to.
pub(crate) struct Reload {
    shared: Arc<Shared>,
}

struct Shared {
    words: RawArgs,
    /// What the process was started with.
    began: Settings,
    users: Option<Arc<UserStore>>,
    confinement: Confinement,
    handle: ServerHandle,
    redirect: Option<RedirectHandle>,
    /// Those that are served, for whoever tells of them.
    files: Arc<Mutex<StaticFiles>>,
    tls: Option<Tls>,
    supervisor: Supervisor,
    drain_delay: Mutex<Duration>,
    /// One at a time.
    turn: Mutex<()>,
    /// Somebody waits for their turn, and will see what is in the file then.
    waiting: AtomicBool,
}

impl Reload {
    pub(crate) fn new(
        words: RawArgs,
        began: Settings,
        users: Option<Arc<UserStore>>,
        confinement: Confinement,
        (handle, redirect): (ServerHandle, Option<RedirectHandle>),
        (files, tls): (Arc<Mutex<StaticFiles>>, Option<Tls>),
        supervisor: Supervisor,
    ) -> Self {
        let shared = Shared {
            drain_delay: Mutex::new(began.drain_delay),
            words,
            began,
            users,
            confinement,
            handle,
            redirect,
            files,
            tls,
            supervisor,
            turn: Mutex::new(()),
            waiting: AtomicBool::new(false),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// How long an end is to be announced before it comes.
    pub(crate) fn drain_delay(&self) -> Duration {
        *self.shared.drain_delay()
    }

    /// Does not wait for it.
    pub(crate) fn begin(&self) {
        if self.shared.waiting.swap(true, Ordering::AcqRel) {
            return;
        }
        let shared = Arc::clone(&self.shared);
        let thread = thread::Builder::new().name("reload".to_owned());
        if let Err(error) = thread.spawn(move || shared.run()) {
            self.shared.waiting.store(false, Ordering::Release);
            log::error!("reload: cannot start a thread: {error}; the settings are unchanged");
            // It waits for the end of what it has asked for.
            self.shared.supervisor.reloads();
            self.shared
                .supervisor
                .has_reloaded(Some(&error.to_string()));
        }
    }
}

impl Shared {
    fn run(&self) {
        let turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiting.store(false, Ordering::Release);
        self.supervisor.reloads();
        let result = self.reload();
        match &result {
            Ok(()) => log::info!("reload: the new settings are in force"),
            Err(reason) => log::error!("reload: {reason}; the settings are unchanged"),
        }
        self.supervisor.has_reloaded(result.err().as_deref());
        drop(turn);
    }

    fn reload(&self) -> Result<(), String> {
        let settings = Settings::read(&self.words).map_err(|stop| stop.to_string())?;
        for warning in &settings.warnings {
            log::warn!("{warning}");
        }
        let app = self.open(&settings).map_err(|error| self.explain(&error))?;
        let files = app.files().clone();
        let handler = app.into_handler(&settings, self.users.as_ref());
        // Behind the certificates nothing goes wrong any more.
        Server::check(&settings.config).map_err(|error| error.to_string())?;
        let tls = self.tls.as_ref();
        tls.map_or(Ok(()), |tls| tls::reload(tls, &settings.encryption))
            .map_err(|error| self.explain(&error))?;
        let reloaded = self.handle.reload(handler, &settings.config);
        let redirect = self.redirect.as_ref();
        reloaded
            .and_then(|()| redirect.map_or(Ok(()), |redirect| redirect.reload(&settings)))
            .map_err(|error| error.to_string())?;
        *self.drain_delay() = settings.drain_delay;
        *self.files.lock().unwrap_or_else(PoisonError::into_inner) = files;
        self.warn_of_what_stays(&settings);
        Ok(())
    }

    fn drain_delay(&self) -> MutexGuard<'_, Duration> {
        self.drain_delay
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens what is served. In a sandbox a folder can be opened that cannot be read.
    fn open(&self, settings: &Settings) -> Result<App, Error> {
        for root in settings.roots() {
            let read = match fs::metadata(&root) {
                Ok(metadata) if metadata.is_dir() => fs::read_dir(&root).map(drop),
                Ok(metadata) if metadata.is_file() => fs::File::open(&root).map(drop),
                // What else it may be is said by who opens it.
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            };
            read.map_err(|source| Error::Path {
                purpose: "serve",
                path: root,
                source,
            })?;
        }
        App::open(settings)
    }

    fn explain(&self, error: &Error) -> String {
        let is_refused = matches!(error, Error::Path { source, .. }
            if source.kind() == io::ErrorKind::PermissionDenied);
        match (is_refused, &self.confinement) {
            (true, Confinement::InForce(_) | Confinement::Inherited) => format!(
                "{error}; if it is outside the sandbox, which was set up at startup, restart the server"
            ),
            _ => error.to_string(),
        }
    }

    /// Names what is not as the settings say now.
    fn warn_of_what_stays(&self, now: &Settings) {
        let began = &self.began;
        let mut differ = Vec::new();
        let mut compare = |name, is_same: bool| {
            if !is_same {
                differ.push(name);
            }
        };
        let (old, new) = (&began.config, &now.config);
        let has_same_encryption = began.encryption == now.encryption
            || began.encryption != Encryption::Off
                && matches!(now.encryption, Encryption::Certificates(_));
        compare("bind", old.addresses == new.addresses);
        compare("port", old.port == new.port);
        compare("tls-cert", has_same_encryption);
        compare("redirect-http", began.redirect_http == now.redirect_http);
        compare("unix-mode", old.unix_mode == new.unix_mode);
        compare("proxy-protocol", old.proxy_protocol == new.proxy_protocol);
        compare("workers", old.workers == new.workers);
        compare("admin", began.admin == now.admin);
        compare("tui", began.view == now.view);
        compare("users", began.users == now.users);
        compare("state-dir", began.state_dir == now.state_dir);
        compare("access-log", began.access_log == now.access_log);
        compare("log-format", began.log_format == now.log_format);
        compare("quiet", began.banner == now.banner);
        compare(
            "verbose",
            began.log_level == now.log_level || began.banner != now.banner,
        );
        compare("no-sandbox", began.sandbox == now.sandbox);
        compare("user", began.user == now.user);
        compare("group", began.group == now.group);
        if !differ.is_empty() {
            log::warn!(
                "reload: these settings take effect only after a restart: {}",
                differ.join(", ")
            );
        }
        if matches!(
            self.confinement,
            Confinement::InForce(_) | Confinement::Inherited
        ) {
            if !writable(now).is_subset(&writable(began)) {
                log::warn!(
                    "reload: the sandbox blocks uploads to a root that took none at startup; restart the server"
                );
            }
            if follows(now) && !follows(began) {
                log::warn!(
                    "reload: the sandbox blocks links out of the roots, as none were followed at startup; restart the server"
                );
            }
        }
    }
}

/// The roots to which files may be uploaded.
fn writable(settings: &Settings) -> BTreeSet<PathBuf> {
    let roots = settings.sites().filter(|(_, site)| site.upload.is_some());
    roots.map(|(root, _)| root).collect()
}

fn follows(settings: &Settings) -> bool {
    let mut sites = settings.sites();
    sites.any(|(_, site)| site.symlinks == Symlinks::Follow)
}
