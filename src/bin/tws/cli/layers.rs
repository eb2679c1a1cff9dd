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
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;

    /// A folder to serve with a file for --config beside it.
    struct Place {
        folder: TempDir,
    }

    type Variables = &'static [(&'static str, &'static str)];

    enum Source {
        Config,
        Root,
    }

    impl Place {
        fn new(source: &Source, text: &str) -> Self {
            let folder = tempfile::tempdir().expect("a folder");
            fs::create_dir(folder.path().join("site")).expect("a folder");
            let file = match source {
                Source::Config => "tws.toml",
                Source::Root => "site/.tws.toml",
            };
            fs::write(folder.path().join(file), text).expect("a file");
            Self { folder }
        }

        fn of(&self, args: &[&str], variables: &[(&str, &str)]) -> Result<Layers, Vec<String>> {
            let config = self.folder.path().join("tws.toml");
            let config = config
                .exists()
                .then(|| format!("--config={}", config.display()));
            let root = format!("--directory={}", self.folder.path().join("site").display());
            let root = config.is_none().then_some(root);
            let args = args.iter().map(OsString::from);
            let given = config.into_iter().chain(root).map(OsString::from);
            let program = std::iter::once(OsString::from("tws"));
            let words = Words {
                args: program.chain(given).chain(args).collect(),
                variables: variables
                    .iter()
                    .map(|(name, value)| (name.into(), value.into()))
                    .collect(),
                purpose: Purpose::Serving,
                listening: Listening::default(),
            };
            let texts = |mistakes: Vec<Mistake>| {
                let text = |mistake| match mistake {
                    Mistake::Usage(text) | Mistake::Failure(text) => text,
                };
                mistakes.into_iter().map(text).collect()
            };
            match Layers::read(&words) {
                Ok(layers) if layers.mistakes.is_empty() => Ok(layers),
                Ok(layers) => Err(texts(layers.mistakes)),
                Err(Stop::Mistakes(mistakes)) => Err(texts(mistakes)),
                Err(Stop::Print(text)) => panic!("{text}"),
            }
        }
    }

    fn shown(flags: &Flags) -> String {
        let shown = format!("{flags:?}");
        // These two say where the file is.
        let (before, behind) = shown.split_once("config: ").expect("a field");
        let (_, behind) = behind.split_once(", no_site_file").expect("a field");
        before.split_once("index: ").expect("a field").1.to_owned() + behind
    }

    /// Some value that a flag takes, as words of a command line and of others.
    fn example(arg: &Arg, long: &str) -> (Vec<String>, &'static str) {
        if matches!(arg.get_action(), ArgAction::Count) {
            return (vec![format!("--{long}"); 2], "2");
        }
        let values = [
            "/a",
            "yes",
            "7",
            "::1",
            "off",
            "content",
            "never",
            "sidecar",
            "json",
            "10 MiB",
            "a.html",
            "https://a.test",
            "sqlite:a.db",
            "A: b",
            "forwarded",
            "unix:/s",
        ];
        let fits = |value: &&str| {
            let word = format!("--{long}={value}");
            Flags::parse(&["tws".into(), word.into()], Purpose::Serving).is_ok()
        };
        let value = values.into_iter().find(fits);
        let value = value.unwrap_or_else(|| panic!("a value that --{long} takes is wanted here"));
        (vec![format!("--{long}={value}")], value)
    }

    #[test]
    fn each_flag_has_a_variable_and_a_key_that_set_the_same() {
        let mut command = flags::command();
        command.build();
        let nothing = Place::new(&Source::Root, "");
        let unset = shown(&nothing.of(&[], &[]).expect("fine").flags);
        let mut keys = 0;
        for (arg, long) in flags::settings(&command) {
            if flags::key(long) == Key::Nowhere || long == "directory" {
                continue;
            }
            let (typed, value) = example(arg, long);
            let typed: Vec<&str> = typed.iter().map(String::as_str).collect();
            let flag = nothing.of(&typed, &[]).expect("a flag");
            let flag = shown(&flag.flags);
            let variable = flags::variable(arg).expect("a name");
            let variable = nothing.of(&[], &[(&variable, value)]).expect("a variable");
            assert_eq!(shown(&variable.flags), flag, "--{long}");
            assert!(flag != unset, "--{long}={value}");
            let (Key::Beside(key) | Key::BesideInConfig(key)) = flags::key(long) else {
                continue;
            };
            let file = Place::new(&Source::Config, &format!("{key} = {value:?}\n"));
            let file = file.of(&[], &[]).expect("a key");
            assert_eq!(shown(&file.flags), flag, "{key}");
            keys += 1;
        }
        assert!(keys > 15, "only {keys} keys");
    }

    #[test]
    fn the_first_that_names_a_setting_decides_it_alone() {
        type Said = &'static [&'static str];
        type Show = fn(&Layers) -> String;
        const PORT: Show = |layers| format!("{:?}", layers.flags.port);
        const BIND: Show = |layers| {
            let bind = layers.flags.bind.iter().flat_map(|bind| &bind.0);
            bind.map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        const LOGS: Show = |layers| format!("{:?}", layers.flags.access_log);
        const SANDBOX: Show = |layers| format!("{}", !layers.flags.no_sandbox);
        const NOISE: Show = |layers| format!("{} {}", layers.flags.quiet, layers.flags.verbose);
        const FORMAT: Show = |layers| format!("{:?}", layers.flags.log_format);
        let table: &[(Show, Said, Variables, &str, &str)] = &[
            (PORT, &[], &[], "", "None"),
            (PORT, &[], &[], "port = 1", "Some(1)"),
            (PORT, &[], &[("TWS_PORT", "2")], "port = 1", "Some(2)"),
            (PORT, &["-p3"], &[("TWS_PORT", "2")], "port = 1", "Some(3)"),
            (PORT, &["3"], &[("TWS_PORT", "2")], "port = 1", "None"),
            (PORT, &[], &[("TWS_PORT", "")], "port = 1", "Some(1)"),
            // What is decided is not looked at.
            (
                PORT,
                &["-p3"],
                &[("TWS_PORT", "x")],
                "port = \"x\"",
                "Some(3)",
            ),
            (BIND, &[], &[], "bind = \"::1\"", "::1"),
            (
                BIND,
                &[],
                &[],
                "bind = [\"::1\", \"127.0.0.2\"]",
                "::1 127.0.0.2",
            ),
            (
                BIND,
                &[],
                &[("TWS_BIND", "::,127.0.0.3")],
                "bind = \"::1\"",
                ":: 127.0.0.3",
            ),
            (
                BIND,
                &["-b", "127.0.0.4"],
                &[("TWS_BIND", "::")],
                "bind = \"::1\"",
                "127.0.0.4",
            ),
            (BIND, &["-b::1,127.0.0.1"], &[], "", "::1 127.0.0.1"),
            (BIND, &[], &[], "bind = []", ""),
            (
                LOGS,
                &[],
                &[("TWS_ACCESS_LOG", "a,b\n-\n")],
                "",
                "[\"a,b\", \"-\"]",
            ),
            (
                LOGS,
                &[],
                &[],
                "access-log = [\"-\", \"/a\"]",
                "[\"-\", \"/a\"]",
            ),
            (
                LOGS,
                &["--access-log=off"],
                &[],
                "access-log = \"-\"",
                "[\"off\"]",
            ),
            (SANDBOX, &[], &[], "no-sandbox = true", "false"),
            (
                SANDBOX,
                &[],
                &[("TWS_NO_SANDBOX", "0")],
                "no-sandbox = true",
                "true",
            ),
            (
                SANDBOX,
                &["--no-sandbox"],
                &[("TWS_NO_SANDBOX", "no")],
                "",
                "false",
            ),
            (
                SANDBOX,
                &["--no-sandbox=no"],
                &[("TWS_NO_SANDBOX", "1")],
                "",
                "true",
            ),
            (NOISE, &[], &[], "verbose = 2", "false 2"),
            (
                NOISE,
                &[],
                &[("TWS_VERBOSE", "0")],
                "verbose = 2",
                "false 0",
            ),
            (NOISE, &["-q"], &[], "verbose = 2", "true 0"),
            (NOISE, &["-v"], &[("TWS_QUIET", "yes")], "", "false 1"),
            (NOISE, &["-q=no"], &[("TWS_QUIET", "yes")], "", "false 0"),
            (FORMAT, &[], &[], "log-format = \"json\"", "Json"),
            (
                FORMAT,
                &[],
                &[("TWS_LOG_FORMAT", "combined")],
                "log-format = \"json\"",
                "Combined",
            ),
            (
                FORMAT,
                &["--log-format=common"],
                &[],
                "log-format = \"json\"",
                "Common",
            ),
        ];
        for (show, args, variables, text, expected) in table {
            let place = Place::new(&Source::Config, text);
            let layers = place.of(args, variables);
            let layers =
                layers.unwrap_or_else(|why| panic!("{args:?} {variables:?} {text}: {why:?}"));
            assert_eq!(show(&layers), *expected, "{args:?} {variables:?} {text}");
        }
    }

    #[test]
    fn mistakes_name_who_made_them() {
        let table: &[(Variables, Source, &str, &[&str])] = &[
            (
                &[("TWS_PORT", "x")],
                Source::Config,
                "",
                &["TWS_PORT: must be an integer between 0 and 65535 (got \"x\")"],
            ),
            (
                &[("TWS_HIDDEN", "maybe")],
                Source::Root,
                "",
                &["TWS_HIDDEN: must be yes or no (got \"maybe\")"],
            ),
            (
                &[("TWS_VERBOSE", "-1")],
                Source::Root,
                "",
                &["TWS_VERBOSE: must be an integer between 0 and 255"],
            ),
            (
                &[("TWS_PORT", "1\n2")],
                Source::Root,
                "",
                &["TWS_PORT: given more than once; give one value"],
            ),
            (
                &[("TWS_ACCESS_LOG", "off\n-")],
                Source::Root,
                "",
                &["TWS_ACCESS_LOG: off excludes other destinations; give only one of them"],
            ),
            (
                &[("TWS_USERS", "x")],
                Source::Root,
                "",
                &["TWS_USERS: must be a store such as sqlite:users.db or postgres://"],
            ),
            (
                &[],
                Source::Config,
                "\nport = 70000",
                &["tws.toml:2: port: must be an integer between 0 and 65535 (got \"70000\")"],
            ),
            (
                &[],
                Source::Config,
                "port = true",
                &["tws.toml:1: port: must be an integer between 0 and 65535 (got \"true\")"],
            ),
            (
                &[],
                Source::Config,
                "port = [1, 2]",
                &["tws.toml:1: port: given more than once; give one value"],
            ),
            (
                &[],
                Source::Config,
                "port = [[1]]",
                &["tws.toml:1: port: must be a string, a number, a boolean or an array of these"],
            ),
            (
                &[],
                Source::Config,
                "[port]\na = 1",
                &["tws.toml:1: port: must be a string, a number, a boolean or an array of these"],
            ),
            (
                &[],
                Source::Config,
                "prot = 80",
                &["tws.toml:1: prot: unknown key; did you mean port?"],
            ),
            (
                &[],
                Source::Config,
                "clean-url = true",
                &["clean-url: unknown key; did you mean clean-urls?"],
            ),
            (
                &[],
                Source::Config,
                "colour = 1",
                &[
                    "colour: unknown key; the keys are index, clean-urls, ",
                    "`tws --help`",
                ],
            ),
            (
                &[],
                Source::Config,
                "upload-max = '1 GiB'",
                &[":1: upload-max: unknown key; write it as max in [upload]"],
            ),
            (
                &[],
                Source::Config,
                "config = 'a'",
                &[":1: config: unknown key; "],
            ),
            (
                &[],
                Source::Config,
                "help = true",
                &[":1: help: unknown key; "],
            ),
            (
                &[],
                Source::Root,
                "bind = '::'",
                &[
                    "site/.tws.toml:1: bind: not allowed in the file of a served folder",
                    "--config",
                ],
            ),
            (
                &[],
                Source::Root,
                "no-sandbox = true",
                &["no-sandbox: not allowed in the file of a served folder"],
            ),
            (
                &[],
                Source::Root,
                "port = 'x'",
                &["site/.tws.toml:1: port: "],
            ),
        ];
        for (variables, source, text, expected) in table {
            let error = Place::new(source, text).of(&[], variables).err();
            let error = error.unwrap_or_else(|| panic!("{variables:?} {text:?} is fine"));
            assert_eq!(error.len(), 1, "{error:?}");
            for word in *expected {
                assert!(error[0].contains(word), "{word:?} in {error:?}");
            }
            assert!(!error[0].contains('\n'), "{error:?}");
        }
    }

    #[test]
    fn all_mistakes_are_found_at_once() {
        let place = Place::new(&Source::Config, "workers = 0\nprot = 1\nport = 80\n");
        let variables = [("TWS_BIND", "300.1.1.1.1"), ("TWS_PORT", "x")];
        assert_eq!(place.of(&[], &variables).err().expect("wrong").len(), 4);
    }

    #[test]
    fn a_file_that_is_served_may_not_set_what_reaches_out() {
        let mut command = flags::command();
        command.build();
        for (arg, long) in flags::settings(&command) {
            let Key::BesideInConfig(key) = flags::key(long) else {
                continue;
            };
            let text = format!("{key} = 1");
            let error = Place::new(&Source::Root, &text).of(&[], &[]).err();
            assert!(error.is_some(), "{key} of {arg:?}");
        }
        let text = "port = 1\nworkers = 2\nmin-rate = 3\n";
        let layers = Place::new(&Source::Root, text).of(&[], &[]).expect("fine");
        assert_eq!(
            (layers.flags.port, layers.flags.min_rate),
            (Some(1), Some(3))
        );
    }

    #[test]
    fn paths_in_a_file_are_relative_to_it() {
        let text = "directory = 'site'\nauth-file = 'users'\nstate-dir = '/state'\n\
                    access-log = ['a.log', '-']\n";
        let place = Place::new(&Source::Config, text);
        let layers = place.of(&[], &[]).expect("fine");
        let at = place.folder.path();
        assert_eq!(layers.root, at.join("site"));
        assert!(layers.root_was_named);
        assert_eq!(layers.flags.auth_file, Some(at.join("users")));
        assert_eq!(layers.flags.state_dir, Some("/state".into()));
        let logs: [OsString; 2] = [at.join("a.log").into(), "-".into()];
        assert_eq!(layers.flags.access_log, logs);
        let layers = place
            .of(&["other"], &[("TWS_DIRECTORY", "third")])
            .expect("fine");
        assert_eq!(layers.root, Path::new("other"));
        let layers = place.of(&[], &[("TWS_DIRECTORY", "third")]).expect("fine");
        assert_eq!(layers.root, Path::new("third"));
    }

    #[test]
    fn which_file_is_read_is_one_setting() {
        let place = Place::new(&Source::Root, "port = 1");
        let port = |args: &[&str], variables: &[(&str, &str)]| {
            let layers = place.of(args, variables).map_err(|errors| errors.join(" "));
            layers.map(|layers| layers.flags.port)
        };
        assert_eq!(port(&[], &[]), Ok(Some(1)));
        assert_eq!(
            port(&["--no-site-file"], &[("TWS_CONFIG", "/none")]),
            Ok(None)
        );
        assert_eq!(port(&[], &[("TWS_NO_SITE_FILE", "1")]), Ok(None));
        assert_eq!(
            port(&["--no-site-file=no"], &[("TWS_NO_SITE_FILE", "1")]),
            Ok(Some(1))
        );
        let config = ["--config=/none"];
        let error = port(&config, &[("TWS_NO_SITE_FILE", "1")]).expect_err("not there");
        assert!(error.contains("/none"), "{error}");
        let both = [("TWS_CONFIG", "/none"), ("TWS_NO_SITE_FILE", "1")];
        let error = port(&[], &both).expect_err("both");
        assert!(error.contains("--config and --no-site-file"), "{error}");
    }

    #[test]
    fn variables_that_are_nearly_settings_are_warned_of() {
        let place = Place::new(&Source::Root, "");
        let warnings = |name| place.of(&[], &[(name, "1")]).expect("fine").warnings;
        assert_eq!(
            warnings("TWS_PROT"),
            ["TWS_PROT: unknown environment variable; did you mean TWS_PORT?"]
        );
        assert!(warnings("TWS_UPGRADE").is_empty());
        assert!(warnings("tws_port").is_empty());
    }

    #[test]
    fn passwords_are_not_repeated() {
        let url = "postgre://u:s3cret@h/d";
        for errors in [
            Place::new(&Source::Root, "").of(&[], &[("TWS_USERS", url)]),
            Place::new(&Source::Config, &format!("users = '{url}'")).of(&[], &[]),
            Place::new(&Source::Config, &format!("users-store = '{url}'")).of(&[], &[]),
            Place::new(&Source::Config, &format!("[users]\nstore = '{url}'")).of(&[], &[]),
        ] {
            let errors = errors.err().expect("wrong");
            assert!(!errors.concat().contains("s3cret"), "{errors:?}");
        }
    }
}
