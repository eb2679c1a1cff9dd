//! A process that serves: what is opened, given up, started and told, in this order, and how it ends.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
#[cfg(feature = "tui")]
use signal_hook::consts::signal::SIGINT;
use signal_hook::consts::signal::SIGXFSZ;
use signal_hook::flag;
use tws::access_log::{AccessLog, Destination, OpenLog};
use tws::admin::Sampler;
use tws::site::{Store, Symlinks};
use tws::{Endpoint, Error, Server, ServerHandle};

use crate::admin_listener::AdminListener;
use crate::app::{self, App, Guard};
use crate::banner::{self, Start};
use crate::browser::Browser;
use crate::cli::{
    Banner, Browsing, Encryption, Sandboxing, Settings, SiteFile, View, Words, is_exposed,
};
use crate::diagnostics::Diagnostics;
use crate::https::{self, RedirectListener};
use crate::inheritance::Inheritance;
use crate::privileges::Identity;
use crate::reload::Reload;
use crate::sandbox::{Confinement, Sandbox, Uploads};
use crate::say;
use crate::signals::{self, Heeded};
use crate::supervisor::Supervisor;
#[cfg(feature = "tui")]
use crate::tui;
use crate::upgrade::Upgrade;

/// How long the end waits for an access log that nobody takes.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

/// Serves until it is told to end.
pub(crate) fn run(
    words: Words,
    settings: Settings,
    inheritance: Inheritance,
    diagnostics: &mut Diagnostics,
) -> Result<(), Error> {
    inheritance.check(&settings)?;
    let supervisor = Supervisor::of_this_process();
    let ancestor = inheritance.ancestor;
    raise_descriptor_limit();
    survive_size_limits()?;
    let identity = Identity::find(settings.user.as_deref(), settings.group.as_deref())?;
    let app = App::open(&settings)?;
    let store = settings.users.as_ref();
    let store = store
        .map(|store| app::place(store, &settings))
        .transpose()?;
    if let Some(store) = &store {
        app::make_folder_of(store, identity.as_ref())?;
    }
    let config = settings.config.clone();
    let mut server = match inheritance.server {
        Some(listeners) => Server::from_listeners(listeners, config)?,
        None => Server::bind(config)?,
    };
    let handle = server.handle();
    let tls = https::open(&settings.encryption, handle.local_addresses())?;
    let files = Arc::new(Mutex::new(app.files().clone()));
    // Without anybody who looks there is nothing to measure.
    let looks = settings.admin.is_some() || settings.view == View::Transfers;
    let sampler = looks.then(|| Sampler::new(&handle));
    let admin = match (&settings.admin, &sampler) {
        (Some(endpoint), Some(sampler)) => {
            let sources = (&handle, Arc::clone(&files), sampler);
            let guard = admin_guard(&settings, endpoint)?;
            Some(AdminListener::open(
                endpoint,
                inheritance.admin,
                sources,
                guard,
            )?)
        }
        _ => None,
    };
    let redirect = settings
        .redirect_http
        .map(|port| RedirectListener::open(&settings, port, inheritance.redirect, &handle));
    let redirect = redirect.transpose()?;
    let signals = signals::catch()?;
    let access_log = open_access_log(&settings, identity.as_ref())?;

    // Who takes over has a browser already.
    let browser = match (settings.browser, server.handle().local_addresses()) {
        (Browsing::AtStart, [address, ..]) if ancestor.is_none() => {
            let url = banner::url(&settings.encryption, banner::reached_here(*address));
            Some(Browser::open(url))
        }
        _ => None,
    };

    // No thread may have been started before: it would be free, and root.
    let confinement = match settings.sandbox {
        Sandboxing::IfPossible => sandbox_for(&settings, store.as_ref()).enter()?,
        Sandboxing::Off => Confinement::Off,
    };
    identity.map_or(Ok(()), |identity| identity.assume())?;
    diagnostics.write().map_err(|source| Error::System {
        doing: "start the diagnostics",
        source,
    })?;

    let users = store.as_ref().map(app::open_users).transpose()?;
    if let Some(browser) = browser {
        browser.watch()?;
    }
    let access_log = access_log.map(OpenLog::start).transpose()?;
    let reopener = access_log.as_ref().map(AccessLog::reopener);
    let inlet = access_log.as_ref().map(AccessLog::inlet);
    if let Some(inlet) = inlet.clone() {
        server = server.with_access_log_of(inlet);
    }
    let announcement = match settings.banner {
        Banner::Shown => Start {
            settings: &settings,
            files: app.files(),
            server: &handle,
            admin: admin.as_ref().map(|admin| admin.server().handle()).as_ref(),
            redirect: redirect.as_ref().map(|it| it.server().handle()).as_ref(),
            tls: tls.as_ref(),
            confinement: &confinement,
        }
        .announcement(),
        Banner::Silent => String::new(),
    };
    let handler = app.into_handler(&settings, users.as_ref());
    let servers = [
        Some(&server),
        admin.as_ref().map(AdminListener::server),
        redirect.as_ref().map(RedirectListener::server),
    ];
    let upgrade = Upgrade::new(servers, supervisor.clone())?;
    let mut ends = vec![handle.clone()];
    ends.extend(redirect.as_ref().map(|redirect| redirect.server().handle()));
    #[cfg(feature = "tls")]
    if let Some(tls) = tls.clone() {
        server = server.with_tls(tls);
    }
    let picture = Picture::of(&settings, &handle);
    let status = status(&settings, &handle);
    supervisor.watch(handle.clone())?;
    let heeded = Heeded {
        reload: Reload::new(
            words,
            settings,
            users,
            confinement,
            (handle, files, tls),
            supervisor.clone(),
        ),
        reopener,
        upgrade,
        ends,
        supervisor: supervisor.clone(),
    };
    heeded.heed(signals)?;
    // Whoever has read it may send signals, and replace the program.
    say(&announcement);
    let admin = admin.map(AdminListener::start).transpose()?;
    let redirect = redirect.map(|redirect| redirect.start(inlet)).transpose()?;
    if let Some(ancestor) = ancestor {
        ancestor.relieve()?;
    }
    supervisor.serves(status);
    let served = {
        let _until_it_is_over = match (picture, sampler) {
            (Some(picture), Some(sampler)) => Some(picture.show(sampler, diagnostics)?),
            _ => None,
        };
        server.serve(handler)
    };
    if let Some(redirect) = redirect {
        redirect.end();
    }
    if let Some(access_log) = access_log {
        let dropped = access_log.finish(FLUSH_PATIENCE);
        if dropped > 0 {
            log::warn!("the access log lacks {dropped} lines");
        }
    }
    if let Some(admin) = admin {
        admin.end();
    }
    served
}

