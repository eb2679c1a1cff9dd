//! The values of the flags of automatic certificates, and the arguments of `tws acme`.

use std::net::IpAddr;
use std::str::FromStr;

/// The directories of Let's Encrypt (letsencrypt.org/docs).
const LETS_ENCRYPT: &str = "https://acme-v02.api.letsencrypt.org/directory";
const LETS_ENCRYPT_STAGING: &str = "https://acme-staging-v02.api.letsencrypt.org/directory";

/// The limit of a host name, in bytes (RFC 1035 §2.3.4).
const MAX_NAME_BYTES: usize = 253;

/// Top-level domains of names that no public certificate authority can validate (RFC 6761, RFC 6762,
/// RFC 8375, RFC 9476, and ICANN's `internal`), and those that are common in private networks.
const PRIVATE_DOMAINS: &[&str] = &[
    "alt",
    "arpa",
    "corp",
    "example",
    "home",
    "internal",
    "intranet",
    "invalid",
    "lan",
    "local",
    "localdomain",
    "localhost",
    "onion",
    "private",
    "test",
];

/// What `tws acme` is to do.
#[derive(Clone, Debug)]
#[cfg_attr(
    not(feature = "acme"),
    expect(dead_code, reason = "read only with the feature acme")
)]
pub(crate) struct AcmeRequest {
    pub(crate) action: AcmeAction,
    /// In lower case. All certificates are meant without it.
    pub(crate) name: Option<String>,
    pub(crate) format: OutputFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AcmeAction {
    Status,
    Renew,
    Revoke,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OutputFormat {
    Text,
    Json,
}

impl FromStr for AcmeAction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "status" => Ok(Self::Status),
            "renew" => Ok(Self::Renew),
            "revoke" => Ok(Self::Revoke),
            _ => Err(format!("must be status, renew or revoke (got {text:?})")),
        }
    }
}

/// A value of `--acme`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AcmeName {
    /// All names of the `[[host]]` tables.
    Hosts,
    /// No automatic certificates.
    Off,
    Name(String),
}

impl FromStr for AcmeName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "hosts" | "yes" | "true" => Ok(Self::Hosts),
            "off" | "no" | "false" => Ok(Self::Off),
            name => parse_name(name).map(Self::Name),
        }
    }
}

/// Parses a host name in lower case.
pub(super) fn parse_name(name: &str) -> Result<String, String> {
    if name.starts_with("*.") {
        return Err(format!(
            "wildcards need the challenge DNS-01, which tws does not support; give each name (got \
             {name:?})"
        ));
    }
    if name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return Err(format!(
            "certificates for addresses are not supported; give a host name (got {name:?})"
        ));
    }
    let is_label = |label: &str| {
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(is_letter) && !label.starts_with('-')
    };
    if name.len() <= MAX_NAME_BYTES && name.split('.').all(is_label) {
        return Ok(name.to_owned());
    }
    Err(format!(
        "must be a host name, such as example.org, in the form of DNS (xn--…) if it is not ASCII (got \
         {name:?})"
    ))
}

/// A certificate authority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum AcmeDirectory {
    #[default]
    LetsEncrypt,
    /// The servers of Let's Encrypt for tests.
    Staging,
    Url(String),
}

impl AcmeDirectory {
    pub(crate) fn url(&self) -> &str {
        match self {
            Self::LetsEncrypt => LETS_ENCRYPT,
            Self::Staging => LETS_ENCRYPT_STAGING,
            Self::Url(url) => url,
        }
    }

    /// Returns whether it validates names of the public DNS only, by connections from the internet.
    /// Another one may be private.
    pub(crate) fn is_public(&self) -> bool {
        [LETS_ENCRYPT, LETS_ENCRYPT_STAGING].contains(&self.url())
    }
}

pub(super) fn parse_acme_directory(text: &str) -> Result<AcmeDirectory, String> {
    match text {
        "staging" => Ok(AcmeDirectory::Staging),
        url if is_https_url(url) => Ok(AcmeDirectory::Url(url.to_owned())),
        _ => Err(format!(
            "must be staging or an https URL, such as https://ca.example.org/directory (got {text:?})"
        )),
    }
}

