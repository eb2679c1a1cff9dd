//! The command line, the environment and the settings file become [`Settings`] in one fallible step.
//! Only the settings file is opened.
//!
//! `aliases` replaces names of flags that other servers have. `flags` is the one definition of what can
//! be set, with the parsers of `values` and the clap commands of `command`. `layers` merges flags, variables and file, `settings` checks the result and converts
//! it to the types of the library; `acme` and `acme_settings` do so for automatic certificates.
//! `subcommand` knows the first arguments that are no PATH, `exposure` what must not be open to other
//! machines, `exit` how the process ends instead of serving, `messages` the wording, `key_locations` where the file
//! sets what a message is about, and `reference`
//! the manual page and shell completions.

mod acme;
mod acme_settings;
mod aliases;
mod command;
mod compress;
mod exit;
mod exposure;
mod flags;
mod key_locations;
mod layers;
mod messages;
mod raw_args;
mod reference;
#[cfg(test)]
mod reference_table;
mod settings;
mod subcommand;
mod values;

#[cfg(feature = "acme")]
pub(crate) use acme::{AcmeAction, AcmeRequest, OutputFormat};
pub(crate) use acme_settings::AcmeSettings;
pub(crate) use compress::CompressArgs;
pub(crate) use exit::Exit;
pub(crate) use exposure::{Authentication, HostCheck, is_exposed};
pub(crate) use flags::RequestArgs;
pub(crate) use layers::{SiteFileSource, UPGRADE_VARIABLE};
pub(crate) use raw_args::{InheritedEndpoints, RawArgs};
pub(crate) use reference::{completions, man};
#[cfg(feature = "auth")]
pub(crate) use settings::USERS_OF_FLAG;
pub(crate) use settings::{
    Banner, BrowserLaunch, Encryption, HttpRedirect, LogAddresses, PortChoice, QrOutput,
    RandomPath, Sandboxing, Settings, View,
};
pub(crate) use subcommand::{ROOT_OPENER_ARGUMENT, Subcommand};
pub(crate) use values::{BasePath, ExitCondition};
