//! `tws`: serves until a signal ends the process.
//!
//! The steps are in an order that matters. Files and sockets are opened with the privileges of the
//! start ([`Resources::open`]). Then privileges are dropped and the sandbox is entered, before there
//! are other threads. Then the threads are started ([`Resources::start`]), and the main thread serves
//! ([`RunningServer::serve`]).
//!
//! The file is long because the steps share what one of them opens and the next ones use.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use env_logger::WriteStyle;
#[cfg(feature = "tui")]
use signal_hook::consts::signal::SIGINT;
use signal_hook::iterator::Signals;
use tws::access_log::{AccessLog, LogDestination, UnstartedLog};
use tws::admin::Sampler;
use tws::observe::Observer;
use tws::site::{RootOpener, Site, Store, Symlinks};
use tws::{BoxHandler, Config, Endpoint, Error, Server, ServerHandle, StaticFiles};

use super::process_limits;
use crate::cli::{
    Banner, BrowserLaunch, Encryption, Exit, LogAddresses, PortChoice, RawArgs, Sandboxing,
    Settings, SiteFileSource, View, is_exposed,
};
use crate::confinement::privileges::RunAs;
use crate::confinement::root_opener::{RootOpenerClient, RootOpenerProcess, RootOpenerSettings};
use crate::confinement::sandbox::{self, RootAccess, Sandbox, SandboxStatus};
use crate::lifecycle::exit_after;
use crate::lifecycle::inherited_sockets::InheritedSockets;
use crate::lifecycle::reload::{Reload, ReloadTargets};
use crate::lifecycle::signals::{self, SignalHandlers};
use crate::lifecycle::socket_files::{RemoveAtEnd, SocketFiles};
use crate::lifecycle::systemd::Supervisor;
use crate::lifecycle::upgrade::{Servers, Upgrade};
use crate::services::acme::{self, Acme};
use crate::services::admin::{self, CertificateSource};
use crate::services::app::{self, App, AuthLayer, ServerFiles};
use crate::services::http_challenges::HttpChallenges;
use crate::services::https_redirect::{self, RedirectHandle};
use crate::services::random_path;
use crate::services::side_server::{RunningSideServer, SideServer};
use crate::services::tls::{self, Tls};
use crate::sync::Mutex;
use crate::terminal::addresses;
use crate::terminal::banner::BannerInfo;
use crate::terminal::browser::Browser;
use crate::terminal::stderr_log::Diagnostics;
use crate::terminal::stdio;
use crate::terminal::summary;
#[cfg(feature = "tui")]
use crate::terminal::tui;
use crate::users;

/// How long the shutdown waits for the access log to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Reads the settings and serves until the server is shut down.
pub(crate) fn run(mut args: RawArgs) -> Result<(), Exit> {
    let inherited = InheritedSockets::take()?;
    args.inherited = inherited.endpoints();
    args.opener = opener(&inherited);
    let settings = Settings::read(&args)?;
    let style = match settings.view {
        View::Log => WriteStyle::Always,
        View::Tui if stdio::is_terminal() => WriteStyle::Never,
        View::Tui => {
            let text = "--tui: needs a terminal as standard input and output; leave it out";
            return Err(Exit::usage(text.to_owned()));
        }
    };
    let mut diagnostics = Diagnostics::install(settings.log_level, style);
    for warning in &settings.warnings {
        log::warn!("{warning}");
    }
    let (root, typed) = (settings.root.clone(), args.args.clone());
    serve(args, settings, inherited, &mut diagnostics)
        .map_err(|error| Exit::with_advice(&error, &root, &typed))
}

