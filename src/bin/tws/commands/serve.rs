//! A process that serves: what is opened, given up, started and told, in this order, and how it ends.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
#[cfg(feature = "tui")]
use signal_hook::consts::signal::SIGINT;
use signal_hook::consts::signal::SIGXFSZ;
use signal_hook::flag;
use signal_hook::iterator::Signals;
use tws::access_log::{AccessLog, LogDestination, UnstartedLog};
use tws::admin::Sampler;
use tws::site::{Store, Symlinks};
use tws::{Endpoint, Error, Router, Server, ServerHandle, StaticFiles};

use crate::cli::{
    Banner, BrowserLaunch, Encryption, RawArgs, Sandboxing, Settings, SiteFileSource, View,
    is_exposed,
};
use crate::confinement::privileges::Identity;
use crate::confinement::sandbox::{Confinement, Sandbox, Uploads};
use crate::lifecycle::inherited_sockets::Inheritance;
use crate::lifecycle::reload::Reload;
use crate::lifecycle::signals::{self, Heeded};
use crate::lifecycle::systemd::Supervisor;
use crate::lifecycle::upgrade::Upgrade;
use crate::say;
use crate::services::admin::{AdminListener, AdminService};
use crate::services::app::{self, App, Guard};
use crate::services::https_redirect::{self, RedirectListener, RedirectService};
use crate::services::tls::Tls;
use crate::terminal::addresses;
use crate::terminal::banner::BannerInfo;
use crate::terminal::browser::Browser;
use crate::terminal::stderr_log::Diagnostics;
#[cfg(feature = "tui")]
use crate::terminal::tui;

/// How long the end waits for an access log that nobody takes.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

/// Serves until it is told to end.
pub(crate) fn run(
    words: RawArgs,
    settings: Settings,
    mut inheritance: Inheritance,
    diagnostics: &mut Diagnostics,
) -> Result<(), Error> {
    inheritance.check(&settings)?;
    let ancestor = inheritance.ancestor.take();
    let supervisor = Supervisor::of_this_process();
    raise_descriptor_limit();
    survive_size_limits()?;
    let identity = Identity::find(settings.user.as_deref(), settings.group.as_deref())?;
    let opened = Opened::open(&settings, inheritance, identity.as_ref())?;
    // Who takes over has a browser already.
    let browser = match (settings.browser, opened.server.handle().local_addresses()) {
        (BrowserLaunch::AtStartup, [address, ..]) if ancestor.is_none() => {
            let url = addresses::url(&settings.encryption, addresses::from_this_machine(*address));
            Some(Browser::open(url))
        }
        _ => None,
    };
    // No thread may have been started before: it would be free, and root.
    let confinement = give_up(&settings, opened.store.as_ref(), identity)?;
    diagnostics.write().map_err(|source| Error::System {
        doing: "start the logging thread",
        source,
    })?;
    if let Some(browser) = browser {
        browser.watch()?;
    }
    let running = opened.start(words, settings, confinement, &supervisor)?;
    if let Some(ancestor) = ancestor {
        ancestor.relieve()?;
    }
    supervisor.serves(running.status());
    running.serve(diagnostics)
}

/// What takes rights that are given up then.
struct Opened {
    app: App,
    /// The files of the app, or those of a later reload.
    files: Arc<Mutex<StaticFiles>>,
    store: Option<Store>,
    server: Server,
    tls: Option<Tls>,
    /// Without anybody who looks there is nothing to measure.
    sampler: Option<Arc<Sampler>>,
    admin: Option<AdminListener>,
    redirect: Option<RedirectListener>,
    signals: Signals,
    access_log: Option<UnstartedLog>,
}

impl Opened {
    /// Opens all that is not inherited. What is made belongs to `owner`.
    fn open(
        settings: &Settings,
        inheritance: Inheritance,
        owner: Option<&Identity>,
    ) -> Result<Self, Error> {
        let app = App::open(settings)?;
        let store = settings.users.as_ref();
        let store = store.map(|store| app::place(store, settings)).transpose()?;
        if let Some(store) = &store {
            app::make_folder_of(store, owner)?;
        }
        let config = settings.config.clone();
        let server = match inheritance.server {
            Some(listeners) => Server::from_listeners(listeners, config)?,
            None => {
                let server = Server::bind(config)?;
                own_sockets(&server, owner)?;
                server
            }
        };
        let handle = server.handle();
        let tls = https_redirect::open(&settings.encryption, handle.local_addresses())?;
        let files = Arc::new(Mutex::new(app.files().clone()));
        let looks = settings.admin.is_some() || settings.view == View::Tui;
        let sampler = looks.then(|| Sampler::new(&handle));
        let admin = match (&settings.admin, &sampler) {
            (Some(endpoint), Some(sampler)) => {
                let sources = (&handle, Arc::clone(&files), sampler);
                let guard = admin_guard(settings, endpoint)?;
                let listeners = inheritance.admin;
                let is_inherited = listeners.is_some();
                let admin = AdminListener::open(endpoint, listeners, sources, guard)?;
                if !is_inherited {
                    own_sockets(admin.server(), owner)?;
                }
                Some(admin)
            }
            _ => None,
        };
        let redirect = settings
            .redirect_http
            .map(|port| RedirectListener::open(settings, port, inheritance.redirect, &handle));
        Ok(Self {
            app,
            files,
            store,
            server,
            tls,
            sampler,
            admin,
            redirect: redirect.transpose()?,
            signals: signals::catch()?,
            access_log: open_access_log(settings, owner)?,
        })
    }

