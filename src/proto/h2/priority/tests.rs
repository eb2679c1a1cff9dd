//! Priorities as signals and as defaults.

use proptest::prelude::*;

use super::*;

fn parameters(
    urgency: impl Into<Option<u8>>,
    incremental: impl Into<Option<bool>>,
) -> PriorityParameters {
    PriorityParameters {
        urgency: urgency.into(),
        incremental: incremental.into(),
    }
}

fn parse(value: &str) -> PriorityParameters {
    PriorityParameters::parse([value.as_bytes()])
}

#[test]
fn valid_dictionaries() {
    let none = parameters(None, None);
    let table = [
        ("", none),
        ("  ", none),
        ("u=0", parameters(0, None)),
        ("u=7", parameters(7, None)),
        (" u=1 ", parameters(1, None)),
        ("u=-0", parameters(0, None)),
        ("u=007", parameters(7, None)),
        ("i", parameters(None, true)),
        ("i=?1", parameters(None, true)),
        ("i=?0", parameters(None, false)),
        ("u=0, i", parameters(0, true)),
        ("u=0,i", parameters(0, true)),
        ("i \t,\t u=5", parameters(5, true)),
        // Values out of range or of another type are ignored, the other parameters are not.
        ("u=8, i", parameters(None, true)),
        ("u=-1, i", parameters(None, true)),
        ("u=256", none),
        ("u=999999999999999, i", parameters(None, true)),
        ("u=1.0, i", parameters(None, true)),
        ("u=\"1\", i", parameters(None, true)),
        ("u, i", parameters(None, true)),
        ("u=?1, i", parameters(None, true)),
        ("u=3, i=1", parameters(3, None)),
        ("u=3, i=yes", parameters(3, None)),
        ("u=(1 2), i", parameters(None, true)),
        ("u=(), i", parameters(None, true)),
        ("u=( 1;a \"b\" ), i", parameters(None, true)),
        // Parameters of values, and unknown members, are ignored.
        ("u=1;x=2; y, i;z", parameters(1, true)),
        ("a, b=c/d:e, *x-y_z.1=:YQ==:, u=2", parameters(2, None)),
        ("s=\"a\\\"b\\\\,\", u=2", parameters(2, None)),
        ("d=-123456789012.123, u=2", parameters(2, None)),
        // The last of equal keys wins.
        ("u=1, u=2", parameters(2, None)),
        ("u=1, u=9", none),
        ("u=1, u", none),
        ("i, i=?0", parameters(None, false)),
        ("i, i=2", none),
    ];
    for (value, expected) in table {
        assert_eq!(parse(value), expected, "{value:?}");
    }
}

#[test]
fn malformed_dictionaries_have_no_parameters() {
    let suffixes = [
        ",",
        ", ",
        ",,i",
        " i",
        ";",
        "; ",
        "=",
        "=1,",
        ", U=2",
        ", 1",
        ", =1",
        ", i=",
        ", i=?",
        ", i=?2",
        ", i=?true",
        ", x=\"",
        ", x=\"\\a\"",
        ", x=\"\\",
        ", x=\"\u{e9}\"",
        ", x=\"\t\"",
        ", x=(",
        ", x=(1",
        ", x=(1\"\")",
        ", x=(1,2)",
        ", x=((1))",
        ", x=-",
        ", x=--1",
        ", x=.5",
        ", x=1.",
        ", x=1.2345",
        ", x=1234567890123.1",
        ", x=1234567890123456",
        ", x=1e3",
        ", x=:a",
        ", x=:a-:",
        ", x=:",
        ", x=@1",
        ", x=%a",
        ", x;=1",
        ", x;Y",
        ", x;y=",
        "\0",
        ", x\0",
        ", \u{e9}",
        "\n",
        ", x=a b",
        ", x=a\"",
    ];
    for suffix in suffixes {
        let value = format!("u=1{suffix}");
        assert_eq!(parse(&value), parameters(None, None), "{value:?}");
    }
    assert_eq!(parse(", u=1"), parameters(None, None));
    assert_eq!(parse("\tu=1"), parameters(None, None));
}

