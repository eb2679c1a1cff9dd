//! A text as a QR code for the terminal.

use clap::builder::styling::{Ansi256Color, Color, Style};
use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;

use super::paint::ColorMode;

const BLACK_ON_WHITE: Style = Style::new()
    .fg_color(Some(Color::Ansi256(Ansi256Color(16))))
    .bg_color(Some(Color::Ansi256(Ansi256Color(231))));

/// Returns `text` as a QR code with its quiet zone, two modules high in each line; `None` if the text
/// is too long for a QR code.
///
/// With colours the code is black on white whatever the colours of the terminal are. Without colours,
/// the terminal is assumed to write light on dark, so the light modules are drawn.
pub(super) fn qr_code(text: &str, color_mode: ColorMode) -> Option<String> {
    let code = QrCode::new(text).ok()?;
    let mut renderer = code.render::<Dense1x2>();
    if color_mode == ColorMode::Plain {
        renderer
            .dark_color(Dense1x2::Light)
            .light_color(Dense1x2::Dark);
    }
    let drawn = renderer.build();
    let lines = drawn.lines();
    Some(
        lines
            .map(|line| color_mode.paint(BLACK_ON_WHITE, line) + "\n")
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Light modules around the code; with fewer, readers may fail to find it (ISO/IEC 18004).
    const QUIET_MODULES: usize = 4;

    /// Reads the drawing back, two rows of modules from each line: true is a dark module.
    fn modules(drawn: &str, drawn_is_dark: bool) -> Vec<Vec<bool>> {
        let mut rows = Vec::new();
        for line in drawn.lines() {
            for half in [0, 1] {
                let row = line.chars().map(|letter| {
                    let is_drawn = match letter {
                        '█' => true,
                        '▀' => half == 0,
                        '▄' => half == 1,
                        ' ' => false,
                        other => panic!("{other:?}"),
                    };
                    is_drawn == drawn_is_dark
                });
                rows.push(row.collect());
            }
        }
        rows
    }

    #[test]
    fn qr_code_has_all_modules_and_quiet_zone() {
        let text = "http://192.168.178.21:8000/";
        let code = QrCode::new(text).expect("a code");
        let side = code.width();
        let plain = qr_code(text, ColorMode::Plain).expect("a code");
        let colored = qr_code(text, ColorMode::Colored).expect("a code");
        let (on, off) = ("\x1b[38;5;16m\x1b[48;5;231m", "\x1b[0m");
        let bare: Vec<&str> = colored
            .lines()
            .map(|line| {
                line.strip_prefix(on)
                    .and_then(|line| line.strip_suffix(off))
            })
            .map(|line| line.expect("black on white"))
            .collect();
        for rows in [modules(&plain, false), modules(&bare.join("\n"), true)] {
            let width = side + 2 * QUIET_MODULES;
            // The height is odd, so the last line has half a line beyond the quiet zone.
            assert_eq!(rows.len(), width + 1);
            assert!(rows.iter().all(|row| row.len() == width));
            for (y, row) in rows.iter().take(width).enumerate() {
                for (x, is_dark) in row.iter().enumerate() {
                    let inside = QUIET_MODULES..QUIET_MODULES + side;
                    let expected = inside.contains(&x)
                        && inside.contains(&y)
                        && code[(x - QUIET_MODULES, y - QUIET_MODULES)] == qrcode::Color::Dark;
                    assert_eq!(*is_dark, expected, "{x} {y}");
                }
            }
        }
    }

    #[test]
    fn text_too_long_for_a_qr_code_is_none() {
        assert_eq!(qr_code(&"x".repeat(5000), ColorMode::Plain), None);
    }
}
