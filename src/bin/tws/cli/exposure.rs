//! What other machines may reach: some things only if every request says who sends it.

use std::net::IpAddr;

use tws::Endpoint;

use super::layers::Listening;

/// Whether every request must say who sends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Authentication {
    Required,
    None,
}

/// Other machines may store files here only if they say who they are.
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

/// True if other machines may come that way.
pub(crate) fn is_exposed(address: IpAddr) -> bool {
    !address.to_canonical().is_loopback()
}

/// Who asks for what is for whom, is not for other machines to know.
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

/// Where operators ask: of the sockets that are open for it the one that most can reach.
pub(super) fn most_exposed(listening: &Listening, own: Endpoint) -> Endpoint {
    let given = listening.admin.iter().flatten();
    // From other machines rather than from this one, and by a Unix socket least of all.
    let reach = |endpoint: &&Endpoint| endpoint.ip().map(is_exposed);
    given.max_by_key(reach).cloned().unwrap_or(own)
}
