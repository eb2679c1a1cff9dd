//! The certificates that the settings name, or a generated one for testing.

use tws::Error;

use super::admin::CertificateSource;
use crate::cli::Encryption;

#[cfg(not(feature = "tls"))]
use disabled::replace;
#[cfg(not(feature = "tls"))]
pub(crate) use disabled::{
    TICKET_KEYS_LEN, Tls, open, receive_ticket_keys, send_ticket_keys, statuses,
};
#[cfg(feature = "tls")]
use enabled::replace;
#[cfg(feature = "tls")]
pub(crate) use enabled::{
    TICKET_KEYS_LEN, Tls, open, receive_ticket_keys, send_ticket_keys, statuses,
};

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
    use std::io::{self, Read, Write};
    use std::net::SocketAddr;
    use std::path::PathBuf;

    pub(crate) use tws::Tls;
    use tws::admin::CertificateStatus;
    use tws::{Error, KeyPair, Reloaded, ServerCertificate, TicketKeys};

    use super::CertificateSource;
    use crate::cli::Encryption;
    use crate::terminal::addresses::reachable;

    /// Reads the certificates, or makes one for the addresses of the server. `None` without TLS.
    pub(crate) fn open(
        encryption: &Encryption,
        addresses: &[SocketAddr],
    ) -> Result<Option<Tls>, Error> {
        match encryption {
            // Automatic certificates are opened with the service that obtains them.
            Encryption::Off | Encryption::Acme(_) => Ok(None),
            Encryption::SelfSigned => Tls::self_signed(&host_names(addresses)).map(Some),
            Encryption::Certificates(pairs) => Tls::open(key_pairs(pairs)).map(Some),
        }
    }

    /// Reads the certificates and describes them. `None` if they have not changed.
    pub(super) fn replace(tls: &Tls, encryption: &Encryption) -> Result<Option<String>, Error> {
        let reloaded = match encryption {
            Encryption::Certificates(pairs) => tls.replace(key_pairs(pairs))?,
            Encryption::Off | Encryption::SelfSigned | Encryption::Acme(_) => tls.reload()?,
        };
        Ok(match reloaded {
            Reloaded::Changed => Some(tls.describe().join("; ")),
            Reloaded::Unchanged => None,
        })
    }

    /// The number of bytes that [`send_ticket_keys`] writes.
    pub(crate) const TICKET_KEYS_LEN: usize = TicketKeys::ENCODED_LEN;

    /// Sends the keys of session tickets to the process that replaces this one.
    pub(crate) fn send_ticket_keys(tls: &Tls, out: &mut impl Write) -> io::Result<()> {
        tls.ticket_keys().write_to(out)
    }

    /// Receives what [`send_ticket_keys`] has written.
    pub(crate) fn receive_ticket_keys(tls: &Tls, input: &mut impl Read) -> io::Result<()> {
        tls.set_ticket_keys(TicketKeys::read_from(input)?);
        Ok(())
    }

    /// Returns what the admin listener reports of the certificates.
    pub(crate) fn statuses(tls: &Tls) -> CertificateSource {
        let status = |certificate: &ServerCertificate| {
            let mut status = CertificateStatus::new(&certificate.names().join(","));
            status.not_after = Some(certificate.not_after());
            status
        };
        let tls = tls.clone();
        Box::new(move || tls.certificates().iter().map(status).collect())
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
    use std::io::{self, Read, Write};
    use std::net::SocketAddr;

    use tws::Error;

    use super::CertificateSource;
    use crate::cli::Encryption;

    /// No value exists: a build without the feature `tls` opens no certificate.
    #[derive(Clone)]
    pub(crate) enum Tls {}

    pub(crate) const TICKET_KEYS_LEN: usize = 0;

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
            // Automatic certificates are an error of their own.
            Encryption::Off | Encryption::Acme(_) => Ok(None),
            Encryption::SelfSigned | Encryption::Certificates(_) => Err(Error::Setting(
                "TLS: this tws was built without the feature tls; rebuild it with --features tls"
                    .to_owned(),
            )),
        }
    }

    pub(super) fn replace(tls: &Tls, _: &Encryption) -> Result<Option<String>, Error> {
        match *tls {}
    }

    pub(crate) fn statuses(tls: &Tls) -> CertificateSource {
        match *tls {}
    }

    pub(crate) fn send_ticket_keys(tls: &Tls, _: &mut impl Write) -> io::Result<()> {
        match *tls {}
    }

    pub(crate) fn receive_ticket_keys(tls: &Tls, _: &mut impl Read) -> io::Result<()> {
        match *tls {}
    }
}
