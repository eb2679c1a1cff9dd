//! The rules of one site about access: the networks and the passwords that paths require.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use ::http::Method;

use crate::explain_log::explain;
use crate::site::{AccessRule, AuthRequirement, AuthRule, PatternIndex};

/// The rules of one site about access.
#[derive(Debug)]
pub(super) struct AccessRules {
    networks: Vec<AccessRule>,
    network_index: PatternIndex,
    passwords: Vec<AuthRule>,
    password_index: PatternIndex,
}

/// Names of one file: paths that lead to it, each once.
pub(super) type Aliases = Vec<Vec<u8>>;

impl AccessRules {
    /// The rules of a site, after those of the default site.
    pub(super) fn new(networks: Vec<AccessRule>, passwords: Vec<AuthRule>) -> Self {
        Self {
            network_index: PatternIndex::new(networks.iter().map(|rule| &rule.path)),
            password_index: PatternIndex::new(passwords.iter().map(|rule| &rule.path)),
            networks,
            passwords,
        }
    }

    pub(super) fn has_rules(&self) -> bool {
        self.has_password_rules() || self.has_network_rules()
    }

    pub(super) fn has_password_rules(&self) -> bool {
        !self.passwords.is_empty()
    }

    pub(super) fn has_network_rules(&self) -> bool {
        !self.networks.is_empty()
    }

    /// Returns the first rule that denies a client one of the paths.
    pub(super) fn denial(&self, paths: &Aliases, client: SocketAddr) -> Option<&AccessRule> {
        let rules = matching(&self.network_index, paths);
        let mut rules = rules.into_iter().map(|position| &self.networks[position]);
        rules.find(|rule| !rule.permits(client))
    }

    /// Returns the file with the passwords for a file with these paths.
    pub(super) fn password_file(&self, paths: &Aliases, method: &Method) -> Option<&Path> {
        let rule = self.password_rule(paths, method)?;
        match &rule.requirement {
            AuthRequirement::Password(file) => {
                explain!("access", "{rule} requires a password of {}", file.display());
                Some(file)
            }
            AuthRequirement::Public => {
                explain!("access", "{rule} requires no password");
                None
            }
        }
    }

    /// As [`password_file`](Self::password_file), without an explanation.
    pub(super) fn quiet_password_file(&self, paths: &Aliases, method: &Method) -> Option<&Path> {
        match &self.password_rule(paths, method)?.requirement {
            AuthRequirement::Password(file) => Some(file),
            AuthRequirement::Public => None,
        }
    }

    /// Returns the rule that decides about passwords for a file with these paths.
    fn password_rule(&self, paths: &Aliases, method: &Method) -> Option<&AuthRule> {
        let is_reading = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS);
        if is_reading && paths.iter().all(|path| is_acme_challenge(path)) {
            return None;
        }
        let rules = matching(&self.password_index, paths).into_iter().rev();
        let mut rules = rules.map(|position| &self.passwords[position]);
        rules.find(|rule| is_reading || rule.requirement != AuthRequirement::Public)
    }
}

impl AccessRules {
    /// True if every request that is permitted for all of the files `first` is permitted for another: the
    /// rules about networks that match the other one match one of the first as well, and the password is of
    /// the same file, if there is one.
    pub(super) fn permit_as_well(
        &self,
        first: &[Aliases],
        other: &Aliases,
        method: &Method,
    ) -> bool {
        let networks = self.networks_of(first);
        let password = self.password_file(other, method);
        matching(&self.network_index, other).is_subset(&networks)
            && password.is_none_or(|file| self.require(first, file, method))
    }

    /// As [`permit_as_well`](Self::permit_as_well), for all that is or may be beneath `folder`, a path with
    /// a slash at its end.
    pub(super) fn permit_beneath(&self, first: &[Aliases], folder: &[u8], method: &Method) -> bool {
        let networks = self.networks_of(first);
        let mut network_rules = self.networks.iter().enumerate();
        network_rules
            .all(|(at, rule)| !rule.path.may_match_beneath(folder) || networks.contains(&at))
            && self.passwords.iter().all(|rule| match &rule.requirement {
                AuthRequirement::Password(file) => {
                    !rule.path.may_match_beneath(folder) || self.require(first, file, method)
                }
                AuthRequirement::Public => true,
            })
    }

    /// Returns the positions of the rules about networks that match one of the files.
    fn networks_of(&self, files: &[Aliases]) -> BTreeSet<usize> {
        let each = files
            .iter()
            .map(|paths| matching(&self.network_index, paths));
        each.flatten().collect()
    }

    /// True if one of the files requires a password of `file`.
    fn require(&self, files: &[Aliases], file: &Path, method: &Method) -> bool {
        let mut required = files.iter().map(|paths| self.password_file(paths, method));
        required.any(|other| other == Some(file))
    }
}

/// Returns the positions of the rules that match one of the paths, in ascending order.
fn matching(index: &PatternIndex, paths: &Aliases) -> BTreeSet<usize> {
    let all = paths.iter().flat_map(|path| index.all(path));
    all.map(|position| position as usize).collect()
}

/// Certification authorities request these files without a password (RFC 8555 §8.3).
fn is_acme_challenge(path: &[u8]) -> bool {
    const FOLDER: &[u8] = b"/.well-known/acme-challenge/";
    path.len() > FOLDER.len() && path.starts_with(FOLDER)
}
