//! Merges flags, environment variables and the settings file into one set of flags. For each setting,
//! the first of the three that names it decides it alone. A variable or a key is converted to the
//! arguments of its flag and parsed as if it had been typed, so each setting has one definition, and a
//! new flag gets its variable and its key without further code.
//!
//! - A setting that may be repeated is an array in the file, and has one value on each line in the
//!   environment; a setting whose values never contain a comma also takes them on one line.
//! - An empty variable is ignored. A value that a higher layer overrides is not parsed. An empty array
//!   in the file is no value, which is the default.
//! - `--directory` and PATH are one setting, as are `--port` and PORT. `--no-site-file` also decides
//!   `--config`; `--quiet` and `--verbose` decide each other.
//! - Paths in a file that `--config` names are relative to its folder. The file of a served folder may
//!   come with an untrusted archive: it may only set what concerns the site (`flags::key`).

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, ValueHint};
use tws::site::{ConfigFile, OtherKey, RootOpener, Site};

use super::aliases;
use super::command::{self, FlagParser};
use super::exit::{ConfigError, Exit};
use super::flags::{self, FileKey, Flags};
use super::key_locations::KeyLocations;
use super::messages::{self, nearest};
use super::raw_args::RawArgs;

/// The prefix of the environment variables.
const PREFIX: &str = "TWS_";

/// The variable that tells the new process of an upgrade which process is its parent and how many
/// listeners it receives for each server: `PID:COUNT,COUNT`. The count of a missing server is 0. It is
/// not a setting.
pub(crate) const UPGRADE_VARIABLE: &str = "TWS_UPGRADE";

/// The merged settings of all layers.
pub(super) struct ConfigLayers {
    pub(super) flags: Flags,
    /// The rules of the site, from the settings file.
    pub(super) site: Site,
    pub(super) site_file: SiteFileSource,
    /// Whether there is a settings file without any text.
    pub(super) has_file_settings: bool,
    pub(super) root: PathBuf,
    pub(super) root_is_explicit: bool,
    /// Allowed, but probably not intended; one line each.
    pub(super) warnings: Vec<String>,
    /// The settings that are wrong. They are left out of `flags`.
    pub(super) errors: Vec<ConfigError>,
    /// Where the settings file sets the other ones.
    pub(super) key_locations: KeyLocations,
}

/// Which settings file is read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SiteFileSource {
    /// `.tws.toml` in the root, if there is one.
    InRoot,
    /// That of `--config`.
    Path(PathBuf),
    None,
}

impl ConfigLayers {
    /// Parses the arguments and variables, and reads the settings file if there is one.
    pub(super) fn read(args: &RawArgs) -> Result<Self, Exit> {
        let mut parser = LayerParser::new(args)?;
        let warnings = parser.add_variables(&args.variables);
        let site_file = site_file(parser.flags()?)?;
        let file = parser.read_config_file(&site_file)?;
        if let Some(file) = &file {
            parser.add_config_file(file, &site_file);
        }
        let root = explicit_root(parser.flags()?)?;
        Ok(Self {
            has_file_settings: file.as_ref().is_some_and(|file| !file.is_blank),
            site: file.map(|file| file.site).unwrap_or_default(),
            site_file,
            root_is_explicit: root.is_some(),
            root: root.unwrap_or_else(default_root),
            flags: parser.flags,
            warnings,
            errors: parser.errors,
            key_locations: parser.key_locations,
        })
    }
}

fn site_file(flags: &Flags) -> Result<SiteFileSource, clap::Error> {
    match (&flags.config, flags.no_site_file) {
        (Some(_), Some(true)) => Err(flags::usage(
            "--config and --no-site-file exclude each other; give only one of them".to_owned(),
        )),
        (Some(path), _) => Ok(SiteFileSource::Path(path.clone())),
        (None, Some(true)) => Ok(SiteFileSource::None),
        (None, _) => Ok(SiteFileSource::InRoot),
    }
}

/// Returns PATH or the value of `--directory`.
fn explicit_root(flags: &Flags) -> Result<Option<PathBuf>, clap::Error> {
    let (path, _) = flags.path_and_port()?;
    either("PATH", path, "--directory", flags.directory.clone())
}

