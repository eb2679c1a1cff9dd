//! SIGHUP: the settings are reloaded while the server serves. Flags and environment are those of the
//! start, so what can have changed is the settings file, the file of passwords, or a certificate.
//! Everything new is built first and then exchanged: after an error nothing has changed, and the
//! log has the reason.
//!
//! Some settings belong to the process, which has dropped the privileges needed to change them. If
//! they differ, the log names them; they take effect after an upgrade (SIGUSR2) or a restart.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use tws::site::{Store, Symlinks};
use tws::{BoxHandler, Error, Server, ServerHandle, StaticFiles};

use super::lost_settings;
use super::systemd::Supervisor;
use crate::cli::{AcmeSettings, Encryption, RawArgs, Settings};
use crate::confinement::sandbox::{RootAccess, SandboxStatus};
use crate::confinement::state_dir::StateDir;
use crate::services::acme::AcmeHandle;
use crate::services::app::{self, App, ServerFiles};
use crate::services::http_challenges::HttpChallenges;
use crate::services::https_redirect::RedirectHandle;
use crate::services::tls::{self, Tls};
use crate::sync::Mutex;
use crate::users::UserStore;

/// What a reload reads and replaces.
pub(crate) struct ReloadTargets {
    pub(crate) args: RawArgs,
    /// The settings of the start.
    pub(crate) started_with: Arc<Settings>,
    pub(crate) users: Option<Arc<UserStore>>,
    pub(crate) sandbox: SandboxStatus,
    pub(crate) server: ServerHandle,
    pub(crate) redirect: Option<RedirectHandle>,
    /// The files that are served, shared with the operators' listener.
    pub(crate) files: Arc<Mutex<StaticFiles>>,
    pub(crate) tls: Option<Tls>,
    pub(crate) acme: Option<AcmeHandle>,
    pub(crate) challenges: HttpChallenges,
    pub(crate) supervisor: Supervisor,
}

/// Reloads the settings on demand, each time on a thread of its own.
pub(crate) struct Reload {
    state: Arc<ReloadState>,
}

struct ReloadState {
    targets: ReloadTargets,
    in_force: Mutex<InForce>,
    /// Held by the one reload that runs.
    running: Mutex<()>,
    /// Another reload is waiting for the running one to end. It reads the files only then, so
    /// further requests are covered by it.
    is_waiting: AtomicBool,
}

/// The settings in force, and what the former ones have left.
#[derive(Clone)]
struct InForce {
    settings: Arc<Settings>,
    /// The server's own files by these settings and all former ones.
    server_files: ServerFiles,
}

impl Reload {
    pub(crate) fn new(targets: ReloadTargets) -> Self {
        let state = ReloadState {
            in_force: Mutex::new(InForce {
                settings: Arc::clone(&targets.started_with),
                server_files: ServerFiles::of(&targets.started_with),
            }),
            targets,
            running: Mutex::new(()),
            is_waiting: AtomicBool::new(false),
        };
        Self {
            state: Arc::new(state),
        }
    }

    /// The time between the announcement of a shutdown and its begin.
    pub(crate) fn drain_delay(&self) -> Duration {
        self.state.in_force.lock().settings.drain_delay
    }

    /// Returns a function that checks whether the settings files lack what a process that is started now
    /// needs, as a reload does. Other errors are those of that process, whose program may be another one.
    pub(crate) fn check_of_files(&self) -> impl Fn() -> Result<(), String> + Send + 'static {
        let state = Arc::clone(&self.state);
        move || match Settings::read(&state.targets.args) {
            Ok(settings) => {
                let in_force = state.in_force.lock().settings.clone();
                lost_settings::check(&in_force, &settings)
            }
            Err(_) => Ok(()),
        }
    }

    /// Starts a reload and returns at once.
    pub(crate) fn begin(&self) {
        if self.state.is_waiting.swap(true, Ordering::AcqRel) {
            return;
        }
        let state = Arc::clone(&self.state);
        let thread = thread::Builder::new().name("reload".to_owned());
        if let Err(error) = thread.spawn(move || state.run()) {
            self.state.is_waiting.store(false, Ordering::Release);
            log::error!("reload: cannot start a thread: {error}; the settings are unchanged");
            // A supervisor that has asked for the reload waits for its end.
            let supervisor = &self.state.targets.supervisor;
            supervisor.notify_reloading();
            supervisor.notify_reloaded(Some(&error.to_string()));
        }
    }
}

