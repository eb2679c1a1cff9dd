//! Signed requests: JSON Web Signatures with ES256 (RFC 7515, RFC 7518 §3.4), and the binding to an
//! external account with HS256 (RFC 8555 §7.3.4).

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use ring::{digest, hmac};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};

/// The length of a coordinate of a P-256 key, in bytes.
const COORDINATE_LEN: usize = 32;

pub(super) fn base64url(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The key of an account: ECDSA with P-256.
pub(crate) struct AccountKey(EcdsaKeyPair);

/// How a request names the account that signs it (RFC 8555 §6.2).
#[derive(Clone, Copy)]
pub(super) enum SignedBy<'a> {
    /// By its key, before it has a URL.
    Key,
    /// By its URL.
    Account(&'a str),
}

impl AccountKey {
    /// Reads a key in PEM (PKCS #8).
    pub(super) fn from_pem(pem: &[u8]) -> Result<Self, String> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(pem).map_err(|error| error.to_string())?;
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        EcdsaKeyPair::from_pkcs8(algorithm, der.secret_pkcs8_der(), &random)
            .map(Self)
            .map_err(|error| error.to_string())
    }

    /// Returns the public key (RFC 7517). The members are in the order of RFC 7638 §3.
    fn jwk(&self) -> Value {
        // An uncompressed point: 4, x, y.
        let point = self.0.public_key().as_ref();
        let (x, y) = point[1..].split_at(COORDINATE_LEN);
        json!({"crv": "P-256", "kty": "EC", "x": base64url(x), "y": base64url(y)})
    }

    /// Returns the key authorization of a challenge (RFC 8555 §8.1).
    pub(crate) fn authorize(&self, token: &str) -> String {
        // serde_json sorts the members, as the thumbprint requires.
        let jwk = self.jwk().to_string();
        let thumbprint = digest::digest(&digest::SHA256, jwk.as_bytes());
        format!("{token}.{}", base64url(thumbprint))
    }

    /// Returns a signed request. A payload of `None` is a POST-as-GET (RFC 8555 §6.3).
    pub(super) fn request(
        &self,
        url: &str,
        nonce: &str,
        signed_by: SignedBy<'_>,
        payload: Option<&Value>,
    ) -> Result<String, String> {
        let mut header = json!({"alg": "ES256", "nonce": nonce, "url": url});
        match signed_by {
            SignedBy::Key => header["jwk"] = self.jwk(),
            SignedBy::Account(account) => header["kid"] = account.into(),
        }
        let payload = payload.map(Value::to_string).unwrap_or_default();
        let (protected, payload) = (base64url(header.to_string()), base64url(payload));
        let message = format!("{protected}.{payload}");
        let signature = self.0.sign(&SystemRandom::new(), message.as_bytes());
        let signature = signature.map_err(|_| "no randomness for a signature".to_owned())?;
        Ok(flattened(&protected, &payload, signature.as_ref()).to_string())
    }

    /// Returns the member `externalAccountBinding` of a request for an account at `url`.
    pub(super) fn bind(&self, external: &ExternalAccount, url: &str) -> Value {
        let header = json!({"alg": "HS256", "kid": external.id, "url": url});
        let protected = base64url(header.to_string());
        let payload = base64url(self.jwk().to_string());
        let message = format!("{protected}.{payload}");
        let signature = hmac::sign(&external.key, message.as_bytes());
        flattened(&protected, &payload, signature.as_ref())
    }
}

fn flattened(protected: &str, payload: &str, signature: &[u8]) -> Value {
    json!({"protected": protected, "payload": payload, "signature": base64url(signature)})
}

/// An account at the certificate authority outside of ACME, which some require.
#[derive(Clone)]
pub(crate) struct ExternalAccount {
    id: String,
    key: hmac::Key,
}

impl ExternalAccount {
    /// Parses the content of `--acme-eab`: the key identifier and the HMAC key in base64url, separated
    /// by white space.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let mut words = text.split_ascii_whitespace();
        let (Some(id), Some(key), None) = (words.next(), words.next(), words.next()) else {
            return Err(
                "must contain two words: the key identifier and the HMAC key that the certificate \
                 authority shows",
            );
        };
        let unpadded = key
            .trim_end_matches('=')
            .replace('+', "-")
            .replace('/', "_");
        let key = URL_SAFE_NO_PAD.decode(unpadded);
        let key = key.ok().filter(|key| !key.is_empty());
        let key = key.ok_or("the second word, the HMAC key, is not base64url")?;
        Ok(Self {
            id: id.to_owned(),
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
        })
    }
}

