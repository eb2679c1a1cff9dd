//! What is served, from the settings: the files, the users of the sample application beside them, and
//! around both whoever asks for passwords. Made at the start, and again when the settings are read
//! anew; the users' store is opened once.

use std::path::Path;

use tws::site::Store;
#[cfg(feature = "auth")]
use tws::{BasicAuth, Credentials};
use tws::{Cors, Error, RateLimit, Router, SlowLog, StaticFiles};

use crate::cli::{Settings, SiteFileSource};
use crate::confinement::privileges::Identity;
#[cfg(feature = "sqlite")]
use crate::confinement::state_dir;

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
    pub(crate) fn into_handler(self, settings: &Settings, users: Option<&Users>) -> Router {
        let router = users.map_or_else(Router::new, |users| routes_of(users, Router::new()));
        wrap(router.fallback(self.files), self.guard, settings)
    }

    /// The same, but that of users only what needs no store is answered.
    pub(crate) fn into_explained_handler(self, settings: &Settings) -> Router {
        let router = match settings.users {
            #[cfg(any(feature = "sqlite", feature = "postgres"))]
            Some(_) => Users::explained_routes(Router::new()),
            _ => Router::new(),
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

/// The store with the place where it is.
#[cfg(feature = "sqlite")]
pub(crate) fn place(store: &Store, settings: &Settings) -> Result<Store, Error> {
    match store {
        Store::Sqlite(path) => {
            let path = state_dir::place(path, settings.state_dir.as_deref(), &settings.root)?;
            Ok(Store::Sqlite(path))
        }
        other => Ok(other.clone()),
    }
}

/// Makes the folder in which the store is, if need be.
#[cfg(feature = "sqlite")]
pub(crate) fn make_folder_of(store: &Store, owner: Option<&Identity>) -> Result<(), Error> {
    match store {
        Store::Sqlite(path) => state_dir::make_folder_of(path, owner),
        _ => Ok(()),
    }
}

#[cfg(not(feature = "sqlite"))]
#[expect(clippy::unnecessary_wraps, reason = "as its twin")]
pub(crate) fn place(store: &Store, _: &Settings) -> Result<Store, Error> {
    Ok(store.clone())
}

#[cfg(not(feature = "sqlite"))]
#[expect(clippy::unnecessary_wraps, reason = "as its twin")]
pub(crate) fn make_folder_of(_: &Store, _: Option<&Identity>) -> Result<(), Error> {
    Ok(())
}

#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) use crate::users::Users;

/// There are none without a store.
#[cfg(not(any(feature = "sqlite", feature = "postgres")))]
pub(crate) type Users = std::convert::Infallible;

#[cfg(any(feature = "sqlite", feature = "postgres"))]
fn routes_of(users: &Users, router: Router) -> Router {
    users.clone().routes(router)
}

#[cfg(not(any(feature = "sqlite", feature = "postgres")))]
fn routes_of(users: &Users, _: Router) -> Router {
    match *users {}
}

/// Starts the threads of the store.
pub(crate) fn open_users(store: &Store) -> Result<Users, Error> {
    check_store(store)?;
    match store {
        #[cfg(feature = "sqlite")]
        Store::Sqlite(path) => Users::open(path),
        #[cfg(feature = "postgres")]
        Store::Postgres(url) => Users::connect(url.reveal()),
        other => Err(no_store(other, "a newer tws")),
    }
}

/// An error if this program cannot keep users in such a store.
pub(crate) fn check_store(store: &Store) -> Result<(), Error> {
    match store {
        Store::Sqlite(_) if !cfg!(feature = "sqlite") => {
            Err(no_store(store, "one built with --features sqlite"))
        }
        Store::Postgres(_) if !cfg!(feature = "postgres") => {
            Err(no_store(store, "one built with --features postgres"))
        }
        _ => Ok(()),
    }
}

fn no_store(store: &Store, wanted: &str) -> Error {
    Error::Setting(format!(
        "users cannot be stored in {store} by this tws; use {wanted}"
    ))
}