fn is_https_url(text: &str) -> bool {
    let host = text
        .strip_prefix("https://")
        .and_then(|rest| rest.split(['/', '?']).next());
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    is_plain && host.is_some_and(|host| !host.is_empty() && !host.contains('@'))
}

pub(super) fn parse_email(text: &str) -> Result<String, String> {
    let text = text.strip_prefix("mailto:").unwrap_or(text);
    let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic());
    // A comma or a question mark would begin another address or a header field (RFC 6068).
    let is_single = !text.contains([',', '?', '%']);
    match text.split_once('@') {
        Some((user, host)) if is_plain && is_single && !user.is_empty() && !host.is_empty() => {
            Ok(text.to_owned())
        }
        _ => Err(format!(
            "must be an e-mail address, such as admin@example.org (got {text:?})"
        )),
    }
}

/// Returns why a certificate authority cannot issue a certificate for `name`.
pub(super) fn reason_against(name: &str, directory: &AcmeDirectory) -> Option<String> {
    if !directory.is_public() {
        return None;
    }
    let domain = name.rsplit('.').next().unwrap_or(name);
    let is_number = domain.bytes().all(|byte| byte.is_ascii_digit());
    if !name.contains('.') || is_number || PRIVATE_DOMAINS.contains(&domain) {
        return Some(
            "it is not a public name, which Let's Encrypt requires; name a private certificate \
             authority with --acme-directory, or use --tls-self-signed"
                .to_owned(),
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_is_one_that_can_be_validated() {
        for (text, expected) in [
            ("example.org", "example.org"),
            ("WWW.Example.org", "www.example.org"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("localhost", "localhost"),
        ] {
            let name = AcmeName::Name(expected.to_owned());
            assert_eq!(text.parse(), Ok(name), "{text}");
        }
        for text in ["hosts", "yes", "true"] {
            assert_eq!(text.parse(), Ok(AcmeName::Hosts));
        }
        assert_eq!("off".parse(), Ok(AcmeName::Off));
        let long = format!("{}.org", "a".repeat(64));
        for text in [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "*.example.org",
            "*",
            "192.0.2.1",
            "::1",
            "[::1]",
            "a/b",
            "../a",
            "-a",
            "a b",
            "a:80",
            "https://a",
            "bücher.example",
            &long,
        ] {
            assert!(text.parse::<AcmeName>().is_err(), "{text}");
        }
    }

    #[test]
    fn public_authority_is_not_asked_for_private_names() {
        let private = AcmeDirectory::Url("https://127.0.0.1/dir".to_owned());
        for name in [
            "localhost",
            "a.local",
            "printer.lan",
            "a.test",
            "10.1",
            "db.internal",
        ] {
            for public in [AcmeDirectory::LetsEncrypt, AcmeDirectory::Staging] {
                assert!(reason_against(name, &public).is_some(), "{name}");
            }
            assert_eq!(reason_against(name, &private), None, "{name}");
        }
        for name in ["example.org", "a.co.uk", "test.example.org", "local.org"] {
            assert_eq!(
                reason_against(name, &AcmeDirectory::LetsEncrypt),
                None,
                "{name}"
            );
        }
        let same = AcmeDirectory::Url(LETS_ENCRYPT.to_owned());
        assert!(reason_against("localhost", &same).is_some());
    }

    #[test]
    fn directory_is_an_https_url_or_staging() {
        assert_eq!(parse_acme_directory("staging"), Ok(AcmeDirectory::Staging));
        assert!(parse_acme_directory("https://127.0.0.1:14000/dir").is_ok());
        for text in [
            "",
            "http://ca.test/",
            "ca.test",
            "https://",
            "https:///a",
            "https://a@b/",
            "production",
            "https://a b/",
        ] {
            assert!(parse_acme_directory(text).is_err(), "{text}");
        }
    }

    #[test]
    fn email_is_a_single_address() {
        for text in ["a@b", "mailto:a@b", "a.b+c@example.org"] {
            assert!(parse_email(text).is_ok(), "{text}");
        }
        for text in ["", "a", "@b", "a@", "a@b,c@d", "a@b?cc=c@d", "a b@c"] {
            assert!(parse_email(text).is_err(), "{text}");
        }
    }
}
