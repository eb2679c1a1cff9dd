//! The settings of automatic certificates: which names, and from which certificate authority.

use std::collections::BTreeSet;
use std::path::PathBuf;

use tws::site::{HostName, Site};

use super::acme::{AcmeDirectory, AcmeName, parse_name, reason_against};
use super::flags::{Flags, usage};

/// Automatic certificates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AcmeSettings {
    /// In lower case, each once; at least one.
    pub(crate) names: Vec<String>,
    pub(crate) email: Option<String>,
    pub(crate) directory: AcmeDirectory,
    /// The root certificates of a private certificate authority.
    pub(crate) ca: Option<PathBuf>,
    pub(crate) profile: Option<String>,
    /// The file of an external account.
    pub(crate) external_account: Option<PathBuf>,
}

impl AcmeSettings {
    /// Returns the settings of the flags; `None` without `--acme`. Adds a warning for each name of a
    /// `[[host]]` that is left out.
    pub(super) fn of(
        flags: &Flags,
        site: &Site,
        warnings: &mut Vec<String>,
    ) -> Result<Option<Self>, clap::Error> {
        let is_off = flags.acme.contains(&AcmeName::Off);
        if is_off && flags.acme.len() > 1 {
            let text = "--acme: off excludes names; give only one of them";
            return Err(usage(text.to_owned()));
        }
        if is_off {
            return Ok(None);
        }
        // Without --acme, `tws acme` is about all certificates.
        if flags.acme.is_empty() && flags.acme_request.is_some() {
            return Ok(None);
        }
        if flags.acme.is_empty() {
            let others = [
                ("--acme-email", flags.acme_email.is_some()),
                ("--acme-directory", flags.acme_directory.is_some()),
                ("--acme-ca", flags.acme_ca.is_some()),
                ("--acme-profile", flags.acme_profile.is_some()),
                ("--acme-eab", flags.acme_eab.is_some()),
            ];
            return match others.iter().find(|(_, is_given)| *is_given) {
                Some((flag, _)) => Err(usage(format!(
                    "{flag}: automatic certificates are off; add --acme NAME"
                ))),
                None => Ok(None),
            };
        }
        let directory = flags.acme_directory.clone().unwrap_or_default();
        let mut names: Vec<String> = Vec::new();
        for given in &flags.acme {
            match given {
                AcmeName::Off => {}
                AcmeName::Name(name) => match reason_against(name, &directory) {
                    Some(reason) => return Err(usage(format!("--acme {name}: {reason}"))),
                    None => names.push(name.clone()),
                },
                AcmeName::Hosts => {
                    let all = site.hosts.iter().flat_map(|host| &host.names);
                    for host in all.map(HostName::as_str) {
                        let checked = parse_name(host).and_then(|name| {
                            reason_against(&name, &directory).map_or(Ok(name), Err)
                        });
                        match checked {
                            Ok(name) => names.push(name),
                            Err(reason) => warnings.push(format!(
                                "--acme: no certificate for the host {host}: {reason}"
                            )),
                        }
                    }
                }
            }
        }
        let mut known = BTreeSet::new();
        names.retain(|name| known.insert(name.clone()));
        if names.is_empty() {
            let text = "--acme: no [[host]] has a name that a certificate can be obtained for; give one: \
                        --acme example.org";
            return Err(usage(text.to_owned()));
        }
        Ok(Some(Self {
            names,
            email: flags.acme_email.clone(),
            directory,
            ca: flags.acme_ca.clone(),
            profile: flags.acme_profile.clone(),
            external_account: flags.acme_eab.clone(),
        }))
    }
}
