//! What a certificate says: its names, its validity, and the identifier under which the certificate
//! authority has renewal information.

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::jws::base64url;

/// The validity of a certificate, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
}

impl Validity {
    pub(super) fn lifetime(self) -> i64 {
        self.not_after.saturating_sub(self.not_before).max(0)
    }
}

/// The fields of a certificate that are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CertificateInfo {
    pub(crate) validity: Validity,
    /// The DNS names, in lower case.
    names: Vec<String>,
    /// RFC 9773 §4.1: the key identifier of the issuer and the serial number. Without the former, the
    /// serial number alone, which identifies the certificate here but not for the certificate authority.
    pub(super) id: String,
    /// Whether `id` is one of RFC 9773.
    pub(super) has_ari_id: bool,
    /// The public key of the leaf, as it is in the certificate.
    public_key: Vec<u8>,
}

impl CertificateInfo {
    /// Reads the first certificate of a file in PEM. `None` if it cannot be parsed.
    pub(crate) fn from_pem(pem: &[u8]) -> Option<Self> {
        let leaf = CertificateDer::from_pem_slice(pem).ok()?;
        Self::from_der(&leaf)
    }

    fn from_der(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let alternatives = certificate.subject_alternative_name().ok().flatten();
        let alternatives = alternatives.map(|extension| &extension.value.general_names);
        let dns = |name: &GeneralName<'_>| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        };
        let issuer = certificate.extensions().iter().find_map(|extension| {
            match extension.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(key) => {
                    key.key_identifier.as_ref().map(|id| base64url(id.0))
                }
                _ => None,
            }
        });
        let serial = base64url(certificate.raw_serial());
        let validity = certificate.validity();
        Some(Self {
            validity: Validity {
                not_before: validity.not_before.timestamp(),
                not_after: validity.not_after.timestamp(),
            },
            names: alternatives.into_iter().flatten().filter_map(dns).collect(),
            has_ari_id: issuer.is_some(),
            id: match issuer {
                Some(issuer) => format!("{issuer}.{serial}"),
                None => serial,
            },
            public_key: certificate.public_key().subject_public_key.data.to_vec(),
        })
    }

    /// Checks that this is a certificate for `name` and a key, and is valid now.
    pub(super) fn check(&self, name: &str, public_key: &[u8], now: i64) -> Result<(), String> {
        if !self.names.iter().any(|own| own == name) {
            return Err(format!("the certificate is not for {name}"));
        }
        if self.public_key != public_key {
            return Err("the certificate has another key than the request".to_owned());
        }
        if now >= self.validity.not_after {
            return Err("the certificate has expired already; check the clock".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, CertifiedIssuer, KeyPair, SerialNumber};

    use super::*;

    /// The example of RFC 9773 §4.1, with the serial number 0x87654321, whose first byte is 0.
    #[test]
    fn identifier_is_that_of_rfc_9773() {
        let issuer_key = KeyPair::generate().expect("a key");
        let id = [
            0x69, 0x88, 0x5b, 0x6b, 0x87, 0x46, 0x40, 0x41, 0xe1, 0xb3, 0x7b, 0x84, 0x7b, 0xa0,
            0xae, 0x2c, 0xde, 0x01, 0xc8, 0xd4,
        ];
        let mut params = CertificateParams::default();
        params.key_identifier_method = rcgen::KeyIdMethod::PreSpecified(id.to_vec());
        let issuer = CertifiedIssuer::self_signed(params, issuer_key).expect("an issuer");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(["A.test".to_owned()]).expect("a name");
        params.use_authority_key_identifier_extension = true;
        params.serial_number = Some(SerialNumber::from_slice(&[0x87, 0x65, 0x43, 0x21]));
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        let info = CertificateInfo::from_pem(certificate.pem().as_bytes()).expect("parsed");
        assert_eq!(info.id, "aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE");
        assert!(info.has_ari_id);
        let (own, now) = (key.public_key_raw(), info.validity.not_before);
        assert_eq!(info.check("a.test", own, now), Ok(()));
        let other = KeyPair::generate().expect("a key");
        assert!(info.check("b.test", own, now).is_err());
        assert!(info.check("a.test", other.public_key_raw(), now).is_err());
        assert!(info.check("a.test", own, info.validity.not_after).is_err());
        for garbage in [
            "",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ] {
            assert_eq!(CertificateInfo::from_pem(garbage.as_bytes()), None);
        }
    }
}