/// Returns the value of a setting that can be given in two ways, but not with two values.
pub(super) fn either<T: PartialEq>(
    first_name: &str,
    first: Option<T>,
    second_name: &str,
    second: Option<T>,
) -> Result<Option<T>, clap::Error> {
    match (first, second) {
        (Some(first), Some(second)) if first != second => Err(flags::usage(format!(
            "{first_name} and {second_name} differ; give only one of them"
        ))),
        (first, second) => Ok(first.or(second)),
    }
}

fn default_root() -> PathBuf {
    let www = Path::new("www");
    PathBuf::from(if www.is_dir() { "./www" } else { "." })
}

/// Merges the layers, from the highest precedence to the lowest.
struct LayerParser {
    parser: FlagParser,
    program: OsString,
    /// The name of the program, the arguments that lower layers have added, and those that were typed.
    args: Vec<OsString>,
    /// The flags of the layers that are parsed.
    flags: Flags,
    opener: Option<Arc<dyn RootOpener>>,
    /// The long names of the settings that are decided.
    decided: BTreeSet<String>,
    /// Those that the current layer has added.
    added: Vec<String>,
    errors: Vec<ConfigError>,
    key_locations: KeyLocations,
}

impl LayerParser {
    fn new(raw: &RawArgs) -> Result<Self, Exit> {
        let mut parser = FlagParser::new(raw.mode);
        let (program, typed) = raw
            .args
            .split_first()
            .map_or((OsStr::new("tws"), &[][..]), |it| (it.0.as_os_str(), it.1));
        let program = program.to_owned();
        let mut replaced = aliases::replace(typed);
        let mut args = std::mem::take(&mut replaced.args);
        args.insert(0, program.clone());
        let parsed = parser.parse(&args).and_then(|(flags, matches)| {
            flags.check_port_is_used()?;
            Ok((flags, matches))
        });
        let (flags, matches) =
            parsed.map_err(|error| messages::as_typed(error, typed, &replaced))?;
        let mut layers = Self {
            parser,
            program,
            args,
            flags,
            opener: raw.opener.clone(),
            decided: BTreeSet::new(),
            added: Vec::new(),
            errors: Vec::new(),
            key_locations: KeyLocations::default(),
        };
        layers.decide(&matches)?;
        Ok(layers)
    }

    /// Returns the flags of all layers added so far, and marks their settings as decided.
    fn flags(&mut self) -> Result<&Flags, clap::Error> {
        if !self.added.is_empty() {
            let (flags, matches) = self.parser.parse(&self.args)?;
            self.flags = flags;
            self.decide(&matches)?;
        }
        Ok(&self.flags)
    }

    fn decide(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let is_typed = |arg: &Arg| {
            let source = matches.value_source(arg.get_id().as_str());
            source == Some(ValueSource::CommandLine)
        };
        let typed = self
            .parser
            .settings()
            .filter(|(arg, _)| is_typed(arg))
            .map(|(_, long)| long.to_owned());
        self.decided.extend(typed.chain(self.added.drain(..)));
        let (path, port) = self.flags.path_and_port()?;
        let is_decided = |long| self.decided.contains(long);
        let implied = [
            ("directory", path.is_some()),
            ("port", port.is_some()),
            ("config", self.flags.no_site_file == Some(true)),
            ("no-site-file", is_decided("config")),
            ("quiet", is_decided("verbose")),
            ("verbose", is_decided("quiet")),
        ];
        let implied = implied.iter().filter(|(_, is_implied)| *is_implied);
        self.decided
            .extend(implied.map(|(long, _)| (*long).to_owned()));
        Ok(())
    }

