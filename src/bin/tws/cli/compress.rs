//! The command line of `tws compress`.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::{Arg, Command, ValueHint, value_parser};

use super::exit::Exit;
use super::raw_args::RawArgs;
use super::values::integer;

/// What is compressed, and with how many threads.
#[derive(Debug)]
pub(crate) struct CompressArgs {
    pub(crate) folder: PathBuf,
    /// `None` for one thread for each core.
    pub(crate) jobs: Option<NonZeroUsize>,
}

pub(super) fn command() -> Command {
    const ABOUT: &str = "Write .br, .zst and .gz files beside the files of a folder";
    const DETAILS: &str = "\
Compresses text, WebAssembly and the like with brotli 11, zstd 19 and gzip 9. A file is written only if \
it is smaller, and only if it is not there already with the time and the content of its source; one with \
other content is replaced or, if it would be no smaller, removed. Symbolic links and names that begin \
with a dot are left out.";
    Command::new("tws compress")
        .bin_name("tws compress")
        .about(ABOUT)
        .after_help(DETAILS)
        .arg(
            Arg::new("jobs")
                .short('j')
                .long("jobs")
                .value_name("N")
                .value_parser(integer::<NonZeroUsize>(1..=1024))
                .help("Number of threads [default: one per core]"),
        )
        .arg(
            Arg::new("FOLDER")
                .required(true)
                .value_hint(ValueHint::DirPath)
                .value_parser(value_parser!(PathBuf))
                .help("Folder to compress"),
        )
}

impl CompressArgs {
    /// Parses the arguments.
    ///
    /// # Errors
    ///
    /// [`Exit::Print`] for `--help`, [`Exit::Errors`] for wrong arguments.
    pub(crate) fn parse(args: &RawArgs) -> Result<Self, Exit> {
        let mut matches = command().try_get_matches_from(&args.args)?;
        Ok(Self {
            folder: matches.remove_one("FOLDER").unwrap_or_default(),
            jobs: matches.remove_one("jobs"),
        })
    }
}