fn serve(
    mut args: RawArgs,
    settings: Settings,
    mut inherited: InheritedSockets,
    diagnostics: &mut Diagnostics,
) -> Result<(), Error> {
    inherited.check(&settings)?;
    let previous = inherited.previous_process.take();
    let supervisor = Supervisor::from_env();
    process_limits::raise_descriptor_limit();
    process_limits::ignore_file_size_signal()?;
    let identity = RunAs::find(settings.user.as_deref(), settings.group.as_deref())?;
    // A process that was started by an upgrade is in a sandbox already, and so would be its opener.
    let opener_process = match &previous {
        None => RootOpenerProcess::start(&opener_settings(&settings)),
        Some(_) => None,
    };
    if let Some(process) = &opener_process {
        inherited.root_opener = Some(Arc::clone(&process.client));
        args.opener = opener(&inherited);
    }
    let resources = Resources::open(&settings, inherited, identity.as_ref())?;
    if let (Some(previous), Some(tls)) = (&previous, &resources.tls) {
        previous.receive_ticket_keys(tls);
    }
    // After an upgrade the browser is open already.
    let browser = if previous.is_none() {
        resources.open_browser(&settings)
    } else {
        None
    };
    // No thread may run before this: it would stay outside of the sandbox, with the rights of root.
    let confinement = drop_privileges(&settings, &resources, identity)?;
    app::check_upload_roots(&settings)?;
    diagnostics.start_writer().map_err(|source| Error::System {
        doing: "start the logging thread",
        source,
    })?;
    if let Some(browser) = browser {
        browser.watch()?;
    }
    if let Some(process) = opener_process {
        process.watch()?;
    }
    let status = resources.status(&settings);
    let running = resources.start(args, settings, confinement, &supervisor)?;
    if let Some(previous) = previous {
        previous.take_over()?;
        running.sockets.0.take_over();
    }
    supervisor.notify_ready(status);
    running.serve(diagnostics)
}

/// What is opened with the privileges of the start; no thread runs yet.
struct Resources {
    app: App,
    root_opener: Option<Arc<RootOpenerClient>>,
    /// The files of the app; those of the new app after a reload.
    files: Arc<Mutex<StaticFiles>>,
    store: Option<Store>,
    server: Server,
    tls: Option<Tls>,
    acme: Option<Acme>,
    /// `None` if neither the admin listener nor `--tui` would read the samples.
    sampler: Option<Arc<Sampler>>,
    admin: Option<SideServer>,
    redirect: Option<SideServer>,
    signals: Signals,
    access_log: Option<UnstartedLog>,
    /// Those that this process has created.
    sockets: RemoveAtEnd,
}

impl Resources {
    /// Opens everything that is not inherited. Created files and sockets are given to `owner`.
    fn open(
        settings: &Settings,
        inherited: InheritedSockets,
        owner: Option<&RunAs>,
    ) -> Result<Self, Error> {
        let app = App::open(
            settings,
            &ServerFiles::of(settings),
            opener(&inherited).as_ref(),
        )?;
        let store = users::locate(settings)?;
        if let Some(store) = &store {
            users::create_folders(store, owner)?;
        }
        let sockets = SocketFiles::default();
        let removal = RemoveAtEnd(sockets.clone());
        let config = settings.config.clone();
        let server = match inherited.main {
            Some(listeners) => {
                let server = Server::from_listeners(listeners, config)?;
                if inherited.owns_files {
                    sockets.add_inherited(&server.handle());
                }
                server
            }
            None => {
                let server = bind(config, settings.port_choice)?;
                sockets.add(&server.handle());
                own_sockets(&server, owner)?;
                server
            }
        };
        let handle = server.handle();
        let acme = acme::open(settings, owner)?;
        let tls = match acme.as_ref().map(Acme::tls) {
            None => {
                let location = settings.key_locations.prefix("tls-cert");
                tls::open(&settings.encryption, handle.local_addresses())
                    .map_err(|error| error.at(location))?
            }
            of_acme => of_acme,
        };
        let challenges = challenges(acme.as_ref());
        let files = Arc::new(Mutex::new(app.files().clone()));
        let is_sampled = settings.admin.is_some() || settings.view == View::Tui;
        let sampler = is_sampled.then(|| Sampler::new(&handle));
        let admin = match (&settings.admin, &sampler) {
            (Some(endpoint), Some(sampler)) => {
                let watched = admin::Watched {
                    server: &handle,
                    files: Arc::clone(&files),
                    sampler,
                    certificates: certificates(acme.as_ref(), tls.as_ref()),
                };
                let auth = admin_auth(settings, endpoint)?;
                let listeners = inherited.admin;
                let is_inherited = listeners.is_some();
                let admin = admin::open(endpoint, settings.config.http2, listeners, watched, auth)?;
                if !is_inherited {
                    sockets.add(&admin.server().handle());
                    own_sockets(admin.server(), owner)?;
                } else if inherited.owns_files {
                    sockets.add_inherited(&admin.server().handle());
                }
                Some(admin)
            }
            _ => None,
        };
        let redirect = https_redirect::open(settings, inherited.redirect, &handle, &challenges)?;
        Ok(Self {
            app,
            root_opener: inherited.root_opener,
            files,
            store,
            server,
            tls,
            acme,
            sampler,
            admin,
            redirect,
            signals: signals::register()?,
            access_log: open_access_log(settings, owner)
                .map_err(|error| error.at(settings.key_locations.prefix("access-log")))?,
            sockets: removal,
        })
    }

