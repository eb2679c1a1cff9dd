//! The table of results, for the terminal and in Markdown.

use std::fmt::Write;
use std::path::Path;

use crate::Result;
use crate::arguments::Plan;
use crate::environment::Environment;
use crate::servers::ServerKind;
use crate::statistics::Summary;
use crate::workloads::result::{Comparison, MetricResult, Plot, ServerResult, TargetResult};

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
    text.push_str(" goals |\n|---|---|");
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

/// Returns the result of a server in its strongest configuration. References are excluded: they appear
/// only in targets.
pub(crate) fn strongest_setup(result: &MetricResult, server: ServerKind) -> Option<&ServerResult> {
    let mut others = result.others.iter();
    others.find(|other| other.setup.server == server && !other.setup.is_reference())
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

/// The workloads of the README: their names, and what they are called there.
pub(crate) const README_WORKLOADS: [(&str, &str); 8] = [
    ("1-KiB", "1 KiB"),
    ("100-KiB", "100 KiB"),
    ("1-MiB", "1 MiB"),
    ("new-connections", "1 KiB, new connection"),
    ("tls-1-KiB", "TLS: 1 KiB"),
    ("tls-100-KiB", "TLS: 100 KiB"),
    ("tls-1-MiB", "TLS: 1 MiB"),
    ("tls-full", "TLS: handshake and 1 KiB"),
];

/// Returns the results of [`README_WORKLOADS`] that were measured, with what they are called.
pub(crate) fn readme_results(
    results: &[MetricResult],
) -> impl Iterator<Item = (&'static str, &MetricResult)> {
    README_WORKLOADS.iter().filter_map(|(name, title)| {
        let mut results = results.iter();
        let result = results.find(|result| result.name == *name && result.metric.plot == Plot::Cpu);
        result.map(|result| (*title, result))
    })
}

/// What is between these lines in the README is generated.
const BEGIN: &str = "<!-- figures: generated by the comparison -->\n";
const END: &str = "<!-- end of figures -->\n";

/// Replaces the figures in the README.
pub(crate) fn update_readme(
    path: &Path,
    environment: &Environment,
    results: &[MetricResult],
) -> Result<()> {
    let failed = |error| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(failed)?;
    let begin = text.find(BEGIN).map(|at| at + BEGIN.len());
    let (Some(begin), Some(end)) = (begin, text.find(END)) else {
        return Err(format!("{}: no lines around the figures", path.display()));
    };
    let figures = readme_figures(environment, results);
    let text = [&text[..begin], &figures, &text[end..]].concat();
    std::fs::write(path, text).map_err(failed)
}

/// Formats the figures of the README: what a newcomer understands in ten seconds.
fn readme_figures(environment: &Environment, results: &[MetricResult]) -> String {
    let columns: Vec<ServerKind> = environment
        .others
        .iter()
        .map(|(server, _)| *server)
        .collect();
    let ratio = |result: &MetricResult, server: ServerKind| {
        let comparison = strongest_setup(result, server)?.comparison.as_ref();
        comparison.ok().map(|comparison| comparison.ratio.median)
    };
    let names: Vec<&str> = columns.iter().map(|server| server.name()).collect();
    let mut text = format!(
        "\n![CPU time per request beside other servers](.readme/comparison-cpu.svg)\n\n\
         CPU time for a response: tws divided by the other server. Less than 1 is better.\n\n\
         | | {} |\n|---|{}\n",
        names.join(" | "),
        "---|".repeat(columns.len())
    );
    let mut noise: f64 = 0.0;
    for (title, result) in readme_results(results) {
        let cell = |server: &ServerKind| ratio(result, *server).map_or("–".to_owned(), number);
        let cells: Vec<String> = columns.iter().map(cell).collect();
        let _ = writeln!(text, "| {title} | {} |", cells.join(" | "));
        let again = ratio(result, ServerKind::TwsAgain);
        noise = noise.max(again.map_or(0.0, |again| (again - 1.0).abs()));
    }
    let _ = write!(
        text,
        "\nOne core each, every server in its strongest configuration: {}. In these rows, the median of \
         tws beside itself is within {noise:.2} of 1.00; single pairs differ more.\n\
         [All figures](.readme/comparison.md), with the goals and the command that measures them, and \
         [what is slower, and why](.readme/missed-goals.md).\n",
        environment.versions()
    );
    if results
        .iter()
        .any(|result| result.metric.plot == Plot::Stylesheet)
    {
        text.push_str(
            "\n### HTTP/2: a stylesheet beside a download\n\n\
             A browser asks for a stylesheet while a download is running on the same connection. What is \
             sent of the\ndownload before the stylesheet is complete delays the page:\n\n\
             ![What comes before a stylesheet](.readme/comparison-stylesheet.svg)\n",
        );
    }
    text.push('\n');
    text
}
