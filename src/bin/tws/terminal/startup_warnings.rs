//! Warnings about unsafe settings and served secrets, each in one line with its remedy. The server starts
//! anyway, as they may be intended.
//!
//! The scan for secrets is limited to some thousand names and some milliseconds, so that it does not
//! delay the start, and reports only files that would be served.

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

use crate::cli::{Authentication, Encryption, Settings, is_exposed};
use crate::services::app;

/// Returns all warnings. `addresses` are those at which the server listens.
pub(crate) fn of(
    settings: &Settings,
    files: &StaticFiles,
    addresses: &[SocketAddr],
) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut scan = SecretsScan::new(files);
    let home = std::env::var_os("HOME").map(PathBuf::from);
    for (root, site) in settings.sites() {
        warnings.extend(suspicious_root(&root, home.as_deref()));
        scan.scan(site, &root);
    }
    warnings.extend(scan.warnings());
    warnings.extend(app::server_files_in_roots(settings));
    let mut sites = settings.sites();
    if sites.any(|(_, site)| site.symlinks == Symlinks::Follow) {
        warnings.push(
            "symbolic links are followed out of the root; use --symlinks inside to keep them in it"
                .to_owned(),
        );
    }
    let mut uploads = settings
        .sites()
        .filter_map(|(_, site)| site.upload.as_ref());
    if uploads.any(|upload| upload.overwrite) {
        warnings.push(
            "uploads may replace served files; omit --upload-overwrite to only add new ones"
                .to_owned(),
        );
    }
    let exposed = addresses
        .iter()
        .map(SocketAddr::ip)
        .find(|ip| is_exposed(*ip));
    if let Some(ip) = exposed
        && settings.authentication() == Authentication::None
    {
        warnings.push(format!(
            "{ip} can be reached without a password; use --auth or --auth-file to require one"
        ));
    }
    if let Some(ip) = exposed
        && settings.authentication() == Authentication::Required
        && settings.encryption == Encryption::Off
    {
        warnings.push(format!(
            "passwords are sent to {ip} unencrypted; use --tls-cert FILE, unless a proxy encrypts them"
        ));
    }
    warnings
}

/// Returns a warning about a root that is probably not intended: `/`, or a folder that contains the home
/// folder.
fn suspicious_root(root: &Path, home: Option<&Path>) -> Option<String> {
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

/// A kind of files that are probably not intended to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum SecretKind {
    Repository,
    Key,
    Secret,
    Backup,
}

impl SecretKind {
    /// Returns the kind that a file name suggests. The content of a key must be checked, too.
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

/// A scan for secrets among the served files, limited in time and in the number of names.
struct SecretsScan<'a> {
    files: &'a StaticFiles,
    started: Instant,
    entries: usize,
    found: BTreeMap<SecretKind, Vec<String>>,
}

impl<'a> SecretsScan<'a> {
    fn new(files: &'a StaticFiles) -> Self {
        Self {
            files,
            started: Instant::now(),
            entries: 0,
            found: BTreeMap::new(),
        }
    }

    /// Returns true if a limit is reached. Some entries are examined however long that takes.
    fn is_over(&self) -> bool {
        const MIN_ENTRIES: usize = 100;
        const MAX_ENTRIES: usize = 4000;
        const MAX_TIME: Duration = Duration::from_millis(10);
        let is_late = self.entries >= MIN_ENTRIES && self.started.elapsed() > MAX_TIME;
        self.entries >= MAX_ENTRIES || is_late
    }

    /// Examines one site, folders near the root first.
    fn scan(&mut self, site: &Site, root: &Path) {
        let host = site.names.first().map(HostName::as_str);
        // Any label matches a wildcard.
        let host = host.map(|name| name.replacen('*', "a", 1));
        let mut folders = VecDeque::from([PathBuf::new()]);
        while let Some(folder) = folders.pop_front() {
            // Fails, too, if the root is a single file.
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
                if let Some(kind) = SecretKind::of(&entry.file_name()) {
                    self.examine(kind, &entry, &path, host.as_deref());
                } else if is_folder && (site.hidden || !is_dotfile(&entry)) {
                    folders.push_back(path);
                }
            }
        }
    }

    fn examine(&mut self, kind: SecretKind, entry: &DirEntry, path: &Path, host: Option<&str>) {
        let is_exposed = match kind {
            // Every repository has one of these files at its top.
            SecretKind::Repository => ["HEAD", "entries", "wc.db", "requires"]
                .iter()
                .any(|name| self.is_served(&path.join(name), host)),
            SecretKind::Key => self.is_served(path, host) && is_private_key(&entry.path()),
            SecretKind::Secret | SecretKind::Backup => self.is_served(path, host),
        };
        if is_exposed {
            let path = path.to_string_lossy().replace(char::is_control, "\u{FFFD}");
            self.found.entry(kind).or_default().push(format!("/{path}"));
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

fn is_dotfile(entry: &DirEntry) -> bool {
    entry.file_name().as_bytes().starts_with(b".")
}

/// Returns true if a file with the name of a key is one: certificates, among others, have the same
/// extensions. A binary file is assumed to be a key unless it is a ZIP archive, as the presentations of
/// Keynote are. Opening it cannot block: it would be served, so it is a regular file.
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
    fn file_name_suggests_the_kind() {
        use SecretKind::{Backup, Key, Repository, Secret};
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
                assert_eq!(SecretKind::of(OsStr::new(name)), kind, "{name}");
            }
        }
    }

    #[test]
    fn root_with_whole_home_or_file_system_is_suspicious() {
        let folder = tempfile::tempdir().expect("a folder");
        let home = folder.path().join("ana");
        std::fs::create_dir_all(home.join("site")).expect("a folder");
        assert!(suspicious_root(&home, Some(&home)).is_some_and(|text| text.contains("home")));
        assert!(suspicious_root(folder.path(), Some(&home)).is_some());
        assert_eq!(suspicious_root(&home.join("site"), Some(&home)), None);
        assert_eq!(suspicious_root(&home, None), None);
        assert_eq!(suspicious_root(&home.join("none"), Some(&home)), None);
        assert!(
            suspicious_root(Path::new("/"), None).is_some_and(|text| text.contains("all files"))
        );
        // Services often have / as their home folder.
        assert_eq!(suspicious_root(&home, Some(Path::new("/"))), None);
    }
}
