//! Which settings expose the server to other machines, and which of those require passwords.

use std::net::IpAddr;

use tws::{Config, Endpoint, ProxyProtocol};

use super::raw_args::InheritedEndpoints;
use super::values::HostPattern;

/// Whether every request must carry a user name and a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Authentication {
    Required,
    None,
}

/// Returns true if other machines can connect to `address`.
pub(crate) fn is_exposed(address: IpAddr) -> bool {
    !address.to_canonical().is_loopback()
}

/// Rejects a `feature` with which clients change files, for clients on other machines without
/// authentication. The clients behind a proxy are on other machines, wherever the proxy connects from.
pub(super) fn check_changes(
    feature: &str,
    config: &Config,
    authentication: Authentication,
) -> Result<(), String> {
    match (exposing_setting(config), authentication) {
        (None, _) | (_, Authentication::Required) => Ok(()),
        (Some((setting, remedy)), Authentication::None) => Err(format!(
            "{feature} with {setting}: any machine could change files here; \
             require passwords with --auth or --auth-file, or {remedy}"
        )),
    }
}

/// Returns the setting that lets clients on other machines use the server, and what to do instead.
fn exposing_setting(config: &Config) -> Option<(String, &'static str)> {
    let mut addresses = config.addresses.iter().filter_map(Endpoint::ip);
    if let Some(address) = addresses.find(|ip| is_exposed(*ip)) {
        return Some((format!("--bind {address}"), "bind 127.0.0.1"));
    }
    if config.proxy_protocol == ProxyProtocol::Required {
        return Some(("--proxy-protocol".to_owned(), "omit that flag"));
    }
    if !config.trusted_proxies.is_empty() {
        return Some(("--trusted-proxy".to_owned(), "omit that flag"));
    }
    // Only a proxy, or another program, connects to a Unix socket.
    let is_unix = |endpoint: &&Endpoint| matches!(endpoint, Endpoint::Unix(_));
    let unix = config.addresses.iter().find(is_unix)?;
    Some((format!("--bind {unix}"), "bind 127.0.0.1"))
}

/// Whether the host names in requests are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HostCheck {
    Off,
    /// Only the given names, those of the site and local ones are served.
    Named,
    /// No name is given, and only this machine can connect: names of other sites are rejected, because
    /// a page of such a site uses DNS rebinding.
    LocalOnly,
}

/// Returns whether host names are checked. Proxies forward the names of public sites on loopback
/// addresses, so behind one only given names are checked. Unix sockets cannot be reached by browsers
/// and do not count.
pub(super) fn host_check(patterns: &[HostPattern], config: &Config) -> HostCheck {
    if patterns.contains(&HostPattern::Any) {
        return HostCheck::Off;
    }
    if !patterns.is_empty() {
        return HostCheck::Named;
    }
    let is_behind_proxy =
        !config.trusted_proxies.is_empty() || config.proxy_protocol == ProxyProtocol::Required;
    let mut addresses = config.addresses.iter().filter_map(Endpoint::ip).peekable();
    let is_local = addresses.peek().is_some() && !addresses.any(is_exposed);
    if is_local && !is_behind_proxy {
        HostCheck::LocalOnly
    } else {
        HostCheck::Off
    }
}

/// Rejects an admin listener that other machines can use without authentication: it shows which
/// client downloads what.
pub(super) fn check_admin(
    endpoint: &Endpoint,
    authentication: Authentication,
) -> Result<(), String> {
    match (endpoint.ip().is_some_and(is_exposed), authentication) {
        (false, _) | (_, Authentication::Required) => Ok(()),
        (true, Authentication::None) => Err(format!(
            "--admin {endpoint}: any machine could see which client downloads what; require passwords \
             with --auth or --auth-file, or listen on 127.0.0.1"
        )),
    }
}

/// Returns the endpoint of the admin listener: of the inherited sockets the one that most machines can
/// reach, else the configured one.
pub(super) fn admin_endpoint(inherited: &InheritedEndpoints, configured: Endpoint) -> Endpoint {
    let inherited = inherited.admin.iter().flatten();
    // An exposed address ranks above a loopback one, and that above a Unix socket.
    let exposure = |endpoint: &&Endpoint| endpoint.ip().map(is_exposed);
    inherited
        .max_by_key(exposure)
        .cloned()
        .unwrap_or(configured)
}
