//! `tws`: the command line becomes settings, the settings become a server. All that the server
//! can do is in the library.

mod cli;
pub(crate) mod commands;
pub(crate) mod confinement;
pub(crate) mod lifecycle;
pub(crate) mod services;
pub(crate) mod terminal;

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;

use cli::{ConfigError, Exit, RawArgs, Settings, Subcommand, View};
use commands::explain::Question;
use env_logger::WriteStyle;
use lifecycle::inherited_sockets::Inheritance;
use terminal::stderr_log::Diagnostics;
use tws::Error;

fn main() -> ExitCode {
    let mut words = RawArgs::of_process();
    match Subcommand::take_from(&mut words) {
        Subcommand::Serve => serve(words),
        Subcommand::Check => commands::check::run(&words),
        Subcommand::Explain => explain(&words),
        Subcommand::Completions => {
            cli::completions(&words).map_or_else(end, |script| print(&script))
        }
        Subcommand::Man => cli::man(&words).map_or_else(end, |page| print(&page)),
    }
}

fn serve(mut words: RawArgs) -> ExitCode {
    let inheritance = match Inheritance::take() {
        Ok(inheritance) => inheritance,
        Err(error) => {
            complain(&error.to_string());
            return ExitCode::FAILURE;
        }
    };
    words.inherited = inheritance.listening();
    let settings = match Settings::read(&words) {
        Ok(settings) => settings,
        Err(stop) => return end(stop),
    };
    if settings.view == View::Tui && !has_terminal() {
        complain("--tui: needs a terminal as standard input and output; leave it out");
        return ExitCode::from(2);
    }
    let style = match settings.view {
        View::Log => WriteStyle::Always,
        View::Tui => WriteStyle::Never,
    };
    let mut diagnostics = Diagnostics::collect(settings.log_level, style);
    let root = settings.root.clone();
    for warning in &settings.warnings {
        log::warn!("{warning}");
    }
    let result = commands::serve::run(words, settings, inheritance, &mut diagnostics);
    drop(diagnostics);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, &root),
    }
}

fn explain(words: &RawArgs) -> ExitCode {
    let settings = match Settings::read(words) {
        Ok(settings) => settings,
        Err(stop) => return end(stop),
    };
    let question = settings.request.as_ref().map(Question::new).transpose();
    match question.map(|question| question.map(|it| commands::explain::explain(&settings, &it))) {
        Ok(Some(Err(error))) => fail(&error, &settings.root),
        Ok(_) => ExitCode::SUCCESS,
        Err(text) => end(Exit::Errors(vec![ConfigError::Usage(text)])),
    }
}

fn has_terminal() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// All of it, unless whoever reads has enough.
fn print(text: &[u8]) -> ExitCode {
    match write(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!("standard output: cannot write: {error}"));
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Says why there is no server; of a root that does not exist, also what may have been meant.
fn fail(error: &Error, root: &Path) -> ExitCode {
    let is_missing = matches!(error, Error::Path { purpose: "serve", path, source }
        if path == root && source.kind() == io::ErrorKind::NotFound);
    match cli::advice_on_root(root).filter(|_| is_missing) {
        Some(advice) => complain(&format!("{error}; {advice}")),
        None => complain(&error.to_string()),
    }
    ExitCode::FAILURE
}

fn end(stop: Exit) -> ExitCode {
    let text = stop.to_string();
    match stop {
        Exit::Print(_) => print(text.as_bytes()),
        Exit::Errors(errors) => {
            complain(&text);
            match errors.first() {
                Some(ConfigError::Usage(_)) => ExitCode::from(2),
                Some(ConfigError::Failure(_)) | None => ExitCode::FAILURE,
            }
        }
    }
}

/// One line on standard error, which may be closed.
fn complain(text: &str) {
    let line: String = text.split(char::is_control).collect::<Vec<_>>().join(" ");
    // At once, for others may write there, too.
    let _ = io::stderr().write_all(format!("tws: {line}\n").as_bytes());
}

/// To standard output, which may be closed.
fn say(text: &str) {
    let _ = write(text.as_bytes());
}

fn write(text: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text)?;
    stdout.flush()
}
