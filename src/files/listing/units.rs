//! Sizes, numbers, times and totals as the page shows them.

use std::fmt::{self, Display, Formatter, Write};

use super::entries::EntryTotals;
use crate::calendar::UtcDateTime;

/// Displays a number of bytes with a binary unit, in at most five digits.
pub(super) struct HumanSize(pub(super) u64);

impl Display for HumanSize {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
        if self.0 < 1024 {
            return write!(f, "{} B", self.0);
        }
        for (at, unit) in UNITS.iter().enumerate() {
            let divisor = 1 << (10 * (at + 1));
            let tenths = (u128::from(self.0) * 10 + divisor / 2) / divisor;
            // 1023.96 KiB would be rounded to 1024.0 KiB: it is 1.0 MiB.
            if tenths < 10 * 1024 || at + 1 == UNITS.len() {
                return write!(f, "{}.{} {unit}", tenths / 10, tenths % 10);
            }
        }
        Ok(())
    }
}

/// Displays a number with its digits in groups of three.
pub(super) struct GroupedDigits(pub(super) u64);

impl Display for GroupedDigits {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                f.write_char(',')?;
            }
            f.write_char(digit)?;
        }
        Ok(())
    }
}

impl Display for EntryTotals {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let table = [
            (self.directories, "folder", "folders"),
            (self.files, "file", "files"),
            (self.others, "other", "others"),
        ];
        let mut separator = "";
        for (count, one, many) in table {
            if count > 0 {
                let noun = if count == 1 { one } else { many };
                write!(f, "{separator}{} {noun}", GroupedDigits(count as u64))?;
                separator = ", ";
            }
        }
        match self.files {
            0 if separator.is_empty() => f.write_str("No entries"),
            0 => Ok(()),
            _ => write!(f, ", {} in total", HumanSize(self.bytes)),
        }
    }
}

/// Displays seconds since the epoch as date and time in UTC; nothing if the year is outside of 0 to
/// 9999.
pub(super) struct UtcTime(pub(super) i64);

impl Display for UtcTime {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(time) = UtcDateTime::from_unix_seconds(self.0) else {
            return Ok(());
        };
        let UtcDateTime {
            year,
            month,
            day,
            hour,
            minute,
            ..
        } = time;
        write!(
            f,
            "<time datetime=\"{time}Z\">{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}</time>"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_binary_units_and_digit_groups() {
        let table = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (1_048_524, "1023.9 KiB"),
            (1_048_525, "1.0 MiB"),
            (1 << 30, "1.0 GiB"),
            (5_000_000_000_000, "4.5 TiB"),
            (u64::MAX, "16.0 EiB"),
        ];
        for (size, expected) in table {
            assert_eq!(HumanSize(size).to_string(), expected, "{size}");
        }
        let table = [
            (0, "0"),
            (999, "999"),
            (1000, "1,000"),
            (12345678, "12,345,678"),
        ];
        for (number, expected) in table {
            assert_eq!(GroupedDigits(number).to_string(), expected);
        }
    }

    #[test]
    fn totals_count_each_kind_present() {
        let table = [
            ((0, 0, 0), "No entries"),
            ((1, 0, 0), "1 folder"),
            ((2, 1, 0), "2 folders, 1 file, 2.0 KiB in total"),
            ((0, 1200, 1), "1,200 files, 1 other, 2.0 KiB in total"),
        ];
        for ((directories, files, others), expected) in table {
            let bytes = 2048;
            let totals = EntryTotals {
                directories,
                files,
                others,
                bytes,
            };
            assert_eq!(totals.to_string(), expected);
        }
    }

    #[test]
    fn times_outside_the_calendar_are_left_out() {
        let table = [
            (
                1_795_233_906,
                "<time datetime=\"2026-11-21T04:05:06Z\">2026-11-21 04:05</time>",
            ),
            (
                -1,
                "<time datetime=\"1969-12-31T23:59:59Z\">1969-12-31 23:59</time>",
            ),
            (i64::MAX, ""),
            (i64::MIN + 1, ""),
        ];
        for (seconds, expected) in table {
            assert_eq!(UtcTime(seconds).to_string(), expected, "{seconds}");
        }
    }
}
