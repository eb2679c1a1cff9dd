//! The application that the settings describe: the files, the sample application, and the layers
//! around both (passwords, rate limit, CORS, slow log). It is built at startup and at each reload;
//! the store of the sample application is opened once.

use std::path::Path;
use std::sync::Arc;

use tws::{AllowedHosts, BoxHandler, Cors, Error, RateLimit, Router, SlowLog, StaticFiles};
#[cfg(feature = "auth")]
use tws::{BasicAuth, Credentials};

use tws::site::HostName;

use crate::cli::{HostCheck, Settings, SiteFileSource};
use crate::users::{self, UserStore};

/// The parts that are opened before the process drops its privileges.
pub(crate) struct App {
    files: StaticFiles,
    auth: Option<AuthLayer>,
}

impl App {
    pub(crate) fn open(settings: &Settings) -> Result<Self, Error> {
        Ok(Self {
            files: files(settings)?,
            auth: settings.auth_file.as_deref().map(auth_layer).transpose()?,
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
        wrap(router.fallback(self.files), self.auth, settings)
    }

    /// The handler for `tws explain`: of the sample application, without its store.
    pub(crate) fn into_explained_handler(self, settings: &Settings) -> BoxHandler {
        let router = match settings.users {
            Some(_) => users::add_explained_routes(Router::new()),
            None => Router::new(),
        };
        wrap(router.fallback(self.files), self.auth, settings)
    }
}

/// Opens the files alone.
pub(crate) fn files(settings: &Settings) -> Result<StaticFiles, Error> {
    let files = StaticFiles::with_site(&settings.root, &settings.site)?;
    Ok(hide_settings(files, settings))
}

/// Hides the settings file, if it has another name than usual, and the file of passwords: neither is
/// served if it lies beneath the root.
fn hide_settings(files: StaticFiles, settings: &Settings) -> StaticFiles {
    let site_file = match &settings.site_file {
        SiteFileSource::Path(path) => Some(path),
        SiteFileSource::None | SiteFileSource::InRoot => None,
    };
    let paths = site_file.into_iter().chain(&settings.auth_file);
    paths.fold(files, |files, path| match std::path::absolute(path) {
        Ok(path) => files.hiding(&path),
        Err(_) => files,
    })
}

/// Adds the layers. Preflight requests carry no password, so CORS is outside of authentication; they
/// count against the rate limit like any other request.
fn wrap(app: Router, auth: Option<AuthLayer>, settings: &Settings) -> BoxHandler {
    let mut app = BoxHandler::new(app);
    if let Some(auth) = auth {
        app = auth(app);
    }
    if let Some(origin) = &settings.cors {
        app = BoxHandler::new(Cors::new(app, origin));
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
    let limited = match &settings.cors {
        Some(origin) => limited.readable_by(origin),
        None => limited,
    };
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

/// Reads a file of passwords.
#[cfg(feature = "auth")]
pub(crate) fn auth_layer(path: &Path) -> Result<AuthLayer, Error> {
    let credentials = Credentials::read(path)?;
    Ok(Box::new(|app| {
        BoxHandler::new(BasicAuth::new(app, credentials))
    }))
}

#[cfg(not(feature = "auth"))]
pub(crate) fn auth_layer(path: &Path) -> Result<AuthLayer, Error> {
    Err(Error::Setting(format!(
        "--auth-file {}: this tws was built without the feature auth; rebuild it with --features auth",
        path.display()
    )))
}
