//! Seconds since 1970 as date and time of day in UTC, for listings, archives and the access log.

use std::fmt::{self, Display, Formatter};

const SECONDS_PER_DAY: i64 = 86_400;

/// A date of the Gregorian calendar, from the year 0 to 9999, and a time of day, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UtcDateTime {
    pub(crate) year: u16,
    /// 1 to 12.
    pub(crate) month: u8,
    /// 1 to 31.
    pub(crate) day: u8,
    pub(crate) hour: u8,
    pub(crate) minute: u8,
    pub(crate) second: u8,
}

impl UtcDateTime {
    /// Converts seconds since 1970. `None` outside of the years 0 to 9999.
    ///
    /// The date is calculated from the number of days as Howard Hinnant's `civil_from_days` does
    /// (<https://howardhinnant.github.io/date_algorithms.html>): in years that begin in March, so that a
    /// leap day is the last of its year, and in eras of 400 years, which all have the same days.
    pub(crate) fn from_unix_seconds(seconds: i64) -> Option<Self> {
        const DAYS_FROM_MARCH_OF_YEAR_0_TO_1970: i64 = 719_468;
        const DAYS_PER_ERA: i64 = 146_097;
        let days = seconds.div_euclid(SECONDS_PER_DAY) + DAYS_FROM_MARCH_OF_YEAR_0_TO_1970;
        let day_of_era = days.rem_euclid(DAYS_PER_ERA);
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = (month_from_march + 2) % 12 + 1;
        let next_year = i64::from(month <= 2);
        let year = days.div_euclid(DAYS_PER_ERA) * 400 + year_of_era + next_year;
        let time = seconds.rem_euclid(SECONDS_PER_DAY);
        let year = u16::try_from(year).ok().filter(|year| *year <= 9999)?;
        // All of them are below 60.
        let [month, day, hour, minute, second] =
            [month, day, time / 3600, time / 60 % 60, time % 60].map(|number| number as u8);
        Some(Self {
            year,
            month,
            day,
            hour,
            minute,
            second,
        })
    }

    /// Converts seconds since 1970, with the last second of the year 9999 for what is later.
    pub(crate) fn from_unix_seconds_clamped(seconds: u64) -> Self {
        const LAST: UtcDateTime = UtcDateTime {
            year: 9999,
            month: 12,
            day: 31,
            hour: 23,
            minute: 59,
            second: 59,
        };
        let seconds = i64::try_from(seconds).ok();
        seconds.and_then(Self::from_unix_seconds).unwrap_or(LAST)
    }

    /// Returns the first three letters of the month's English name.
    pub(crate) fn month_name(self) -> &'static str {
        const NAMES: [&str; 12] = [
            "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
        ];
        NAMES[usize::from(self.month - 1)]
    }
}

/// The format of ISO 8601, without the time zone: `2026-11-21T04:05:06`.
impl Display for UtcDateTime {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self {
            year,
            month,
            day,
            hour,
            minute,
            second,
        } = self;
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}"
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use proptest::prelude::*;

    use super::*;

    /// The last second of the year 9999.
    const LAST_SECOND: i64 = 253_402_300_799;

    fn shown(seconds: i64) -> Option<String> {
        UtcDateTime::from_unix_seconds(seconds).map(|time| time.to_string())
    }

    #[test]
    fn times_outside_of_the_years_0_to_9999_have_no_date() {
        const FIRST_SECOND: i64 = -62_167_219_200;
        for (seconds, expected) in [
            (0, Some("1970-01-01T00:00:00")),
            (-1, Some("1969-12-31T23:59:59")),
            (951_782_400, Some("2000-02-29T00:00:00")),
            (-2_203_891_201, Some("1900-02-28T23:59:59")),
            (-2_203_891_200, Some("1900-03-01T00:00:00")),
            (FIRST_SECOND, Some("0000-01-01T00:00:00")),
            (FIRST_SECOND - 1, None),
            (LAST_SECOND, Some("9999-12-31T23:59:59")),
            (LAST_SECOND + 1, None),
            (i64::MIN, None),
            (i64::MAX, None),
        ] {
            assert_eq!(shown(seconds).as_deref(), expected, "{seconds}");
        }
        for late in [LAST_SECOND as u64 + 1, u64::MAX] {
            let clamped = UtcDateTime::from_unix_seconds_clamped(late).to_string();
            assert_eq!(clamped, "9999-12-31T23:59:59", "{late}");
        }
    }

    proptest! {
        #[test]
        fn dates_are_those_of_http(seconds in 0..=LAST_SECOND) {
            let time = UtcDateTime::from_unix_seconds(seconds).expect("a date");
            let UtcDateTime { year, day, hour, minute, second, .. } = time;
            let month = time.month_name();
            let expected = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds as u64));
            let shown = format!("{day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT");
            prop_assert_eq!(&shown, &expected["Sun, ".len()..]);
        }
    }
}
