//! Users in a PostgreSQL database, which several servers may share, or in any database that speaks
//! its protocol.
//!
//! Every wait has a timeout, also for a database that accepts connections and never responds. A
//! connection is closed when its timeout expires: the query in flight may or may not have been
//! committed.
//!
//! No message of this module contains the password or any other part of a URL that could be one.

use std::collections::HashMap;
use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use tokio::runtime::{self, Runtime};
use tokio::task::{self, JoinHandle};
use tokio::time;
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::{Client, Config, NoTls, Row, Statement};

use tws::Error;

use super::store::{Database, StoreError, User};

const SCHEMA: &str = "CREATE TABLE IF NOT EXISTS users (
    id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name TEXT NOT NULL,
    created TIMESTAMPTZ NOT NULL DEFAULT now()
)";

/// A single statement is a transaction by itself and costs one round trip.
const INSERT: &str = "INSERT INTO users (name) SELECT name FROM unnest($1::text[]) AS names (name)
    RETURNING id, name, created";

const LIST: &str = "SELECT id, name, created FROM users WHERE id > $1 ORDER BY id LIMIT $2";

const FIND: &str = "SELECT id, name, created FROM users WHERE id = $1";

/// The timeout of connecting and of each query if the URL has no `connect_timeout`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// A database, with a connection to it while there is one.
pub(super) struct Postgres {
    config: Config,
    /// Of connecting to one host, and of each query.
    timeout: Duration,
    runtime: Runtime,
    table: Arc<TableState>,
    session: Option<Session>,
}

/// Whether one of the connections has found or created the table. A table that is dropped later is not
/// created again, as it was dropped on purpose.
#[derive(Default)]
struct TableState {
    existed: AtomicBool,
}

/// A connection with its prepared statements.
struct Session {
    client: Client,
    insert: Statement,
    list: Statement,
    find: Statement,
    _connection: ConnectionTask,
}

/// The task that reads and writes the connection's socket. It is aborted with the session;
/// otherwise it would go on to wait for responses to abandoned queries.
struct ConnectionTask(JoinHandle<()>);

impl Drop for ConnectionTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Postgres {
    /// A database at `postgres://user:password@host:port/database?parameter=value`, without
    /// connecting to it. `PGPASSWORD` of the environment is used if the URL has no password.
    ///
    /// The parameters are those of [`tokio_postgres::Config`]. `connect_timeout`, in seconds, is the
    /// timeout of connecting and of each query; the default is 5. TLS is not supported.
    ///
    /// # Errors
    ///
    /// [`Error::Setting`] for an invalid URL.
    pub(super) fn new(url: &str) -> Result<Self, Error> {
        let config = config(url).map_err(|reason| {
            Error::Setting(format!("users cannot be stored in this database: {reason}"))
        })?;
        Self::with(config, Arc::default())
    }

    /// Another connection to the same database.
    pub(super) fn another(&self) -> Result<Self, Error> {
        Self::with(self.config.clone(), Arc::clone(&self.table))
    }

    fn with(config: Config, table: Arc<TableState>) -> Result<Self, Error> {
        // Host names are resolved on one more thread, which may block for longer than the timeout.
        let runtime = runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(1)
            .build()
            .map_err(Error::system("create the event loop of the user database"))?;
        Ok(Self {
            timeout: timeout_of(&config),
            config,
            runtime,
            table,
            session: None,
        })
    }

    /// Runs a query, on a new connection if the previous one has ended.
    fn run<T>(
        &mut self,
        query: impl AsyncFnOnce(&Session) -> Result<T, tokio_postgres::Error>,
    ) -> Result<T, StoreError> {
        self.runtime.block_on(poll_connection());
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
        let result = async { time::timeout(self.timeout, query(session)).await };
        let error = match self.runtime.block_on(result) {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) if leaves_connection_usable(&error) => {
                return Err(StoreError::Failed(describe(&error)));
            }
            Ok(Err(error)) => describe(&error),
            Err(_) => no_response(self.timeout),
        };
        self.session = None;
        Err(StoreError::Lost(error))
    }
}