    /// Adds the environment variables. Returns warnings about variables that are likely misspelt.
    fn add_variables(&mut self, variables: &[(OsString, OsString)]) -> Vec<String> {
        let mut settings = Vec::new();
        let mut warnings = Vec::new();
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else {
                continue;
            };
            if value.is_empty() || name == UPGRADE_VARIABLE {
                continue;
            }
            let arg = self
                .parser
                .settings()
                .map(|(arg, _)| arg)
                .find(|arg| command::variable(arg).as_deref() == Some(name));
            match arg {
                Some(arg) => {
                    let lines = value.as_bytes().split(|&byte| byte == b'\n');
                    let lines = lines.filter(|line| !line.is_empty());
                    let values = lines.map(|line| OsStr::from_bytes(line).to_owned());
                    settings.push((arg.clone(), name.to_owned(), values.collect()));
                }
                None => warnings.extend(self.misspelt_variable(name)),
            }
        }
        for (arg, name, values) in settings {
            self.add(&arg, values, |reason| {
                ConfigError::Usage(format!("{name}: {reason}"))
            });
        }
        warnings
    }

    /// Returns a warning if `name` resembles a variable. Other names with the prefix are ignored, as
    /// they may belong to other programs.
    fn misspelt_variable(&self, name: &str) -> Option<String> {
        let settings = self.parser.settings();
        let near = nearest(name, settings.filter_map(|(arg, _)| command::variable(arg)))?;
        Some(format!(
            "{name}: unknown environment variable; did you mean {near}?"
        ))
    }

    /// Reads the settings file. An error in the file of a served folder is recorded; one in the file of
    /// `--config` ends the parsing, since that file may set everything else.
    fn read_config_file(&mut self, site_file: &SiteFileSource) -> Result<Option<ConfigFile>, Exit> {
        let file = match site_file {
            SiteFileSource::Path(path) => ConfigFile::read(path).map(Some),
            SiteFileSource::InRoot => {
                let root = explicit_root(self.flags()?)?;
                let root = root.unwrap_or_else(default_root);
                ConfigFile::of_root_with_opener(&root, self.opener.as_deref())
            }
            SiteFileSource::None => Ok(None),
        };
        file.or_else(|error| {
            self.errors.push(ConfigError::Failure(error.to_string()));
            match site_file {
                SiteFileSource::Path(_) => Err(Exit::Errors(std::mem::take(&mut self.errors))),
                SiteFileSource::InRoot | SiteFileSource::None => Ok(None),
            }
        })
    }

    /// Adds the keys of the settings file that are no rules of the site.
    fn add_config_file(&mut self, file: &ConfigFile, site_file: &SiteFileSource) {
        self.check_free_keys(file);
        let folder = file.path.parent().unwrap_or(Path::new(""));
        for key in &file.others {
            let place = format!("{}:{}", file.path.display(), key.line);
            let failure = |reason: String| ConfigError::Failure(format!("{place}: {reason}"));
            match self.arg_of_key(key, site_file) {
                Ok((arg, values)) => {
                    let values = values.iter().map(|value| relative_to(folder, &arg, value));
                    if !self.decided.contains(&key.name) {
                        self.key_locations.add(&key.name, format!("{place}: "));
                    }
                    self.add(&arg, values.collect(), |reason| {
                        failure(format!("{}: {reason}", key.name))
                    });
                }
                Err(reason) => self.errors.push(failure(reason)),
            }
        }
    }

    /// Rejects settings that are keys of the table above them, where any name is allowed.
    fn check_free_keys(&mut self, file: &ConfigFile) {
        /// The types of media types (RFC 6838 §4.2); another one is a path. An extension may have the
        /// name of a setting.
        const TYPES: &[&str] = &[
            "application",
            "audio",
            "font",
            "image",
            "message",
            "model",
            "multipart",
            "text",
            "video",
        ];
        let is_media_type = |value: &String| {
            let (kind, _) = value.split_once('/').unwrap_or_default();
            TYPES.contains(&kind)
        };
        for key in &file.free_keys {
            let mut settings = self.parser.settings();
            let setting = settings.find(|(_, long)| {
                flags::key(long) != FileKey::NotInFile && key.is_spelling_of(long)
            });
            if setting.is_some() && !key.values.iter().flatten().all(is_media_type) {
                self.errors.push(ConfigError::Failure(format!(
                    "{}:{}: {}: a setting, which the table above takes as its own; move it above the \
                     first [table]",
                    file.path.display(),
                    key.line,
                    key.name
                )));
            }
        }
    }

    /// Returns the flag of a key, and the values of the key.
    fn arg_of_key<'k>(
        &self,
        key: &'k OtherKey,
        site_file: &SiteFileSource,
    ) -> Result<(Arg, &'k [String]), String> {
        let name = key.name.as_str();
        let arg = self.parser.settings().find(|(_, long)| *long == name);
        let Some((arg, long)) = arg else {
            return Err(self.unknown_key(name));
        };
        match (flags::key(long), site_file) {
            (FileKey::NotInFile, _) => Err(self.unknown_key(name)),
            (FileKey::Site(key), _) => Err(format!("{name}: unknown key; write it as {key}")),
            (FileKey::ConfigOnly(_), SiteFileSource::InRoot) => Err(format!(
                "{name}: not allowed in the file of a served folder, which may come from elsewhere; \
                 set it in a file that --config names"
            )),
            (FileKey::ConfigOnly(_), _) if is_path(arg) && !key.is_text => {
                Err(format!("{name}: must be a path in quotes"))
            }
            (FileKey::ConfigOnly(_), _) => match &key.values {
                Some(values) => Ok((arg.clone(), values)),
                None => Err(format!(
                    "{name}: must be a string, a number, a boolean or an array of these"
                )),
            },
        }
    }

    fn unknown_key(&self, name: &str) -> String {
        let flags = self
            .parser
            .settings()
            .map(|(_, long)| long)
            .filter(|long| !matches!(flags::key(long), FileKey::Site(_) | FileKey::NotInFile));
        let keys = Site::KEYS.iter().copied().chain(flags);
        match nearest(name, keys.map(str::to_owned)) {
            Some(near) => format!("{name}: unknown key; did you mean {near}?"),
            None => format!(
                "{name}: unknown key; the keys are {}, and the names of flags (`tws --help`)",
                Site::KEYS.join(", ")
            ),
        }
    }

    /// Adds the values of one setting, unless a higher layer has decided it.
    fn add(&mut self, arg: &Arg, values: Vec<OsString>, to_error: impl Fn(String) -> ConfigError) {
        let Some(long) = arg.get_long() else { return };
        if self.decided.contains(long) {
            return;
        }
        let args = match to_args(arg, long, values) {
            Ok(args) => args,
            Err(reason) => return self.errors.push(to_error(reason)),
        };
        let alone = std::iter::once(&self.program).chain(&args);
        match self.parser.check(&alone.cloned().collect::<Vec<_>>()) {
            Ok(()) => {
                self.added.push(long.to_owned());
                self.args.splice(1..1, args);
            }
            Err(error) => self.errors.push(to_error(messages::reason(&error))),
        }
    }
}

