//! `[[auth]]` and `[[access]]`: which paths require a password, and from which networks they can be
//! requested.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Deserializer};

use super::SourceLocation;
use super::pattern::PathPattern;
use super::rules::rule;
use super::values::Strings;
use crate::config::Networks;
use crate::error::SettingError;

/// One `[[auth]]`. The last that matches decides.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AuthRule {
    /// The paths that the rule is about.
    pub(crate) path: PathPattern,
    /// What requests for them need.
    pub requirement: AuthRequirement,
    pub(crate) location: SourceLocation,
}

/// What requests need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthRequirement {
    /// A user name and a password from this file.
    Password(PathBuf),
    /// Nothing, if they only read: other methods need what the rules before say.
    Public,
}

/// One `[[access]]`. All that match are applied.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AccessRule {
    /// The paths that the rule is about.
    pub(crate) path: PathPattern,
    /// The clients that may request them; all if it is `None`.
    allow: Option<Networks>,
    /// The clients that may not, even if they are among the allowed ones.
    deny: Networks,
    pub(crate) location: SourceLocation,
}

/// The passwords that a request needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RequiredPasswords {
    /// The files of passwords, one of each of which is required.
    pub files: BTreeSet<PathBuf>,
    /// Those that are required as well if the response is the page of a single-page application.
    pub files_of_application: BTreeSet<PathBuf>,
    /// Those that are required as well if the response depends on the target of a rewrite of missing paths:
    /// if there is nothing at the path itself.
    pub files_of_fallback: BTreeSet<PathBuf>,
    /// Those that are required as well if the response reveals whether there is something at the same path
    /// with its trailing slash removed, or added: a redirect there, or what is served if there is nothing,
    /// such as a 404 or the page of an application.
    pub files_of_slash_variant: BTreeSet<PathBuf>,
}

impl AuthRule {
    /// Requires a password from a file for all paths.
    pub fn for_all(file: PathBuf) -> Self {
        Self {
            path: PathPattern::every(),
            requirement: AuthRequirement::Password(file),
            location: SourceLocation::default(),
        }
    }

    /// Returns the pattern of the paths that the rule is about.
    pub fn path(&self) -> impl fmt::Display {
        &self.path
    }

    /// Returns where the rule is written.
    pub fn location(&self) -> &SourceLocation {
        &self.location
    }

    /// Returns whether a password is required for every path.
    pub fn protects_everything(&self) -> bool {
        let is_password = matches!(self.requirement, AuthRequirement::Password(_));
        is_password && self.path.covers(&PathPattern::every())
    }
}

impl AccessRule {
    /// Returns the pattern of the paths that the rule is about.
    pub fn path(&self) -> impl fmt::Display {
        &self.path
    }

    /// Returns whether a client may request the paths.
    pub(crate) fn permits(&self, client: SocketAddr) -> bool {
        let allow = self.allow.as_ref();
        let is_allowed = allow.is_none_or(|networks| networks.contains(client));
        is_allowed && !self.deny.contains(client)
    }

    /// Returns whether `all` clients may request the paths, as far as this rule is concerned.
    pub(super) fn permits_all(&self) -> bool {
        let is_all = |networks: &Networks| ALL.parse().is_ok_and(|all: Networks| all == *networks);
        self.deny.is_empty() && self.allow.as_ref().is_none_or(is_all)
    }
}

/// Displays the rule on one line, with its location.
impl fmt::Display for AuthRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "auth {}{}", self.path, self.location)
    }
}

/// Displays the rule on one line, with its location.
impl fmt::Display for AccessRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "access {}{}", self.path, self.location)
    }
}

impl<'de> Deserialize<'de> for AuthRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        rule::<RawAuth, _, _>(deserializer)
    }
}

impl<'de> Deserialize<'de> for AccessRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        rule::<RawAccess, _, _>(deserializer)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAuth {
    path: String,
    file: Option<PathBuf>,
    #[serde(default)]
    public: bool,
}

impl TryFrom<RawAuth> for AuthRule {
    type Error = SettingError;

    fn try_from(raw: RawAuth) -> Result<Self, SettingError> {
        let requirement = match (raw.file, raw.public) {
            (Some(file), false) if !file.as_os_str().is_empty() => AuthRequirement::Password(file),
            (None, true) => AuthRequirement::Public,
            _ => {
                return Err("an [[auth]] must have either file = \"FILE\" or public = true".into());
            }
        };
        Ok(Self {
            path: PathPattern::new(&raw.path)?,
            requirement,
            location: SourceLocation::default(),
        })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAccess {
    path: String,
    allow: Option<Strings>,
    #[serde(default)]
    deny: Strings,
}

impl TryFrom<RawAccess> for AccessRule {
    type Error = SettingError;

    fn try_from(raw: RawAccess) -> Result<Self, SettingError> {
        if raw.allow.is_none() && raw.deny.0.is_empty() {
            return Err(
                "an [[access]] must have networks; add allow = [\"10.0.0.0/8\"] or deny = [...]"
                    .into(),
            );
        }
        Ok(Self {
            path: PathPattern::new(&raw.path)?,
            allow: raw.allow.as_ref().map(networks).transpose()?,
            deny: networks(&raw.deny)?,
            location: SourceLocation::default(),
        })
    }
}

/// What `all` stands for.
const ALL: &str = "0.0.0.0/0,::/0,unix";

fn networks(words: &Strings) -> Result<Networks, SettingError> {
    let words = words.0.iter();
    let sets = words.map(|word| if word == "all" { ALL } else { word }.parse::<Networks>());
    sets.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn access_is_for_the_allowed_ones_that_are_not_denied() {
        for (rule, client, expected) in [
            ("allow = '10.0.0.0/8'", "10.1.2.3:1", true),
            ("allow = '10.0.0.0/8'", "11.1.2.3:1", false),
            ("allow = '10.0.0.0/8'", "[::ffff:10.0.0.1]:1", true),
            ("allow = ['10.0.0.0/8', '::1']", "[::1]:1", true),
            (
                "allow = '10.0.0.0/8'\ndeny = '10.1.0.0/16'",
                "10.1.2.3:1",
                false,
            ),
            ("deny = ['10.1.0.0/16']", "10.2.2.3:1", true),
            ("deny = 'all'", "10.2.2.3:1", false),
            ("deny = 'all'", "[::]:0", false),
            ("deny = '::/0'", "[::]:0", true),
            ("allow = 'unix'", "[::]:0", true),
            ("allow = []", "127.0.0.1:1", false),
        ] {
            let text = format!("path = '/*'\n{rule}\n");
            let parsed: AccessRule = toml::from_str(&text).expect("a rule");
            let client = client.parse().expect("an address");
            assert_eq!(parsed.permits(client), expected, "{rule} {client}");
        }
    }

    #[test]
    fn rules_without_a_verdict_are_rejected() {
        for rule in ["", "allow = 'x'", "deny = []", "allow = 1"] {
            let text = format!("path = '/*'\n{rule}\n");
            assert!(toml::from_str::<AccessRule>(&text).is_err(), "{rule}");
        }
        for rule in [
            "",
            "public = false",
            "file = 'a'\npublic = true",
            "file = ''",
        ] {
            let text = format!("path = '/*'\n{rule}\n");
            assert!(toml::from_str::<AuthRule>(&text).is_err(), "{rule}");
        }
    }
}
