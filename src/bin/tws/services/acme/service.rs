//! The service: opened before privileges are dropped, loaded after, and started when the server is
//! about to serve.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use tws::admin::CertificateStatus;
use tws::{Error, ServerHandle, ServerState, Tls};

use super::identities::Identities;
use super::renewal::Renewal;
use crate::acme::{CaRoots, CaStore, ChallengeType, ExternalAccount, FileLock};
use crate::cli::{AcmeSettings, Settings};
use crate::confinement::privileges::RunAs;
use crate::confinement::state_dir::{self, StateDir};
use crate::services::http_challenges::HttpChallenges;

/// The time between two looks at the files, which other processes change, too.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// The time for which nothing is ordered after a panic.
const PAUSE_AFTER_PANIC: Duration = Duration::from_secs(3600);

/// The limit of a file of the settings, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Automatic certificates that are not served yet.
pub(crate) struct Acme {
    settings: AcmeSettings,
    roots_pem: Option<Vec<u8>>,
    roots: CaRoots,
    external: Option<ExternalAccount>,
    ca: CaStore,
    folder: PathBuf,
    identities: Arc<Identities>,
    running: Option<FileLock>,
}

/// Changes the names of the service while it runs.
pub(crate) struct AcmeHandle {
    identities: Arc<Identities>,
}

/// Reads the files that the settings name, and creates the folder of the state, which belongs to
/// `owner`. `None` without automatic certificates.
pub(crate) fn open(settings: &Settings, owner: Option<&RunAs>) -> Result<Option<Acme>, Error> {
    let Some(acme) = settings.encryption.acme() else {
        return Ok(None);
    };
    let (state_dir, ca) = store(settings, acme)?;
    let folder = state_dir.join("acme");
    // The file itself does not exist.
    state_dir::create_folders_of(&folder.join("ca"), owner)?;
    let (roots_pem, roots) = read_roots(acme)?;
    Ok(Some(Acme {
        settings: acme.clone(),
        roots_pem,
        roots,
        external: read_external_account(acme)?,
        identities: Arc::new(Identities::new(ca.clone(), &acme.names)?),
        ca,
        folder,
        running: None,
    }))
}

/// Returns the state directory, and the folder of the certificate authority in it.
pub(crate) fn store(settings: &Settings, acme: &AcmeSettings) -> Result<(PathBuf, CaStore), Error> {
    let folder = StateDir::of(settings).certificates()?;
    let state_dir = folder.parent().unwrap_or(Path::new("."));
    let ca = CaStore::new(state_dir, acme.directory.url());
    Ok((state_dir.to_owned(), ca))
}

/// Reads the root certificates of `--acme-ca`.
pub(crate) fn read_roots(acme: &AcmeSettings) -> Result<(Option<Vec<u8>>, CaRoots), Error> {
    let Some(path) = &acme.ca else {
        return Ok((None, CaRoots::Public));
    };
    let pem = read_file("read the root certificate", path)?;
    let roots = CaRoots::from_pem(&pem, path)?;
    Ok((Some(pem), roots))
}

/// Reads the file of `--acme-eab`.
pub(crate) fn read_external_account(acme: &AcmeSettings) -> Result<Option<ExternalAccount>, Error> {
    const PURPOSE: &str = "read the external account";
    let Some(path) = &acme.external_account else {
        return Ok(None);
    };
    let text = String::from_utf8_lossy(&read_file(PURPOSE, path)?).into_owned();
    let parsed = ExternalAccount::parse(&text);
    parsed
        .map(Some)
        .map_err(|reason| Error::path(PURPOSE, path, io::Error::other(reason)))
}

fn read_file(purpose: &'static str, path: &Path) -> Result<Vec<u8>, Error> {
    let read = || match fs::metadata(path)? {
        metadata if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        // Opening a FIFO would block.
        metadata if !metadata.is_file() => Err(io::Error::other("not a regular file")),
        metadata if metadata.len() > MAX_FILE_BYTES => {
            Err(io::Error::other("the file is too large (limit 1 MiB)"))
        }
        _ => fs::read(path),
    };
    read().map_err(|source| Error::path(purpose, path, source))
}

impl Acme {
    pub(crate) fn tls(&self) -> Tls {
        self.identities.tls.clone()
    }

    pub(crate) fn challenges(&self) -> HttpChallenges {
        self.identities.http.clone()
    }

    /// The folder that the process reads and writes.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns a function that reads the state of each name.
    pub(crate) fn statuses(&self) -> impl Fn() -> Vec<CertificateStatus> + Send + Sync + 'static {
        let identities = Arc::clone(&self.identities);
        move || identities.statuses()
    }

    /// Creates the folders of the names, and reads the certificates. To be called with the privileges
    /// that the process serves with.
    ///
    /// # Errors
    ///
    /// [`Error::Path`] if the process may not write there.
    pub(crate) fn load(&mut self) -> Result<(), Error> {
        for store in self.identities.stores() {
            store.create()?;
        }
        let directory = self.settings.directory.url();
        self.ca.write_ca(directory, self.roots_pem.as_deref())?;
        self.running = Some(self.ca.mark_running()?);
        self.identities.refresh();
        Ok(())
    }

    /// Starts the threads, which wait until the server serves. `redirect` is the listener for HTTP-01.
    pub(crate) fn start(
        self,
        server: &ServerHandle,
        redirect: Option<&ServerHandle>,
    ) -> Result<AcmeHandle, Error> {
        for name in self.identities.self_signed_names() {
            log::warn!(
                "acme: {name}: a self-signed certificate is served until {} has issued one",
                self.settings.directory.url()
            );
        }
        let renewal = Renewal {
            identities: Arc::clone(&self.identities),
            ca: self.ca,
            settings: self.settings,
            roots: self.roots,
            external: self.external,
            preferred: preferred_challenge(server, redirect),
            server: server.clone(),
        };
        let identities = Arc::clone(&self.identities);
        let (watched, running) = (server.clone(), self.running);
        spawn("acme-files", move || {
            let _running = running;
            while !watched.wait_for(ServerState::Ended, WATCH_INTERVAL) {
                identities.refresh();
            }
        })?;
        spawn("acme", move || {
            // Without the thread, the certificates would expire.
            while catch_unwind(AssertUnwindSafe(|| renewal.run())).is_err() {
                log::error!("acme: the thread has panicked; it goes on in an hour");
                if renewal.is_stopped_within(PAUSE_AFTER_PANIC) {
                    break;
                }
            }
        })?;
        Ok(AcmeHandle {
            identities: self.identities,
        })
    }
}

/// Prefers the challenge whose port a certificate authority connects to.
fn preferred_challenge(server: &ServerHandle, redirect: Option<&ServerHandle>) -> ChallengeType {
    let has_port = |handle: &ServerHandle, port| {
        let mut addresses = handle.local_addresses().iter();
        addresses.any(|address| address.port() == port)
    };
    let is_http = redirect.is_some_and(|redirect| has_port(redirect, 80));
    if is_http && !has_port(server, 443) {
        ChallengeType::Http01
    } else {
        ChallengeType::TlsAlpn01
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let thread = thread::Builder::new().name(name.to_owned());
    let started = thread.spawn(run);
    started
        .map(drop)
        .map_err(Error::system("start the thread of automatic certificates"))
}

impl AcmeHandle {
    /// Applies the names of new settings.
    pub(crate) fn reload(&self, settings: &Settings) {
        let Some(acme) = settings.encryption.acme() else {
            return;
        };
        if let Err(error) = self.identities.set_names(&acme.names) {
            log::error!("acme: {error}; the names are unchanged");
        }
    }
}
