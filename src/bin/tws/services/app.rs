//! The application that the settings describe: the files, the sample application, and the layers
//! around both (passwords, rate limit, CORS, slow log). It is built at startup and at each reload;
//! the store of the sample application is opened once.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;

use tws::access_log::LogDestination;
use tws::site::{HostName, RootOpener, SITE_FILE, Store};
use tws::{AllowedHosts, BoxHandler, Cors, Error, RateLimit, Router, SlowLog, StaticFiles};
#[cfg(feature = "auth")]
use tws::{BasicAuth, Credentials, Request};

use super::random_path;
#[cfg(feature = "auth")]
use crate::cli::USERS_OF_FLAG;
use crate::cli::{BasePath, Encryption, HostCheck, Settings, SiteFileSource};
use crate::users::{self, UserStore};

/// The parts that are opened before the process drops its privileges.
pub(crate) struct App {
    files: StaticFiles,
    auth: Option<AuthLayer>,
}

impl App {
    /// Opens the files, with `opener` where a sandbox denies a root that was replaced. None of `own` is
    /// served.
    pub(crate) fn open(
        settings: &Settings,
        own: &ServerFiles,
        opener: Option<&Arc<dyn RootOpener>>,
    ) -> Result<Self, Error> {
        let files = files(settings, own, opener)?;
        Ok(Self {
            auth: path_auth_layer(settings, &files)?,
            files,
        })
    }

    /// The files, without the layers.
    pub(crate) fn files(&self) -> &StaticFiles {
        &self.files
    }

    /// The handler of the server.
    pub(crate) fn into_handler(
        self,
        settings: &Settings,
        users: Option<&Arc<UserStore>>,
    ) -> BoxHandler {
        let router = Router::new();
        let router = match users {
            Some(store) => users::add_routes(router, store),
            None => router,
        };
        self.wrap(router, &random_path::full_path(settings), settings)
    }

    /// The handler for `tws explain`: of the sample application, without its store.
    pub(crate) fn into_explained_handler(self, settings: &Settings) -> BoxHandler {
        let router = match settings.users {
            Some(_) => users::add_explained_routes(Router::new()),
            None => Router::new(),
        };
        // A path that is chosen at the start is not known.
        self.wrap(router, &settings.base, settings)
    }

    /// Puts around the router what the settings demand, and serves it below a path. The rules of the
    /// site are about the paths below that.
    fn wrap(self, router: Router, base: &BasePath, settings: &Settings) -> BoxHandler {
        let files = self.files.clone();
        let mut app = BoxHandler::new(router.fallback(self.files));
        if let Some(auth) = self.auth {
            app = auth(app);
        }
        app = files.answer_preflights(files.restrict_networks(app));
        match base.prefix() {
            "" => files.add_error_fields(wrap(app, settings)),
            _ => wrap(below(base, files.add_error_fields(app)), settings),
        }
    }
}

/// Serves an app below a path.
fn below(base: &BasePath, app: BoxHandler) -> BoxHandler {
    BoxHandler::new(Router::new().nest(base.prefix(), Router::new().fallback(app)))
}

/// Opens the files alone.
pub(crate) fn files(
    settings: &Settings,
    own: &ServerFiles,
    opener: Option<&Arc<dyn RootOpener>>,
) -> Result<StaticFiles, Error> {
    let (root, site) = (&settings.root, &settings.site);
    let files = match opener {
        Some(opener) => StaticFiles::with_opener(root, site, opener),
        None => StaticFiles::with_site(root, site),
    };
    let files = files.map_err(|error| match &error {
        Error::Path { path, .. } if path == root => {
            error.at(settings.key_locations.prefix("directory"))
        }
        _ => error,
    })?;
    let own = own.0.iter();
    Ok(own.fold(files, |files, path| files.hiding(path)))
}

/// The absolute paths of the files that the server itself reads or writes. They are neither served nor
/// replaced by uploads, should they be beneath a root.
#[derive(Clone, Default)]
pub(crate) struct ServerFiles(BTreeSet<PathBuf>);

impl ServerFiles {
    /// Returns the files of the settings.
    pub(crate) fn of(settings: &Settings) -> Self {
        Self::default().and_those_of(settings)
    }

    /// Adds the files of other settings, which replace the former ones while the process runs. It may
    /// still use files of those, and a file that it uses no longer (a key, a log) is as secret as
    /// before.
    pub(crate) fn and_those_of(mut self, settings: &Settings) -> Self {
        self.0.extend(server_files(settings));
        self.0.extend(site_files(settings));
        self
    }
}

