//! Tests of handshakes in memory: key-exchange groups, and session tickets.

use std::sync::Arc;

use libcrux_ml_kem::mlkem768;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, SupportedKxGroup, ring};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, HandshakeKind, NamedGroup,
    PeerMisbehaved, RootCertStore, SignatureScheme, SupportedProtocolVersion,
};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::hybrid_group::X25519MlKem768;
use super::provider::provider;
use super::{ClientHelloReader, ServerCertificate, Session, Tls, TlsAcceptor, is_validation};
use crate::config::Http2;

pub(crate) const NAME: &str = "a.test";

pub(crate) fn tls() -> Tls {
    Tls::self_signed(&[NAME.to_owned()]).expect("a certificate")
}

pub(crate) fn client(
    tls: &Tls,
    provider: CryptoProvider,
    version: &'static SupportedProtocolVersion,
    protocols: &[&str],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let certificate = tls.certificates.current()[0].key().cert[0].clone();
    roots.add(certificate).expect("a root certificate");
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[version])
        .expect("a version")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let protocols = protocols.iter().map(|name| name.as_bytes().to_vec());
    config.alpn_protocols = protocols.collect();
    Arc::new(config)
}

/// Completes a handshake, and passes on the tickets.
pub(crate) fn handshake(
    acceptor: &TlsAcceptor,
    config: &Arc<ClientConfig>,
) -> Result<(ClientConnection, Session), Error> {
    let name = ServerName::try_from(NAME).expect("a name");
    let mut client = ClientConnection::new(Arc::clone(config), name)?;
    let mut first = ClientHelloReader::default();
    let accepted = acceptor.accept(&mut first, &sent(&mut client));
    let mut server = accepted
        .map_err(|rejected| rejected.error)?
        .expect("a message");
    loop {
        let to_client = server.records().to_vec();
        server.on_sent(to_client.len());
        receive(&mut client, &to_client)?;
        let to_server = sent(&mut client);
        if to_client.is_empty() && to_server.is_empty() {
            assert!(!client.is_handshaking() && !server.state().is_handshaking());
            return Ok((client, server));
        }
        let mut unread = &to_server[..];
        while !unread.is_empty() {
            server
                .receive(&mut unread, &mut Vec::new())
                .expect("valid records");
        }
    }
}

/// Returns what a client sends.
pub(crate) fn sent(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).expect("written");
    }
    bytes
}

pub(crate) fn receive(client: &mut ClientConnection, mut bytes: &[u8]) -> Result<(), Error> {
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).expect("read");
        client.process_new_packets()?;
    }
    Ok(())
}

fn group_of(session: &Session) -> Option<NamedGroup> {
    let group = session.state().negotiated_key_exchange_group();
    group.map(SupportedKxGroup::name)
}

#[test]
fn hybrid_group_is_negotiated_over_tls13_only() {
    let tls = tls();
    let acceptor = tls.acceptor(Http2::Tls);
    let table = [
        (provider(), &TLS13, NamedGroup::X25519MLKEM768),
        (provider(), &TLS12, NamedGroup::X25519),
        (ring::default_provider(), &TLS13, NamedGroup::X25519),
        (ring::default_provider(), &TLS12, NamedGroup::X25519),
    ];
    for (provider, version, expected) in table {
        let config = client(&tls, provider, version, &[]);
        let (_, session) = handshake(&acceptor, &config).expect("a handshake");
        assert_eq!(group_of(&session), Some(expected), "{version:?}");
        assert_eq!(session.state().handshake_kind(), Some(HandshakeKind::Full));
        let (_, session) = handshake(&acceptor, &config).expect("a handshake");
        assert_eq!(
            session.state().handshake_kind(),
            Some(HandshakeKind::Resumed)
        );
        // TLS 1.2 exchanges no keys in a resumption.
        let expected = Some(expected).filter(|_| version.version == TLS13.version);
        assert_eq!(group_of(&session), expected, "{version:?}");
    }
}

fn is_invalid<T>(result: Result<T, Error>) -> bool {
    let error = result.err();
    error == Some(Error::PeerMisbehaved(PeerMisbehaved::InvalidKeyShare))
}

