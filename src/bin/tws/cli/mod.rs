//! The command line, the environment and the settings file become [`Settings`] in one fallible step.
//! Only the settings file is opened.
//!
//! `flags` is the one definition of what can be set, `layers` merges the three sources, `settings`
//! checks the result and converts it to the types of the library. `subcommand` knows the first words
//! that are no PATH, `exposure` what must not be open to other machines, `exit` what is printed
//! instead of serving, `messages` its wording, and `reference` the manual page and shell completions.

mod exit;
mod exposure;
mod flags;
mod layers;
mod messages;
mod reference;
#[cfg(test)]
mod reference_table;
mod settings;
mod subcommand;

pub(crate) use exit::{Mistake, Stop};
pub(crate) use exposure::{Authentication, is_exposed};
pub(crate) use flags::RequestWords;
pub(crate) use layers::{Listening, SiteFile, Words};
pub(crate) use messages::advice_on_root;
pub(crate) use reference::{completions, man};
pub(crate) use settings::{Banner, Browsing, Encryption, QrCode, Sandboxing, Settings, View};
pub(crate) use subcommand::Task;