fn server_files(settings: &Settings) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = Vec::new();
    if let SiteFileSource::Path(path) = &settings.site_file {
        paths.push(path.clone());
    }
    paths.extend(settings.password_files());
    if let Encryption::Certificates(pairs) = &settings.encryption {
        for (certificate, key) in pairs {
            paths.extend([certificate.clone(), key.clone()]);
        }
    }
    if let Some(acme) = settings.encryption.acme() {
        paths.extend(acme.ca.iter().chain(&acme.external_account).cloned());
    }
    for destination in &settings.access_log {
        if let LogDestination::File(path) = destination {
            paths.push(path.clone());
        }
    }
    // A database at an impossible path is an error elsewhere.
    if let Ok(Some(Store::Sqlite(database))) = users::locate(settings) {
        let real = database.canonicalize().unwrap_or_else(|_| database.clone());
        for suffix in ["-wal", "-shm", "-journal"] {
            // SQLite creates them beside the file that a symbolic link leads to.
            let mut name = real.clone().into_os_string();
            name.push(suffix);
            paths.push(name.into());
        }
        paths.push(database);
    }
    let paths = paths
        .iter()
        .filter_map(|path| std::path::absolute(path).ok());
    paths.collect()
}

/// Returns the paths of the site files that exist in roots. Their own name is never served; another name
/// could lead to one.
fn site_files(settings: &Settings) -> impl Iterator<Item = PathBuf> {
    let paths = settings.roots().map(|root| root.join(SITE_FILE));
    let paths = paths.filter(|path| path.exists());
    paths.filter_map(|path| std::path::absolute(path).ok())
}

/// Checks that this process may store files in each root that accepts uploads or changes.
///
/// # Errors
///
/// [`Error::Path`] with the remedy.
pub(crate) fn check_upload_roots(settings: &Settings) -> Result<(), Error> {
    for (root, site) in settings.sites() {
        if site.upload.is_none() && site.manage.is_none() || !root.is_dir() {
            continue;
        }
        accessat(CWD, &root, Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS).map_err(
            |errno| {
                let reason = match errno {
                    Errno::ROFS => "the file system is read-only; omit --upload and --manage",
                    _ => "this process may not create files there; change its owner or mode, or omit --upload and --manage",
                };
                Error::path("store uploads in", root, io::Error::other(reason))
            },
        )?;
    }
    Ok(())
}

