//! The plots that the README shows: quiet colours that read on light and on dark pages, because
//! each brings its own ground.

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::Result;
use crate::report::{number, usual_row};
use crate::servers::Server;
use crate::works::{Figure, Outcome};

const GROUND: RGBColor = RGBColor(0xf5, 0xef, 0xe3);
const INK: RGBColor = RGBColor(0x14, 0x31, 0x3a);
const SMALL_INK: RGBColor = RGBColor(0x4c, 0x61, 0x69);
const ONE: RGBColor = RGBColor(0xc2, 0x56, 0x2c);
const GRID: RGBColor = RGBColor(0xdd, 0xd4, 0xc2);

const WIDTH: i32 = 760;

/// Where bars begin, and where the scale ends.
const LEFT: i32 = 270;
const RIGHT: i32 = 690;

/// Bars beyond this are cut, with their number beside them.
const MOST: f64 = 2.0;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn colour(server: Server) -> RGBColor {
    match server {
        Server::Tws | Server::TwsAgain => RGBColor(0x0f, 0x6b, 0x6b),
        Server::Nginx => ONE,
        Server::Lighttpd => RGBColor(0x7d, 0xa7, 0xb8),
        Server::H2o => RGBColor(0xd0, 0xa2, 0x4c),
        Server::Caddy => RGBColor(0x9a, 0x7f, 0xa8),
        Server::Floor => RGBColor(0xa9, 0xa3, 0x97),
    }
}

/// CPU time with that of nginx as 1.00, all works; `None` if nothing stands beside nginx.
pub(crate) fn cpu(outcomes: &[Outcome]) -> Result<Option<String>> {
    const BAR: i32 = 12;
    const GAP: i32 = 14;
    const TOP: i32 = 74;
    let groups: Vec<(&str, Vec<(Server, f64)>)> = outcomes
        .iter()
        .filter(|outcome| outcome.metric.figure == Figure::Cpu)
        .filter_map(|outcome| Some((outcome.title, beside_nginx(outcome)?)))
        .collect();
    if groups.is_empty() {
        return Ok(None);
    }
    let bars: i32 = groups.iter().map(|(_, bars)| bars.len() as i32).sum();
    let bottom = TOP + bars * BAR + groups.len() as i32 * GAP;
    let draw = |area: &Area<'_>| {
        let title = "CPU time, nginx at its strongest = 1.00 (less is better)";
        text(area, title, (20, 18), 17, INK, HPos::Left)?;
        let servers: Vec<Server> = [
            Server::Tws,
            Server::Lighttpd,
            Server::H2o,
            Server::Caddy,
            Server::Floor,
        ]
        .into_iter()
        .filter(|server| {
            groups
                .iter()
                .any(|(_, bars)| bars.iter().any(|bar| bar.0 == *server))
        })
        .collect();
        legend(area, &servers, 46)?;
        let x = |value: f64| LEFT + (value.min(MOST) / MOST * f64::from(RIGHT - LEFT)) as i32;
        dashes(area, x(1.0), TOP - 6, bottom - GAP + 6)?;
        let mut y = TOP;
        for (title, bars) in &groups {
            let middle = y + bars.len() as i32 * BAR / 2;
            text(area, title, (LEFT - 12, middle), 14, INK, HPos::Right)?;
            for (server, value) in bars {
                let corners = [(LEFT, y + 1), (x(*value), y + BAR - 1)];
                let bar = Rectangle::new(corners, colour(*server).filled());
                area.draw(&bar).map_err(failed)?;
                let label = match *value > MOST {
                    true => format!("{value:.2} →"),
                    false => format!("{value:.2}"),
                };
                let at = (x(*value) + 5, y + BAR / 2);
                text(area, &label, at, 12, SMALL_INK, HPos::Left)?;
                y += BAR;
            }
            y += GAP;
        }
        Ok(())
    };
    picture(bottom + 14, draw).map(Some)
}

/// Each server's CPU time as a part of nginx's, ours first.
fn beside_nginx(outcome: &Outcome) -> Option<Vec<(Server, f64)>> {
    let ratio = |server: Server| {
        let row = usual_row(outcome, server)?;
        row.result
            .as_ref()
            .ok()
            .map(|compared| compared.ratio.median)
    };
    let ours = ratio(Server::Nginx)?;
    let others = [Server::Lighttpd, Server::H2o, Server::Caddy, Server::Floor];
    // Everybody was paired with us: (ours / nginx's) / (ours / theirs) is theirs / nginx's.
    let others = others
        .into_iter()
        .filter_map(|server| Some((server, ours / ratio(server)?)));
    Some(std::iter::once((Server::Tws, ours)).chain(others).collect())
}

