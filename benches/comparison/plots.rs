//! The plots in the README. Each has a background of its own, so that it is legible on light and on
//! dark pages.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Result;
use crate::report::{number, readme_results, strongest_setup};
use crate::servers::ServerKind;
use crate::workloads::result::{MetricResult, Plot};

const BACKGROUND: RGBColor = RGBColor(0xf5, 0xef, 0xe3);
const INK: RGBColor = RGBColor(0x14, 0x31, 0x3a);
const SMALL_INK: RGBColor = RGBColor(0x4c, 0x61, 0x69);
const ONE: RGBColor = RGBColor(0xc2, 0x56, 0x2c);
const GRID: RGBColor = RGBColor(0xdd, 0xd4, 0xc2);

const WIDTH: i32 = 760;

/// The horizontal positions of 0 and of the end of the scale.
const LEFT: i32 = 270;
const RIGHT: i32 = 690;

/// The end of the scale. Longer bars are cut off, with their value beside them.
const SCALE_MAX: f64 = 1.5;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn colour(server: ServerKind) -> RGBColor {
    match server {
        ServerKind::Tws | ServerKind::TwsAgain => RGBColor(0x0f, 0x6b, 0x6b),
        ServerKind::Nginx => ONE,
        ServerKind::Lighttpd => RGBColor(0x7d, 0xa7, 0xb8),
        ServerKind::H2o => RGBColor(0xd0, 0xa2, 0x4c),
        ServerKind::Caddy => RGBColor(0x9a, 0x7f, 0xa8),
        ServerKind::BareLoop => RGBColor(0xa9, 0xa3, 0x97),
    }
}

/// Plots the CPU time of tws relative to each other server in the workloads of the README; `None` if
/// none was measured.
pub(crate) fn cpu(results: &[MetricResult]) -> Result<Option<String>> {
    const BAR: i32 = 13;
    const GAP: i32 = 16;
    const TOP: i32 = 96;
    let groups: Vec<(&str, Vec<(ServerKind, f64)>)> = readme_results(results)
        .map(|(title, result)| (title, ratios(result)))
        .filter(|(_, bars)| !bars.is_empty())
        .collect();
    if groups.is_empty() {
        return Ok(None);
    }
    let bars: i32 = groups.iter().map(|(_, bars)| bars.len() as i32).sum();
    let bottom = TOP + bars * BAR + groups.len() as i32 * GAP;
    let draw = |area: &Area<'_>| {
        let title = "CPU time of tws for a response, lower is better";
        text(area, title, (20, 18), 17, INK, HPos::Left)?;
        let legend_title = "1.00 is what this server takes for the same response:";
        text(area, legend_title, (20, 44), 13, SMALL_INK, HPos::Left)?;
        let servers: Vec<ServerKind> = ServerKind::OTHERS
            .into_iter()
            .filter(|server| {
                groups
                    .iter()
                    .any(|(_, bars)| bars.iter().any(|bar| bar.0 == *server))
            })
            .collect();
        legend(area, &servers, 66)?;
        let x =
            |value: f64| LEFT + (value.min(SCALE_MAX) / SCALE_MAX * f64::from(RIGHT - LEFT)) as i32;
        dashes(area, x(1.0), TOP - 6, bottom - GAP + 6)?;
        let mut y = TOP;
        for (title, bars) in &groups {
            let middle = y + bars.len() as i32 * BAR / 2;
            text(area, title, (LEFT - 12, middle), 14, INK, HPos::Right)?;
            for (server, value) in bars {
                let corners = [(LEFT, y + 1), (x(*value), y + BAR - 1)];
                let bar = Rectangle::new(corners, colour(*server).filled());
                area.draw(&bar).map_err(failed)?;
                let label = if *value > SCALE_MAX {
                    format!("{value:.2} →")
                } else {
                    format!("{value:.2}")
                };
                let at = (x(*value) + 5, y + BAR / 2);
                text(area, &label, at, 12, SMALL_INK, HPos::Left)?;
                y += BAR;
            }
            y += GAP;
        }
        Ok(())
    };
    picture(bottom + 4, draw).map(Some)
}

/// Returns the ratios tws / server.
fn ratios(result: &MetricResult) -> Vec<(ServerKind, f64)> {
    let ratio = |server: ServerKind| {
        let comparison = strongest_setup(result, server)?.comparison.as_ref().ok()?;
        Some((server, comparison.ratio.median))
    };
    ServerKind::OTHERS.into_iter().filter_map(ratio).collect()
}

