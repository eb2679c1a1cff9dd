//! The clap commands, derived from the definitions of the flags: help texts with defaults and variables,
//! switches, the command line of `tws explain`; and the parsing of a command line with them.

use std::any::TypeId;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command, CommandFactory, FromArgMatches};

use super::acme::{AcmeRequest, OutputFormat};
use super::flags::{self, Flags, RequestArgs};
use super::raw_args::Mode;
use super::subcommand::SUBCOMMANDS;
use super::values::{peer_address, yes_or_no};

/// The end of the long help, after the flags. `-h` lists only the subcommands there.
pub(super) const MORE_HELP: &str = "\
A number is the port: `tws 80`. Without PATH, ./www is served if it exists, else the current \
directory. A folder with the name of a subcommand is given as ./check.

Flags take precedence over environment variables, and those over the settings file (--config, else \
PATH/.tws.toml). The keys of the file have the names of the flags: `port = 80`.";

const EXPLAIN_HELP: &str = "\
METHOD and TARGET are those of the request: `tws explain www GET /a.js -H 'Host: a.test'`. All \
other flags are those that tws would serve with.";

const ACME_HELP: &str = "\
status shows each certificate, when it is renewed, and the last error. renew asks the running server \
to obtain a new certificate now, and waits for it. revoke declares a certificate invalid; a running \
server then obtains another one with a new key. Of the other flags, those count that name the state \
(--state-dir, --user, --config) and the certificate authority (--acme-directory); without the latter, \
all certificates in the state directory are meant.";

/// The id of the flag for JSON of `tws acme`. It is not a setting.
const JSON: &str = "json";
const CHECK_HELP: &str = "\
The arguments are those that tws would serve with. The exit code is 0 if there is no error, else 1 or, \
for a wrong flag or variable, 2.";

/// The id of the flag for the header fields of the request of `tws explain`.
const REQUEST_FIELD: &str = "field";

/// The id of the flag for the address of the client of `tws explain`. It is not a setting.
const CLIENT: &str = "client";

/// The peer of a request that `tws explain` explains, unless another one is given.
const THIS_MACHINE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Parses command lines of one mode. The command is composed once: that takes longer than the parsing.
pub(super) struct FlagParser {
    command: Command,
    mode: Mode,
}

impl FlagParser {
    pub(super) fn new(mode: Mode) -> Self {
        let mut command = of_mode(without_help(), mode);
        command.build();
        Self { command, mode }
    }

    /// Parses the arguments, the first of which is the name of the program.
    pub(super) fn parse(&mut self, args: &[OsString]) -> Result<(Flags, ArgMatches), clap::Error> {
        let matches = self.matches(args)?;
        let mut flags = Flags::from_arg_matches(&matches)?;
        match self.mode {
            Mode::Serve | Mode::Check => {}
            Mode::Explain => flags.take_request(&matches)?,
            Mode::Acme => flags.take_acme(&matches)?,
        }
        flags.check()?;
        Ok((flags, matches))
    }

    /// Returns an error if these flags are wrong in any mode. The first argument is the name of the
    /// program, and there are no operands.
    pub(super) fn check(&mut self, args: &[OsString]) -> Result<(), clap::Error> {
        let matches = self.matches(args)?;
        Flags::from_arg_matches(&matches)?.check()
    }

    /// Returns the flags with their long names, including `--help` and `--version`, which `build` adds.
    pub(super) fn settings(&self) -> impl Iterator<Item = (&Arg, &str)> {
        settings(&self.command)
    }

    fn matches(&mut self, args: &[OsString]) -> Result<ArgMatches, clap::Error> {
        match self.command.try_get_matches_from_mut(args) {
            // The error is the help text itself.
            Err(error) if error.kind() == ErrorKind::DisplayHelp => {
                of_mode(serve(), self.mode).try_get_matches_from(args)
            }
            matches => matches,
        }
    }
}

impl Flags {
    /// Returns the errors that clap cannot detect, or that would repeat the value.
    fn check(&self) -> Result<(), clap::Error> {
        self.store()?;
        self.users_with_passwords()?;
        self.destinations()?;
        self.path_and_port()?;
        Ok(())
    }

