//! The messages of a certificate authority (RFC 8555 §7.1, RFC 9773 §4.2). Unknown members are ignored,
//! and unknown values have variants of their own.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// The prefix of the types of problems (RFC 8555 §6.7).
const PROBLEM_PREFIX: &str = "urn:ietf:params:acme:error:";

/// The limit of a text that is logged and stored, in characters.
const MAX_TEXT_CHARS: usize = 500;

/// The URLs of the resources (RFC 8555 §7.1.1).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Directory {
    pub(super) new_nonce: String,
    pub(super) new_account: String,
    pub(super) new_order: String,
    pub(super) revoke_cert: String,
    /// Of renewal information, if the certificate authority has any (RFC 9773).
    pub(super) renewal_info: Option<String>,
    #[serde(default)]
    pub(super) meta: Meta,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Meta {
    pub(super) terms_of_service: Option<String>,
    pub(super) external_account_required: bool,
    pub(super) profiles: BTreeMap<String, serde_json::Value>,
}

/// The status of an order, an authorization or a challenge (RFC 8555 §7.1.6).
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Pending,
    Ready,
    Processing,
    Valid,
    Invalid,
    /// Deactivated, expired, revoked, or one that is not known.
    #[serde(other)]
    Other,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Order {
    pub(super) status: Status,
    pub(super) authorizations: Vec<String>,
    pub(super) finalize: String,
    pub(super) certificate: Option<String>,
    pub(super) error: Option<Problem>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Authorization {
    pub(super) status: Status,
    #[serde(default)]
    pub(super) challenges: Vec<Challenge>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct Challenge {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) url: String,
    pub(super) status: Status,
    #[serde(default)]
    pub(super) token: String,
    pub(super) error: Option<Problem>,
}

/// A problem document (RFC 7807, RFC 8555 §6.7).
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(default)]
pub(crate) struct Problem {
    #[serde(rename = "type")]
    type_uri: String,
    detail: String,
    subproblems: Vec<Subproblem>,
    /// Of the response, in seconds.
    #[serde(skip)]
    pub(super) retry_after: Option<u64>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(default)]
struct Subproblem {
    detail: String,
}

impl Problem {
    /// Returns a problem that the client itself has found.
    pub(super) fn new(kind: &str, detail: String) -> Self {
        Self {
            type_uri: format!("{PROBLEM_PREFIX}{kind}"),
            detail,
            ..Self::default()
        }
    }

    /// Returns the type without its prefix, `dns` for example.
    pub(crate) fn kind(&self) -> String {
        let kind = self.type_uri.strip_prefix(PROBLEM_PREFIX);
        let kind = kind.filter(|kind| {
            let is_word = kind.bytes().all(|byte| byte.is_ascii_alphanumeric());
            is_word && (1..=40).contains(&kind.len())
        });
        kind.unwrap_or("other").to_owned()
    }

    pub(super) fn is(&self, kind: &str) -> bool {
        self.type_uri.strip_prefix(PROBLEM_PREFIX) == Some(kind)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let subproblems = self.subproblems.iter().map(|sub| sub.detail.as_str());
        let details = std::iter::once(self.detail.as_str()).chain(subproblems);
        let details: Vec<_> = details.filter(|text| !text.is_empty()).collect();
        write!(f, "{} ({})", printable(&details.join("; ")), self.kind())
    }
}

/// Returns a text of a certificate authority for the log: short, and without control characters.
pub(super) fn printable(text: &str) -> String {
    let letters = text.chars().take(MAX_TEXT_CHARS);
    letters
        .map(|letter| if letter.is_control() { ' ' } else { letter })
        .collect()
}

/// When a certificate should be renewed (RFC 9773 §4.2).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct RenewalInfo {
    pub(super) suggested_window: SuggestedWindow,
    #[serde(rename = "explanationURL")]
    pub(super) explanation_url: Option<String>,
}

#[derive(Clone, Debug, Deserialize)]
pub(super) struct SuggestedWindow {
    start: String,
    end: String,
}

impl SuggestedWindow {
    /// Returns the ends in seconds since 1970. `None` if they are not times in order.
    pub(super) fn seconds(&self) -> Option<(i64, i64)> {
        let parse = |text: &str| text.parse::<jiff::Timestamp>().ok();
        let (start, end) = (parse(&self.start)?, parse(&self.end)?);
        (start < end).then(|| (start.as_second(), end.as_second()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problem_is_printed_short_and_without_control_characters() {
        let text = serde_json::json!({
            "type": "urn:ietf:params:acme:error:dns",
            "detail": format!("a\u{1b}[2J\n{}", "x".repeat(10_000)),
            "subproblems": [{"detail": "b"}],
            "unknown": [1],
        });
        let problem: Problem = serde_json::from_value(text).expect("a problem");
        let printed = problem.to_string();
        assert!(
            printed.len() < 600 && printed.ends_with(" (dns)"),
            "{printed}"
        );
        assert!(!printed.contains(char::is_control), "{printed}");
        for kind in ["", "about:blank", "urn:ietf:params:acme:error:a\"b"] {
            let problem: Problem =
                serde_json::from_value(serde_json::json!({"type": kind})).expect("a problem");
            assert_eq!(problem.kind(), "other");
        }
    }

    #[test]
    fn unknown_status_is_not_an_error() {
        let status = |text: &str| serde_json::from_str::<Status>(text).ok();
        assert_eq!(status("\"valid\""), Some(Status::Valid));
        assert_eq!(status("\"deactivated\""), Some(Status::Other));
        assert_eq!(status("\"new\""), Some(Status::Other));
    }

    #[test]
    fn window_must_be_two_times_in_order() {
        let window = |start: &str, end: &str| {
            SuggestedWindow {
                start: start.to_owned(),
                end: end.to_owned(),
            }
            .seconds()
        };
        let (one, two) = ("1970-01-01T00:00:10Z", "1970-01-01T01:00:20.5+01:00");
        assert_eq!(window(one, two), Some((10, 20)));
        for (start, end) in [(two, one), (one, one), ("", two), (one, "tomorrow")] {
            assert_eq!(window(start, end), None, "{start} {end}");
        }
    }
}