#[test]
fn malformed_key_share_is_rejected() {
    let group = X25519MlKem768;
    let exchange = group.start().expect("a key");
    let share = exchange.pub_key().to_vec();
    assert_eq!(share.len(), 1184 + 32);
    let answer = group.start_and_complete(&share).expect("a secret");
    assert_eq!(answer.pub_key.len(), 1088 + 32);
    let secret = exchange.complete(&answer.pub_key).expect("a secret");
    assert_eq!(secret.secret_bytes(), answer.secret.secret_bytes());
    assert_eq!(secret.secret_bytes().len(), 32 + 32);

    for len in (0..share.len()).chain([share.len() + 1]) {
        let mut other = share.clone();
        other.resize(len, 1);
        assert!(is_invalid(group.start_and_complete(&other)), "{len}");
    }
    for len in [0, 32, 1087, 1088, 1119, 1121] {
        let mut other = answer.pub_key.clone();
        other.resize(len, 1);
        let exchange = group.start().expect("a key");
        assert!(is_invalid(exchange.complete(&other)), "{len}");
    }
    // Coefficients of 12 bits, from the modulus on.
    for (at, bytes) in [
        (0, [0x01, 0x0d]),
        (0, [0xff, 0x0f]),
        (1149, [0x01, 0x0d]),
        (1150, [0xff, 0xff]),
    ] {
        let mut other = share.clone();
        other[at..at + 2].copy_from_slice(&bytes);
        assert!(is_invalid(group.start_and_complete(&other)), "{at}");
    }
    // Points of low order, whose product with any key is zero.
    for point in [[0; 32], std::array::from_fn(|at| u8::from(at == 0))] {
        let mut other = share.clone();
        other[1184..].copy_from_slice(&point);
        assert!(is_invalid(group.start_and_complete(&other)));
        let mut other = answer.pub_key.clone();
        other[1088..].copy_from_slice(&point);
        let exchange = group.start().expect("a key");
        assert!(is_invalid(exchange.complete(&other)));
    }
}

/// A changed ciphertext is decapsulated to another secret (FIPS 203 §6.3), so the handshake fails.
#[test]
fn changed_ciphertext_yields_another_secret() {
    let group = X25519MlKem768;
    let exchange = group.start().expect("a key");
    let mut answer = group.start_and_complete(exchange.pub_key()).expect("valid");
    answer.pub_key[0] ^= 1;
    let secret = exchange.complete(&answer.pub_key).expect("a secret");
    let (ours, theirs) = (secret.secret_bytes(), answer.secret.secret_bytes());
    assert_ne!(ours[..32], theirs[..32]);
    assert_eq!(ours[32..], theirs[32..]);
}

/// The crate `ml-kem` computes the same from these seeds.
#[test]
fn ml_kem_agrees_with_another_implementation() {
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|byte| format!("{byte:02x}")).collect() };
    let keys = mlkem768::generate_key_pair(std::array::from_fn(|at| at as u8));
    let randomness = std::array::from_fn(|at| 0xff - at as u8);
    let (ciphertext, secret) = mlkem768::encapsulate(keys.public_key(), randomness);
    assert_eq!(hex(&keys.pk()[..16]), "298aa10d423c8dda069d02bc59e6cdf0");
    assert_eq!(
        hex(&ciphertext.as_ref()[..16]),
        "69855b187905cd3c9bc58b74cc3d43ae"
    );
    assert_eq!(
        hex(&secret),
        "f2c2678a3be8ba85e9053a0eaffc557661d15f2742caaf272cd93770062b53ca"
    );
    assert_eq!(
        mlkem768::decapsulate(keys.private_key(), &ciphertext),
        secret
    );
}

#[test]
fn http2_client_gets_one_ticket_and_others_two() {
    let tls = tls();
    for (http2, offered, expected) in [
        (Http2::Tls, &["h2", "http/1.1"][..], 1),
        (Http2::Tls, &["http/1.1"], 2),
        (Http2::Tls, &[], 2),
        (Http2::Off, &["h2", "http/1.1"], 2),
    ] {
        let config = client(&tls, provider(), &TLS13, offered);
        let (client, _) = handshake(&tls.acceptor(http2), &config).expect("a handshake");
        assert_eq!(client.tls13_tickets_received(), expected, "{offered:?}");
    }
}

