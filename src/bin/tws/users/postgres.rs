//! Users in a PostgreSQL database, which many servers may share, or in any database that speaks its
//! protocol.
//!
//! Every wait has an end here, that for a database that takes connections and never answers, too.
//! After it the connection is given up: what was under way may have been committed or not.
//!
//! No text of this module has the password in it, nor any other part of a URL that could be one.

use std::collections::HashMap;
use std::error::Error as _;
use std::time::{Duration, SystemTime};

use tokio::runtime::{self, Runtime};
use tokio::task::{self, JoinHandle};
use tokio::time;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::{Client, Config, NoTls, Row, Statement};

use super::User;
use super::store::{Database, StoreError};
use tws::Error;

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS users (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name TEXT NOT NULL,
    created TIMESTAMPTZ NOT NULL DEFAULT now()
)";

/// One statement, so it is a transaction by itself and costs one round trip.
const INSERT: &str = "INSERT INTO users (name) SELECT name FROM unnest($1::text[]) AS names (name)
    RETURNING id, name, created";

const LIST: &str = "SELECT id, name, created FROM users WHERE id > $1 ORDER BY id LIMIT $2";

const FIND: &str = "SELECT id, name, created FROM users WHERE id = $1";

/// How long the database is waited for if the URL has no `connect_timeout`.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection, or the will to make one.
pub(super) struct Postgres {
    config: Config,
    patience: Duration,
    runtime: Runtime,
    table: Table,
    session: Option<Session>,
}

/// Whether the table has been seen. One that goes away later is not made again: who took it away
/// will have had a reason.
#[derive(Clone, Copy)]
enum Table {
    Unseen,
    Seen,
}

struct Session {
    client: Client,
    insert: Statement,
    list: Statement,
    find: Statement,
    _driver: Driver,
}

/// What moves the connection's bytes. It would otherwise wait for answers that nobody wants any
/// more.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Postgres {
    pub(super) fn at(url: &str) -> Result<Self, Error> {
        let config = config(url).map_err(|reason| {
            Error::Setting(format!("users cannot be stored in this database: {reason}"))
        })?;
        // Names are resolved on one more thread, which may hang for longer than anybody waits.
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(1)
            .build()
            .map_err(Error::system("create the event loop of the user database"))?;
        Ok(Self {
            patience: config.get_connect_timeout().copied().unwrap_or(PATIENCE),
            config,
            runtime,
            table: Table::Unseen,
            session: None,
        })
    }

    /// Asks the database, on a new connection if the old one has ended meanwhile.
    fn ask<T>(
        &mut self,
        question: impl AsyncFnOnce(&Session) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, StoreError> {
        self.runtime.block_on(notice_ends());
        if self
            .session
            .as_ref()
            .is_none_or(|session| session.client.is_closed())
        {
            self.connect().map_err(StoreError::Lost)?;
        }
        let Some(session) = &self.session else {
            return Err(StoreError::Lost("no connection".to_owned()));
        };
        let answer = async { time::timeout(self.patience, question(session)).await };
        let error = match self.runtime.block_on(answer) {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) if leaves_connection(&error) => {
                return Err(StoreError::Failed(text(&error)));
            }
            Ok(Err(error)) => text(&error),
            Err(_) => no_answer(self.patience),
        };
        self.session = None;
        Err(StoreError::Lost(error))
    }
}

impl Database for Postgres {
    fn connect(&mut self) -> Result<(), String> {
        self.session = None;
        // Each host may take its time.
        let hosts = self.config.get_hosts().len().max(1);
        let bound = self.patience * u32::try_from(hosts).unwrap_or(u32::MAX);
        let session = Session::start(&self.config, self.patience, self.table);
        let session = async { time::timeout(bound, session).await };
        let session = self.runtime.block_on(session);
        let session = session.unwrap_or_else(|_| Err(no_answer(bound)));
        self.session =
            Some(session.map_err(|reason| format!("{}: {reason}", hosts_of(&self.config)))?);
        self.table = Table::Seen;
        Ok(())
    }

    fn insert(&mut self, names: &[&str]) -> Result<Vec<User>, StoreError> {
        // `query` ends when the server is ready for the next one: the transaction is committed
        // then. Rows alone prove nothing.
        let rows =
            self.ask(async |session| session.client.query(&session.insert, &[&names]).await)?;
        in_order(names, users(&rows)?)
    }

    fn list(&mut self, after: i64, limit: i64) -> Result<Vec<User>, StoreError> {
        let rows = self.ask(async |session| {
            let select = &session.list;
            session.client.query(select, &[&after, &limit]).await
        })?;
        users(&rows)
    }

    fn find(&mut self, id: i64) -> Result<Option<User>, StoreError> {
        let rows = self.ask(async |session| session.client.query(&session.find, &[&id]).await)?;
        Ok(users(&rows)?.pop())
    }
}

