//! What is unsafe about a start, each in one line with the way out. Serving goes on: it may be meant.
//!
//! The look at the files is short, for the start must not wait: some thousand names, some
//! milliseconds, and only what would be served is reported.

use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::fs::{DirEntry, File};
use std::io::Read;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use tws::site::{HostName, Site, Symlinks};
use tws::{Method, Request, StaticFiles};

use crate::cli::{Authentication, Encryption, Settings};

/// All that there is to warn of.
pub(crate) fn of(
    settings: &Settings,
    files: &StaticFiles,
    addresses: &[SocketAddr],
) -> Vec<String> {
    let site = &settings.site;
    let mut warnings = Vec::new();
    let mut look = Look::new(files);
    let home = std::env::var_os("HOME").map(PathBuf::from);
    for site in std::iter::once(site).chain(&site.hosts) {
        let root = match &site.root {
            Some(root) => settings.root.join(root),
            None => settings.root.clone(),
        };
        warnings.extend(too_much(&root, home.as_deref()));
        look.at(site, &root);
    }
    warnings.extend(look.warnings());
    let mut sites = std::iter::once(site).chain(&site.hosts);
    if sites.any(|site| site.symlinks == Symlinks::Follow) {
        warnings.push(
            "symbolic links are followed out of the root; use --symlinks inside to keep them in it"
                .to_owned(),
        );
    }
    let mut uploads = std::iter::once(site).chain(&site.hosts);
    if uploads.any(|site| site.upload.as_ref().is_some_and(|upload| upload.overwrite)) {
        warnings.push(
            "uploads may replace served files; omit --upload-overwrite to only add new ones"
                .to_owned(),
        );
    }
    let exposed = addresses
        .iter()
        .find(|address| !address.ip().to_canonical().is_loopback());
    if let Some(address) = exposed
        && settings.authentication() == Authentication::None
    {
        let ip = address.ip();
        warnings.push(format!(
            "{ip} can be reached without a password; use --auth-file FILE to require one"
        ));
    }
    if let Some(address) = exposed
        && settings.authentication() == Authentication::Required
        && settings.encryption == Encryption::Off
    {
        let ip = address.ip();
        warnings.push(format!(
            "passwords are sent to {ip} unencrypted; use --tls-cert FILE, unless a proxy encrypts them"
        ));
    }
    warnings
}

/// A root that is hardly meant.
fn too_much(root: &Path, home: Option<&Path>) -> Option<String> {
    let root = root.canonicalize().ok()?;
    let home = home.and_then(|home| home.canonicalize().ok());
    if root == Path::new("/") {
        return Some("all files of this machine are served; name the folder to serve".to_owned());
    }
    let is_home = home.is_some_and(|home| home.starts_with(&root) && home != Path::new("/"));
    is_home.then(|| {
        let root = root.display();
        format!("{root} is served, which is a whole home folder; name the folder to serve")
    })
}

/// What is hardly meant to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Repository,
    Key,
    Secret,
    Backup,
}

impl Kind {
    /// What a name says; a key must look like one inside, too.
    fn of(name: &OsStr) -> Option<Self> {
        let name = name.to_string_lossy().to_lowercase();
        let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
        let is = |names: &[&str]| names.contains(&&*name);
        if is(&[".git", ".svn", ".hg"]) {
            Some(Self::Repository)
        } else if is(&["id_rsa", "id_dsa", "id_ecdsa", "id_ed25519"])
            || ends(&[".pem", ".key", ".p12", ".pfx", ".jks", ".ppk", ".kdbx"])
        {
            Some(Self::Key)
        } else if is(&[".htpasswd", ".netrc", ".pgpass", ".git-credentials"])
            || ends(&[".env"])
            || name.starts_with(".env.")
        {
            Some(Self::Secret)
        } else if ends(&[
            ".sql", ".sql.gz", ".sql.xz", ".sql.zst", ".sql.bz2", ".dump",
        ]) || (ends(&[".db", ".sqlite", ".sqlite3"]) && !is(&["thumbs.db"]))
            || ends(&[".bak", ".old", ".swp", "~"])
            || (name.starts_with("backup") && ends(&[".zip", ".tar", ".tar.gz", ".tgz"]))
        {
            Some(Self::Backup)
        } else {
            None
        }
    }

    fn warning(self, paths: &str) -> String {
        match self {
            Self::Repository => {
                format!("a repository is served ({paths}); omit --hidden to hide it")
            }
            Self::Key => format!("private keys are served ({paths}); move them out of the root"),
            Self::Secret => format!("passwords are served ({paths}); move them out of the root"),
            Self::Backup => {
                format!("databases or backups are served ({paths}); move them out of the root")
            }
        }
    }
}

/// A short look at what is served.
struct Look<'a> {
    files: &'a StaticFiles,
    began: Instant,
    entries: usize,
    found: BTreeMap<Kind, Vec<String>>,
}

impl<'a> Look<'a> {
    fn new(files: &'a StaticFiles) -> Self {
        Self {
            files,
            began: Instant::now(),
            entries: 0,
            found: BTreeMap::new(),
        }
    }