/// Both for TLS 1.2 and 1.3; the acceptors of several servers share the keys.
#[test]
fn session_is_resumed_after_one_rotation_and_not_after_two() {
    for version in [&TLS12, &TLS13] {
        for (rotations, expected) in [
            (0, HandshakeKind::Resumed),
            (1, HandshakeKind::Resumed),
            (2, HandshakeKind::Full),
        ] {
            let tls = tls();
            let config = client(&tls, provider(), version, &[]);
            handshake(&tls.acceptor(Http2::Tls), &config).expect("a handshake");
            for _ in 0..rotations {
                tls.ticketer.rotate_early();
            }
            let acceptor = tls.clone().acceptor(Http2::Off);
            let (client, _) = handshake(&acceptor, &config).expect("a handshake");
            let kind = client.handshake_kind();
            assert_eq!(kind, Some(expected), "{version:?} {rotations}");
        }
    }
}

/// Accepts every certificate: that of a challenge is signed by itself.
#[derive(Debug)]
struct AcceptsAll(CryptoProvider);

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

    // webpki does not parse a certificate with a critical extension that it does not know.
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
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// RFC 8737: the certificate has the digest in a critical extension, and no other client gets it.
#[test]
fn challenge_is_answered_for_its_protocol_alone() {
    let tls = tls();
    let acceptor = tls.acceptor(Http2::Tls);
    let digest_in = |version, protocols: &[&str]| -> Result<Option<Vec<u8>>, Error> {
        let mut config = ClientConfig::clone(&client(&tls, provider(), version, protocols));
        let verifier = Arc::new(AcceptsAll(provider()));
        config.dangerous().set_certificate_verifier(verifier);
        let (client, server) = handshake(&acceptor, &Arc::new(config))?;
        let chain = client.peer_certificates().expect("a certificate");
        let (_, certificate) = X509Certificate::from_der(&chain[0]).expect("parsed");
        let identifier = certificate
            .extensions()
            .iter()
            .find(|extension| extension.oid.to_id_string() == "1.3.6.1.5.5.7.1.31");
        let names = certificate.subject_alternative_name().expect("parsed");
        let names = &names.expect("names").value.general_names;
        assert_eq!(names, &[GeneralName::DNSName(NAME)]);
        assert_eq!(is_validation(server.state()), identifier.is_some());
        Ok(identifier.map(|extension| {
            assert!(extension.critical);
            extension.value.to_vec()
        }))
    };
    let is_refused = |result: Result<_, Error>| {
        let alert = rustls::AlertDescription::NoApplicationProtocol;
        matches!(result, Err(Error::NoApplicationProtocol))
            || result.err() == Some(Error::AlertReceived(alert))
    };
    for version in [&TLS12, &TLS13] {
        assert!(is_refused(digest_in(version, &["acme-tls/1"])));
        tls.add_acme_challenge("A.test", &[7; 32]).expect("added");
        // An octet string in the extension.
        let expected = [&[4, 32], &[7; 32][..]].concat();
        assert_eq!(digest_in(version, &["acme-tls/1"]), Ok(Some(expected)));
        for others in [
            &[][..],
            &["h2"],
            &["http/1.1", "acme-tls/1"],
            &["acme-tls/1", "h2"],
        ] {
            assert_eq!(digest_in(version, others), Ok(None), "{others:?}");
        }
        tls.add_acme_challenge(NAME, &[8; 32]).expect("replaced");
        let digest = digest_in(version, &["acme-tls/1"]).expect("a handshake");
        assert_eq!(digest.expect("a digest")[2..], [8; 32]);
        tls.add_acme_challenge("b.test", &[9; 32]).expect("added");
        tls.remove_acme_challenge("a.TEST");
        assert!(is_refused(digest_in(version, &["acme-tls/1"])));
    }
    assert!(tls.add_acme_challenge("ä", &[7; 32]).is_err());
}

#[test]
fn sessions_outlive_their_certificate() {
    let tls = tls();
    let acceptor = tls.acceptor(Http2::Tls);
    for version in [&TLS12, &TLS13] {
        let config = client(&tls, provider(), version, &[]);
        handshake(&acceptor, &config).expect("a handshake");
        let new = ServerCertificate::self_signed(&[NAME.to_owned()]).expect("a certificate");
        tls.set_certificates(vec![new]);
        let (_, session) = handshake(&acceptor, &config).expect("a handshake");
        assert_eq!(
            session.state().handshake_kind(),
            Some(HandshakeKind::Resumed)
        );
        let fresh = client(&tls, provider(), version, &[]);
        handshake(&acceptor, &fresh).expect("the new certificate");
    }
}