    /// Removes METHOD and TARGET from the operands. PATH is optional, the request is not.
    fn take_request(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let before = self.path_and_port.len().saturating_sub(2);
        let [method, target] = &self.path_and_port.split_off(before)[..] else {
            let text = "METHOD and TARGET are missing; give both, as in `tws explain GET /`";
            return Err(flags::usage(text.to_owned()));
        };
        let fields = matches.get_many::<String>(REQUEST_FIELD);
        self.request = Some(RequestArgs {
            method: method.clone(),
            target: target.clone(),
            fields: fields.unwrap_or_default().cloned().collect(),
            peer: *matches.get_one(CLIENT).unwrap_or(&THIS_MACHINE),
        });
        Ok(())
    }

    /// Removes ACTION and NAME from the operands.
    fn take_acme(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        let operands = std::mem::take(&mut self.path_and_port);
        let (action, name) = match &operands[..] {
            [action] => (action, None),
            [action, name] => (action, Some(name)),
            _ => {
                let text = "give an action and at most one name: `tws acme status example.org`";
                return Err(flags::usage(text.to_owned()));
            }
        };
        let action = action.to_string_lossy().parse();
        let action = action.map_err(|reason| flags::usage_of("ACTION", reason))?;
        let name = name.map(|name| name.to_string_lossy().to_ascii_lowercase());
        self.acme_request = Some(AcmeRequest {
            action,
            name,
            format: if matches.get_flag(JSON) {
                OutputFormat::Json
            } else {
                OutputFormat::Text
            },
        });
        Ok(())
    }
}

/// Returns the command that serves, for parsing: the help texts are those of the doc comments. Composing
/// the help takes as long as the rest of a start.
fn without_help() -> Command {
    Flags::command().mut_args(|arg| if is_switch(&arg) { switch(arg) } else { arg })
}

/// Returns the command that serves.
pub(super) fn serve() -> Command {
    let subcommands = subcommands();
    without_help()
        .after_long_help(format!("{subcommands}\n\n{MORE_HELP}"))
        .after_help(format!(
            "{subcommands}\n\n`tws --help` and `tws man` describe each option in detail."
        ))
        .mut_args(|arg| match (variable(&arg), FlagHelp::of(&arg)) {
            (Some(name), Some(help)) => {
                let long = help.long_help(&name);
                let takes_values = arg.get_action().takes_values();
                arg.hide_possible_values(takes_values).long_help(long)
            }
            _ => arg,
        })
}

/// Turns the command that serves into that of a mode.
fn of_mode(serve: Command, mode: Mode) -> Command {
    match mode {
        Mode::Serve => serve,
        Mode::Check => check_with(serve),
        Mode::Explain => explain_with(serve),
        Mode::Acme => acme_with(serve),
    }
}

/// Returns the command of `tws check`, which takes the arguments of the one that serves.
fn check_with(serve: Command) -> Command {
    serve
        .name("tws check")
        .bin_name("tws check")
        .about("Check the settings and report every problem, without serving")
        .override_usage("tws check [OPTIONS] [PATH] [PORT]")
        .after_help(CHECK_HELP)
        .after_long_help(CHECK_HELP)
}

/// Returns the command of `tws explain`.
pub(super) fn explain() -> Command {
    explain_with(serve())
}

fn explain_with(serve: Command) -> Command {
    let field = Arg::new(REQUEST_FIELD)
        .short('H')
        .value_name("K: V")
        .action(ArgAction::Append)
        .help("Header field of the request; may be repeated");
    let client = Arg::new(CLIENT)
        .long("client")
        .value_name("ADDRESS")
        .value_parser(peer_address)
        .help("Client of the request, or its proxy")
        .long_help("Address of the client, or of its proxy: an IP address, or unix for a Unix socket [default: 127.0.0.1]");
    serve
        .name("tws explain")
        .bin_name("tws explain")
        .about("Explain how a request would be answered, without serving or changing anything")
        .override_usage("tws explain [OPTIONS] [PATH] METHOD TARGET [-H 'K: V']...")
        .after_help(EXPLAIN_HELP)
        .after_long_help(EXPLAIN_HELP)
        .mut_arg("path_and_port", |arg| {
            arg.value_name("PATH] [METHOD] [TARGET")
                .help("Folder or file that would be served; the request")
        })
        .mut_arg("headers", |arg| arg.short(None))
        .args([field, client])
}

/// Returns the command of `tws acme`.
pub(super) fn acme() -> Command {
    acme_with(serve())
}