#[test]
fn lines_of_a_field_are_one_dictionary() {
    let parse =
        |lines: &[&str]| PriorityParameters::parse(lines.iter().map(|line| line.as_bytes()));
    assert_eq!(parse(&[]), parameters(None, None));
    assert_eq!(parse(&["u=1", "i"]), parameters(1, true));
    assert_eq!(parse(&["u=1, i", "u=2"]), parameters(2, true));
    assert_eq!(parse(&["u=1", "i,"]), parameters(None, None));
}

#[test]
fn omitted_parameters_have_defaults() {
    let table = [
        ("", 3, false),
        ("u=0", 0, false),
        ("i", 3, true),
        ("u=7, i", 7, true),
        ("u=7, i,", 3, false),
    ];
    for (value, urgency, incremental) in table {
        let expected = Priority {
            urgency,
            incremental,
        };
        assert_eq!(Priority::default().with(parse(value)), expected, "{value}");
    }
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;

fn traits(content_type: &str, len: impl Into<Option<u64>>) -> ResponseTraits {
    ResponseTraits {
        is_for_rendering: is_for_rendering(content_type.as_bytes()),
        is_attachment: false,
        len: len.into(),
        parameters: PriorityParameters::default(),
    }
}

#[test]
fn default_urgency_depends_on_media_type() {
    let table = [
        ("text/html", 2),
        ("text/html; charset=utf-8", 2),
        ("TEXT/HTML ;charset=utf-8", 2),
        ("application/xhtml+xml", 2),
        ("text/css; charset=utf-8", 2),
        ("text/javascript; charset=utf-8", 2),
        ("application/javascript", 2),
        ("font/woff2", 2),
        ("application/font-woff", 2),
        ("application/vnd.ms-fontobject", 2),
        ("", 3),
        ("text/plain; charset=utf-8", 3),
        ("text/html-not", 3),
        ("text/cssx", 3),
        ("image/png", 3),
        ("application/json", 3),
        ("font", 3),
        ("application/octet-stream", 3),
    ];
    for (content_type, urgency) in table {
        let priority = response_priority(ClientSignal::Never, &traits(content_type, KIB));
        assert_eq!(priority.urgency, urgency, "{content_type}");
    }
}

#[test]
fn long_responses_share_without_signals() {
    let table = [
        (Some(0), false),
        (Some(64 * KIB), false),
        (Some(64 * KIB + 1), true),
        (None, true),
    ];
    for (len, incremental) in table {
        for content_type in ["text/css", "image/png"] {
            let priority = response_priority(ClientSignal::Never, &traits(content_type, len));
            assert_eq!(priority.incremental, incremental, "{len:?}");
        }
    }
}

#[test]
fn downloads_are_less_urgent_and_share() {
    let large = |content_type| traits(content_type, MIB + 1);
    let attachment = |content_type, len| ResponseTraits {
        is_attachment: true,
        ..traits(content_type, len)
    };
    let never = ClientSignal::Never;
    let signal = |value| ClientSignal::Parameters(parse(value));
    let table = [
        (never, large("image/png"), (5, true)),
        (never, large(""), (5, true)),
        (never, traits("image/png", MIB), (3, true)),
        (never, large("text/css"), (2, true)),
        (never, traits("image/png", None), (3, true)),
        (never, attachment("text/html", 1), (5, true)),
        // A click on a link that turns out to be a download.
        (signal("u=0, i"), large("application/zip"), (5, true)),
        (signal("u=0"), attachment("text/html", 1), (5, true)),
        (signal("u=6, i"), large("application/zip"), (6, true)),
        (signal(""), large("video/mp4"), (5, true)),
        (signal("u=0"), large("text/html"), (0, false)),
        (signal("u=0"), traits("image/png", MIB), (0, false)),
        (signal("u=0"), traits("image/png", None), (0, false)),
        (signal(""), traits("text/css", 1), (3, false)),
    ];
    for (client, response, (urgency, incremental)) in table {
        let expected = Priority {
            urgency,
            incremental,
        };
        let priority = response_priority(client, &response);
        assert_eq!(priority, expected, "{client:?} {response:?}");
    }
}

#[test]
fn parameters_of_response_win() {
    let signal = ClientSignal::Parameters(parse("u=1, i"));
    let table = [
        ("", 1, (1, true)),
        ("u=4", 1, (4, true)),
        ("i=?0", 1, (1, false)),
        ("u=4, i=?0", 1, (4, false)),
        // Also over the rule for downloads, for what they name.
        ("u=0", 2 * MIB, (0, true)),
        ("i=?0", 2 * MIB, (5, false)),
    ];
    for (value, len, (urgency, incremental)) in table {
        let response = ResponseTraits {
            parameters: parse(value),
            ..traits("image/png", len)
        };
        let expected = Priority {
            urgency,
            incremental,
        };
        assert_eq!(response_priority(signal, &response), expected, "{value}");
    }
}

#[test]
fn attachments_are_recognized() {
    for value in [
        "attachment",
        "Attachment; filename=\"a;b\"",
        " attachment ;x",
    ] {
        assert!(is_attachment(value.as_bytes()), "{value}");
    }
    for value in [
        "",
        "inline",
        "inline; filename=attachment",
        "attachments",
        "\"attachment\"",
    ] {
        assert!(!is_attachment(value.as_bytes()), "{value}");
    }
}

#[test]
fn update_is_kept_until_its_stream_opens() {
    let mut pending = PendingUpdates::default();
    for (stream, value) in [(5, "u=1"), (7, "u=2"), (7, "i")] {
        assert_eq!(pending.insert(stream, parse(value), 1, 2), Ok(()));
    }
    assert_eq!(pending.remove(3), None);
    assert_eq!(pending.remove(7), Some(parse("i")));
    assert_eq!(pending.remove(7), None);
    assert_eq!(pending.remove(5), None, "it cannot be opened any more");
}

/// RFC 9218 §7.1.
#[test]
fn updates_are_kept_for_as_many_streams_as_may_open() {
    let mut pending = PendingUpdates::default();
    for stream in [101, 99] {
        assert_eq!(pending.insert(stream, parse("u=1"), 101, 2), Ok(()));
        assert_eq!(pending.remove(stream), None, "it has been opened");
    }
    assert_eq!(
        pending.insert(103, parse("u=1"), 101, 0),
        Err(TooManyUpdates)
    );
    for stream in [103, 0x7FFF_FFFF, 103] {
        assert_eq!(pending.insert(stream, parse("u=1"), 101, 2), Ok(()));
    }
    assert_eq!(
        pending.insert(105, parse("u=1"), 101, 2),
        Err(TooManyUpdates)
    );
    assert!(pending.remove(103).is_some());
    assert!(pending.remove(0x7FFF_FFFF).is_some());
}

proptest! {
    #[test]
    fn any_bytes_are_parsed(value in proptest::collection::vec(any::<u8>(), 0..40)) {
        let _ = PriorityParameters::parse([&value[..]]);
    }

    #[test]
    fn likely_bytes_are_parsed(value in "[ui=?01,;()\"\\\\ :.-]{0,20}") {
        let parsed = parse(&value);
        prop_assert!(parsed.urgency.is_none_or(|it| it <= MAX_URGENCY));
    }

    /// The parameters stay the same however many unknown members surround them.
    #[test]
    fn unknown_members_change_nothing(
        urgency in 0..8u8,
        before in proptest::collection::vec("[a-h][a-z0-9]{0,3}(=(1|2\\.5|\\?0|\"x, u=9\"|:eA==:|\\(1 a\\)))?", 0..4),
        after in proptest::collection::vec("[a-h]{2}(;u=5)?", 0..4),
    ) {
        let members = [before, vec![format!("u={urgency}")], after].concat();
        prop_assert_eq!(parse(&members.join(", ")), parameters(urgency, None));
    }
}