/// Plots the latencies on a logarithmic scale; `None` if `results` has no latencies.
pub(crate) fn latency(results: &[MetricResult]) -> Result<Option<String>> {
    const LINE: i32 = 26;
    const TOP: i32 = 60;
    let panels = panels(results);
    let all = panels.iter().flat_map(|panel| panel.lines.iter());
    let values: Vec<f64> = all.flat_map(|(_, _, values)| values.clone()).collect();
    let (Some(min), Some(max)) = (
        values.iter().copied().reduce(f64::min),
        values.iter().copied().reduce(f64::max),
    ) else {
        return Ok(None);
    };
    let (from, to) = (min.max(1e-3).log10().floor(), max.max(1e-2).log10().ceil());
    let x = |value: f64| {
        let fraction = (value.max(1e-3).log10() - from) / (to - from);
        LEFT + (fraction * f64::from(RIGHT - LEFT)) as i32
    };
    let lines: i32 = panels.iter().map(|panel| panel.lines.len() as i32).sum();
    let bottom = TOP + lines * LINE + panels.len() as i32 * (LINE + 12);
    let draw = |area: &Area<'_>| {
        let title = "Latency of small requests: median, 99th percentile, greatest";
        text(area, title, (20, 18), 17, INK, HPos::Left)?;
        for decade in from as i32..=to as i32 {
            let at = x(10f64.powi(decade));
            let line = PathElement::new([(at, TOP - 12), (at, bottom)], GRID);
            area.draw(&line).map_err(failed)?;
            let label = match decade {
                ..=-1 => format!(
                    "{:.*} ms",
                    decade.unsigned_abs() as usize,
                    10f64.powi(decade)
                ),
                0..=2 => format!("{} ms", 10f64.powi(decade)),
                _ => format!("{} s", 10f64.powi(decade - 3)),
            };
            text(area, &label, (at, bottom + 12), 12, SMALL_INK, HPos::Center)?;
        }
        let mut y = TOP;
        for panel in &panels {
            text(area, panel.title, (20, y), 14, SMALL_INK, HPos::Left)?;
            y += LINE;
            for (server, label, values) in &panel.lines {
                text(area, label, (LEFT - 12, y), 14, INK, HPos::Right)?;
                let colour = colour(*server);
                let points: Vec<(i32, i32)> = values.iter().map(|value| (x(*value), y)).collect();
                let line = PathElement::new(points.clone(), colour.stroke_width(2));
                area.draw(&line).map_err(failed)?;
                for (point, radius) in points.iter().zip([5, 4, 2]) {
                    let dot = Circle::new(*point, radius, colour.filled());
                    area.draw(&dot).map_err(failed)?;
                }
                if let Some(greatest) = values.last() {
                    let at = (x(*greatest) + 8, y);
                    text(area, &number(*greatest), at, 12, SMALL_INK, HPos::Left)?;
                }
                y += LINE;
            }
            y += 12;
        }
        Ok(())
    };
    picture(bottom + 28, draw).map(Some)
}

struct Panel<'a> {
    title: &'a str,
    /// The server, its label, and its median, 99th percentile and greatest latency.
    lines: Vec<(ServerKind, String, Vec<f64>)>,
}

fn panels(results: &[MetricResult]) -> Vec<Panel<'_>> {
    let mut panels: Vec<Panel<'_>> = Vec::new();
    let latencies = results
        .iter()
        .filter(|result| result.metric.plot == Plot::Latency);
    for result in latencies {
        let Ok(tws) = result.tws else {
            continue;
        };
        if panels
            .last()
            .is_none_or(|panel| panel.title != result.title)
        {
            panels.push(Panel {
                title: result.title,
                lines: Vec::new(),
            });
        }
        let others = result.others.iter().filter_map(|other| {
            let comparison = other.comparison.as_ref().ok()?;
            let server = other.setup.server;
            let is_shown = server != ServerKind::TwsAgain;
            is_shown.then(|| (server, other.setup.label(), comparison.value))
        });
        let tws = (ServerKind::Tws, "tws".to_owned(), tws);
        let Some(panel) = panels.last_mut() else {
            continue;
        };
        for (server, label, value) in std::iter::once(tws).chain(others) {
            match panel.lines.iter_mut().find(|line| line.1 == label) {
                Some((_, _, values)) => values.push(value),
                None => panel.lines.push((server, label, vec![value])),
            }
        }
    }
    panels
}