    /// Some entries are looked at however long that takes.
    fn is_over(&self) -> bool {
        const MIN_ENTRIES: usize = 100;
        const MAX_ENTRIES: usize = 4000;
        const MAX_TIME: Duration = Duration::from_millis(10);
        let late = self.entries >= MIN_ENTRIES && self.began.elapsed() > MAX_TIME;
        self.entries >= MAX_ENTRIES || late
    }

    /// Folder by folder, those near the root first.
    fn at(&mut self, site: &Site, root: &Path) {
        let host = site.names.first().map(HostName::as_str);
        // Any label will do for a star.
        let host = host.map(|name| name.replacen('*', "a", 1));
        let mut folders = VecDeque::from([PathBuf::new()]);
        while let Some(folder) = folders.pop_front() {
            // Also if the root is a single file.
            let Ok(entries) = root.join(&folder).read_dir() else {
                continue;
            };
            for entry in entries.flatten() {
                if self.is_over() {
                    return;
                }
                self.entries += 1;
                let path = folder.join(entry.file_name());
                let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if let Some(kind) = Kind::of(&entry.file_name()) {
                    self.judge(kind, &entry, &path, host.as_deref());
                } else if is_folder && (site.hidden || !is_dotted(&entry)) {
                    folders.push_back(path);
                }
            }
        }
    }

    fn judge(&mut self, kind: Kind, entry: &DirEntry, path: &Path, host: Option<&str>) {
        let is_danger = match kind {
            // Each has a file at its top.
            Kind::Repository => ["HEAD", "entries", "wc.db", "requires"]
                .iter()
                .any(|name| self.is_served(&path.join(name), host)),
            Kind::Key => self.is_served(path, host) && is_private_key(&entry.path()),
            Kind::Secret | Kind::Backup => self.is_served(path, host),
        };
        if is_danger {
            let shown = path.to_string_lossy().replace(char::is_control, "\u{FFFD}");
            self.found
                .entry(kind)
                .or_default()
                .push(format!("/{shown}"));
        }
    }

    fn is_served(&self, path: &Path, host: Option<&str>) -> bool {
        let target: String = path
            .iter()
            .map(|part| format!("/{}", percent_encode(part.as_bytes(), NON_ALPHANUMERIC)))
            .collect();
        let Ok(request) = Request::parse(Method::GET, &target) else {
            return false;
        };
        self.files.finds(&match host {
            Some(host) => request.with_header("Host", host),
            None => request,
        })
    }

    fn warnings(self) -> impl Iterator<Item = String> {
        const MAX_NAMED: usize = 3;
        self.found.into_iter().map(|(kind, mut paths)| {
            paths.sort_unstable();
            let more = paths.len().saturating_sub(MAX_NAMED);
            paths.truncate(MAX_NAMED);
            let mut named = paths.join(", ");
            if more > 0 {
                named += &format!(" and {more} more");
            }
            kind.warning(&named)
        })
    }
}

fn is_dotted(entry: &DirEntry) -> bool {
    entry.file_name().as_bytes().starts_with(b".")
}

/// Certificates, and much else, have the same extensions. What is no text is taken for a key, but
/// for archives, which Keynote's presentations are. It is a regular file, for it would be served.
fn is_private_key(path: &Path) -> bool {
    const MAX_READ: u64 = 16 * 1024;
    let mut head = Vec::new();
    let Ok(file) = File::open(path) else {
        return false;
    };
    if file.take(MAX_READ).read_to_end(&mut head).is_err() || head.starts_with(b"PK") {
        return false;
    }
    match std::str::from_utf8(&head) {
        Ok(text) => text.contains("PRIVATE KEY") || text.starts_with("PuTTY-User-Key-File"),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_they_are() {
        use Kind::{Backup, Key, Repository, Secret};
        for (kind, names) in [
            (Some(Repository), &[".git", ".svn", ".hg"][..]),
            (Some(Key), &["id_rsa", "server.KEY", "a.pem", "b.p12"]),
            (
                Some(Secret),
                &[".env", ".env.local", "prod.env", ".htpasswd"],
            ),
            (
                Some(Backup),
                &[
                    "a.sql",
                    "a.sql.gz",
                    "x.db",
                    "a.php.bak",
                    "a.php~",
                    "backup-1.tar.gz",
                ],
            ),
            (
                None,
                &[
                    "index.html",
                    "key.html",
                    "environment",
                    "id_rsa.pub",
                    "Thumbs.db",
                    ".gitignore",
                    "old",
                ],
            ),
        ] {
            for name in names {
                assert_eq!(Kind::of(OsStr::new(name)), kind, "{name}");
            }
        }
    }

    #[test]
    fn a_root_that_is_too_much() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = folder.path().join("ana");
        std::fs::create_dir_all(home.join("site")).expect("a folder");
        assert!(too_much(&home, Some(&home)).is_some_and(|text| text.contains("home")));
        assert!(too_much(folder.path(), Some(&home)).is_some());
        assert_eq!(too_much(&home.join("site"), Some(&home)), None);
        assert_eq!(too_much(&home, None), None);
        assert_eq!(too_much(&home.join("none"), Some(&home)), None);
        assert!(too_much(Path::new("/"), None).is_some_and(|text| text.contains("all files")));
        // A service has no home.
        assert_eq!(too_much(&home, Some(Path::new("/"))), None);
    }
}