    /// Opens a browser if `--open` is given and the server has an IP address.
    fn open_browser(&self, settings: &Settings) -> Option<Browser> {
        let handle = self.server.handle();
        let address = handle.local_addresses().first()?;
        let address = addresses::from_this_machine(*address);
        match settings.browser {
            BrowserLaunch::AtStartup => {
                let url = addresses::url(
                    &settings.encryption,
                    address,
                    &random_path::full_path(settings),
                );
                Some(Browser::open(url))
            }
            BrowserLaunch::Never => None,
        }
    }

    /// Returns the status line for the supervisor.
    fn status(&self, settings: &Settings) -> String {
        let handle = self.server.handle();
        let addresses = handle.local_addresses().iter().map(ToString::to_string);
        let sockets = handle.unix_sockets().iter();
        let sockets = sockets.map(|path| format!("unix:{}", path.display()));
        let endpoints: Vec<_> = addresses.chain(sockets).collect();
        let root = settings.root.display();
        format!("serving {root} at {}", endpoints.join(", "))
    }

    fn banner(&self, settings: &Settings, confinement: &SandboxStatus) -> String {
        let admin = self.admin.as_ref().map(|admin| admin.server().handle());
        let redirect = self.redirect.as_ref();
        let redirect = redirect.map(|redirect| redirect.server().handle());
        match settings.banner {
            Banner::Shown => BannerInfo {
                settings,
                files: self.app.files(),
                server: &self.server.handle(),
                admin: admin.as_ref(),
                redirect: redirect.as_ref(),
                tls: self.tls.as_ref(),
                confinement,
            }
            .render(),
            Banner::Silent => String::new(),
        }
    }

