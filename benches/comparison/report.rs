//! The table, on the terminal and in Markdown.

use std::fmt::Write;

use crate::arguments::Plan;
use crate::environment::Facts;
use crate::servers::{Server, Setting};
use crate::statistics::Spread;
use crate::works::{Compared, Outcome, Row, Verdict};

/// One metric of one work, for the terminal.
pub(crate) fn lines(outcome: &Outcome) -> String {
    let metric = outcome.metric;
    let mut text = format!("{}: {}, {}\n", outcome.title, metric.name, metric.unit);
    let ours = match &outcome.ours {
        Ok(value) => *value,
        Err(reason) => {
            let _ = writeln!(text, "    not measured: {reason}\n");
            return text;
        }
    };
    let _ = writeln!(
        text,
        "    {:<20}{:>10}   ours / theirs",
        "tws",
        number(ours)
    );
    for row in &outcome.rows {
        let label = row.contestant.label();
        let _ = match &row.result {
            Ok(Compared { value, ratio }) => {
                writeln!(
                    text,
                    "    {label:<20}{:>10}   {}",
                    number(*value),
                    spread(ratio)
                )
            }
            Err(reason) => writeln!(text, "    {label:<20}{:>10}   left out: {reason}", "-"),
        };
    }
    for verdict in &outcome.verdicts {
        let _ = writeln!(text, "    {}", told(verdict));
    }
    text.push('\n');
    text
}

pub(crate) fn legend(plan: Plan) -> String {
    format!(
        "{} Medians; ratios are ours / theirs, less is better for us, with the least and the \
         greatest of the pairs.\nA/A is tws measured against itself: its distance from 1.00 is the \
         noise.",
        plan.worth()
    )
}

/// All of it, for the README.
pub(crate) fn markdown(command: &str, plan: Plan, facts: &Facts, outcomes: &[Outcome]) -> String {
    let columns: Vec<Server> = facts
        .peers
        .iter()
        .map(|(peer, _)| *peer)
        .chain([Server::Floor, Server::TwsAgain])
        .filter(|server| {
            outcomes
                .iter()
                .any(|outcome| usual_row(outcome, *server).is_some())
        })
        .collect();
    let mut text = format!("`{command}`  \n{}\n\n", facts.text().replace('\n', "  \n"));
    text.push_str("| work | tws |");
    for column in &columns {
        let _ = write!(
            text,
            " tws / {} |",
            match column {
                Server::TwsAgain => "tws (A/A)",
                other => other.name(),
            }
        );
    }
    text.push_str(" bars |\n|---|---|");
    text.push_str(&"---|".repeat(columns.len() + 1));
    text.push('\n');
    for outcome in outcomes {
        let metric = outcome.metric;
        let ours = match &outcome.ours {
            Ok(value) => format!("{} {}", number(*value), metric.unit),
            Err(reason) => format!("not measured: {}", cell(reason)),
        };
        let _ = write!(text, "| {}: {} | {ours} |", outcome.title, metric.name);
        for column in &columns {
            let _ = match usual_row(outcome, *column).map(|row| &row.result) {
                Some(Ok(compared)) => write!(text, " {} |", spread(&compared.ratio)),
                Some(Err(reason)) => write!(text, " {} |", cell(reason)),
                None => write!(text, " |"),
            };
        }
        let bars: Vec<String> = outcome
            .verdicts
            .iter()
            .map(|verdict| cell(&told(verdict)).replace("MISSED", "**missed**"))
            .collect();
        let _ = writeln!(text, " {} |", bars.join("<br>"));
    }
    let _ = write!(text, "\n{}\n", legend(plan));
    text
}

/// A server's row, but not that of nginx as installed, which has bars only.
pub(crate) fn usual_row(outcome: &Outcome, server: Server) -> Option<&Row> {
    let is_usual = |row: &&Row| {
        row.contestant.server == server && row.contestant.setting != Setting::AsInstalled
    };
    outcome.rows.iter().find(is_usual)
}

fn told(verdict: &Verdict) -> String {
    let bar = &verdict.bar;
    match &verdict.measured {
        Ok(value) if verdict.is_missed() => format!("MISSED: at most {bar}: {}", number(*value)),
        Ok(value) => format!("met: at most {bar}: {}", number(*value)),
        Err(reason) => format!("not measured: at most {bar}: {reason}"),
    }
}

fn spread(ratio: &Spread) -> String {
    let [median, least, greatest] = [ratio.median, ratio.least, ratio.greatest].map(number);
    match least == greatest {
        true => median,
        false => format!("{median} ({least}–{greatest})"),
    }
}

/// As many digits as mean something.
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
