//! Flags, the environment and the file become one set of flags: the first that names a setting
//! decides it alone. What a variable or a key says is turned into its flag's words and read as if it
//! had been typed, so there is one definition of each setting, and one that is new has its variable
//! and its key at once.
//!
//! - A setting that may be repeated is an array in the file, and in the environment one value on each
//!   line; a setting whose values never hold a comma takes them in one line, too.
//! - An empty variable says nothing. So does what somebody before it has decided: it is not looked
//!   at. An empty array in the file says that there is none, which is the default.
//! - `--directory` and PATH are one setting, as are `--port` and PORT; `--no-site-file` decides
//!   `--config`, too, `--quiet` decides `--verbose`, and the other way round.
//! - Paths in a file that `--config` names are relative to its folder. A root's own file may have
//!   come from a stranger: it may not set what is the server's and not the site's (`flags::key`).

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command, ValueHint};
use tws::Endpoint;
use tws::site::{ConfigFile, OtherKey, Site};

use super::exit::{Mistake, Stop};
use super::flags::{self, Flags, Key, Purpose};
use super::messages::{self, nearest};
use crate::lifecycle::upgrade;

/// How the names of variables begin.
const PREFIX: &str = "TWS_";

/// What all have said together.
pub(super) struct Layers {
    pub(super) flags: Flags,
    /// What the site file says of the site.
    pub(super) site: Site,
    pub(super) site_file: SiteFile,
    pub(super) root: PathBuf,
    pub(super) root_was_named: bool,
    /// What is no mistake and yet not meant, perhaps.
    pub(super) warnings: Vec<String>,
    /// What was said and is wrong. It is left out.
    pub(super) mistakes: Vec<Mistake>,
}

/// Which site file is read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SiteFile {
    /// The root's own, if it has one.
    OfRoot,
    At(PathBuf),
    None,
}

/// The arguments and variables of a process.
#[derive(Clone, Debug, Default)]
pub(crate) struct Words {
    /// The first is the program's name.
    pub(crate) args: Vec<OsString>,
    pub(crate) variables: Vec<(OsString, OsString)>,
    pub(crate) purpose: Purpose,
    /// It comes before all that is said.
    pub(crate) listening: Listening,
}

/// Where sockets listen that the process was given; a server for which there are none opens its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listening {
    pub(crate) server: Option<Vec<Endpoint>>,
    /// They mean nothing without `--admin`.
    pub(crate) admin: Option<Vec<Endpoint>>,
}

impl Words {
    pub(crate) fn of_process() -> Self {
        Self {
            args: std::env::args_os().collect(),
            variables: std::env::vars_os().collect(),
            purpose: Purpose::Serving,
            listening: Listening::default(),
        }
    }
}

impl Layers {
    /// Reads the file, too, if there is one.
    pub(super) fn read(words: &Words) -> Result<Self, Stop> {
        let mut layers = Reading::of(words)?;
        let warnings = layers.add_variables(&words.variables);
        let flags = layers.flags()?;
        let site_file = match (&flags.config, flags.no_site_file) {
            (Some(_), Some(true)) => {
                let text = "--config and --no-site-file exclude each other; give only one of them";
                return Err(flags::usage(text.to_owned()).into());
            }
            (Some(path), _) => SiteFile::At(path.clone()),
            (None, Some(true)) => SiteFile::None,
            (None, _) => SiteFile::OfRoot,
        };
        let document = match &site_file {
            SiteFile::At(path) => ConfigFile::read(path).map(Some),
            SiteFile::OfRoot => ConfigFile::of_root(&root(&flags)?.unwrap_or_else(default_root)),
            SiteFile::None => Ok(None),
        };
        let document = match document {
            Ok(document) => document,
            Err(error) => {
                layers.mistakes.push(Mistake::Failure(error.to_string()));
                // All that is served may be in it.
                if let SiteFile::At(_) = site_file {
                    return Err(Stop::Mistakes(layers.mistakes));
                }
                None
            }
        };
        if let Some(document) = &document {
            layers.add_document(document, &site_file);
        }
        let flags = layers.flags()?;
        let named = root(&flags)?;
        Ok(Self {
            site: document.map(|document| document.site).unwrap_or_default(),
            site_file,
            root_was_named: named.is_some(),
            root: named.unwrap_or_else(default_root),
            flags,
            warnings,
            mistakes: layers.mistakes,
        })
    }
}