    /// Starts all threads but those of the server itself, and prints the banner.
    fn start(
        mut self,
        args: RawArgs,
        settings: Settings,
        confinement: SandboxStatus,
        supervisor: &Supervisor,
    ) -> Result<RunningServer, Error> {
        let users = self.store.as_ref().map(users::open).transpose()?;
        if let Some(acme) = &mut self.acme {
            acme.load()?;
        }
        let banner = self.banner(&settings, &confinement);
        let handle = self.server.handle();
        let admin = self.admin.as_ref().map(SideServer::server);
        let redirect = self.redirect.as_ref().map(SideServer::server);
        let upgrade = Upgrade::new(
            &Servers {
                main: &self.server,
                admin,
                redirect,
                tls: self.tls.as_ref(),
                root_opener: self.root_opener.as_deref(),
            },
            self.sockets.0.clone(),
            supervisor.clone(),
        )?;
        // Signals shut down the server and the redirect; the admin listener reports the shutdown.
        let mut ends = vec![handle.clone()];
        ends.extend(redirect.map(Server::handle));
        let counted = exit_after::downloads(&settings);
        let access_log = match self.access_log {
            // Without destinations: the records are counted only.
            None if counted.is_some() => Some(AccessLog::open(settings.log_format.clone(), &[])?),
            access_log => access_log,
        };
        let access_log = access_log.map(UnstartedLog::start).transpose()?;
        let log_handle = access_log.as_ref().map(AccessLog::handle);
        exit_after::start_timer(&settings)?;
        let served = Arc::clone(&self.files);
        let mut server = self.server.on_fd_pressure(move || {
            served.lock().release_descriptors();
        });
        if let Some(log_handle) = log_handle.clone() {
            server = server.with_access_log_of(match counted {
                Some(counter) => log_handle.observed_by(move |record| counter.count(record)),
                None => log_handle,
            });
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = self.tls.clone() {
            server = server.with_tls(tls);
        }
        let challenges = challenges(self.acme.as_ref());
        let handler = challenges.before(self.app.into_handler(&settings, users.as_ref()));
        let tui = TuiView::new(&settings, &handle, self.sampler);
        supervisor.start_watchdog(handle.clone())?;
        let redirect_handle = self.redirect.as_ref();
        let redirect_handle = redirect_handle
            .map(|redirect| RedirectHandle::new(redirect, &handle, challenges.clone()));
        let redirect_server = redirect.map(Server::handle);
        let acme = self
            .acme
            .map(|acme| acme.start(&handle, redirect_server.as_ref()));
        let is_ended = Arc::new(AtomicBool::new(false));
        let summary = (!banner.is_empty()).then(|| Summary {
            observer: (!settings.access_log.is_empty() || stdio::is_terminal())
                .then(|| handle.observe()),
            handle: handle.clone(),
            started: Instant::now(),
            is_due: Arc::clone(&is_ended),
        });
        let handlers = SignalHandlers {
            reload: Reload::new(ReloadTargets {
                args,
                started_with: Arc::new(settings),
                users,
                sandbox: confinement,
                server: handle,
                redirect: redirect_handle,
                files: self.files,
                tls: self.tls,
                acme: acme.transpose()?,
                challenges,
                supervisor: supervisor.clone(),
            }),
            reopener: access_log.as_ref().map(AccessLog::reopener),
            upgrade,
            servers: ends,
            supervisor: supervisor.clone(),
            is_ended: Arc::clone(&is_ended),
        };
        handlers.spawn(self.signals)?;
        // Signals are handled by now: a reader of the banner may send them, or replace the program.
        stdio::print_lossy(&banner);
        let admin = self.admin.map(SideServer::start).transpose()?;
        let redirect = self.redirect.map(|redirect| match log_handle {
            Some(log_handle) => redirect.with_access_log(log_handle).start(),
            None => redirect.start(),
        });
        Ok(RunningServer {
            server,
            handler,
            tui,
            admin,
            redirect: redirect.transpose()?,
            access_log,
            summary,
            sockets: self.sockets,
        })
    }
}

/// The server, ready to serve, and the threads beside it.
struct RunningServer {
    server: Server,
    handler: BoxHandler,
    tui: Option<TuiView>,
    admin: Option<RunningSideServer>,
    redirect: Option<RunningSideServer>,
    access_log: Option<AccessLog>,
    /// `None` without a banner.
    summary: Option<Summary>,
    sockets: RemoveAtEnd,
}

/// Prints what the server has done, if a signal has ended it.
struct Summary {
    handle: ServerHandle,
    /// Counts the bytes, which costs a little with each request: `None` if neither a log nor a terminal
    /// would make use of them.
    observer: Option<Observer>,
    started: Instant,
    is_due: Arc<AtomicBool>,
}

impl Summary {
    fn print(self) {
        if self.is_due.load(Ordering::Relaxed) {
            let requests = self.handle.stats().requests;
            let totals = self.observer.map(|observer| observer.totals());
            let duration = self.started.elapsed();
            let line = summary::line(requests, totals.as_ref(), duration);
            // A pipe that is not read must not keep the process from ending.
            let (printed, is_printed) = mpsc::channel();
            let print = move || {
                stdio::print_lossy(&line);
                drop(printed);
            };
            if thread::Builder::new().spawn(print).is_ok() {
                // An error means that the line is printed, or that the time is over.
                let _: Result<(), _> = is_printed.recv_timeout(FLUSH_TIMEOUT);
            }
        }
    }
}

impl RunningServer {
    /// Serves until the server is shut down, and then ends the rest: the admin listener last, since it
    /// reports the shutdown.
    fn serve(self, diagnostics: &Diagnostics) -> Result<(), Error> {
        let served = {
            let tui = self.tui.map(|tui| tui.show(diagnostics)).transpose();
            let _until_the_server_ends = tui?;
            self.server.serve(self.handler)
        };
        if let Some(redirect) = self.redirect {
            redirect.shut_down();
        }
        if let Some(access_log) = self.access_log {
            let dropped = access_log.finish(FLUSH_TIMEOUT);
            if dropped > 0 {
                log::warn!("access log: {dropped} lines dropped");
            }
        }
        // After the last line of the access log.
        if let Some(summary) = self.summary {
            summary.print();
        }
        if let Some(admin) = self.admin {
            admin.shut_down();
        }
        drop(self.sockets);
        served
    }
}

/// The content of `--tui`: a title above the samples.
#[cfg_attr(
    not(feature = "tui"),
    expect(dead_code, reason = "shown only with the feature tui")
)]
struct TuiView {
    title: String,
    sampler: Arc<Sampler>,
}