/// Encodes DER in PEM.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines = text.as_bytes().chunks(64).map(String::from_utf8_lossy);
    let lines: Vec<_> = lines.collect();
    format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        lines.join("\n")
    )
}

/// Returns the digest of a key authorization, for TLS-ALPN-01.
pub(crate) fn digest_of(key_authorization: &str) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, key_authorization.as_bytes());
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest.as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

    use super::*;

    fn key() -> AccountKey {
        let pem = rcgen::KeyPair::generate().expect("a key").serialize_pem();
        AccountKey::from_pem(pem.as_bytes()).expect("an account key")
    }

    fn decoded(value: &Value) -> Vec<u8> {
        let text = value.as_str().expect("text");
        URL_SAFE_NO_PAD.decode(text).expect("base64url")
    }

    /// The thumbprint is that of RFC 7638: over the required members in lexicographic order, without
    /// white space.
    #[test]
    fn thumbprint_is_over_sorted_members() {
        let key = key();
        let jwk = key.jwk();
        let (x, y) = (jwk["x"].as_str().expect("x"), jwk["y"].as_str().expect("y"));
        let text = format!(r#"{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}"#);
        assert_eq!(
            key.authorize("t"),
            format!("t.{}", base64url(digest_of(&text)))
        );
    }

    #[test]
    fn request_is_signed_and_names_its_account() {
        let key = key();
        for (signed_by, member) in [
            (SignedBy::Key, "jwk"),
            (SignedBy::Account("https://ca/1"), "kid"),
        ] {
            for payload in [None, Some(json!({"a": 1}))] {
                let request = key.request("https://ca/x", "n", signed_by, payload.as_ref());
                let request: Value = serde_json::from_str(&request.expect("signed")).expect("JSON");
                let header = decoded(&request["protected"]);
                let header: Value = serde_json::from_slice(&header).expect("JSON");
                assert_eq!(header["alg"], "ES256");
                assert_eq!(header["url"], "https://ca/x");
                assert_eq!(header["nonce"], "n");
                let members = ["jwk", "kid"].map(|name| header.get(name).is_some());
                assert_eq!(members, ["jwk", "kid"].map(|name| name == member));
                let expected = payload.as_ref().map(Value::to_string).unwrap_or_default();
                assert_eq!(decoded(&request["payload"]), expected.as_bytes());
                let parts = ["protected", "payload"].map(|name| request[name].as_str());
                let message = parts.map(|part| part.expect("text")).join(".");
                let public = key.0.public_key().as_ref();
                let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public);
                let signature = decoded(&request["signature"]);
                public
                    .verify(message.as_bytes(), &signature)
                    .expect("valid");
            }
        }
    }

    #[test]
    fn binding_is_signed_with_the_external_key() {
        let key = key();
        let external = ExternalAccount::parse("kid-1 c2VjcmV0\n").expect("an external account");
        let binding = key.bind(&external, "https://ca/new");
        let header = decoded(&binding["protected"]);
        let header: Value = serde_json::from_slice(&header).expect("JSON");
        assert_eq!(
            header,
            json!({"alg": "HS256", "kid": "kid-1", "url": "https://ca/new"})
        );
        let payload: Value = serde_json::from_slice(&decoded(&binding["payload"])).expect("JSON");
        assert_eq!(payload, key.jwk());
        let parts = ["protected", "payload"].map(|name| binding[name].as_str());
        let message = parts.map(|part| part.expect("text")).join(".");
        let secret = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
        hmac::verify(&secret, message.as_bytes(), &decoded(&binding["signature"])).expect("valid");
    }

    #[test]
    fn external_account_is_two_words() {
        for text in ["kid c2VjcmV0", " kid\n c2VjcmV0==\n", "kid +/+/"] {
            assert!(ExternalAccount::parse(text).is_ok(), "{text:?}");
        }
        for text in ["", "kid", "kid c2VjcmV0 more", "kid ä", "kid =", "kid c2V#"] {
            assert!(ExternalAccount::parse(text).is_err(), "{text:?}");
        }
    }
}
