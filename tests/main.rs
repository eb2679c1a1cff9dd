//! Tests of the library and the binary through sockets and processes, one file per behaviour. A file
//! in which a test starts the program needs the feature `cli`.

// Without the program some of the helpers have no user.
#![cfg_attr(not(feature = "cli"), allow(dead_code, unused_imports))]

mod support;

#[cfg(feature = "cli")]
mod access;
#[cfg(feature = "cli")]
mod access_log;
#[cfg(feature = "acme")]
mod acme;
#[cfg(feature = "acme")]
mod acme_pebble;
#[cfg(feature = "cli")]
mod ad_hoc_sharing;
#[cfg(feature = "cli")]
mod admin;
mod architecture;
#[cfg(feature = "archive")]
mod archives;
#[cfg(feature = "cli")]
mod browser;
mod changing_files;
#[cfg(feature = "cli")]
mod command_line;
mod deploys;
mod disconnects;
mod embedding;
#[cfg(feature = "cli")]
mod encoding;
#[cfg(feature = "cli")]
mod error_pages;
#[cfg(feature = "cli")]
mod explain;
#[cfg(feature = "cli")]
mod failures;
mod fair_jobs;
mod handlers;
#[cfg(feature = "cli")]
mod header_rules;
#[cfg(feature = "cli")]
mod host_names;
#[cfg(feature = "cli")]
mod http2;
#[cfg(feature = "cli")]
mod http2_attacks;
#[cfg(feature = "cli")]
mod http2_features;
#[cfg(feature = "cli")]
mod http2_limits;
#[cfg(feature = "cli")]
mod http2_peers;
#[cfg(all(feature = "cli", feature = "tls"))]
mod http2_tls;
#[cfg(feature = "cli")]
mod instructions;
#[cfg(feature = "cli")]
mod interop_clients;
mod isolation;
mod layers;
#[cfg(feature = "cli")]
mod listeners;
#[cfg(feature = "cli")]
mod listing_page;
#[cfg(feature = "cli")]
mod load_balancing;
#[cfg(feature = "cli")]
mod manage;
#[cfg(feature = "cli")]
mod middleware;
#[cfg(feature = "cli")]
mod nginx_comparison;
#[cfg(feature = "cli")]
mod observer;
mod protocol;
#[cfg(feature = "cli")]
mod proxies;
mod public_types;
mod push;
#[cfg(feature = "cli")]
mod rate_and_bandwidth;
#[cfg(feature = "cli")]
mod reload;
#[cfg(feature = "cli")]
mod replaced_roots;
#[cfg(feature = "cli")]
mod request_corpus;
#[cfg(feature = "cli")]
mod resource_exhaustion;
#[cfg(feature = "cli")]
mod rewrites;
#[cfg(feature = "cli")]
mod sandbox;
#[cfg(feature = "cli")]
mod slow_disks;
#[cfg(feature = "cli")]
mod startup_output;
#[cfg(all(feature = "cli", feature = "tls"))]
mod tls_cli;
// The sample site has users, which need the feature.
#[cfg(feature = "sqlite")]
mod reference_projects;
#[cfg(feature = "cli")]
mod site_rules;
mod static_files;
#[cfg(feature = "cli")]
mod system_calls;
#[cfg(feature = "cli")]
mod systemd;
#[cfg(all(feature = "cli", feature = "tls"))]
mod tls_sessions;
#[cfg(feature = "tls")]
mod tls_transport;
#[cfg(feature = "tui")]
mod tui;
mod typed_handlers;
#[cfg(feature = "cli")]
mod upgrade;
#[cfg(feature = "cli")]
mod upload;
#[cfg(feature = "sqlite")]
mod users;
#[cfg(feature = "websocket")]
mod websocket;
