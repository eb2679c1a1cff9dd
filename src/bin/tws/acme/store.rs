//! The state on the disk: a folder for each certificate authority, and in it one for each name.
//!
//! ```text
//! acme/acme-v02.api.letsencrypt.org-directory/
//!     ca.json               the URL of the directory
//!     roots.pem             the root certificates of --acme-ca, if it is given
//!     account.key           the private key of the account
//!     account.json          its URL
//!     running               locked (shared) by each server
//!     example.org/
//!         certificate.pem   the private key and the certificate with its intermediates
//!         state.json        the plan, the unfinished order, the last failure
//!         order.key         the private key of the unfinished order
//!         challenge.json    the challenge that is answered
//!         renew             asks the server to renew the certificate
//!         lock              locked (exclusively) by the one process that orders
//! ```
//!
//! A file is written to another name, synced and renamed: it is complete or it is the previous one. The
//! key and its certificate are one file, so that they always belong together. Everything is readable
//! by its owner alone. Several processes, also on other machines, may use the same folder if its file
//! system has flock(2), as NFSv4 does.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tws::Error;

use super::orders::ChallengeType;
use super::schedule::RenewalPlan;
use crate::confinement::privileges;

/// The limit of a file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// The folder of a certificate authority.
#[derive(Clone, Debug)]
pub(crate) struct CaStore {
    folder: PathBuf,
}

/// The folder of a name.
#[derive(Clone, Debug)]
pub(crate) struct IdentityStore {
    name: String,
    folder: PathBuf,
}

/// A locked file; unlocked when it is dropped, or when the process ends.
#[derive(Debug)]
pub(crate) struct FileLock(#[expect(dead_code, reason = "holds the lock")] File);

#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct CaFile {
    pub(crate) directory: String,
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(super) struct AccountFile {
    pub(super) url: String,
    pub(super) email: Option<String>,
}

/// The progress of a name.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(default)]
pub(crate) struct IdentityState {
    pub(crate) plan: Option<RenewalPlan>,
    /// The order that is continued.
    pub(super) order: Option<PendingOrder>,
    /// Requests for an order whose response was never stored, because the process has ended.
    pub(super) lost_requests: u32,
    /// Failures in a row.
    pub(crate) failures: u32,
    pub(crate) last_failure: Option<Failure>,
    /// When the next attempt may be made.
    pub(crate) next_attempt: Option<i64>,
    /// Whether the present certificate is revoked.
    pub(crate) is_revoked: bool,
}

#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(super) struct PendingOrder {
    pub(super) url: String,
    /// The challenge that was answered, if there was one.
    pub(super) challenge: Option<ChallengeType>,
}

/// A failed attempt.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) at: i64,
    /// A short name, for metrics.
    pub(crate) kind: String,
    pub(crate) message: String,
    /// The challenge that has failed.
    pub(super) challenge: Option<ChallengeType>,
}

/// A challenge that every process answers which uses the folder.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) struct ChallengeFile {
    pub(crate) kind: ChallengeType,
    pub(crate) token: String,
    pub(crate) key_authorization: String,
}

impl IdentityState {
    /// Returns whether an order is unfinished.
    pub(crate) fn has_order(&self) -> bool {
        self.order.is_some()
    }
}

impl CaStore {
    /// Returns the folder of a directory URL below the state directory.
    pub(crate) fn new(state_dir: &Path, directory: &str) -> Self {
        Self {
            folder: state_dir.join("acme").join(folder_name(directory)),
        }
    }

