//! The certificates that the settings name, or a generated one for testing.

use tws::Error;

use crate::cli::Encryption;

#[cfg(not(feature = "tls"))]
use disabled::replace;
#[cfg(not(feature = "tls"))]
pub(crate) use disabled::{Tls, open};
#[cfg(feature = "tls")]
use enabled::replace;
#[cfg(feature = "tls")]
pub(crate) use enabled::{Tls, open};

/// Reads the certificates of new settings, or the present files again if the settings name none.
pub(crate) fn reload(tls: &Tls, encryption: &Encryption) -> Result<(), Error> {
    if let Some(certificates) = replace(tls, encryption)? {
        log::warn!("tls: certificates reloaded: {certificates}");
    }
    Ok(())
}

#[cfg(feature = "tls")]
mod enabled {
    use std::collections::BTreeSet;
    use std::net::SocketAddr;
    use std::path::PathBuf;

    pub(crate) use tws::Tls;
    use tws::{Error, KeyPair, Reloaded};

    use crate::cli::Encryption;
    use crate::terminal::addresses::reachable;

    /// Reads the certificates, or makes one for the addresses of the server. `None` without TLS.
    pub(crate) fn open(
        encryption: &Encryption,
        addresses: &[SocketAddr],
    ) -> Result<Option<Tls>, Error> {
        match encryption {
            Encryption::Off => Ok(None),
            Encryption::SelfSigned => Tls::self_signed(&host_names(addresses)).map(Some),
            Encryption::Certificates(pairs) => Tls::open(key_pairs(pairs)).map(Some),
        }
    }

    /// Reads the certificates and describes them. `None` if they have not changed.
    pub(super) fn replace(tls: &Tls, encryption: &Encryption) -> Result<Option<String>, Error> {
        let reloaded = match encryption {
            Encryption::Certificates(pairs) => tls.replace(key_pairs(pairs))?,
            Encryption::Off | Encryption::SelfSigned => tls.reload()?,
        };
        Ok(match reloaded {
            Reloaded::Changed => Some(tls.describe().join("; ")),
            Reloaded::Unchanged => None,
        })
    }

    fn key_pairs(pairs: &[(PathBuf, PathBuf)]) -> Vec<KeyPair> {
        let pair = |(certificate, key): &(PathBuf, PathBuf)| KeyPair {
            certificate: certificate.clone(),
            key: key.clone(),
        };
        pairs.iter().map(pair).collect()
    }

    /// The names by which clients may address this machine.
    fn host_names(addresses: &[SocketAddr]) -> Vec<String> {
        let mut names = vec!["localhost".to_owned()];
        let host = rustix::system::uname();
        names.extend(host.nodename().to_str().ok().map(str::to_owned));
        let reachable = reachable(addresses);
        names.extend(reachable.iter().map(|address| address.ip().to_string()));
        names.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
        let mut known = BTreeSet::new();
        names.retain(|name| !name.is_empty() && known.insert(name.clone()));
        names
    }
}

#[cfg(not(feature = "tls"))]
mod disabled {
    use std::net::SocketAddr;

    use tws::Error;

    use crate::cli::Encryption;

    /// No value exists: a build without the feature `tls` opens no certificate.
    pub(crate) enum Tls {}

    impl Tls {
        pub(crate) fn describe(&self) -> Vec<String> {
            match *self {}
        }

        pub(crate) fn warnings(&self) -> Vec<String> {
            match *self {}
        }
    }

    /// # Errors
    ///
    /// [`Error::Setting`] if the settings ask for TLS.
    pub(crate) fn open(encryption: &Encryption, _: &[SocketAddr]) -> Result<Option<Tls>, Error> {
        match encryption {
            Encryption::Off => Ok(None),
            Encryption::SelfSigned | Encryption::Certificates(_) => Err(Error::Setting(
                "TLS: this tws was built without the feature tls; rebuild it with --features tls"
                    .to_owned(),
            )),
        }
    }

    pub(super) fn replace(tls: &Tls, _: &Encryption) -> Result<Option<String>, Error> {
        match *tls {}
    }
}