/// Returns a warning for each file that the server reads or writes and that is beneath a root.
pub(crate) fn server_files_in_roots(settings: &Settings) -> Vec<String> {
    let roots: Vec<_> = settings
        .roots()
        .filter_map(|root| root.canonicalize().ok())
        .collect();
    let is_in_root = |path: &Path| {
        // The file itself may not exist yet.
        let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
        let places = [folder, path.canonicalize().ok()];
        let mut places = places.iter().flatten();
        places.any(|place| roots.iter().any(|root| place.starts_with(root)))
    };
    let paths = server_files(settings);
    let inside = paths
        .iter()
        .filter(|path| path.exists() && is_in_root(path));
    let mut warnings: Vec<String> = Vec::new();
    for path in inside {
        let warning = format!(
            "{} is inside a served folder; it is not served, but should be kept elsewhere",
            path.display()
        );
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
    warnings
}

/// Adds the layers around access control. Preflight requests carry no password, so CORS is outside of it;
/// they count against the rate limit like any other request.
fn wrap(mut app: BoxHandler, settings: &Settings) -> BoxHandler {
    if let Some(origin) = settings.cors.first() {
        app = BoxHandler::new(Cors::new(app, origin).of_origins(&settings.cors));
    }
    app = check_hosts(app, settings);
    app = limit_rate(app, settings);
    if let Some(threshold) = settings.slow_log {
        app = BoxHandler::new(SlowLog::new(app, threshold));
    }
    app
}

/// Rejects requests for unknown host names, as the settings ask for. Allowed are those in the settings,
/// those of the site and this machine's.
pub(crate) fn check_hosts(app: BoxHandler, settings: &Settings) -> BoxHandler {
    let check = settings.host_check();
    if check == HostCheck::Off {
        return app;
    }
    let names = settings.host_names().into_iter().chain(machine_names());
    let checked = AllowedHosts::new(app, names);
    BoxHandler::new(match check {
        HostCheck::LocalOnly => checked.exempt_unix_sockets(),
        HostCheck::Named | HostCheck::Off => checked,
    })
}

/// Returns the host name of this machine, in full and its first label.
fn machine_names() -> Vec<HostName> {
    let system = rustix::system::uname();
    let name = system.nodename().to_string_lossy().to_ascii_lowercase();
    let first = name.split('.').next().unwrap_or_default();
    let names = [name.as_str(), first];
    names.iter().filter_map(|name| name.parse().ok()).collect()
}

/// Adds the rate limits.
pub(crate) fn limit_rate(app: BoxHandler, settings: &Settings) -> BoxHandler {
    if settings.rate_limit.is_none() && settings.rate_limit_connection.is_none() {
        return app;
    }
    let limited = RateLimit::new(app);
    let limited = limited.readable_by(&settings.cors);
    let limited = match settings.rate_limit {
        Some(rate) => limited.per_client(rate),
        None => limited,
    };
    BoxHandler::new(match settings.rate_limit_connection {
        Some(rate) => limited.per_connection(rate),
        None => limited,
    })
}

/// Wraps a handler so that requests need a password.
pub(crate) type AuthLayer = Box<dyn FnOnce(BoxHandler) -> BoxHandler>;

/// Reads the files of passwords that the rules of the sites name, if any do. `files` knows the rules.
#[cfg(feature = "auth")]
fn path_auth_layer(settings: &Settings, files: &StaticFiles) -> Result<Option<AuthLayer>, Error> {
    let read = |path: PathBuf| Ok((path.clone(), passwords(settings, &path)?));
    let passwords = settings.password_files().into_iter().map(read);
    let passwords: Vec<_> = passwords.collect::<Result<_, Error>>()?;
    if passwords.is_empty() {
        return Ok(None);
    }
    let files = files.clone();
    let rate = settings.auth_failures;
    Ok(Some(Box::new(move |app| {
        let required = move |request: &Request<'_>| files.required_passwords(request);
        let auth = BasicAuth::with_rules(app, passwords, required);
        BoxHandler::new(match rate {
            Some(rate) => auth.with_failure_rate(rate),
            None => auth,
        })
    })))
}

#[cfg(not(feature = "auth"))]
fn path_auth_layer(settings: &Settings, _: &StaticFiles) -> Result<Option<AuthLayer>, Error> {
    let first = settings.password_files().into_iter().next();
    first.map_or(Ok(None), |path| Err(without_feature(&path)))
}

/// Reads one of the files of passwords. The users of the flag `--auth` count as a part of `--auth-file`.
#[cfg(feature = "auth")]
fn passwords(settings: &Settings, path: &Path) -> Result<Credentials, Error> {
    let file = settings.auth_file.as_deref();
    let read = if file == Some(path) || path == Path::new(USERS_OF_FLAG) {
        Credentials::read_with(file, &settings.auth_lines)
    } else {
        Credentials::read(path)
    };
    read.map_err(|error| error.at(settings.location_of_passwords(path)))
}

/// Checks one of the files of passwords.
#[cfg(feature = "auth")]
pub(crate) fn check_passwords(settings: &Settings, path: &Path) -> Result<(), Error> {
    passwords(settings, path).map(drop)
}

/// Checks one of the files of passwords.
#[cfg(not(feature = "auth"))]
pub(crate) fn check_passwords(_: &Settings, path: &Path) -> Result<(), Error> {
    Err(without_feature(path))
}

#[cfg(not(feature = "auth"))]
fn without_feature(path: &Path) -> Error {
    Error::Setting(format!(
        "{}: this tws was built without the feature auth; rebuild it with --features auth",
        path.display()
    ))
}

/// Requires the passwords of the users that may request all paths, if there are any.
#[cfg(feature = "auth")]
pub(crate) fn auth_layer(settings: &Settings) -> Result<Option<AuthLayer>, Error> {
    if !settings.has_users_for_all() {
        return Ok(None);
    }
    let file = settings.auth_file.as_deref();
    let credentials = Credentials::read_with(file, &settings.auth_lines)?;
    Ok(Some(Box::new(|app| {
        BoxHandler::new(BasicAuth::new(app, credentials))
    })))
}

#[cfg(not(feature = "auth"))]
pub(crate) fn auth_layer(settings: &Settings) -> Result<Option<AuthLayer>, Error> {
    let file = settings.auth_file.as_deref();
    file.map_or(Ok(None), |path| Err(without_feature(path)))
}
