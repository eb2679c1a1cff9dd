//! Size of the program file. Shared libraries that a program loads are not counted.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::Result;
use crate::programs::program;
use crate::servers::{Profile, ServerKind, ServerSetup};

use super::context::BenchContext;
use super::measurement::{Measurements, measure_setups};
use super::result::{Metric, Plot};

pub(super) const METRICS: &[Metric] = &[Metric {
    name: "size",
    unit: "MB",
    plot: Plot::None,
}];

/// The title and the target in MB. They depend on the features that this bench is compiled with,
/// because the tws that it measures is compiled with the same ones.
pub(super) const TITLE_AND_TARGET: (&str, f64) =
    match (cfg!(feature = "sqlite"), cfg!(feature = "compress")) {
        (false, false) => ("The program without default features", 2.2),
        _ => ("The program with default features", 9.0),
    };

pub(super) fn measure(context: &BenchContext<'_>) -> Result<Measurements> {
    let mut lineup = context.lineup(Profile::SmallFiles);
    lineup
        .others
        .retain(|setup| setup.server != ServerKind::TwsAgain);
    let measure = |setup: &ServerSetup| {
        let path = setup.server.program().ok_or("not installed")?;
        if setup.server != ServerKind::Tws {
            return megabytes(&path);
        }
        if cfg!(debug_assertions) {
            return Err("not a release build".to_owned());
        }
        // The bench profile keeps symbols, the release profile does not.
        let strip = program("strip").ok_or("strip is not installed")?;
        let stripped = context.files.scratch.join("tws-stripped");
        let mut command = Command::new(strip);
        let status = command.arg("-o").arg(&stripped).arg(path).status();
        match status {
            Ok(status) if status.success() => megabytes(&stripped),
            _ => Err("strip failed".to_owned()),
        }
    };
    measure_setups(&lineup, 1, measure)
}

fn megabytes(path: &Path) -> Result<Vec<f64>> {
    let len = fs::metadata(path).map(|file| file.len());
    let len = len.map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(vec![len as f64 / 1e6])
}
