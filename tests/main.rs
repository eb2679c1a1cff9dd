//! Tests of the library and the binary through sockets and processes, one file per behaviour.

mod support;

mod access;
mod access_log;
#[cfg(feature = "acme")]
mod acme;
#[cfg(feature = "acme")]
mod acme_pebble;
mod ad_hoc_sharing;
mod admin;
mod architecture;
mod archives;
mod browser;
mod changing_files;
mod command_line;
mod deploys;
mod disconnects;
mod embedding;
mod encoding;
mod explain;
mod failures;
mod fair_jobs;
mod handlers;
mod header_rules;
mod host_names;
mod http2;
mod http2_attacks;
mod http2_features;
mod http2_limits;
mod http2_peers;
#[cfg(feature = "tls")]
mod http2_tls;
mod instructions;
mod interop_clients;
mod isolation;
mod listeners;
mod listing_page;
mod load_balancing;
mod manage;
mod middleware;
mod nginx_comparison;
mod observer;
mod protocol;
mod proxies;
mod push;
mod rate_and_bandwidth;
mod reload;
mod request_corpus;
mod resource_exhaustion;
mod rewrites;
mod sandbox;
mod slow_disks;
mod startup_output;
#[cfg(feature = "tls")]
mod tls_cli;
// The sample site has users, which need the feature.
#[cfg(feature = "sqlite")]
mod reference_projects;
mod site_rules;
mod static_files;
mod system_calls;
mod systemd;
#[cfg(feature = "tls")]
mod tls_sessions;
#[cfg(feature = "tls")]
mod tls_transport;
#[cfg(feature = "tui")]
mod tui;
mod typed_handlers;
mod upgrade;
mod upload;
#[cfg(feature = "sqlite")]
mod users;
#[cfg(feature = "websocket")]
mod websocket;
