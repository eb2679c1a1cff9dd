//! The summary at the end: what the server has done.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use tws::observe::ServerTotals;

/// Returns one line with the number of requests, the bytes sent if they were counted, and the time.
pub(crate) fn line(requests: u64, totals: Option<&ServerTotals>, duration: Duration) -> String {
    let noun = if requests == 1 { "request" } else { "requests" };
    let sent = totals.map_or(String::new(), |totals| {
        format!(", {} sent,", Bytes(totals.content_bytes))
    });
    format!("{requests} {noun}{sent} in {}\n", Time(duration))
}

/// Displays a number of bytes with a binary unit.
struct Bytes(u64);

impl Display for Bytes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let mut size = self.0 as f64;
        for unit in ["bytes", "KiB", "MiB", "GiB", "TiB"] {
            // 1023.96 KiB would be shown as 1024.0 KiB.
            if size < 1023.95 {
                return match unit {
                    "bytes" => write!(f, "{} bytes", self.0),
                    unit => write!(f, "{size:.1} {unit}"),
                };
            }
            size /= 1024.0;
        }
        write!(f, "{size:.1} PiB")
    }
}

/// Displays a time with its two largest units.
struct Time(Duration);

impl Display for Time {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
        match seconds {
            0..60 => write!(f, "{:.1} s", self.0.as_secs_f64()),
            60..3600 => write!(f, "{minutes} min {} s", seconds % 60),
            3600..86_400 => write!(f, "{hours} h {} min", minutes % 60),
            _ => write!(f, "{days} d {} h", hours % 24),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_have_units() {
        for (bytes, expected) in [
            (0, "0 bytes"),
            (1023, "1023 bytes"),
            (1024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (5 << 30, "5.0 GiB"),
            (u64::MAX, "16384.0 PiB"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), expected);
        }
        for (milliseconds, expected) in [
            (0, "0.0 s"),
            (59_900, "59.9 s"),
            (60_000, "1 min 0 s"),
            (3_599_999, "59 min 59 s"),
            (3_661_000, "1 h 1 min"),
            (90_000_000, "1 d 1 h"),
        ] {
            assert_eq!(
                Time(Duration::from_millis(milliseconds)).to_string(),
                expected
            );
        }
    }
}