fn acme_with(serve: Command) -> Command {
    let json = Arg::new(JSON)
        .long("json")
        .action(ArgAction::SetTrue)
        .help("Print JSON");
    serve
        .name("tws acme")
        .bin_name("tws acme")
        .about("Show, renew or revoke automatic certificates (--acme)")
        .override_usage("tws acme [OPTIONS] status|renew|revoke [NAME]")
        .after_help(ACME_HELP)
        .after_long_help(ACME_HELP)
        .mut_arg("path_and_port", |arg| {
            arg.value_name("ACTION] [NAME")
                .help("status, renew or revoke; the name of a certificate")
        })
        .arg(json)
}

/// Returns the flags with their long names. In a command that is not built, these are the settings;
/// `build` adds `--help` and `--version`.
pub(super) fn settings(command: &Command) -> impl Iterator<Item = (&Arg, &str)> {
    command
        .get_arguments()
        .filter(|arg| ![JSON, CLIENT].contains(&arg.get_id().as_str()))
        .filter_map(|arg| Some((arg, arg.get_long()?)))
}

/// Returns the name of a flag's environment variable.
pub(super) fn variable(arg: &Arg) -> Option<String> {
    let long = arg.get_long()?;
    Some(format!("TWS_{}", long.replace('-', "_").to_uppercase()))
}

/// Returns the value that turns a setting off.
pub(super) fn off_value(arg: &Arg) -> Option<&'static str> {
    let values = arg.get_possible_values();
    let has_off = values.iter().any(|value| value.get_name() == "off");
    match arg.get_long()? {
        _ if is_switch(arg) => Some("no"),
        _ if has_off => Some("off"),
        "access-log" => Some("off"),
        _ => None,
    }
}

fn subcommands() -> String {
    let line = |(name, _, about): &(&str, _, &str)| format!("\n  {name:<12} {about}");
    let lines: String = SUBCOMMANDS.iter().map(line).collect();
    format!("Subcommands:{lines}")
}

/// Returns whether a flag has the values yes and no.
pub(super) fn is_switch(arg: &Arg) -> bool {
    arg.get_value_parser().type_id() == TypeId::of::<bool>()
}

/// Gives a switch an optional value, so that a layer with precedence can turn it off.
fn switch(arg: Arg) -> Arg {
    let has_default = matches!(arg.get_action(), ArgAction::SetTrue);
    let arg = arg
        .action(ArgAction::Set)
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("yes")
        .value_name("yes|no")
        .value_parser(yes_or_no);
    if has_default {
        arg.default_value("no").hide_default_value(true)
    } else {
        arg
    }
}

/// The parts of a flag's help.
struct FlagHelp {
    /// The line that `-h` shows, without the default.
    summary: String,
    details: String,
    default: Option<String>,
}

impl FlagHelp {
    /// Splits the doc comment of a flag, in which `[default: ...]` ends a paragraph.
    fn of(arg: &Arg) -> Option<Self> {
        let summary = arg.get_help()?.to_string();
        let long = arg.get_long_help().map(ToString::to_string);
        // The long help is the whole doc comment, which begins with the summary.
        let long = long.as_deref().and_then(|long| long.strip_prefix(&summary));
        let details = long.unwrap_or_default().trim();
        let (summary, first) = split_default(&summary);
        let (details, second) = split_default(details);
        Some(Self {
            summary: summary.to_owned(),
            details: details.to_owned(),
            default: first.or(second).map(str::to_owned),
        })
    }

    fn long_help(&self, variable: &str) -> String {
        let default = self.default.iter();
        let default = default.map(|default| format!("[default: {default}] "));
        let last = default.collect::<String>() + &format!("[env: {variable}]");
        let paragraphs = [&self.summary, &self.details, &last];
        let paragraphs = paragraphs.into_iter().filter(|text| !text.is_empty());
        paragraphs
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("\n\n")
    }
}

/// Splits a paragraph from the default at its end.
fn split_default(text: &str) -> (&str, Option<&str>) {
    let parts = text
        .strip_suffix(']')
        .and_then(|text| text.rsplit_once("[default: "));
    match parts {
        Some((before, default)) => (before.trim_end(), Some(default)),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_is_well_formed() {
        serve().debug_assert();
    }

    #[test]
    fn each_setting_has_a_heading() {
        let command = serve();
        for (arg, long) in settings(&command) {
            assert!(arg.get_help_heading().is_some(), "--{long}");
        }
    }
}
