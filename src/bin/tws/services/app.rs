//! What is served, from the settings: the files, the users of the sample application beside them, and
//! around both whoever asks for passwords. Made at the start, and again when the settings are read
//! anew; the users' store is opened once.

use std::path::Path;
use std::sync::Arc;

#[cfg(feature = "auth")]
use tws::{BasicAuth, Credentials};
use tws::{Cors, Error, RateLimit, Router, SlowLog, StaticFiles};

use crate::cli::{Settings, SiteFileSource};
use crate::users::{self, UserStore};

/// What is opened before the process gives anything up.
pub(crate) struct App {
    files: StaticFiles,
    guard: Option<Guard>,
}

impl App {
    pub(crate) fn open(settings: &Settings) -> Result<Self, Error> {
        Ok(Self {
            files: files(settings)?,
            guard: settings.auth_file.as_deref().map(guard).transpose()?,
        })
    }

    /// The files alone, whoever may have them.
    pub(crate) fn files(&self) -> &StaticFiles {
        &self.files
    }

    /// All of it, one around the other.
    pub(crate) fn into_handler(
        self,
        settings: &Settings,
        users: Option<&Arc<UserStore>>,
    ) -> Router {
        let router = Router::new();
        let router = match users {
            Some(store) => users::add_routes(router, store),
            None => router,
        };
        wrap(router.fallback(self.files), self.guard, settings)
    }

    /// The same, but that of users only what needs no store is answered.
    pub(crate) fn into_explained_handler(self, settings: &Settings) -> Router {
        let router = match settings.users {
            Some(_) => users::add_explained_routes(Router::new()),
            None => Router::new(),
        };
        wrap(router.fallback(self.files), self.guard, settings)
    }
}

pub(crate) fn files(settings: &Settings) -> Result<StaticFiles, Error> {
    let files = StaticFiles::with_site(&settings.root, &settings.site)?;
    Ok(hide_settings(files, settings))
}

/// Neither a site file under another name nor the users' passwords are served if they lie beneath
/// the root.
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

/// Puts around everything what flags ask for. Preflights come without a password, so they are
/// answered outside of where one is wanted.
fn wrap(app: Router, guard: Option<Guard>, settings: &Settings) -> Router {
    // A router with nothing but a fallback is whatever that is.
    let mut app = match guard {
        Some(guard) => guard(app),
        None => app,
    };
    app = limit(app, settings);
    if let Some(origin) = &settings.cors {
        app = Router::new().fallback(Cors::new(app, origin));
    }
    if let Some(threshold) = settings.slow_log {
        app = Router::new().fallback(SlowLog::new(app, threshold));
    }
    app
}

/// Puts around everything how many requests there may be.
pub(crate) fn limit(app: Router, settings: &Settings) -> Router {
    if settings.rate_limit.is_none() && settings.rate_limit_connection.is_none() {
        return app;
    }
    let limited = RateLimit::new(app);
    let limited = match settings.rate_limit {
        Some(rate) => limited.per_client(rate),
        None => limited,
    };
    Router::new().fallback(match settings.rate_limit_connection {
        Some(rate) => limited.per_connection(rate),
        None => limited,
    })
}

/// Puts around everything who may have it.
pub(crate) type Guard = Box<dyn FnOnce(Router) -> Router>;

#[cfg(feature = "auth")]
pub(crate) fn guard(path: &Path) -> Result<Guard, Error> {
    let credentials = Credentials::read(path)?;
    Ok(Box::new(|app| {
        Router::new().fallback(BasicAuth::new(app, credentials))
    }))
}

#[cfg(not(feature = "auth"))]
pub(crate) fn guard(path: &Path) -> Result<Guard, Error> {
    Err(Error::Setting(format!(
        "--auth-file {}: this tws was built without the feature auth; rebuild it with --features auth",
        path.display()
    )))
}
