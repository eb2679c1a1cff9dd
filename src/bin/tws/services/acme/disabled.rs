//! A build without the feature `acme` has no automatic certificates.

use std::path::Path;

use tws::admin::CertificateStatus;
use tws::{Error, ServerHandle};

use crate::cli::Settings;
use crate::confinement::privileges::RunAs;
use crate::services::http_challenges::HttpChallenges;
use crate::services::tls::Tls;

/// No value exists.
pub(crate) enum Acme {}

/// No value exists.
pub(crate) enum AcmeHandle {}

/// # Errors
///
/// [`Error::Setting`] if the settings ask for automatic certificates.
pub(crate) fn open(settings: &Settings, _: Option<&RunAs>) -> Result<Option<Acme>, Error> {
    match settings.encryption.acme() {
        None => Ok(None),
        Some(_) => Err(Error::Setting(
            "--acme: this tws was built without the feature acme; rebuild it with --features acme"
                .to_owned(),
        )),
    }
}

impl Acme {
    pub(crate) fn tls(&self) -> Tls {
        match *self {}
    }

    pub(crate) fn challenges(&self) -> HttpChallenges {
        match *self {}
    }

    pub(crate) fn folder(&self) -> &Path {
        match *self {}
    }

    pub(crate) fn statuses(&self) -> fn() -> Vec<CertificateStatus> {
        match *self {}
    }

    pub(crate) fn load(&mut self) -> Result<(), Error> {
        match *self {}
    }

    pub(crate) fn start(
        self,
        _: &ServerHandle,
        _: Option<&ServerHandle>,
    ) -> Result<AcmeHandle, Error> {
        match self {}
    }
}

impl AcmeHandle {
    pub(crate) fn reload(&self, _: &Settings) {
        match *self {}
    }
}