impl TuiView {
    /// Returns `None` without `--tui`.
    fn new(
        settings: &Settings,
        handle: &ServerHandle,
        sampler: Option<Arc<Sampler>>,
    ) -> Option<Self> {
        let sampler = sampler.filter(|_| settings.view == View::Tui)?;
        let mut title = settings.root.display().to_string();
        for address in handle.local_addresses() {
            title += &format!(
                "  {}",
                addresses::url(
                    &settings.encryption,
                    *address,
                    &random_path::full_path(settings)
                )
            );
        }
        Some(Self { title, sampler })
    }

    /// Draws on the terminal until the result is dropped.
    #[cfg(feature = "tui")]
    fn show(self, diagnostics: &Diagnostics) -> Result<tui::Tui, Error> {
        // As Ctrl-C does outside of the view.
        let quit = || {
            if let Err(error) = signal_hook::low_level::raise(SIGINT) {
                log::error!("tui: failed to send SIGINT to this process: {error}");
            }
        };
        let tui = tui::Tui::start(self.title, self.sampler, diagnostics.tail(), quit);
        tui.map_err(|source| Error::System {
            doing: "draw on the terminal",
            source,
        })
    }

    #[cfg(not(feature = "tui"))]
    fn show(self, _: &Diagnostics) -> Result<(), Error> {
        let text = format!(
            "--tui: cannot show {}: this tws was built without the feature tui",
            self.title
        );
        Err(Error::Setting(text))
    }
}

/// Binds the server: if the default port is in use, to one of the next ports.
fn bind(mut config: Config, port_choice: PortChoice) -> Result<Server, Error> {
    /// More servers of one person than there usually are at once.
    const ATTEMPTS: u16 = 50;
    let default = config.port;
    let last = match port_choice {
        PortChoice::Fixed => default,
        PortChoice::NextFree => default.saturating_add(ATTEMPTS),
    };
    loop {
        match Server::bind(config.clone()) {
            Err(Error::Bind { source, .. })
                if source.kind() == io::ErrorKind::AddrInUse && config.port < last =>
            {
                config.port += 1;
            }
            Ok(server) => {
                if config.port != default {
                    log::warn!(
                        "port {default} is in use, so port {} is used; --port sets another",
                        config.port
                    );
                }
                return Ok(server);
            }
            Err(error) => return Err(error),
        }
    }
}

/// Drops what is not needed to serve: enters the sandbox, and changes to `identity`.
fn drop_privileges(
    settings: &Settings,
    resources: &Resources,
    identity: Option<RunAs>,
) -> Result<SandboxStatus, Error> {
    let confinement = match settings.sandbox {
        Sandboxing::IfPossible => {
            let mut sandbox = sandbox(settings, resources.store.as_ref());
            if let Some(acme) = &resources.acme {
                sandbox.allow_state(acme.folder());
                sandbox.allow_connecting();
            }
            for folder in resources.sockets.0.folders() {
                sandbox.allow_removal(&folder);
            }
            if let Some(opener) = &resources.root_opener {
                sandbox.open_replaced_with(|root| opener.opens(root));
            }
            sandbox.enter()?
        }
        Sandboxing::Off => SandboxStatus::Off,
    };
    identity.map_or(Ok(()), |identity| identity.apply())?;
    Ok(confinement)
}

/// Returns the challenges that are answered.
fn challenges(acme: Option<&Acme>) -> HttpChallenges {
    acme.map_or_else(HttpChallenges::default, Acme::challenges)
}

/// Returns what the admin listener reports of the certificates.
fn certificates(acme: Option<&Acme>, tls: Option<&Tls>) -> Option<CertificateSource> {
    match acme {
        Some(acme) => Some(Box::new(acme.statuses())),
        None => tls.map(tls::statuses),
    }
}

