//! What new settings lack that the settings in force have. A settings file that is read while a program
//! saves it is empty or ends early: what is served, and what protects it, would change without anyone
//! having asked for it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::cli::Settings;

/// Rejects settings that name no root any more, and those of a file that has become empty.
pub(super) fn check(old: &Settings, new: &Settings) -> Result<(), String> {
    if new.is_file_blank && !old.is_file_blank {
        return Err("the settings file is empty; save it again, or restart the server".to_owned());
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

/// Returns a line for each root that has changed, and for each kind of protection that is gone.
pub(super) fn warnings(old: &Settings, new: &Settings) -> Vec<String> {
    let (old_roots, new_roots) = (named_roots(old), named_roots(new));
    let changed = old_roots.iter().filter_map(|(name, from)| {
        let to = new_roots.get(name).filter(|to| *to != from)?;
        let host = name
            .map(|name| format!("host {name}: "))
            .unwrap_or_default();
        let (from, to) = (from.display(), to.display());
        Some(format!("{host}{to} is served in place of {from}"))
    });
    let lost = [
        (
            !old.password_files().is_empty() && new.password_files().is_empty(),
            "no path requires a password any more",
        ),
        (
            restricts_networks(old) && !restricts_networks(new),
            "no path is restricted to networks any more",
        ),
    ];
    let lost = lost.iter().filter(|(is_lost, _)| *is_lost);
    let lost = lost.map(|(_, text)| (*text).to_owned());
    changed.chain(lost).collect()
}

/// Returns the absolute paths of the roots by host name; that of the default site has none.
fn named_roots(settings: &Settings) -> BTreeMap<Option<&str>, PathBuf> {
    let sites = settings.sites().map(|(root, site)| {
        let name = site.names.first().map(tws::site::HostName::as_str);
        (name, std::path::absolute(&root).unwrap_or(root))
    });
    sites.collect()
}

fn restricts_networks(settings: &Settings) -> bool {
    let mut sites = settings.sites();
    sites.any(|(_, site)| !site.access.is_empty())
}
