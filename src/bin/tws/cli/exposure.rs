//! Which settings expose the server to other machines, and which of those require passwords.

use std::net::IpAddr;

use tws::Endpoint;

use super::raw_args::InheritedEndpoints;

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

/// Rejects uploads from other machines without authentication.
pub(super) fn check_uploads(
    addresses: &[Endpoint],
    authentication: Authentication,
) -> Result<(), String> {
    let mut addresses = addresses.iter().filter_map(Endpoint::ip);
    match (addresses.find(|ip| is_exposed(*ip)), authentication) {
        (None, _) | (_, Authentication::Required) => Ok(()),
        (Some(address), Authentication::None) => Err(format!(
            "--upload ([upload] in a file) with --bind {address}: any machine could store files here; \
             require passwords with --auth-file, or bind 127.0.0.1"
        )),
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
             with --auth-file, or listen on 127.0.0.1"
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