    /// Starts the threads of all but the server itself, says so, and heeds signals from then on.
    fn start(
        self,
        words: RawArgs,
        settings: Settings,
        confinement: Confinement,
        supervisor: &Supervisor,
    ) -> Result<Running, Error> {
        let handle = self.server.handle();
        let users = self.store.as_ref().map(app::open_users).transpose()?;
        let access_log = self.access_log.map(UnstartedLog::start).transpose()?;
        let inlet = access_log.as_ref().map(AccessLog::handle);
        let admin = self.admin.as_ref().map(AdminListener::server);
        let redirect = self.redirect.as_ref().map(RedirectListener::server);
        let announcement = match settings.banner {
            Banner::Shown => BannerInfo {
                settings: &settings,
                files: self.app.files(),
                server: &handle,
                admin: admin.map(Server::handle).as_ref(),
                redirect: redirect.map(Server::handle).as_ref(),
                tls: self.tls.as_ref(),
                confinement: &confinement,
            }
            .render(),
            Banner::Silent => String::new(),
        };
        let mut ends = vec![handle.clone()];
        ends.extend(redirect.map(Server::handle));
        let upgrade = Upgrade::new([Some(&self.server), admin, redirect], supervisor.clone())?;
        let mut server = self.server;
        if let Some(inlet) = inlet.clone() {
            server = server.with_access_log_of(inlet);
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = self.tls.clone() {
            server = server.with_tls(tls);
        }
        let handler = self.app.into_handler(&settings, users.as_ref());
        let picture = Picture::of(&settings, &handle);
        let root = settings.root.clone();
        supervisor.watch(handle.clone())?;
        let heeded = Heeded {
            reload: Reload::new(
                words,
                settings,
                users,
                confinement,
                (handle, self.redirect.as_ref().map(RedirectListener::handle)),
                (self.files, self.tls),
                supervisor.clone(),
            ),
            reopener: access_log.as_ref().map(AccessLog::reopener),
            upgrade,
            ends,
            supervisor: supervisor.clone(),
        };
        heeded.heed(self.signals)?;
        // Whoever has read it may send signals, and replace the program.
        say(&announcement);
        let admin = self.admin.map(AdminListener::start).transpose()?;
        let redirect = self.redirect.map(|redirect| redirect.start(inlet));
        Ok(Running {
            root,
            server,
            handler,
            picture: picture.zip(self.sampler),
            admin,
            redirect: redirect.transpose()?,
            access_log,
        })
    }
}

/// The server, which is to serve now, and what runs beside it.
struct Running {
    root: PathBuf,
    server: Server,
    handler: Router,
    picture: Option<(Picture, Arc<Sampler>)>,
    admin: Option<AdminService>,
    redirect: Option<RedirectService>,
    access_log: Option<AccessLog>,
}

impl Running {
    /// Where it serves, for the supervisor.
    fn status(&self) -> String {
        let handle = self.server.handle();
        let addresses = handle.local_addresses().iter().map(ToString::to_string);
        let sockets = handle.unix_sockets().iter();
        let sockets = sockets.map(|path| format!("unix:{}", path.display()));
        let places: Vec<_> = addresses.chain(sockets).collect();
        format!("serving {} at {}", self.root.display(), places.join(", "))
    }

