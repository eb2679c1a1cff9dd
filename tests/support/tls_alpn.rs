//! The client's side of a TLS-ALPN-01 validation (RFC 8737).

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::client::TIMEOUT;

/// Accepts every certificate: that of a challenge is signed by itself.
#[derive(Debug)]
struct AcceptsAll;

impl ServerCertVerifier for AcceptsAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![
            SignatureScheme::ECDSA_NISTP256_SHA256,
            SignatureScheme::ED25519,
        ]
    }
}

/// Returns the certificate that a client gets for `name` which offers these protocols.
pub(crate) fn served_certificate(
    address: SocketAddr,
    name: &str,
    protocols: &[&str],
) -> Option<CertificateDer<'static>> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("supported TLS versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AcceptsAll))
        .with_no_client_auth();
    let protocols = protocols.iter().map(|name| name.as_bytes().to_vec());
    config.alpn_protocols = protocols.collect();
    let name = ServerName::try_from(name.to_owned()).expect("valid server name");
    let mut session = ClientConnection::new(Arc::new(config), name).expect("create TLS session");
    let mut socket = TcpStream::connect(address).ok()?;
    socket.set_read_timeout(Some(TIMEOUT)).expect("set timeout");
    while session.is_handshaking() {
        session.complete_io(&mut socket).ok()?;
    }
    let chain = session.peer_certificates()?;
    Some(chain.first()?.clone().into_owned())
}

/// Returns the certificate of a validation.
pub(crate) fn validate(address: SocketAddr, name: &str) -> Option<CertificateDer<'static>> {
    served_certificate(address, name, &["acme-tls/1"])
}

pub(crate) fn has_acme_identifier(certificate: &CertificateDer<'_>) -> bool {
    let (_, certificate) = X509Certificate::from_der(certificate).expect("valid certificate");
    let mut extensions = certificate.extensions().iter();
    extensions
        .any(|extension| extension.critical && extension.oid.to_id_string() == "1.3.6.1.5.5.7.1.31")
}
