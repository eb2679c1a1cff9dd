//! `tws`: the command line becomes settings, the settings become a server. All that the server can do
//! is in the library.

#[cfg(feature = "acme")]
mod acme;
mod cli;
mod commands;
mod confinement;
mod lifecycle;
mod services;
mod sync;
mod terminal;
mod users;

use std::process::ExitCode;

use cli::{Exit, RawArgs, Subcommand};
use terminal::stdio;

fn main() -> ExitCode {
    let mut args = RawArgs::of_process();
    let result = match Subcommand::take_from(&mut args) {
        Subcommand::Serve => commands::serve::run(args).map(|()| ExitCode::SUCCESS),
        Subcommand::Check => commands::check::run(&args),
        Subcommand::Explain => commands::explain::run(&args).map(|()| ExitCode::SUCCESS),
        Subcommand::Compress => commands::compress::run(&args),
        Subcommand::Acme => commands::acme::run(&args),
        Subcommand::Completions => cli::completions(&args).map(|script| stdio::print(&script)),
        Subcommand::Man => cli::man(&args).map(|page| stdio::print(&page)),
        Subcommand::OpenRoots => confinement::root_opener::run(&args),
    };
    result.unwrap_or_else(|exit| end(&exit))
}

/// Prints the help or the error, and returns the exit code.
fn end(exit: &Exit) -> ExitCode {
    let text = exit.to_string();
    match exit {
        Exit::Print(_) => stdio::print(text.as_bytes()),
        Exit::Errors(_) => {
            stdio::eprint_error(&text);
            exit.code()
        }
    }
}
