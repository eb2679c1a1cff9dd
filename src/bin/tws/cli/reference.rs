//! The manual page and the shell completions, generated from the definitions in `flags`.

use std::io;

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

use super::command;
use super::compress;
use super::exit::{ConfigError, Exit};
use super::raw_args::RawArgs;
use super::subcommand::{SUBCOMMANDS, Subcommand};

const ENVIRONMENT: &[(&str, &str)] = &[
    (
        "TWS_NAME",
        "The value of the flag --name if that is not given: the name is in upper case, with _ for -. \
         A flag that may be repeated takes one value on each line. An empty variable is ignored.",
    ),
    (
        "RUST_LOG",
        "The log level, which overrides --quiet and --verbose: info, or tws=debug.",
    ),
    (
        "STATE_DIRECTORY, XDG_STATE_HOME, HOME",
        "The default of --state-dir.",
    ),
    (
        "LISTEN_PID, LISTEN_FDS, LISTEN_FDNAMES",
        "Sockets passed by a supervisor (sd_listen_fds(3)), which replace --bind and --port. A socket \
         named admin is for --admin, one named redirect for --redirect-http.",
    ),
    (
        "NOTIFY_SOCKET, WATCHDOG_PID, WATCHDOG_USEC",
        "The supervisor to notify of start, reload and stop, of the main process, and that the event \
         loops respond (sd_notify(3)).",
    ),
    (
        "PGPASSWORD",
        "The password for a postgres:// URL without one.",
    ),
    (
        "NO_COLOR, TERM",
        "Output to a terminal is not coloured if NO_COLOR is set or TERM is dumb.",
    ),
];

const FILES: &[(&str, &str)] = &[
    (
        "PATH/.tws.toml",
        "The rules of the site, and settings that do not reach outside of PATH. It is never served.",
    ),
    (
        "--config FILE",
        "A file to read instead, in which all settings are allowed, as keys with the names of the \
         flags: port = 80, bind = [\"::1\"], hidden = true. Paths in it are relative to the file.",
    ),
    (
        "--state-dir/acme",
        "The keys, certificates and orders of --acme, readable by their owner alone. Servers that share \
         the folder share the certificates. A file state.json that is removed is forgotten, with the \
         time of the next attempt.",
    ),
];

const SIGNALS: &[(&str, &str)] = &[
    (
        "SIGTERM, SIGINT",
        "Shut down: running requests are finished for at most --drain-timeout. A second signal stops \
         at once.",
    ),
    (
        "SIGHUP",
        "Reload the settings file, the passwords and the certificates; a mistake in them changes \
         nothing. A process whose terminal is gone shuts down instead.",
    ),
    (
        "SIGUSR1",
        "Reopen the files of the access log, after they were rotated.",
    ),
    (
        "SIGUSR2",
        "Upgrade: start the program again from the disk and hand the listening sockets over, \
         and the keys with which clients resume TLS sessions.",
    ),
];

const EXIT_STATUS: &[(&str, &str)] = &[
    ("0", "Stopped by a signal; tws check found no error."),
    (
        "1",
        "Cannot serve; tws check found an error; tws acme has failed.",
    ),
    ("2", "Wrong flag or environment variable."),
];

/// Returns the manual page, in roff. The subcommand takes no arguments.
pub(crate) fn man(args: &RawArgs) -> Result<Vec<u8>, Exit> {
    let command = Command::new("tws man").about("Print the manual page: `tws man | man -l -`");
    parse(command, args)?;
    man_page().map_err(|error| Exit::Errors(vec![ConfigError::Failure(error.to_string())]))
}

/// Parses the arguments of a subcommand, which follow the name of the program.
fn parse(command: Command, args: &RawArgs) -> Result<ArgMatches, clap::Error> {
    let args = args.args.iter().skip(1);
    command.no_binary_name(true).try_get_matches_from(args)
}

fn man_page() -> io::Result<Vec<u8>> {
    let command = command::serve().override_usage("tws [OPTIONS] [PATH] [PORT]");
    let man = Man::new(command).manual("User Commands");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    let mut roff = Roff::new();
    for (name, subcommand, _) in SUBCOMMANDS {
        roff.control("br", []);
        roff.text([bold(format!("tws {name}")), roman(operands(*subcommand))]);
    }
    roff.to_writer(&mut page)?;
    man.render_description_section(&mut page)?;
    let mut roff = Roff::new();
    roff.control("PP", []);
    roff.text([roman(command::MORE_HELP)]);
    for (name, _, about) in SUBCOMMANDS {
        item(&mut roff, &format!("tws {name}"), about);
    }
    roff.to_writer(&mut page)?;
    man.render_options_section(&mut page)?;
    let mut roff = Roff::new();
    for (heading, items) in [
        ("ENVIRONMENT", ENVIRONMENT),
        ("FILES", FILES),
        ("SIGNALS", SIGNALS),
        ("EXIT STATUS", EXIT_STATUS),
    ] {
        roff.control("SH", [heading]);
        for (name, description) in items {
            item(&mut roff, name, description);
        }
    }
    roff.to_writer(&mut page)?;
    man.render_version_section(&mut page)?;
    Ok(page)
}

