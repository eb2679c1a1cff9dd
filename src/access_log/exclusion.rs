//! Requests that are not logged, by path or status.

use std::str::FromStr;

use ::http::StatusCode;

use crate::error::SettingError;
use crate::site::pattern::PathPattern;

/// Requests that are not logged: those with a status (`304`, `2xx`), or those for paths (`/healthz`,
/// `/assets/*`; a star matches anything, slashes too).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogExclusion(Excluded);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Excluded {
    Status(u16),
    /// By the first digit.
    StatusClass(u16),
    Path(PathPattern),
}

impl LogExclusion {
    /// `path` is decoded and normal; `None` if the request has none.
    pub(super) fn excludes(&self, status: StatusCode, path: Option<&[u8]>) -> bool {
        match &self.0 {
            Excluded::Status(excluded) => status.as_u16() == *excluded,
            Excluded::StatusClass(digit) => status.as_u16() / 100 == *digit,
            Excluded::Path(pattern) => path.is_some_and(|path| pattern.is_match(path)),
        }
    }

    pub(super) fn is_about_paths(&self) -> bool {
        matches!(self.0, Excluded::Path(_))
    }
}

impl FromStr for LogExclusion {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        let class = text.strip_suffix("xx").and_then(|digit| digit.parse().ok());
        match (class, text.parse()) {
            (Some(digit @ 1..=5), _) => Ok(Self(Excluded::StatusClass(digit))),
            (_, Ok(status @ 100..=599)) => Ok(Self(Excluded::Status(status))),
            _ if text.starts_with('/') => Ok(Self(Excluded::Path(PathPattern::new(text)?))),
            _ => Err(format!(
                "must be a path such as /healthz or /assets/*, or a status such as 304 or 2xx (got {text:?})"
            ).into()),
        }
    }
}