    /// Returns the folders of all certificate authorities below the state directory.
    pub(crate) fn all(state_dir: &Path) -> Vec<Self> {
        let folders = folders_in(&state_dir.join("acme")).into_iter();
        folders.map(|folder| Self { folder }).collect()
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn identity(&self, name: &str) -> IdentityStore {
        IdentityStore {
            name: name.to_owned(),
            folder: self.folder.join(name),
        }
    }

    /// Returns the names that have folders.
    pub(crate) fn identities(&self) -> Vec<IdentityStore> {
        let folders = folders_in(&self.folder).into_iter();
        let identities = folders.filter_map(|folder| {
            let name = folder.file_name()?.to_str()?.to_owned();
            Some(IdentityStore { name, folder })
        });
        identities.collect()
    }

    /// Stores the URL of the directory and the root certificates, for `tws acme`.
    pub(crate) fn write_ca(&self, directory: &str, roots: Option<&[u8]>) -> Result<(), Error> {
        let ca = CaFile {
            directory: directory.to_owned(),
        };
        write_json_if_new(&self.folder.join("ca.json"), &ca)?;
        let path = self.folder.join("roots.pem");
        match roots {
            Some(roots) => write_if_new(&path, roots),
            None => remove(&path),
        }
    }

    pub(crate) fn read_ca(&self) -> Result<Option<CaFile>, Error> {
        read_json(&self.folder.join("ca.json"))
    }

    pub(crate) fn read_roots(&self) -> Result<Option<Vec<u8>>, Error> {
        read(&self.folder.join("roots.pem"))
    }

    /// Waits for the lock of the account.
    pub(super) fn lock_account(&self) -> Result<FileLock, Error> {
        let path = self.folder.join("account.lock");
        let locked = open_lock(&path).and_then(|file| file.lock().map(|()| file));
        locked
            .map(FileLock)
            .map_err(|source| Error::path("lock", path, source))
    }

    pub(super) fn read_account_key(&self) -> Result<Option<Vec<u8>>, Error> {
        read(&self.folder.join("account.key"))
    }

    pub(super) fn write_account_key(&self, pem: &str) -> Result<(), Error> {
        write(&self.folder.join("account.key"), pem.as_bytes())
    }

    pub(super) fn read_account(&self) -> Result<Option<AccountFile>, Error> {
        read_json(&self.folder.join("account.json"))
    }

    pub(super) fn write_account(&self, account: &AccountFile) -> Result<(), Error> {
        write_json(&self.folder.join("account.json"), account)
    }

    pub(super) fn remove_account(&self) -> Result<(), Error> {
        remove(&self.folder.join("account.json"))
    }

    /// Marks that a server runs, until the lock is dropped.
    pub(crate) fn mark_running(&self) -> Result<FileLock, Error> {
        let path = self.folder.join("running");
        let locked = open_lock(&path).and_then(|file| file.lock_shared().map(|()| file));
        locked
            .map(FileLock)
            .map_err(|source| Error::path("lock", path, source))
    }

    /// Returns whether a server runs that uses the folder.
    pub(crate) fn is_running(&self) -> Result<bool, Error> {
        let path = self.folder.join("running");
        if !path.exists() {
            return Ok(false);
        }
        try_lock(&path).map(|lock| lock.is_none())
    }
}

impl IdentityStore {
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Creates the folder if it is missing.
    pub(crate) fn create(&self) -> Result<(), Error> {
        let created = DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder);
        created.map_err(|source| Error::path("create the folder", &self.folder, source))
    }

    /// Returns the file of the certificate and its key.
    pub(crate) fn certificate_path(&self) -> PathBuf {
        self.folder.join("certificate.pem")
    }

    pub(crate) fn challenge_path(&self) -> PathBuf {
        self.folder.join("challenge.json")
    }

    pub(crate) fn read_certificate(&self) -> Result<Option<Vec<u8>>, Error> {
        read(&self.certificate_path())
    }

    pub(super) fn write_certificate(&self, pem: &str) -> Result<(), Error> {
        write(&self.certificate_path(), pem.as_bytes())
    }

    pub(crate) fn read_state(&self) -> Result<IdentityState, Error> {
        read_json(&self.folder.join("state.json")).map(Option::unwrap_or_default)
    }

    pub(crate) fn write_state(&self, state: &IdentityState) -> Result<(), Error> {
        write_json(&self.folder.join("state.json"), state)
    }

    pub(super) fn read_order_key(&self) -> Result<Option<Vec<u8>>, Error> {
        read(&self.folder.join("order.key"))
    }

