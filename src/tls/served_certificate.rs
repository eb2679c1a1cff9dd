//! The certificate for the name that a client requests (SNI), and which requests its connection is for.

use std::net::IpAddr;
use std::sync::Arc;

use super::certificate::ServerCertificate;
use super::resolver;

/// The certificate for the name that a client requests, among the certificates that the server had then.
/// The types of keys that the client accepts are ignored: certificates that differ in them only are taken to
/// have the same names.
#[derive(Clone, Debug)]
pub(crate) struct ServedCertificate {
    certificates: Arc<[ServerCertificate]>,
    served: usize,
}

impl ServedCertificate {
    /// Chooses the certificate for a client that requests `name`; `None` if there are no certificates.
    pub(super) fn choose(certificates: Arc<[ServerCertificate]>, name: &str) -> Option<Self> {
        let served = resolver::choose(&certificates, Some(name), |_| true)?;
        Some(Self {
            certificates,
            served,
        })
    }

    /// Returns true if a request for `host` belongs on a connection with another certificate of this
    /// server (RFC 9110 §15.5.20). The client reuses a connection for other names of its certificate
    /// (RFC 9113 §9.1.1). A name that no certificate has belongs nowhere else.
    pub(crate) fn is_misdirected(&self, host: &str) -> bool {
        let address = host.trim_start_matches('[').trim_end_matches(']');
        if address.parse::<IpAddr>().is_ok() {
            return false;
        }
        let host = host.to_ascii_lowercase();
        !self.certificates[self.served].is_for(&host)
            && self.certificates.iter().any(|other| other.is_for(&host))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(served: usize) -> ServedCertificate {
        let certificate = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
            ServerCertificate::self_signed(&names).expect("a certificate")
        };
        ServedCertificate {
            certificates: Arc::new([
                certificate(&["a.test", "b.test"]),
                certificate(&["*.example.test", "127.0.0.1"]),
            ]),
            served,
        }
    }

    #[test]
    fn request_is_misdirected_if_only_another_certificate_has_its_name() {
        let table = [
            (0, "a.test", false),
            (0, "B.TEST", false),
            (0, "x.example.test", true),
            (0, "X.Example.Test", true),
            (0, "example.test", false),
            (0, "unknown.test", false),
            (0, "127.0.0.1", false),
            (0, "[::1]", false),
            (0, "", false),
            (1, "x.example.test", false),
            (1, "a.test", true),
        ];
        for (at, host, expected) in table {
            assert_eq!(served(at).is_misdirected(host), expected, "{at} {host:?}");
        }
    }
}