impl ReloadState {
    fn run(&self) {
        let running = self.running.lock();
        self.is_waiting.store(false, Ordering::Release);
        self.targets.supervisor.notify_reloading();
        let result = self.reload();
        match &result {
            Ok(()) => log::info!("reload: the new settings are in force"),
            Err(reason) => log::error!("reload: {reason}; the settings are unchanged"),
        }
        let failure = result.err();
        self.targets.supervisor.notify_reloaded(failure.as_deref());
        drop(running);
    }

    fn reload(&self) -> Result<(), String> {
        let targets = &self.targets;
        let settings = Settings::read(&targets.args).map_err(|stop| stop.to_string())?;
        for warning in &settings.warnings {
            log::warn!("{warning}");
        }
        let former = self.in_force.lock().clone();
        lost_settings::check(&former.settings, &settings)?;
        let server_files = former.server_files.and_those_of(&settings);
        let app = targets
            .check_state(&settings)
            .and_then(|()| app::check_upload_roots(&settings))
            .and_then(|()| App::open(&settings, &server_files, targets.args.opener.as_ref()))
            .map_err(|error| targets.explain(&error))?;
        let files = app.files().clone();
        let handler = app.into_handler(&settings, targets.users.as_ref());
        let handler = targets.challenges.before(handler);
        // Checked before the certificates are replaced: nothing must fail after that.
        Server::check(&settings.config).map_err(|error| error.to_string())?;
        if let Some(tls) = &targets.tls {
            let location = settings.key_locations.prefix("tls-cert");
            tls::reload(tls, &settings.encryption)
                .map_err(|error| targets.explain(&error.at(location)))?;
        }
        targets
            .exchange(handler, &settings)
            .map_err(|error| error.to_string())?;
        if let Some(acme) = &targets.acme {
            acme.reload(&settings);
        }
        *targets.files.lock() = files;
        for warning in lost_settings::warnings(&former.settings, &settings) {
            log::warn!("reload: {warning}");
        }
        targets.warn_of_unchanged_settings(&settings);
        targets.warn_of_sandbox(&settings);
        *self.in_force.lock() = InForce {
            settings: Arc::new(settings),
            server_files,
        };
        Ok(())
    }
}

impl ReloadTargets {
    fn exchange(&self, handler: BoxHandler, settings: &Settings) -> Result<(), Error> {
        self.server.reload(handler, &settings.config)?;
        match &self.redirect {
            Some(redirect) => redirect.reload(settings),
            None => Ok(()),
        }
    }

    /// Rejects a root with the state of this process inside, which stays where it was at startup.
    fn check_state(&self, new: &Settings) -> Result<(), Error> {
        let old = &self.started_with;
        let state = StateDir::of(old).outside_of(new.roots());
        if let Some(Store::Sqlite(path)) = &old.users {
            state.users(path)?;
        }
        if self.acme.is_some() {
            state.certificates()?;
        }
        Ok(())
    }

    /// Describes an error, with the sandbox as a possible cause.
    fn explain(&self, error: &Error) -> String {
        let is_denied = matches!(error.cause(), Error::Path { source, .. }
            if source.kind() == io::ErrorKind::PermissionDenied);
        if is_denied && self.sandbox.is_enforced() {
            format!(
                "{error}; if it is outside the sandbox, which was set up at startup, restart the server"
            )
        } else {
            error.to_string()
        }
    }