    pub(super) fn write_order_key(&self, pem: &str) -> Result<(), Error> {
        write(&self.folder.join("order.key"), pem.as_bytes())
    }

    pub(super) fn remove_order_key(&self) -> Result<(), Error> {
        remove(&self.folder.join("order.key"))
    }

    pub(crate) fn read_challenge(&self) -> Result<Option<ChallengeFile>, Error> {
        read_json(&self.challenge_path())
    }

    pub(super) fn write_challenge(&self, challenge: &ChallengeFile) -> Result<(), Error> {
        write_json(&self.challenge_path(), challenge)
    }

    pub(super) fn remove_challenge(&self) -> Result<(), Error> {
        remove(&self.challenge_path())
    }

    pub(crate) fn is_renewal_requested(&self) -> bool {
        self.folder.join("renew").exists()
    }

    pub(crate) fn request_renewal(&self) -> Result<(), Error> {
        write(&self.folder.join("renew"), b"")
    }

    pub(crate) fn remove_renewal_request(&self) -> Result<(), Error> {
        remove(&self.folder.join("renew"))
    }

    /// Locks the name; `None` if another process orders for it.
    pub(crate) fn try_lock(&self) -> Result<Option<FileLock>, Error> {
        try_lock(&self.folder.join("lock"))
    }
}

/// Returns a folder name for a URL: host and path, with `-` for all other characters.
fn folder_name(directory: &str) -> String {
    let rest = directory.strip_prefix("https://").unwrap_or(directory);
    let letters = rest.trim_end_matches('/').chars().take(200);
    let letters = letters.map(|letter| match letter {
        'a'..='z' | '0'..='9' | '.' | '_' => letter,
        'A'..='Z' => letter.to_ascii_lowercase(),
        _ => '-',
    });
    let name: String = letters.collect();
    // Neither a hidden name nor that of the folder above.
    name.trim_start_matches('.').to_owned()
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let paths = entries.map(|entry| entry.path());
    let mut folders: Vec<_> = paths.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}

/// Reads a file; `None` if it does not exist.
fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let mut content = Vec::new();
    let read = File::open(path).and_then(|file| {
        // One byte more, to notice a larger file.
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut content)
    });
    match read {
        Ok(count) if count as u64 > MAX_FILE_BYTES => {
            let source = io::Error::other("the file is too large (limit 1 MiB)");
            Err(Error::path("read", path, source))
        }
        Ok(_) => Ok(Some(content)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::path("read", path, error)),
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let Some(content) = read(path)? else {
        return Ok(None);
    };
    let parsed = serde_json::from_slice(&content);
    parsed.map(Some).map_err(|error| {
        let text = format!("{error}; remove the file if nothing else can be done");
        Error::path(
            "read",
            path,
            io::Error::new(io::ErrorKind::InvalidData, text),
        )
    })
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_vec_pretty(value)
        .map_err(|error| Error::path("write", path, error.into()))?;
    write(path, &text)
}

fn write_json_if_new(path: &Path, value: &impl Serialize) -> Result<(), Error> {
    let text = serde_json::to_vec_pretty(value)
        .map_err(|error| Error::path("write", path, error.into()))?;
    write_if_new(path, &text)
}

fn write_if_new(path: &Path, content: &[u8]) -> Result<(), Error> {
    match read(path)? {
        Some(present) if present == content => Ok(()),
        _ => write(path, content),
    }
}

/// Replaces a file: afterwards it has the new content, also after a power failure, or, on an error,
/// the previous one.
fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}", std::process::id()));
    let temporary = PathBuf::from(temporary);
    let written = || {
        // Left over by a process that was killed. A link is not followed.
        let _ = fs::remove_file(&temporary);
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&temporary)?;
        own_as_folder(&file, path)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_folder_of(path)
    };
    written().map_err(|source| {
        // Nothing more can be done about it.
        let _ = fs::remove_file(&temporary);
        Error::path("write", path, source)
    })
}

fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Ok(()) => sync_folder_of(path).map_err(|source| Error::path("remove", path, source)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::path("remove", path, error)),
    }
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

fn open_lock(path: &Path) -> io::Result<File> {
    let open = |options: &mut OpenOptions| options.read(true).write(true).mode(0o600).open(path);
    match open(OpenOptions::new().create_new(true)) {
        Ok(file) => own_as_folder(&file, path).map(|()| file),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => open(&mut OpenOptions::new()),
        Err(error) => Err(error),
    }
}

/// Gives a new file to the owner of its folder: root may run `tws acme` for a server of another user.
fn own_as_folder(file: &File, path: &Path) -> io::Result<()> {
    if !privileges::is_root() {
        return Ok(());
    }
    let folder = fs::metadata(path.parent().unwrap_or(Path::new(".")))?;
    fchown(file, Some(folder.uid()), Some(folder.gid()))
}

fn try_lock(path: &Path) -> Result<Option<FileLock>, Error> {
    let failed = |source| Error::path("lock", path, source);
    let file = open_lock(path).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(FileLock(file))),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn store() -> (tempfile::TempDir, CaStore) {
        let folder = tempfile::tempdir().expect("a folder");
        let store = CaStore::new(folder.path(), "https://127.0.0.1:14000/dir");
        (folder, store)
    }

    #[test]
    fn folder_of_a_certificate_authority_is_beneath_the_state_directory() {
        for (directory, expected) in [
            (
                "https://acme-v02.api.letsencrypt.org/directory",
                "acme-v02.api.letsencrypt.org-directory",
            ),
            ("https://127.0.0.1:14000/dir", "127.0.0.1-14000-dir"),
            ("https://CA.test/a/../../b/", "ca.test-a-..-..-b"),
            ("https://../x", "-x"),
        ] {
            assert_eq!(folder_name(directory), expected);
        }
    }

    #[test]
    fn files_are_for_their_owner_alone() {
        let (_folder, store) = store();
        let identity = store.identity("a.test");
        identity.create().expect("created");
        store.write_account_key("key").expect("written");
        identity.write_certificate("certificate").expect("written");
        let mode = |path: &Path| fs::metadata(path).expect("a file").permissions().mode() & 0o777;
        assert_eq!(mode(&identity.certificate_path()), 0o600);
        assert_eq!(mode(&store.folder().join("account.key")), 0o600);
        for folder in [&identity.folder, &store.folder] {
            assert_eq!(mode(folder), 0o700);
        }
    }

    #[test]
    fn state_is_read_as_it_was_written() {
        let (_folder, store) = store();
        let identity = store.identity("a.test");
        identity.create().expect("created");
        assert_eq!(
            identity.read_state().expect("read"),
            IdentityState::default()
        );
        let state = IdentityState {
            order: Some(PendingOrder {
                url: "https://ca/1".to_owned(),
                challenge: Some(ChallengeType::Http01),
            }),
            failures: 2,
            ..IdentityState::default()
        };
        identity.write_state(&state).expect("written");
        assert_eq!(identity.read_state().expect("read"), state);
        let leftovers = fs::read_dir(&identity.folder).expect("a folder").count();
        assert_eq!(leftovers, 1);
        fs::write(identity.folder.join("state.json"), "{").expect("a file");
        assert!(identity.read_state().is_err());
    }

    #[test]
    fn lock_excludes_other_holders_until_dropped() {
        let (_folder, store) = store();
        let identity = store.identity("a.test");
        identity.create().expect("created");
        let lock = identity.try_lock().expect("locked");
        assert!(lock.is_some());
        assert!(identity.try_lock().expect("asked").is_none());
        drop(lock);
        assert!(identity.try_lock().expect("asked").is_some());
        assert!(!store.is_running().expect("asked"));
        let running = store.mark_running().expect("marked");
        let second = store.mark_running().expect("marked");
        drop(running);
        assert!(store.is_running().expect("asked"));
        drop(second);
        assert!(!store.is_running().expect("asked"));
    }
}