impl Session {
    async fn start(config: &Config, patience: Duration, table: Table) -> Result<Self, String> {
        let (client, connection) = config.connect(NoTls).await.map_err(|error| text(&error))?;
        // In another encoding there are names that one user cannot be inserted with, and with them
        // none of the same transaction.
        match connection.parameter("server_encoding") {
            None | Some("UTF8") => {}
            Some(other) => return Err(format!("its encoding is {other}; UTF8 is required")),
        }
        let driver = Driver(task::spawn(async move {
            if let Err(error) = connection.await {
                log::debug!("users: database connection ended: {}", text(&error));
            }
        }));
        // A statement that waits for a lock must not stay behind when its connection is given up.
        let limit = format!("SET statement_timeout = {}", patience.as_millis() * 4 / 5);
        let prepared = async {
            client.batch_execute(&limit).await?;
            let insert = match (client.prepare(INSERT).await, table) {
                (Err(error), Table::Unseen) if error.code() == Some(&SqlState::UNDEFINED_TABLE) => {
                    create_table(&client).await?;
                    client.prepare(INSERT).await?
                }
                (insert, _) => insert?,
            };
            let (list, find) = (client.prepare(LIST).await?, client.prepare(FIND).await?);
            Ok((insert, list, find))
        };
        let (insert, list, find) = prepared
            .await
            .map_err(|error: tokio_postgres::Error| text(&error))?;
        Ok(Self {
            client,
            insert,
            list,
            find,
            _driver: driver,
        })
    }
}

/// `IF NOT EXISTS` is not enough for two servers that start at once: the later one finds a name
/// taken that was free when it looked.
async fn create_table(client: &Client) -> Result<(), tokio_postgres::Error> {
    let taken = [
        SqlState::UNIQUE_VIOLATION,
        SqlState::DUPLICATE_TABLE,
        SqlState::DUPLICATE_OBJECT,
    ];
    match client.batch_execute(SCHEMA).await {
        Err(error) if error.code().is_some_and(|code| taken.contains(code)) => Ok(()),
        result => result,
    }
}

/// Lets the connection see what has come since the last question: its end, perhaps. The event loop
/// is looked at between two yields, and the connection acts on it before the next.
async fn notice_ends() {
    for _ in 0..3 {
        task::yield_now().await;
    }
}

fn config(url: &str) -> Result<Config, String> {
    let no_tls = || {
        "its sslmode requires TLS, which tws does not support for databases; use sslmode=disable on \
         a trusted network, a Unix socket or a tunnel"
            .to_owned()
    };
    let mut config: Config = match url.parse() {
        Ok(config) => config,
        Err(error) => {
            let reason = tokio_postgres::Error::source(&error).map(ToString::to_string);
            // Only this one names a parameter and nothing of its value.
            return Err(match reason {
                Some(reason) if reason == "invalid value for option `sslmode`" => no_tls(),
                Some(reason) if reason.starts_with("invalid value for option") => reason,
                _ => "its URL must have the form postgres://user:password@host:port/database \
                      (percent-encode reserved characters: @ is %40)"
                    .to_owned(),
            });
        }
    };
    if config.get_ssl_mode() == SslMode::Require {
        return Err(no_tls());
    }
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err("its URL names no host".to_owned());
    }
    if let (None, Some(password)) = (config.get_password(), std::env::var_os("PGPASSWORD")) {
        config.password(password.into_encoded_bytes());
    }
    if config.get_application_name().is_none() {
        config.application_name("tws");
    }
    let patience = config.get_connect_timeout().copied().unwrap_or(PATIENCE);
    config.connect_timeout(patience);
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(patience);
    }
    Ok(config)
}

fn hosts_of(config: &Config) -> String {
    let hosts = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    });
    hosts.collect::<Vec<_>>().join(", ")
}

fn no_answer(bound: Duration) -> String {
    format!("no answer within {bound:?}")
}

/// An error's own words and its cause's, on one line and without the details, which may be long.
fn text(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        return format!("{}: {}", error.severity(), error.message());
    }
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Whether the connection can be used after this, and with good hope.
fn leaves_connection(error: &tokio_postgres::Error) -> bool {
    let Some(error) = error.as_db_error() else {
        return false;
    };
    let fatal = matches!(
        error.parsed_severity(),
        Some(Severity::Fatal | Severity::Panic)
    );
    // A server that has become a replica; a statement that the server has forgotten or outgrown.
    let useless = [
        SqlState::READ_ONLY_SQL_TRANSACTION,
        SqlState::INVALID_SQL_STATEMENT_NAME,
        SqlState::FEATURE_NOT_SUPPORTED,
    ];
    // Class 08: connection exception.
    !fatal && !useless.contains(error.code()) && !error.code().code().starts_with("08")
}

fn users(rows: &[Row]) -> Result<Vec<User>, StoreError> {
    rows.iter().map(user).collect()
}

fn user(row: &Row) -> Result<User, StoreError> {
    let failed = |error: tokio_postgres::Error| StoreError::Failed(text(&error));
    let created: SystemTime = row.try_get(2).map_err(failed)?;
    let created = jiff::Timestamp::try_from(created)
        .map_err(|error| StoreError::Failed(error.to_string()))?;
    Ok(User {
        id: row.try_get(0).map_err(failed)?,
        name: row.try_get(1).map_err(failed)?,
        created: format!("{created:.3}"),
    })
}

/// Nothing promises that rows come back in the order in which names were sent; but every name comes
/// back, and users of one name are as good as each other.
pub(super) fn in_order(names: &[&str], users: Vec<User>) -> Result<Vec<User>, StoreError> {
    let mut by_name: HashMap<String, Vec<User>> = HashMap::new();
    for user in users.into_iter().rev() {
        by_name.entry(user.name.clone()).or_default().push(user);
    }
    let take = |name: &&str| by_name.get_mut(*name)?.pop();
    let users: Option<Vec<User>> = names.iter().map(take).collect();
    users.ok_or_else(|| {
        StoreError::Failed("the database returned other names than were inserted".to_owned())
    })
}
