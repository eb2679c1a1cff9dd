//! The table of results, for the terminal and in Markdown.

use std::fmt::Write;

use crate::arguments::Plan;
use crate::environment::Environment;
use crate::servers::{Profile, ServerKind};
use crate::statistics::Summary;
use crate::workloads::result::{Comparison, MetricResult, ServerResult, TargetResult};

/// Formats one metric of one workload for the terminal.
pub(crate) fn lines(result: &MetricResult) -> String {
    let metric = result.metric;
    let mut text = format!("{}: {}, {}\n", result.title, metric.name, metric.unit);
    let tws = match &result.tws {
        Ok(value) => *value,
        Err(reason) => {
            let _ = writeln!(text, "    not measured: {reason}\n");
            return text;
        }
    };
    let _ = writeln!(text, "    {:<20}{:>10}   tws / server", "tws", number(tws));
    for other in &result.others {
        let label = other.setup.label();
        let _ = match &other.comparison {
            Ok(Comparison { value, ratio }) => {
                writeln!(
                    text,
                    "    {label:<20}{:>10}   {}",
                    number(*value),
                    range(ratio)
                )
            }
            Err(reason) => writeln!(text, "    {label:<20}{:>10}   left out: {reason}", "-"),
        };
    }
    for target in &result.targets {
        let _ = writeln!(text, "    {}", target_text(target));
    }
    text.push('\n');
    text
}

/// Explains the figures of the table.
pub(crate) fn legend(plan: Plan) -> String {
    format!(
        "{} Values are medians. Ratios are tws / other server, lower is better for tws, with the \
         smallest and the greatest ratio of a pair.\nA/A is tws measured against itself: its \
         distance from 1.00 is the noise.",
        plan.significance()
    )
}

/// Formats the whole table in Markdown.
pub(crate) fn markdown(
    command: &str,
    plan: Plan,
    environment: &Environment,
    results: &[MetricResult],
) -> String {
    let columns: Vec<ServerKind> = environment
        .others
        .iter()
        .map(|(server, _)| *server)
        .chain([ServerKind::BareLoop, ServerKind::TwsAgain])
        .filter(|server| {
            results
                .iter()
                .any(|result| strongest_setup(result, *server).is_some())
        })
        .collect();
    let mut text = format!(
        "`{command}`  \n{}\n\n",
        environment.text().replace('\n', "  \n")
    );
    text.push_str("| workload | tws |");
    for column in &columns {
        let _ = write!(
            text,
            " tws / {} |",
            match column {
                ServerKind::TwsAgain => "tws (A/A)",
                other => other.name(),
            }
        );
    }
    text.push_str(" targets |\n|---|---|");
    text.push_str(&"---|".repeat(columns.len() + 1));
    text.push('\n');
    for result in results {
        let metric = result.metric;
        let tws = match &result.tws {
            Ok(value) => format!("{} {}", number(*value), metric.unit),
            Err(reason) => format!("not measured: {}", cell(reason)),
        };
        let _ = write!(text, "| {}: {} | {tws} |", result.title, metric.name);
        for column in &columns {
            let _ = match strongest_setup(result, *column).map(|other| &other.comparison) {
                Some(Ok(comparison)) => write!(text, " {} |", range(&comparison.ratio)),
                Some(Err(reason)) => write!(text, " {} |", cell(reason)),
                None => write!(text, " |"),
            };
        }
        let targets: Vec<String> = result
            .targets
            .iter()
            .map(|target| cell(&target_text(target)).replace("MISSED", "**missed**"))
            .collect();
        let _ = writeln!(text, " {} |", targets.join("<br>"));
    }
    let _ = write!(text, "\n{}\n", legend(plan));
    text
}

/// Returns the result of a server in its strongest configuration. nginx as installed is excluded:
/// it appears only in targets.
pub(crate) fn strongest_setup(result: &MetricResult, server: ServerKind) -> Option<&ServerResult> {
    result.others.iter().find(|other| {
        other.setup.server == server && other.setup.profile != Profile::DistributionDefault
    })
}

fn target_text(target: &TargetResult) -> String {
    let limit = &target.description;
    match &target.measured {
        Ok(value) if target.is_missed() => format!("MISSED: at most {limit}: {}", number(*value)),
        Ok(value) => format!("met: at most {limit}: {}", number(*value)),
        Err(reason) => format!("not measured: at most {limit}: {reason}"),
    }
}

fn range(ratio: &Summary) -> String {
    let [median, min, max] = [ratio.median, ratio.min, ratio.max].map(number);
    if min == max {
        median
    } else {
        format!("{median} ({min}–{max})")
    }
}

/// Formats a value with two or three significant digits.
pub(crate) fn number(value: f64) -> String {
    match value {
        0.0..0.0995 => format!("{value:.3}"),
        0.0995..9.95 => format!("{value:.2}"),
        9.95..99.5 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