/// Returns the authentication of the admin listener, which is required if other machines can reach it.
fn admin_auth(settings: &Settings, endpoint: &Endpoint) -> Result<Option<AuthLayer>, Error> {
    let is_exposed = endpoint.ip().is_some_and(is_exposed);
    if is_exposed {
        app::auth_layer(settings)
    } else {
        Ok(None)
    }
}

/// Gives the Unix sockets that the server has created to `owner`.
fn own_sockets(server: &Server, owner: Option<&RunAs>) -> Result<(), Error> {
    owner.map_or(Ok(()), |owner| owner.own_sockets(&server.handle()))
}

fn open_access_log(
    settings: &Settings,
    owner: Option<&RunAs>,
) -> Result<Option<UnstartedLog>, Error> {
    if settings.access_log.is_empty() {
        return Ok(None);
    }
    let open = |destinations: &[LogDestination]| {
        let log = AccessLog::open(settings.log_format.clone(), destinations)?;
        let log = log.excluding(settings.log_exclusions.clone());
        Ok(match settings.log_addresses {
            LogAddresses::Full => log,
            LogAddresses::Anonymized => log.anonymized(),
        })
    };
    let Some(owner) = owner else {
        return open(&settings.access_log).map(Some);
    };
    let mut log = open(&[])?;
    for destination in &settings.access_log {
        let open = || open(std::slice::from_ref(destination));
        let opened = match destination {
            LogDestination::File(path) => owner.open_file(path, open)?,
            LogDestination::Stdout => open()?,
        };
        log.extend(opened);
    }
    Ok(Some(log))
}

fn log_files(settings: &Settings) -> impl Iterator<Item = &Path> {
    settings
        .access_log
        .iter()
        .filter_map(|destination| match destination {
            LogDestination::File(path) => Some(path.as_path()),
            LogDestination::Stdout => None,
        })
}

fn opener(inherited: &InheritedSockets) -> Option<Arc<dyn RootOpener>> {
    let client = inherited.root_opener.clone()?;
    Some(client)
}

/// Returns the settings of the root opener: the roots to which the sandbox would deny access after they
/// were replaced.
fn opener_settings(settings: &Settings) -> RootOpenerSettings<'_> {
    let follows_links = |(_, site): (_, &Site)| site.symlinks == Symlinks::Follow;
    let reads_everywhere =
        settings.sandbox == Sandboxing::Off || settings.sites().any(follows_links);
    let roots = settings
        .roots()
        .filter(|root| !reads_everywhere && root.is_dir() && sandbox::is_irreplaceable(root));
    RootOpenerSettings {
        roots: roots.collect(),
        user: settings.user.as_deref(),
        group: settings.group.as_deref(),
    }
}

/// Returns a sandbox that allows exactly what the settings need.
fn sandbox(settings: &Settings, store: Option<&Store>) -> Sandbox {
    let mut sandbox = Sandbox::new();
    for (root, site) in settings.sites() {
        sandbox.allow_root(&root, RootAccess::of(site));
        if site.symlinks == Symlinks::Follow {
            sandbox.allow_reading_everywhere();
        }
    }
    if let SiteFileSource::Path(path) = &settings.site_file {
        sandbox.allow_rereading(path);
    }
    for path in settings.password_files() {
        sandbox.allow_rereading(&path);
    }
    if settings.user.is_some() || settings.group.is_some() {
        sandbox.allow_read(Path::new("/etc/passwd"));
        sandbox.allow_read(Path::new("/etc/group"));
    }
    if let Encryption::Certificates(pairs) = &settings.encryption {
        for path in pairs
            .iter()
            .flat_map(|(certificate, key)| [certificate, key])
        {
            sandbox.allow_rereading(path);
        }
    }
    // A process that is started by an upgrade reads them, too.
    let acme = settings.encryption.acme().into_iter();
    for path in acme.flat_map(|acme| acme.ca.iter().chain(&acme.external_account)) {
        sandbox.allow_rereading(path);
    }
    log_files(settings).for_each(|path| sandbox.allow_append(path));
    match store {
        Some(Store::Sqlite(path)) => sandbox.allow_database(path),
        Some(Store::Postgres(_)) => sandbox.allow_connecting(),
        _ => {}
    }
    sandbox
}
