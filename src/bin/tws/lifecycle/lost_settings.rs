//! What new settings lack that the settings in force have. A settings file that is read while a program
//! saves it is absent or empty, or ends early: what is served, and what protects it, would change without
//! anyone having asked for it. An absent or empty one is an error; a protection that is gone may be wanted,
//! and is in the log.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use tws::site::{AuthRequirement, AuthRule, Site};

use crate::cli::Settings;

/// Rejects settings that name no root any more, and a file that is gone or has become empty.
pub(super) fn check(old: &Settings, new: &Settings) -> Result<(), String> {
    if old.has_file_settings && !new.has_file_settings {
        let text =
            "the settings file is gone or has no settings; restore it, or restart the server";
        return Err(text.to_owned());
    }
    if old.is_root_named && !new.is_root_named {
        return Err(format!(
            "no setting names a folder, so that {} would be served in place of {}; add directory, or \
             restart the server",
            new.root.display(),
            old.root.display()
        ));
    }
    Ok(())
}

/// Returns a line for each root that has changed, and for each path whose protection is gone.
pub(super) fn warnings(old: &Settings, new: &Settings) -> Vec<String> {
    let (old_roots, new_roots) = (named_roots(old), named_roots(new));
    let changed = old_roots.iter().filter_map(|(name, from)| {
        let to = new_roots.get(name).filter(|to| *to != from)?;
        let (from, to) = (from.display(), to.display());
        Some(format!(
            "{}{to} is served in place of {from}",
            host_prefix(*name)
        ))
    });
    let kept = protections(new);
    let lost = protections(old).into_iter();
    let lost = lost.filter(|protection| !kept.contains(protection));
    let lost = lost.map(|(name, kind, path)| {
        let what = match kind {
            Protection::Password => "requires no password any more",
            Protection::Networks => "is not restricted to networks any more",
        };
        format!("{}{path} {what}", host_prefix(name))
    });
    changed.chain(lost).collect()
}

/// What a rule requires of the clients of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Protection {
    Password,
    Networks,
}

/// Returns the paths with a protection, each with the name of its host; the default site has none.
fn protections(settings: &Settings) -> BTreeSet<(Option<&str>, Protection, String)> {
    let mut protections = BTreeSet::new();
    for (_, site) in settings.sites() {
        let host = host_name(site);
        let requires = |rule: &&AuthRule| matches!(rule.requirement, AuthRequirement::Password(_));
        for rule in site.auth.iter().filter(requires) {
            protections.insert((host, Protection::Password, rule.path().to_string()));
        }
        for rule in &site.access {
            protections.insert((host, Protection::Networks, rule.path().to_string()));
        }
    }
    if settings.auth_file.is_some() {
        protections.insert((None, Protection::Password, "/*".to_owned()));
    }
    protections
}

fn host_name(site: &Site) -> Option<&str> {
    site.names.first().map(tws::site::HostName::as_str)
}

fn host_prefix(name: Option<&str>) -> String {
    name.map(|name| format!("host {name}: "))
        .unwrap_or_default()
}

/// Returns the absolute paths of the roots by host name; that of the default site has none.
fn named_roots(settings: &Settings) -> BTreeMap<Option<&str>, PathBuf> {
    let sites = settings
        .sites()
        .map(|(root, site)| (host_name(site), std::path::absolute(&root).unwrap_or(root)));
    sites.collect()
}
