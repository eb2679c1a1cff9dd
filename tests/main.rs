//! The server from outside: bytes on a socket, one file per behaviour.

mod support;

mod access_log;
mod admin;
mod banner;
mod browser;
mod clients;
mod command_line;
mod corpus;
mod disks;
mod embedding;
mod encoding;
mod explain;
mod faults;
mod floors;
mod handlers;
mod hostile;
#[cfg(feature = "tls")]
mod https;
mod limits;
mod listeners;
mod middleware;
mod peers;
mod promise;
mod protocol;
mod proxies;
mod race;
mod reload;
mod sandbox;
mod scale_out;
// The sample site has users.
#[cfg(feature = "sqlite")]
mod seeds;
mod site_rules;
mod static_files;
mod supervisor;
mod system_calls;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "tui")]
mod tui;
mod upload;
#[cfg(feature = "sqlite")]
mod users;