    /// Names the settings that differ from those of the start and cannot be changed.
    fn warn_of_unchanged_settings(&self, new: &Settings) {
        let old = &self.started_with;
        let (old_config, new_config) = (&old.config, &new.config);
        // Certificates can replace each other and a self-signed one, but TLS cannot be turned on or
        // off. Of automatic certificates, the names can be changed.
        let acme = [old, new].map(|settings| {
            let acme = settings.encryption.acme().cloned();
            acme.map(|acme| AcmeSettings {
                names: Vec::new(),
                ..acme
            })
        });
        let [old_acme, new_acme] = acme;
        let is_without_acme = old_acme.is_none() && new_acme.is_none();
        let has_same_encryption = !is_without_acme
            || old.encryption == new.encryption
            || old.encryption != Encryption::Off
                && matches!(new.encryption, Encryption::Certificates(_));
        let settings = [
            ("bind", old.requested_addresses == new.requested_addresses),
            ("port", old_config.port == new_config.port),
            ("tls-cert", has_same_encryption),
            ("acme", old_acme == new_acme),
            ("redirect-http", old.redirect_http == new.redirect_http),
            ("unix-mode", old_config.unix_mode == new_config.unix_mode),
            (
                "proxy-protocol",
                old_config.proxy_protocol == new_config.proxy_protocol,
            ),
            ("http2", old_config.http2 == new_config.http2),
            ("workers", old_config.workers == new_config.workers),
            ("admin", old.admin == new.admin),
            ("tui", old.view == new.view),
            ("users", old.users == new.users),
            ("state-dir", old.state_dir == new.state_dir),
            ("access-log", old.access_log == new.access_log),
            ("log-format", old.log_format == new.log_format),
            ("log-exclude", old.log_exclusions == new.log_exclusions),
            ("log-anonymize", old.log_addresses == new.log_addresses),
            ("quiet", old.banner == new.banner),
            (
                "verbose",
                old.log_level == new.log_level || old.banner != new.banner,
            ),
            ("no-sandbox", old.sandbox == new.sandbox),
            ("user", old.user == new.user),
            ("group", old.group == new.group),
            ("exit-after", old.exit_after == new.exit_after),
            ("random-path", old.random_path == new.random_path),
        ];
        let differing: Vec<_> = settings
            .iter()
            .filter(|(_, is_same)| !is_same)
            .map(|(name, _)| *name)
            .collect();
        if !differing.is_empty() {
            log::warn!(
                "reload: these settings take effect only after a restart: {}",
                differing.join(", ")
            );
        }
    }

    /// Names what the new settings allow and the sandbox blocks.
    fn warn_of_sandbox(&self, new: &Settings) {
        if !self.sandbox.is_enforced() {
            return;
        }
        let old = &self.started_with;
        let before = root_accesses(old);
        let is_blocked = |(root, access): (&PathBuf, &RootAccess)| {
            let before = before.get(root).unwrap_or(&RootAccess::ReadOnly);
            access > before
        };
        if root_accesses(new).iter().any(is_blocked) {
            log::warn!(
                "reload: the sandbox blocks uploads to, or changes of, a root that accepted none at startup; restart the server"
            );
        }
        if follows_links(new) && !follows_links(old) {
            log::warn!(
                "reload: the sandbox blocks links out of the roots, as none were followed at startup; restart the server"
            );
        }
    }
}

/// The roots, with the greatest access that a site needs.
fn root_accesses(settings: &Settings) -> BTreeMap<PathBuf, RootAccess> {
    let mut accesses = BTreeMap::new();
    for (root, site) in settings.sites() {
        let access = accesses.entry(root).or_insert(RootAccess::ReadOnly);
        *access = (*access).max(RootAccess::of(site));
    }
    accesses
}

fn follows_links(settings: &Settings) -> bool {
    let mut sites = settings.sites();
    sites.any(|(_, site)| site.symlinks == Symlinks::Follow)
}
