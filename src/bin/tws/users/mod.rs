//! The sample application: users that are created and read over HTTP and kept in a database. It is
//! built on the public API of the library alone.
//!
//! `routes` turns requests into queries and their results into JSON; `store` runs the queries on
//! threads of their own; `sqlite` and `postgres` are the databases, each compiled in by the feature
//! of its name.

#![cfg_attr(
    not(any(feature = "sqlite", feature = "postgres")),
    expect(dead_code, reason = "without a database no store is opened")
)]

#[cfg(feature = "postgres")]
mod postgres;
mod routes;
#[cfg(feature = "sqlite")]
mod sqlite;
mod store;
#[cfg(all(test, any(feature = "sqlite", feature = "postgres")))]
mod tests;

use std::sync::Arc;

use tws::Error;
use tws::site::Store;

use crate::cli::Settings;
use crate::confinement::privileges::RunAs;
use crate::confinement::state_dir::{self, StateDir};

pub(crate) use routes::{add_explained_routes, add_routes};
pub(crate) use store::UserStore;

/// Returns the store of the settings, with the absolute or relative path at which a database file
/// is opened. `None` without users.
///
/// # Errors
///
/// [`Error::Setting`] if the store is of a kind that this build does not support, or if the file
/// would lie beneath the served root.
pub(crate) fn locate(settings: &Settings) -> Result<Option<Store>, Error> {
    let Some(store) = &settings.users else {
        return Ok(None);
    };
    check_supported(store)?;
    Ok(Some(match store {
        Store::Sqlite(path) => Store::Sqlite(StateDir::of(settings).users(path)?),
        other => other.clone(),
    }))
}

/// Creates the missing folders of a database file; they belong to `owner`.
pub(crate) fn create_folders(store: &Store, owner: Option<&RunAs>) -> Result<(), Error> {
    match store {
        Store::Sqlite(path) => state_dir::create_folders_of(path, owner),
        _ => Ok(()),
    }
}

/// Opens the database and starts the threads that use it.
///
/// A SQLite file is created if it is missing. A PostgreSQL server need not be up: until it is, and
/// whenever the connection is lost, every request about users gets a 503.
pub(crate) fn open(store: &Store) -> Result<Arc<UserStore>, Error> {
    match store {
        #[cfg(feature = "sqlite")]
        Store::Sqlite(path) => {
            let (writer, reader) = sqlite::open(path)?;
            UserStore::start(writer, reader)
        }
        #[cfg(feature = "postgres")]
        Store::Postgres(url) => {
            let writer = postgres::Postgres::new(url.reveal())?;
            let reader = writer.another()?;
            UserStore::start(writer, reader)
        }
        other => Err(unsupported(other, "a newer tws")),
    }
}

fn check_supported(store: &Store) -> Result<(), Error> {
    match store {
        Store::Sqlite(_) if !cfg!(feature = "sqlite") => {
            Err(unsupported(store, "one built with --features sqlite"))
        }
        Store::Postgres(_) if !cfg!(feature = "postgres") => {
            Err(unsupported(store, "one built with --features postgres"))
        }
        _ => Ok(()),
    }
}

fn unsupported(store: &Store, remedy: &str) -> Error {
    Error::Setting(format!(
        "users cannot be stored in {store} by this tws; use {remedy}"
    ))
}