/// PATH or --directory.
fn root(flags: &Flags) -> Result<Option<PathBuf>, clap::Error> {
    let (path, _) = flags.path_and_port()?;
    either("PATH", path, "--directory", flags.directory.clone())
}

/// One setting that can be given in two ways, but not differently.
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

/// Layers on the way down.
struct Reading {
    command: Command,
    program: OsString,
    /// What is typed, and before it what those below have added.
    words: Vec<OsString>,
    purpose: Purpose,
    /// The settings that are decided, by long name.
    decided: BTreeSet<String>,
    /// Those of the layer that is being added.
    said: Vec<String>,
    mistakes: Vec<Mistake>,
}

impl Reading {
    fn of(words: &Words) -> Result<Self, Stop> {
        let mut command = flags::command();
        command.build();
        let (program, typed) = words
            .args
            .split_first()
            .map_or((OsStr::new("tws"), &[][..]), |it| (it.0.as_os_str(), it.1));
        let mut reading = Self {
            command,
            program: program.to_owned(),
            words: typed.to_owned(),
            purpose: words.purpose,
            decided: BTreeSet::new(),
            said: Vec::new(),
            mistakes: Vec::new(),
        };
        reading.flags()?;
        Ok(reading)
    }

    /// What is said so far; that is decided now.
    fn flags(&mut self) -> Result<Flags, clap::Error> {
        let all = std::iter::once(&self.program).chain(&self.words);
        let (flags, matches) = Flags::parse(&all.cloned().collect::<Vec<_>>(), self.purpose)?;
        self.decide(&flags, &matches)?;
        Ok(flags)
    }

    fn decide(&mut self, flags: &Flags, matches: &ArgMatches) -> Result<(), clap::Error> {
        let named = |arg: &Arg| {
            let source = matches.value_source(arg.get_id().as_str());
            source == Some(ValueSource::CommandLine)
        };
        let named = flags::settings(&self.command)
            .filter(|(arg, _)| named(arg))
            .map(|(_, long)| long.to_owned());
        self.decided.extend(named.chain(self.said.drain(..)));
        let (path, port) = flags.path_and_port()?;
        let is = |long| self.decided.contains(long);
        let implied = [
            ("directory", path.is_some()),
            ("port", port.is_some()),
            ("config", flags.no_site_file == Some(true)),
            ("no-site-file", is("config")),
            ("quiet", is("verbose")),
            ("verbose", is("quiet")),
        ];
        let implied = implied.iter().filter(|(_, is_implied)| *is_implied);
        self.decided
            .extend(implied.map(|(long, _)| (*long).to_owned()));
        Ok(())
    }

    /// Adds what the environment says. Returns what it says in vain, perhaps.
    fn add_variables(&mut self, variables: &[(OsString, OsString)]) -> Vec<String> {
        let mut said = Vec::new();
        let mut warnings = Vec::new();
        for (name, value) in variables {
            let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else {
                continue;
            };
            if value.is_empty() || name == upgrade::VARIABLE {
                continue;
            }
            let arg = flags::settings(&self.command)
                .map(|(arg, _)| arg)
                .find(|arg| flags::variable(arg).as_deref() == Some(name));
            match arg {
                Some(arg) => {
                    let lines = value.as_bytes().split(|&byte| byte == b'\n');
                    let lines = lines.filter(|line| !line.is_empty());
                    let values = lines.map(|line| OsStr::from_bytes(line).to_owned());
                    said.push((arg.clone(), name.to_owned(), values.collect()));
                }
                None => warnings.extend(self.warning(name)),
            }
        }
        for (arg, name, values) in said {
            self.add(&arg, values, |reason| {
                Mistake::Usage(format!("{name}: {reason}"))
            });
        }
        warnings
    }

    /// Many a program has variables that begin with these letters.
    fn warning(&self, name: &str) -> Option<String> {
        let names = flags::settings(&self.command).filter_map(|(arg, _)| flags::variable(arg));
        let near = nearest(name, names)?;
        Some(format!(
            "{name}: unknown environment variable; did you mean {near}?"
        ))
    }