    /// Serves, and ends the others then: the admin's listener last, for it tells of the end.
    fn serve(self, diagnostics: &Diagnostics) -> Result<(), Error> {
        let served = {
            let picture = self.picture;
            let picture = picture.map(|(picture, sampler)| picture.show(sampler, diagnostics));
            let _until_it_is_over = picture.transpose()?;
            self.server.serve(self.handler)
        };
        if let Some(redirect) = self.redirect {
            redirect.end();
        }
        if let Some(access_log) = self.access_log {
            let dropped = access_log.finish(FLUSH_PATIENCE);
            if dropped > 0 {
                log::warn!("access log: {dropped} lines dropped");
            }
        }
        if let Some(admin) = self.admin {
            admin.end();
        }
        served
    }
}

/// Gives up what is not needed to serve.
fn give_up(
    settings: &Settings,
    store: Option<&Store>,
    identity: Option<Identity>,
) -> Result<Confinement, Error> {
    let confinement = match settings.sandbox {
        Sandboxing::IfPossible => sandbox_for(settings, store).enter()?,
        Sandboxing::Off => Confinement::Off,
    };
    identity.map_or(Ok(()), |identity| identity.assume())?;
    Ok(confinement)
}

/// From other machines, operators come with a password.
fn admin_guard(settings: &Settings, endpoint: &Endpoint) -> Result<Option<Guard>, Error> {
    let is_exposed = endpoint.ip().is_some_and(is_exposed);
    let file = settings.auth_file.as_deref().filter(|_| is_exposed);
    file.map(app::guard).transpose()
}

/// What `--tui` is to show: a title, above all that the sampler says.
struct Picture {
    title: String,
}

impl Picture {
    fn of(settings: &Settings, handle: &ServerHandle) -> Option<Self> {
        let mut title = settings.root.display().to_string();
        for address in handle.local_addresses() {
            title += &format!("  {}", addresses::url(&settings.encryption, *address));
        }
        (settings.view == View::Tui).then_some(Self { title })
    }

    #[cfg(feature = "tui")]
    fn show(self, sampler: Arc<Sampler>, diagnostics: &Diagnostics) -> Result<tui::Tui, Error> {
        // As the same keys do without the picture.
        let quit = || {
            if let Err(error) = signal_hook::low_level::raise(SIGINT) {
                log::error!("tui: failed to send SIGINT to this process: {error}");
            }
        };
        let tui = tui::Tui::start(self.title, sampler, diagnostics.lines(), quit);
        tui.map_err(|source| Error::System {
            doing: "draw on the terminal",
            source,
        })
    }

    #[cfg(not(feature = "tui"))]
    fn show(self, _: Arc<Sampler>, _: &Diagnostics) -> Result<(), Error> {
        let text = format!(
            "--tui: cannot show {}: this tws was built without the feature tui",
            self.title
        );
        Err(Error::Setting(text))
    }
}

/// Unix sockets that were made belong to `owner`.
fn own_sockets(server: &Server, owner: Option<&Identity>) -> Result<(), Error> {
    owner.map_or(Ok(()), |owner| owner.own_sockets(&server.handle()))
}

fn open_access_log(
    settings: &Settings,
    owner: Option<&Identity>,
) -> Result<Option<UnstartedLog>, Error> {
    if settings.access_log.is_empty() {
        return Ok(None);
    }
    for path in log_files(settings) {
        if let Some(owner) = owner {
            owner.make_file(path);
        }
    }
    AccessLog::open(settings.log_format, &settings.access_log).map(Some)
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

/// The sandbox in which all this can be done, and nothing else.
fn sandbox_for(settings: &Settings, store: Option<&Store>) -> Sandbox {
    let mut sandbox = Sandbox::new();
    for (root, site) in settings.sites() {
        let uploads = match site.upload {
            Some(_) => Uploads::Taken,
            None => Uploads::Refused,
        };
        sandbox.serve(&root, uploads);
        if site.symlinks == Symlinks::Follow {
            sandbox.read_everywhere();
        }
    }
    if let SiteFileSource::Path(path) = &settings.site_file {
        sandbox.read_again(path);
    }
    if let Some(path) = &settings.auth_file {
        sandbox.read_again(path);
    }
    if settings.user.is_some() || settings.group.is_some() {
        sandbox.read(Path::new("/etc/passwd"));
        sandbox.read(Path::new("/etc/group"));
    }
    if let Encryption::Certificates(pairs) = &settings.encryption {
        for path in pairs
            .iter()
            .flat_map(|(certificate, key)| [certificate, key])
        {
            sandbox.read_again(path);
        }
    }
    log_files(settings).for_each(|path| sandbox.append(path));
    match store {
        Some(Store::Sqlite(path)) => sandbox.keep_database(path),
        Some(Store::Postgres(_)) => sandbox.connect(),
        _ => {}
    }
    sandbox
}

/// With fewer a few clients are a crowd.
const FEW_DESCRIPTORS: u64 = 1024;

/// Every connection needs a descriptor, and the soft limit is often 1,024.
fn raise_descriptor_limit() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, raised)
    {
        log::warn!("file descriptors: cannot raise the limit: {error}; few connections may fit");
    }
    if let Some(few) = getrlimit(Resource::Nofile).current
        && few < FEW_DESCRIPTORS
    {
        log::warn!(
            "file descriptors: at most {few} can be open, which limits connections; raise `ulimit -Hn`"
        );
    }
}

/// A file that grows beyond the process's limit (`ulimit -f`) is an error of whoever writes it. The
/// signal that comes with it would end the server.
fn survive_size_limits() -> Result<(), Error> {
    let registered = flag::register(SIGXFSZ, Arc::default());
    registered.map(|_| ()).map_err(|source| Error::System {
        doing: "handle signals",
        source,
    })
}