/// Plots how much of a download comes before a stylesheet; `None` if that was not measured.
pub(crate) fn stylesheet(results: &[MetricResult]) -> Result<Option<String>> {
    const BAR: i32 = 18;
    const GAP: i32 = 16;
    const TOP: i32 = 60;
    let groups: Vec<(&str, Vec<(ServerKind, f64)>)> = results
        .iter()
        .filter(|result| result.metric.plot == Plot::Stylesheet)
        .filter_map(|result| Some((result.metric.name, values(result)?)))
        .collect();
    let all = groups.iter().flat_map(|(_, bars)| bars);
    let Some(max) = all.map(|bar| bar.1).reduce(f64::max) else {
        return Ok(None);
    };
    let bars: i32 = groups.iter().map(|(_, bars)| bars.len() as i32).sum();
    let bottom = TOP + bars * BAR + groups.len() as i32 * GAP;
    let x = |value: f64| LEFT + (value / max.max(1.0) * f64::from(RIGHT - LEFT)) as i32;
    let draw = |area: &Area<'_>| {
        let title = "A download on the same connection before a stylesheet is complete, in kB";
        text(area, title, (20, 18), 17, INK, HPos::Left)?;
        let mut y = TOP;
        for (name, bars) in &groups {
            text(area, name, (20, y + BAR / 2), 14, SMALL_INK, HPos::Left)?;
            for (server, value) in bars {
                let middle = y + BAR / 2;
                text(
                    area,
                    server.name(),
                    (LEFT - 12, middle),
                    14,
                    INK,
                    HPos::Right,
                )?;
                let corners = [(LEFT, y + 3), (x(*value), y + BAR - 3)];
                let bar = Rectangle::new(corners, colour(*server).filled());
                area.draw(&bar).map_err(failed)?;
                let at = (x(*value) + 5, middle);
                text(area, &number(*value), at, 12, SMALL_INK, HPos::Left)?;
                y += BAR;
            }
            y += GAP;
        }
        Ok(())
    };
    picture(bottom, draw).map(Some)
}

/// Returns the figure of each server, tws first.
fn values(result: &MetricResult) -> Option<Vec<(ServerKind, f64)>> {
    let tws = *result.tws.as_ref().ok()?;
    let others = result.others.iter().filter_map(|other| {
        let comparison = other.comparison.as_ref().ok()?;
        let server = other.setup.server;
        (server != ServerKind::TwsAgain).then_some((server, comparison.value))
    });
    Some(
        std::iter::once((ServerKind::Tws, tws))
            .chain(others)
            .collect(),
    )
}

fn picture(height: i32, draw: impl Fn(&Area<'_>) -> Result<()>) -> Result<String> {
    let mut svg = String::new();
    {
        let backend = SVGBackend::with_string(&mut svg, (WIDTH as u32, height as u32));
        let area = backend.into_drawing_area();
        area.fill(&BACKGROUND).map_err(failed)?;
        draw(&area)?;
        area.present().map_err(failed)?;
    }
    Ok(svg)
}

fn legend(area: &Area<'_>, servers: &[ServerKind], y: i32) -> Result<()> {
    let mut x = 20;
    for server in servers {
        let square = [(x, y - 5), (x + 11, y + 6)];
        area.draw(&Rectangle::new(square, colour(*server).filled()))
            .map_err(failed)?;
        let name = server.name();
        text(area, name, (x + 17, y), 13, INK, HPos::Left)?;
        x += 40 + 7 * name.len() as i32;
    }
    Ok(())
}

fn dashes(area: &Area<'_>, x: i32, top: i32, bottom: i32) -> Result<()> {
    for y in (top..bottom).step_by(9) {
        let line = PathElement::new([(x, y), (x, (y + 5).min(bottom))], ONE);
        area.draw(&line).map_err(failed)?;
    }
    Ok(())
}

/// Draws text with the fonts of the viewer; nothing is rasterized here.
fn text(
    area: &Area<'_>,
    text: &str,
    at: (i32, i32),
    size: i32,
    colour: RGBColor,
    anchor: HPos,
) -> Result<()> {
    // The SVG backend divides font sizes by this factor.
    let size = f64::from(size) * 1.24;
    let style = ("sans-serif", size)
        .into_font()
        .color(&colour)
        .pos(Pos::new(anchor, VPos::Center));
    area.draw_text(text, &style, at).map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> String {
    format!("plot: {error}")
}
