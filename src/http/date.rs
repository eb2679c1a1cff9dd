//! HTTP dates (RFC 9110 §5.6.7). The `httpdate` crate parses and formats them; this module adds whole
//! seconds and a Date field that is rendered once per second.

use std::cmp::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The length of an IMF-fixdate in bytes: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(crate) const DATE_BYTES: usize = 29;

/// Parses any of the three formats. `None` for any other value, which a recipient must ignore.
pub(crate) fn parse(value: &[u8]) -> Option<SystemTime> {
    httpdate::parse_http_date(std::str::from_utf8(value).ok()?).ok()
}

/// Formats `time` as IMF-fixdate. Times that HTTP cannot express (before 1970, after 9999) are clamped.
pub(crate) fn format(time: SystemTime) -> String {
    const LAST: Duration = Duration::from_secs(253_402_300_799);
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    httpdate::fmt_http_date(UNIX_EPOCH + since.min(LAST))
}

/// Returns the whole seconds since 1970, negative before: the resolution of HTTP dates.
pub(crate) fn seconds(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => {
            let before = before.duration();
            let whole = i64::try_from(before.as_secs()).unwrap_or(i64::MAX);
            -whole - i64::from(before.subsec_nanos() > 0)
        }
    }
}

/// A date and its text, such as that of Last-Modified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpDate {
    seconds: i64,
    text: String,
}

impl HttpDate {
    pub(crate) fn new(time: SystemTime) -> Self {
        Self {
            seconds: seconds(time),
            text: format(time),
        }
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Compares the date with the value of a field; `None` if that is not a date. Clients send back what
    /// they have received, so the text is compared before it is parsed.
    pub(crate) fn compare(&self, value: &[u8]) -> Option<Ordering> {
        if value == self.text.as_bytes() {
            return Some(Ordering::Equal);
        }
        Some(self.seconds.cmp(&seconds(parse(value)?)))
    }
}

/// The value of the Date field, rendered again only when the second changes.
#[derive(Clone, Debug)]
pub(crate) struct DateField {
    second: i64,
    rendered: [u8; DATE_BYTES],
}

impl DateField {
    pub(crate) fn new(now: SystemTime) -> Self {
        let mut field = Self {
            second: i64::MIN,
            rendered: [b' '; DATE_BYTES],
        };
        field.update(now);
        field
    }

    /// Renders the field for `now`, and returns the time until the next second.
    pub(crate) fn update(&mut self, now: SystemTime) -> Duration {
        let second = seconds(now);
        if second != self.second {
            self.second = second;
            let text = format(now);
            let len = text.len().min(DATE_BYTES);
            self.rendered[..len].copy_from_slice(&text.as_bytes()[..len]);
        }
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        Duration::from_nanos(1_000_000_000 - u64::from(since.subsec_nanos()))
    }

    pub(crate) fn as_bytes(&self) -> &[u8; DATE_BYTES] {
        &self.rendered
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn three_date_formats_are_parsed() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(parse(text.as_bytes()), Some(at(784_111_777)), "{text}");
        }
        for text in ["", "yesterday", "784111777", "Sun, 06 Nov 1994"] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn date_is_compared_with_every_format() {
        let date = HttpDate::new(at(784_111_777) + Duration::from_millis(900));
        for (text, order) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(Ordering::Equal)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(Ordering::Equal)),
            ("Sun Nov  6 08:49:36 1994", Some(Ordering::Greater)),
            ("Sun, 06 Nov 1994 08:49:38 GMT", Some(Ordering::Less)),
            ("Sun, 06 Nov 1994", None),
        ] {
            assert_eq!(date.compare(text.as_bytes()), order, "{text}");
        }
    }

    #[test]
    fn date_field_changes_only_with_the_second() {
        let mut field = DateField::new(at(784_111_777));
        assert_eq!(field.as_bytes(), b"Sun, 06 Nov 1994 08:49:37 GMT");
        let left = field.update(at(784_111_777) + Duration::from_millis(999));
        assert_eq!(left, Duration::from_millis(1));
        assert_eq!(field.as_bytes(), b"Sun, 06 Nov 1994 08:49:37 GMT");
        let left = field.update(at(784_111_778));
        assert_eq!(left, Duration::from_secs(1));
        assert_eq!(field.as_bytes(), b"Sun, 06 Nov 1994 08:49:38 GMT");
    }

    #[test]
    fn times_outside_the_http_range_are_clamped() {
        assert_eq!(
            format(UNIX_EPOCH - Duration::from_secs(1)),
            format(UNIX_EPOCH)
        );
        assert_eq!(format(at(300_000_000_000)), "Fri, 31 Dec 9999 23:59:59 GMT");
        assert_eq!(seconds(UNIX_EPOCH - Duration::from_millis(1)), -1);
    }
}