/// Where it serves, for the supervisor.
fn status(settings: &Settings, handle: &ServerHandle) -> String {
    let addresses = handle.local_addresses().iter().map(ToString::to_string);
    let sockets = handle.unix_sockets().iter();
    let sockets = sockets.map(|path| format!("unix:{}", path.display()));
    let places: Vec<_> = addresses.chain(sockets).collect();
    format!(
        "serves {} at {}",
        settings.root.display(),
        places.join(", ")
    )
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
            title += &format!("  {}", banner::url(&settings.encryption, *address));
        }
        (settings.view == View::Transfers).then_some(Self { title })
    }

    #[cfg(feature = "tui")]
    fn show(self, sampler: Arc<Sampler>, diagnostics: &Diagnostics) -> Result<tui::Tui, Error> {
        // As the same keys do without the picture.
        let quit = || {
            if let Err(error) = signal_hook::low_level::raise(SIGINT) {
                log::error!("the end cannot be announced: {error}");
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
            "--tui: {}: this tws was built without the feature tui",
            self.title
        );
        Err(Error::Setting(text))
    }
}

fn open_access_log(
    settings: &Settings,
    owner: Option<&Identity>,
) -> Result<Option<OpenLog>, Error> {
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
            Destination::File(path) => Some(path.as_path()),
            Destination::Stdout => None,
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
    if let SiteFile::At(path) = &settings.site_file {
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
        log::warn!(
            "the limit of open files stays at {:?}: {error}",
            limit.current
        );
    }
    if let Some(few) = getrlimit(Resource::Nofile).current
        && few < FEW_DESCRIPTORS
    {
        log::warn!("no more than {few} files can be open at once (ulimit -Hn): few clients fit");
    }
}

/// A file that grows beyond the process's limit (`ulimit -f`) is an error of whoever writes it. The
/// signal that comes with it would end the server.
fn survive_size_limits() -> Result<(), Error> {
    let registered = flag::register(SIGXFSZ, Arc::default());
    registered.map(|_| ()).map_err(|source| Error::System {
        doing: "watch for signals",
        source,
    })
}
