//! What to do next with an order or an authorization, by its status (RFC 8555 §7.1.6).

use serde::{Deserialize, Serialize};

use super::messages::{Authorization, Challenge, Order, Problem, Status};

/// The challenges that the server answers.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub(crate) enum ChallengeType {
    /// RFC 8737: a TLS handshake on port 443.
    #[serde(rename = "tls-alpn-01")]
    TlsAlpn01,
    /// RFC 8555 §8.3: a request on port 80.
    #[serde(rename = "http-01")]
    Http01,
}

impl ChallengeType {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::TlsAlpn01 => "tls-alpn-01",
            Self::Http01 => "http-01",
        }
    }

    pub(super) fn other(self) -> Self {
        match self {
            Self::TlsAlpn01 => Self::Http01,
            Self::Http01 => Self::TlsAlpn01,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum OrderStep {
    /// Complete the authorizations.
    Authorize,
    /// Send the certificate request.
    Finalize,
    /// The certificate authority is busy with it.
    Wait,
    /// The certificate is at this URL.
    Download(String),
    Fail(Problem),
}

pub(super) fn order_step(order: &Order) -> OrderStep {
    match (order.status, &order.certificate) {
        (Status::Pending, _) => OrderStep::Authorize,
        (Status::Ready, _) => OrderStep::Finalize,
        (Status::Processing, _) => OrderStep::Wait,
        (Status::Valid, Some(url)) => OrderStep::Download(url.clone()),
        (Status::Valid, None) => OrderStep::Fail(Problem::new(
            "malformed",
            "the order is valid and has no certificate".to_owned(),
        )),
        (Status::Invalid | Status::Other, _) => {
            let unknown = || Problem::new("orderInvalid", "the order is invalid".to_owned());
            OrderStep::Fail(order.error.clone().unwrap_or_else(unknown))
        }
    }
}

#[derive(Debug)]
pub(super) enum AuthorizationStep<'a> {
    /// The name is validated, possibly since an earlier order.
    Done,
    /// Answer this challenge, and tell the certificate authority to begin.
    Answer(&'a Challenge, ChallengeType),
    /// As `Answer`; the certificate authority has been told already.
    KeepAnswering(&'a Challenge, ChallengeType),
    Fail(Problem),
}

/// `preferred` is the type that is chosen if both are offered.
pub(super) fn authorization_step(
    authorization: &Authorization,
    preferred: ChallengeType,
) -> AuthorizationStep<'_> {
    let challenges = &authorization.challenges;
    match authorization.status {
        Status::Valid => return AuthorizationStep::Done,
        Status::Pending => {}
        _ => {
            let mut failed = challenges.iter().filter_map(|it| it.error.clone());
            let unknown =
                || Problem::new("unauthorized", "the authorization is not valid".to_owned());
            return AuthorizationStep::Fail(failed.next().unwrap_or_else(unknown));
        }
    }
    let types = [preferred, preferred.other()];
    let offered = types.iter().filter_map(|&kind| {
        let mut of_type = challenges.iter().filter(|it| it.kind == kind.name());
        Some((of_type.next()?, kind))
    });
    let offered: Vec<_> = offered.collect();
    let under_way = offered
        .iter()
        .find(|(challenge, _)| challenge.status == Status::Processing);
    if let Some((challenge, kind)) = under_way {
        return AuthorizationStep::KeepAnswering(challenge, *kind);
    }
    let mut pending = offered
        .iter()
        .filter(|(challenge, _)| challenge.status == Status::Pending);
    match pending.next() {
        Some((challenge, kind)) => AuthorizationStep::Answer(challenge, *kind),
        None => {
            let kinds: Vec<_> = challenges.iter().map(|it| it.kind.as_str()).collect();
            let text = format!(
                "the certificate authority offers neither tls-alpn-01 nor http-01 (but {})",
                super::messages::printable(&kinds.join(", "))
            );
            AuthorizationStep::Fail(Problem::new("unsupportedChallenge", text))
        }
    }
}

/// Returns whether a token consists of base64url characters (RFC 8555 §8.1), so that it can be a part
/// of a path.
pub(super) fn is_token(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=256).contains(&text.len()) && text.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn order(status: &str, certificate: Option<&str>) -> Order {
        serde_json::from_value(json!({
            "status": status, "authorizations": [], "finalize": "https://ca/f",
            "certificate": certificate, "error": {"detail": "why"},
        }))
        .expect("an order")
    }

    #[test]
    fn order_steps_follow_the_status() {
        let url = Some("https://ca/c");
        let download = OrderStep::Download("https://ca/c".to_owned());
        for (status, certificate, expected) in [
            ("pending", None, OrderStep::Authorize),
            ("ready", None, OrderStep::Finalize),
            ("processing", None, OrderStep::Wait),
            ("valid", url, download),
        ] {
            assert_eq!(
                order_step(&order(status, certificate)),
                expected,
                "{status}"
            );
        }
        for (status, certificate) in [("invalid", None), ("valid", None), ("else", url)] {
            let step = order_step(&order(status, certificate));
            assert!(matches!(step, OrderStep::Fail(_)), "{status}: {step:?}");
        }
    }

    fn authorization(status: &str, challenges: &[(&str, &str)]) -> Authorization {
        let challenges: Vec<_> = challenges
            .iter()
            .map(|(kind, status)| {
                json!({"type": kind, "status": status, "url": "https://ca/c", "token": "t"})
            })
            .collect();
        serde_json::from_value(json!({"status": status, "challenges": challenges}))
            .expect("an authorization")
    }

    #[test]
    fn preferred_challenge_is_answered_unless_another_is_under_way() {
        use ChallengeType::{Http01, TlsAlpn01};
        type Offered = &'static [(&'static str, &'static str)];
        let table: &[(Offered, ChallengeType, bool)] = &[
            (
                &[("http-01", "pending"), ("tls-alpn-01", "pending")],
                TlsAlpn01,
                true,
            ),
            (
                &[("dns-01", "pending"), ("http-01", "pending")],
                Http01,
                true,
            ),
            (
                &[("tls-alpn-01", "pending"), ("http-01", "processing")],
                Http01,
                false,
            ),
            (
                &[("tls-alpn-01", "invalid"), ("http-01", "pending")],
                Http01,
                true,
            ),
        ];
        for (challenges, expected, is_told) in table {
            let authorization = authorization("pending", challenges);
            let found = match authorization_step(&authorization, TlsAlpn01) {
                AuthorizationStep::Answer(_, kind) => (kind, true),
                AuthorizationStep::KeepAnswering(_, kind) => (kind, false),
                other => panic!("{challenges:?}: {other:?}"),
            };
            assert_eq!(found, (*expected, *is_told), "{challenges:?}");
        }
    }

    #[test]
    fn authorization_that_is_not_pending_needs_no_answer() {
        let step = |status: &str, challenges| {
            let authorization = authorization(status, challenges);
            format!(
                "{:?}",
                authorization_step(&authorization, ChallengeType::Http01)
            )
        };
        let http: &[(&str, &str)] = &[("http-01", "pending")];
        assert_eq!(step("valid", http), "Done");
        for (status, challenges) in [
            ("invalid", http),
            ("revoked", http),
            ("pending", &[("dns-01", "pending")]),
            ("pending", &[]),
        ] {
            assert!(step(status, challenges).starts_with("Fail"), "{status}");
        }
    }

    #[test]
    fn token_is_base64url() {
        for token in ["a", "A-_9", &"x".repeat(256)] {
            assert!(is_token(token), "{token}");
        }
        for token in ["", "a/b", "..", "a.b", "a b", "ä", &"x".repeat(257)] {
            assert!(!is_token(token), "{token}");
        }
    }
}