/// Returns the arguments that set a flag to `values`.
fn to_args(arg: &Arg, long: &str, values: Vec<OsString>) -> Result<Vec<OsString>, String> {
    let with_value = |value: OsString| {
        let mut arg = format!("--{long}=").into_bytes();
        arg.extend_from_slice(value.as_bytes());
        OsString::from_vec(arg)
    };
    if !matches!(arg.get_action(), ArgAction::Count) {
        return Ok(values.into_iter().map(with_value).collect());
    }
    let number = match &values[..] {
        [value] => value.to_str().and_then(|text| text.parse::<u8>().ok()),
        _ => None,
    };
    let number = number.ok_or("must be an integer between 0 and 255")?;
    Ok(vec![format!("--{long}").into(); number.into()])
}

/// Makes the value of a flag that takes a path relative to the folder of the settings file.
fn relative_to(folder: &Path, arg: &Arg, value: &str) -> OsString {
    // The values of --access-log that are no paths.
    let is_keyword = matches!(value, "-" | "off");
    if is_path(arg) && !is_keyword {
        folder.join(value).into_os_string()
    } else {
        value.into()
    }
}

fn is_path(arg: &Arg) -> bool {
    matches!(
        arg.get_value_hint(),
        ValueHint::AnyPath | ValueHint::FilePath | ValueHint::DirPath
    )
}

#[cfg(test)]
mod tests;