impl Database for Postgres {
    fn connect(&mut self) -> Result<(), String> {
        self.session = None;
        // The timeout holds for each of the hosts, which are tried one after the other.
        let hosts = self.config.get_hosts().len().max(1);
        let total = self.timeout * u32::try_from(hosts).unwrap_or(u32::MAX);
        let session = Session::start(&self.config, self.timeout, &self.table);
        let session = async { time::timeout(total, session).await };
        let session = self.runtime.block_on(session);
        let session = session.unwrap_or_else(|_| Err(no_response(total)));
        self.session =
            Some(session.map_err(|reason| format!("{}: {reason}", hosts_of(&self.config)))?);
        self.table.existed.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn insert(&mut self, names: &[&str]) -> Result<Vec<User>, StoreError> {
        // `query` returns when the server is ready for the next query, which it is only after the
        // commit. Rows alone do not prove that.
        let rows =
            self.run(async |session| session.client.query(&session.insert, &[&names]).await)?;
        in_order(names, users(&rows)?)
    }

    fn list(&mut self, after: i64, limit: i64) -> Result<Vec<User>, StoreError> {
        let rows = self.run(async |session| {
            let select = &session.list;
            session.client.query(select, &[&after, &limit]).await
        })?;
        users(&rows)
    }

    fn find(&mut self, id: i64) -> Result<Option<User>, StoreError> {
        let rows = self.run(async |session| session.client.query(&session.find, &[&id]).await)?;
        Ok(users(&rows)?.pop())
    }
}

impl Session {
    async fn start(config: &Config, timeout: Duration, table: &TableState) -> Result<Self, String> {
        let (client, connection) = config
            .connect(NoTls)
            .await
            .map_err(|error| describe(&error))?;
        // In another encoding, one name that cannot be represented would fail the whole
        // transaction, with the users of other requests.
        match connection.parameter("server_encoding") {
            None | Some("UTF8") => {}
            Some(other) => return Err(format!("its encoding is {other}; UTF8 is required")),
        }
        let task = ConnectionTask(task::spawn(async move {
            if let Err(error) = connection.await {
                log::debug!("users: database connection ended: {}", describe(&error));
            }
        }));
        // The server must end a statement that waits for a lock before the client closes the
        // connection: otherwise the statement would go on waiting.
        let limit = format!("SET statement_timeout = {}", timeout.as_millis() * 4 / 5);
        // Not later: the other connection may create the table after this one has found none.
        let existed = table.existed.load(Ordering::Relaxed);
        let prepared = async {
            client.batch_execute(&limit).await?;
            let insert = match client.prepare(INSERT).await {
                Err(error) if error.code() == Some(&SqlState::UNDEFINED_TABLE) && !existed => {
                    create_table(&client).await?;
                    client.prepare(INSERT).await?
                }
                insert => insert?,
            };
            let (list, find) = (client.prepare(LIST).await?, client.prepare(FIND).await?);
            Ok((insert, list, find))
        };
        let (insert, list, find) = prepared
            .await
            .map_err(|error: tokio_postgres::Error| describe(&error))?;
        Ok(Self {
            client,
            insert,
            list,
            find,
            _connection: task,
        })
    }
}

/// Creates the table if it is missing. `IF NOT EXISTS` does not suffice for two servers that start
/// at the same time: the name may be taken between the check and the creation.
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

/// Processes what the socket has received since the last query, such as the end of the connection.
/// The runtime polls for events between two yields, and the connection's task handles them before
/// the next.
async fn poll_connection() {
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
            // Only these messages name a parameter without quoting its value.
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
    let timeout = timeout_of(&config);
    config.connect_timeout(timeout);
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(timeout);
    }
    Ok(config)
}

fn timeout_of(config: &Config) -> Duration {
    let timeout = config.get_connect_timeout().copied();
    timeout.unwrap_or(DEFAULT_TIMEOUT)
}

fn hosts_of(config: &Config) -> String {
    let hosts = config.get_hosts().iter().map(|host| match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(path) => path.display().to_string(),
    });
    hosts.collect::<Vec<_>>().join(", ")
}

fn no_response(timeout: Duration) -> String {
    format!("no answer within {timeout:?}")
}

/// Describes an error and its cause on one line, without the details, which may be long.
fn describe(error: &tokio_postgres::Error) -> String {
    if let Some(error) = error.as_db_error() {
        return format!("{}: {}", error.severity(), error.message());
    }
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Whether the connection is likely to work for the next query.
fn leaves_connection_usable(error: &tokio_postgres::Error) -> bool {
    let Some(error) = error.as_db_error() else {
        return false;
    };
    let is_fatal = matches!(
        error.parsed_severity(),
        Some(Severity::Fatal | Severity::Panic)
    );
    // The server has become a replica, has dropped the prepared statement, or has changed the
    // types of its result.
    let needs_new_connection = [
        SqlState::READ_ONLY_SQL_TRANSACTION,
        SqlState::INVALID_SQL_STATEMENT_NAME,
        SqlState::FEATURE_NOT_SUPPORTED,
    ];
    // Class 08: connection exception.
    !is_fatal
        && !needs_new_connection.contains(error.code())
        && !error.code().code().starts_with("08")
}

fn users(rows: &[Row]) -> Result<Vec<User>, StoreError> {
    rows.iter().map(user).collect()
}

fn user(row: &Row) -> Result<User, StoreError> {
    let failed = |error: tokio_postgres::Error| StoreError::Failed(describe(&error));
    let created: SystemTime = row.try_get(2).map_err(failed)?;
    let created = jiff::Timestamp::try_from(created)
        .map_err(|error| StoreError::Failed(error.to_string()))?;
    Ok(User {
        id: row.try_get(0).map_err(failed)?,
        name: row.try_get(1).map_err(failed)?,
        created: format!("{created:.3}"),
    })
}

/// Returns users in the order of the names that were inserted. SQL does not guarantee the order of
/// the returned rows, but each name is among them, and users of the same name are interchangeable.
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