/// Latencies beside other work, on a logarithmic scale; `None` if there are none.
pub(crate) fn latency(outcomes: &[Outcome]) -> Result<Option<String>> {
    const LINE: i32 = 26;
    const TOP: i32 = 60;
    let panels = panels(outcomes);
    let all = panels.iter().flat_map(|panel| panel.lines.iter());
    let values: Vec<f64> = all.flat_map(|(_, _, values)| values.clone()).collect();
    let (Some(least), Some(greatest)) = (
        values.iter().copied().reduce(f64::min),
        values.iter().copied().reduce(f64::max),
    ) else {
        return Ok(None);
    };
    let (from, to) = (
        least.max(1e-3).log10().floor(),
        greatest.max(1e-2).log10().ceil(),
    );
    let x = |value: f64| {
        let part = (value.max(1e-3).log10() - from) / (to - from);
        LEFT + (part * f64::from(RIGHT - LEFT)) as i32
    };
    let lines: i32 = panels.iter().map(|panel| panel.lines.len() as i32).sum();
    let bottom = TOP + lines * LINE + panels.len() as i32 * (LINE + 12);
    let draw = |area: &Area<'_>| {
        let title = "How long a small request waits: median, 99th percentile, longest";
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
                if let Some(longest) = values.last() {
                    let at = (x(*longest) + 8, y);
                    text(area, &number(*longest), at, 12, SMALL_INK, HPos::Left)?;
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
    /// Median, 99th percentile, longest.
    lines: Vec<(Server, String, Vec<f64>)>,
}

fn panels(outcomes: &[Outcome]) -> Vec<Panel<'_>> {
    let mut panels: Vec<Panel<'_>> = Vec::new();
    let latencies = outcomes
        .iter()
        .filter(|outcome| outcome.metric.figure == Figure::Latency);
    for outcome in latencies {
        let Ok(ours) = outcome.ours else {
            continue;
        };
        if panels
            .last()
            .is_none_or(|panel| panel.title != outcome.title)
        {
            panels.push(Panel {
                title: outcome.title,
                lines: Vec::new(),
            });
        }
        let rows = outcome.rows.iter().filter_map(|row| {
            let compared = row.result.as_ref().ok()?;
            let server = row.contestant.server;
            let is_peer = server != Server::TwsAgain;
            is_peer.then(|| (server, row.contestant.label(), compared.value))
        });
        let ours = (Server::Tws, "tws".to_owned(), ours);
        let Some(panel) = panels.last_mut() else {
            continue;
        };
        for (server, label, value) in std::iter::once(ours).chain(rows) {
            match panel.lines.iter_mut().find(|line| line.1 == label) {
                Some((_, _, values)) => values.push(value),
                None => panel.lines.push((server, label, vec![value])),
            }
        }
    }
    panels
}

fn picture(height: i32, draw: impl Fn(&Area<'_>) -> Result<()>) -> Result<String> {
    let mut svg = String::new();
    {
        let backend = SVGBackend::with_string(&mut svg, (WIDTH as u32, height as u32));
        let area = backend.into_drawing_area();
        area.fill(&GROUND).map_err(failed)?;
        draw(&area)?;
        area.present().map_err(failed)?;
    }
    Ok(svg)
}

fn legend(area: &Area<'_>, servers: &[Server], y: i32) -> Result<()> {
    let mut x = 20;
    for server in servers {
        let square = [(x, y - 5), (x + 11, y + 6)];
        area.draw(&Rectangle::new(square, colour(*server).filled()))
            .map_err(failed)?;
        let name = match server {
            Server::Floor => "a bare loop with a fixed answer",
            server => server.name(),
        };
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

/// Text is left to the reader's fonts; nothing is rasterised here.
fn text(
    area: &Area<'_>,
    text: &str,
    at: (i32, i32),
    size: i32,
    colour: RGBColor,
    anchor: HPos,
) -> Result<()> {
    // The backend writes a font's size divided by this.
    let size = f64::from(size) * 1.24;
    let style = ("sans-serif", size)
        .into_font()
        .color(&colour)
        .pos(Pos::new(anchor, VPos::Center));
    area.draw_text(text, &style, at).map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> String {
    format!("no plot: {error}")
}