fn item(roff: &mut Roff, name: &str, description: &str) {
    roff.control("TP", []);
    roff.text([bold(name)]);
    roff.text([roman(description)]);
}

fn operands(subcommand: Subcommand) -> &'static str {
    match subcommand {
        Subcommand::Serve | Subcommand::Check => " [OPTIONS] [PATH] [PORT]",
        Subcommand::Explain => " [OPTIONS] [PATH] METHOD TARGET [-H 'K: V']...",
        Subcommand::Compress => " [--jobs N] FOLDER",
        Subcommand::Acme => " [OPTIONS] status|renew|revoke [NAME]",
        Subcommand::Completions => " SHELL",
        Subcommand::Man | Subcommand::OpenRoots => "",
    }
}

/// Returns the completion script of the shell that the first argument names.
pub(crate) fn completions(args: &RawArgs) -> Result<Vec<u8>, Exit> {
    let shell = Arg::new("SHELL")
        .required(true)
        .value_parser(value_parser!(Shell));
    let command = Command::new("tws completions").about("Print a shell completion script");
    let matches = parse(command.arg(shell), args)?;
    let mut script = Vec::new();
    if let Some(shell) = matches.get_one::<Shell>("SHELL") {
        clap_complete::generate(*shell, &mut with_subcommands(), "tws", &mut script);
    }
    Ok(script)
}

/// Returns the command with its subcommands, which the parser of the flags does not know.
fn with_subcommands() -> Command {
    let to_clap = |(name, subcommand, about): &(&'static str, Subcommand, &'static str)| {
        let command = match subcommand {
            Subcommand::Serve | Subcommand::Check => command::serve().name(*name),
            Subcommand::Explain => command::explain().name(*name),
            Subcommand::Compress => compress::command().name(*name),
            Subcommand::Acme => command::acme().name(*name),
            Subcommand::Completions => {
                let shell = Arg::new("SHELL").value_parser(value_parser!(Shell));
                Command::new(*name).arg(shell)
            }
            Subcommand::Man | Subcommand::OpenRoots => Command::new(*name),
        };
        command.about(*about)
    };
    command::serve()
        .disable_help_subcommand(true)
        .subcommands(SUBCOMMANDS.iter().map(to_clap))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use clap::ArgAction;

    use super::*;
    use crate::cli::reference_table::table;

    fn script(typed: &[&str]) -> Result<String, Exit> {
        let typed = std::iter::once("tws").chain(typed.iter().copied());
        let args = RawArgs {
            args: typed.map(OsString::from).collect(),
            ..RawArgs::default()
        };
        completions(&args).map(|script| String::from_utf8(script).expect("text"))
    }

    #[test]
    fn each_flag_is_in_the_table_and_on_the_man_page() {
        let (table, page) = (table(), man_page().expect("a page"));
        let page = String::from_utf8(page).expect("text").replace('\\', "");
        let mut command = command::serve();
        command.build();
        for (arg, long) in command::settings(&command) {
            if matches!(arg.get_action(), ArgAction::Help | ArgAction::Version) {
                continue;
            }
            let variable = command::variable(arg).expect("a name");
            for text in [&table, &page] {
                assert!(text.contains(&format!("--{long}")), "--{long}");
                assert!(text.contains(&variable), "{variable}");
            }
        }
        for heading in [
            "ENVIRONMENT",
            "FILES",
            "SIGNALS",
            "\"EXIT STATUS\"",
            "LIMITS",
        ] {
            assert!(
                page.contains(&format!(".SH {heading}\n")),
                "{heading} in {page}"
            );
        }
    }

    #[test]
    fn completions_contain_flags_and_subcommands() {
        for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
            let script = script(&[shell]).expect("a script");
            for word in ["max-connections-per-client", "check"] {
                assert!(script.contains(word), "{word} for {shell}");
            }
        }
        for wrong in [&[][..], &["tcsh"], &["bash", "zsh"]] {
            assert!(matches!(script(wrong), Err(Exit::Errors(_))), "{wrong:?}");
        }
    }
}
