//! `tws`: the command line becomes settings, the settings become a server. All that the server
//! can do is in the library.

mod admin_listener;
mod app;
mod banner;
mod browser;
mod check;
mod cli;
mod dangers;
mod diagnostics;
mod explain;
mod privileges;
mod reload;
mod sandbox;
mod signals;
#[cfg(feature = "sqlite")]
mod state;
mod upgrade;

use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use admin_listener::AdminListener;
use app::App;
use banner::Start;
use browser::Browser;
use cli::{
    Banner, Browsing, Mistake, Sandboxing, Settings, SiteFile, Stop, Task, Words, is_exposed,
};
use diagnostics::Diagnostics;
use explain::Question;
use privileges::Identity;
use reload::Reload;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use sandbox::{Confinement, Sandbox, Uploads};
use signal_hook::consts::signal::SIGXFSZ;
use signal_hook::flag;
use signals::Heeded;
use tws::access_log::{AccessLog, Destination, OpenLog};
use tws::admin::Sampler;
use tws::site::{Store, Symlinks};
use tws::{Error, Server, ServerHandle, StaticFiles};
use upgrade::{Ancestor, Upgrade};

fn main() -> ExitCode {
    let mut words = Words::of_process();
    match Task::take_from(&mut words) {
        Task::Serve => serve(words),
        Task::Check => check::run(&words),
        Task::Explain => explain(&words),
        Task::Completions => cli::completions(&words).map_or_else(end, |script| print(&script)),
        Task::Man => cli::man().map_or(ExitCode::FAILURE, |page| print(&page)),
    }
}

fn serve(words: Words) -> ExitCode {
    let settings = match Settings::read(&words) {
        Ok(settings) => settings,
        Err(stop) => return end(stop),
    };
    let mut diagnostics = Diagnostics::collect(settings.log_level);
    for warning in &settings.warnings {
        log::warn!("{warning}");
    }
    let result = run(words, settings, &mut diagnostics);
    drop(diagnostics);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn explain(words: &Words) -> ExitCode {
    let settings = match Settings::read(words) {
        Ok(settings) => settings,
        Err(stop) => return end(stop),
    };
    let question = settings.request.as_ref().map(Question::new).transpose();
    match question.map(|question| question.map(|it| explain::explain(&settings, &it))) {
        Ok(Some(Err(error))) => {
            complain(&error.to_string());
            ExitCode::FAILURE
        }
        Ok(_) => ExitCode::SUCCESS,
        Err(text) => end(Stop::Mistakes(vec![Mistake::Usage(text)])),
    }
}

fn print(text: &[u8]) -> ExitCode {
    say(&String::from_utf8_lossy(text));
    ExitCode::SUCCESS
}

fn end(stop: Stop) -> ExitCode {
    let text = stop.to_string();
    match stop {
        Stop::Print(_) => print(text.as_bytes()),
        Stop::Mistakes(mistakes) => {
            complain(&text);
            match mistakes.first() {
                Some(Mistake::Usage(_)) => ExitCode::from(2),
                Some(Mistake::Failure(_)) | None => ExitCode::FAILURE,
            }
        }
    }
}

fn run(words: Words, settings: Settings, diagnostics: &mut Diagnostics) -> Result<(), Error> {
    let ancestor = Ancestor::of_this_process()?;
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
    let inherited = ancestor.as_ref().map(Ancestor::listeners).transpose()?;
    let mut inherited = inherited.into_iter().flatten();
    let mut server = match inherited.next().flatten() {
        Some(listeners) => Server::from_listeners(listeners, config)?,
        None => Server::bind(config)?,
    };
    let handle = server.handle();
    let files = Arc::new(Mutex::new(app.files().clone()));
    let admin = open_admin(&settings, inherited.next().flatten(), &handle, &files)?;
    let signals = signals::catch()?;
    let access_log = open_access_log(&settings, identity.as_ref())?;

    // Who takes over has a browser already.
    let browser = match (settings.browser, server.handle().local_addresses()) {
        (Browsing::AtStart, [address, ..]) if ancestor.is_none() => {
            Some(Browser::open(banner::url(banner::reached_here(*address))))
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
    if let Some(access_log) = access_log {
        server = server.with_access_log(access_log);
    }
    let announcement = match settings.banner {
        Banner::Shown => Start {
            settings: &settings,
            files: app.files(),
            server: &handle,
            admin: admin.as_ref().map(|admin| admin.server().handle()).as_ref(),
            confinement: &confinement,
        }
        .announcement(),
        Banner::Silent => String::new(),
    };
    let handler = app.into_handler(&settings, users.as_ref());
    let upgrade = Upgrade::new([Some(&server), admin.as_ref().map(AdminListener::server)])?;
    let delay = settings.drain_delay;
    let heeded = Heeded {
        reload: Reload::new(words, settings, users, confinement, (handle.clone(), files)),
        reopener,
        upgrade,
        end: (handle, delay),
    };
    heeded.heed(signals)?;
    // Whoever has read it may send signals, and replace the program.
    say(&announcement);
    let admin = admin.map(AdminListener::start).transpose()?;
    if let Some(ancestor) = ancestor {
        ancestor.relieve()?;
    }
    let served = server.serve(handler);
    if let Some(admin) = admin {
        admin.end();
    }
    served
}

fn open_admin(
    settings: &Settings,
    inherited: Option<Vec<OwnedFd>>,
    handle: &ServerHandle,
    files: &Arc<Mutex<StaticFiles>>,
) -> Result<Option<AdminListener>, Error> {
    let Some(endpoint) = &settings.admin else {
        return Ok(None);
    };
    let is_exposed = endpoint.ip().is_some_and(is_exposed);
    let password = settings.auth_file.as_deref().filter(|_| is_exposed);
    let guard = password.map(app::guard).transpose()?;
    let sources = (handle, Arc::clone(files), &Sampler::new(handle));
    AdminListener::open(endpoint, inherited, sources, guard).map(Some)
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

/// One line on standard error, which may be closed.
fn complain(text: &str) {
    let line: String = text.split(char::is_control).collect::<Vec<_>>().join(" ");
    let _ = writeln!(std::io::stderr(), "tws: {line}");
}

/// To standard output, which may be closed.
fn say(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes());
    let _ = stdout.flush();
}