    /// Adds what the file says beside what it says of the site.
    fn add_document(&mut self, document: &ConfigFile, site_file: &SiteFile) {
        let folder = document.path.parent().unwrap_or(Path::new(""));
        for other in &document.others {
            let place = format!("{}:{}", document.path.display(), other.line);
            let wrong = |reason: String| Mistake::Failure(format!("{place}: {reason}"));
            match self.understand(other, site_file) {
                Ok((arg, values)) => {
                    let values = values.iter().map(|value| anchored(&arg, value, folder));
                    let values = values.collect();
                    self.add(&arg, values, |reason| {
                        wrong(format!("{}: {reason}", other.name))
                    });
                }
                Err(reason) => self.mistakes.push(wrong(reason)),
            }
        }
    }

    /// The flag of a key, and what the key says about it.
    fn understand<'o>(
        &self,
        other: &'o OtherKey,
        site_file: &SiteFile,
    ) -> Result<(Arg, &'o [String]), String> {
        let name = other.name.as_str();
        let arg = flags::settings(&self.command).find(|(_, long)| *long == name);
        let Some((arg, long)) = arg else {
            return Err(self.unknown(name));
        };
        match (flags::key(long), site_file) {
            (Key::Nowhere, _) => Err(self.unknown(name)),
            (Key::Site(key), _) => Err(format!("{name}: unknown key; write it as {key}")),
            (Key::BesideInConfig(_), SiteFile::OfRoot) => Err(format!(
                "{name}: not allowed in the file of a served folder, which may come from elsewhere; \
                 set it in a file that --config names"
            )),
            (Key::Beside(_) | Key::BesideInConfig(_), _) => match &other.values {
                Some(values) => Ok((arg.clone(), values)),
                None => Err(format!(
                    "{name}: must be a string, a number, a boolean or an array of these"
                )),
            },
        }
    }

    fn unknown(&self, name: &str) -> String {
        let beside = flags::settings(&self.command)
            .map(|(_, long)| long)
            .filter(|long| !matches!(flags::key(long), Key::Site(_) | Key::Nowhere));
        let keys = Site::KEYS.iter().copied().chain(beside);
        match nearest(name, keys.map(str::to_owned)) {
            Some(near) => format!("{name}: unknown key; did you mean {near}?"),
            None => format!(
                "{name}: unknown key; the keys are {}, and the names of flags (`tws --help`)",
                Site::KEYS.join(", ")
            ),
        }
    }

    /// Adds what is said of one setting, unless that is decided.
    fn add(&mut self, arg: &Arg, values: Vec<OsString>, wrong: impl Fn(String) -> Mistake) {
        let Some(long) = arg.get_long() else { return };
        if self.decided.contains(long) {
            return;
        }
        let words = match words(arg, long, values) {
            Ok(words) => words,
            Err(reason) => return self.mistakes.push(wrong(reason)),
        };
        let alone = std::iter::once(&self.program).chain(&words);
        match Flags::parse(&alone.cloned().collect::<Vec<_>>(), Purpose::Serving) {
            Ok(_) => {
                self.said.push(long.to_owned());
                self.words.splice(0..0, words);
            }
            Err(error) => self.mistakes.push(wrong(messages::reason(&error))),
        }
    }
}

/// What would have been typed to say the same.
fn words(arg: &Arg, long: &str, values: Vec<OsString>) -> Result<Vec<OsString>, String> {
    let word = |value: OsString| {
        let mut word = format!("--{long}=").into_bytes();
        word.extend_from_slice(value.as_bytes());
        OsString::from_vec(word)
    };
    if !matches!(arg.get_action(), ArgAction::Count) {
        return Ok(values.into_iter().map(word).collect());
    }
    let number = match &values[..] {
        [value] => value.to_str().and_then(|text| text.parse::<u8>().ok()),
        _ => None,
    };
    let number = number.ok_or("must be an integer between 0 and 255")?;
    Ok(vec![format!("--{long}").into(); number.into()])
}

/// A path in a file is relative to the file.
fn anchored(arg: &Arg, value: &str, folder: &Path) -> OsString {
    let is_path = matches!(
        arg.get_value_hint(),
        ValueHint::AnyPath | ValueHint::FilePath | ValueHint::DirPath
    );
    // A word that stands for something else (--access-log).
    let is_word = matches!(value, "-" | "off");
    match is_path && !is_word {
        true => folder.join(value).into_os_string(),
        false => value.into(),
    }
}

#[cfg(test)]
mod tests;
