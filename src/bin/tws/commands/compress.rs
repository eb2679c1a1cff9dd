//! `tws compress`: writes sidecars for the files of a folder, with a progress bar on a terminal.

use std::io::{self, IsTerminal, Write};
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use tws::Sidecars;

use crate::cli::{CompressArgs, Exit, RawArgs};
use crate::terminal::stdio;

/// Columns of the progress bar.
const BAR_COLUMNS: usize = 40;

/// Writes the sidecars, and reports what was done.
///
/// # Errors
///
/// [`Exit::Print`] for `--help`; [`Exit::Errors`] for wrong arguments, and if the folder cannot be read.
pub(crate) fn run(args: &RawArgs) -> Result<ExitCode, Exit> {
    let args = CompressArgs::parse(args)?;
    if !cfg!(feature = "compress") {
        return Err(Exit::failure(
            "compress: this tws was built without the feature compress".to_owned(),
        ));
    }
    let sidecars = Sidecars::find(&args.folder)?;
    let progress = Progress::new(sidecars.bytes());
    let cores = thread::available_parallelism();
    let threads = args.jobs.or(cores.ok()).map_or(1, NonZeroUsize::get);
    let report = sidecars.write(threads, |len| progress.add(len));
    progress.end();
    for error in &report.errors {
        stdio::eprint_error(error);
    }
    for sidecar in &report.removed {
        let text = format!("{}: removed, as it had other content\n", sidecar.display());
        stdio::print_lossy(&text);
    }
    let percent = match report.bytes_before {
        0 => String::new(),
        before => format!(
            ", {}% of the size",
            report.bytes_after.saturating_mul(100) / before
        ),
    };
    let summary = format!(
        "{}: {} files written{percent}, {} removed; {} would be no smaller, {} were up to date\n",
        args.folder.display(),
        report.written,
        report.removed.len(),
        report.not_smaller + report.removed.len(),
        report.up_to_date
    );
    stdio::print_lossy(&summary);
    Ok(match report.errors.len() {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// A progress bar on standard error, if that is a terminal.
struct Progress {
    total: u64,
    done: AtomicU64,
    is_shown: bool,
}

impl Progress {
    fn new(total: u64) -> Self {
        Self {
            total,
            done: AtomicU64::new(0),
            is_shown: io::stderr().is_terminal(),
        }
    }

    fn add(&self, len: u64) {
        let done = self.done.fetch_add(len, Ordering::Relaxed) + len;
        if self.is_shown {
            self.show(&bar(done, self.total));
        }
    }

    fn end(&self) {
        if self.is_shown {
            self.show("");
        }
    }

    /// Replaces the line. The terminal may be gone, which is no reason to stop.
    fn show(&self, line: &str) {
        let _ = write!(io::stderr(), "\r\x1b[K{line}");
    }
}

fn bar(done: u64, total: u64) -> String {
    let share = |of: u64| {
        of.saturating_mul(done)
            .checked_div(total)
            .unwrap_or(of)
            .min(of)
    };
    let filled = share(BAR_COLUMNS as u64) as usize;
    format!(
        "[{}{}] {}%",
        "#".repeat(filled),
        " ".repeat(BAR_COLUMNS - filled),
        share(100)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bar_is_full_at_the_end() {
        assert_eq!(bar(0, 10), format!("[{}] 0%", " ".repeat(40)));
        assert_eq!(
            bar(5, 10),
            format!("[{}{}] 50%", "#".repeat(20), " ".repeat(20))
        );
        for (done, total) in [(10, 10), (11, 10), (0, 0)] {
            assert_eq!(bar(done, total), format!("[{}] 100%", "#".repeat(40)));
        }
    }
}
