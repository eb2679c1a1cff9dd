//! Where the settings file sets what flags set, for messages: these name the flag.

use std::collections::BTreeMap;

use super::exit::ConfigError;

/// The beginnings of messages about settings of the file (`tws.toml:3: `), by the long name of the flag.
#[derive(Debug, Default)]
pub(crate) struct KeyLocations(BTreeMap<String, String>);

impl KeyLocations {
    pub(super) fn add(&mut self, long: &str, location: String) {
        self.0.insert(long.to_owned(), location);
    }

    /// Returns the beginning of a message about the setting of a flag. Empty if the file does not set it.
    pub(crate) fn prefix(&self, long: &str) -> String {
        self.0.get(long).cloned().unwrap_or_default()
    }

    /// Adds to an error about flags the location of the first one that the file sets, if there is one.
    pub(super) fn locate(&self, error: ConfigError) -> ConfigError {
        let ConfigError::Usage(text) = &error else {
            return error;
        };
        let mentions = self.0.iter().filter_map(|(long, location)| {
            let flag = format!("--{long}");
            let mut found = text.match_indices(&flag);
            let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'-';
            let (at, _) = found.find(|(at, _)| {
                let next = text.as_bytes().get(at + flag.len());
                !next.is_some_and(is_name)
            })?;
            Some((at, location))
        });
        match mentions.min_by_key(|(at, _)| *at) {
            Some((_, location)) => ConfigError::Failure(format!("{location}{text}")),
            None => error,
        }
    }
}
