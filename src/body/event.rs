//! One server-sent event, and how it is written (WHATWG HTML §9.2.5).

use std::fmt::Write;
use std::io;
use std::time::Duration;

use bytes::Bytes;

/// A server-sent event: data, and optionally a name, an identifier and the delay before a client
/// reconnects. The fields are those of WHATWG HTML §9.2.
///
/// Any data is safe: each of its lines becomes a `data` field, so that a client receives the same text, with
/// LF for each line end. Line ends and NUL in names and identifiers, which would begin another field or
/// make clients ignore the field, are removed.
///
/// ```
/// use tws::{Event, EventStream, Response};
///
/// let (sender, events) = EventStream::channel(16);
/// sender.send(&Event::new("first\nsecond").with_name("greeting").with_id("7"))?;
/// drop(sender);
/// let text = Response::sse(events).into_text()?;
/// assert_eq!(text, "event: greeting\nid: 7\ndata: first\ndata: second\n\n");
/// # Ok::<_, std::io::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    data: String,
    name: Option<String>,
    id: Option<String>,
    retry: Option<Duration>,
}

impl Event {
    /// Creates an event of type `message`, which is what clients call an event without a name.
    pub fn new(data: impl Into<String>) -> Self {
        Self {
            data: data.into(),
            ..Self::default()
        }
    }

    /// Creates an event whose data is a value as JSON, in one line.
    ///
    /// # Errors
    ///
    /// JSON cannot represent the value: it has a map whose keys are not strings, for example.
    pub fn json(value: &(impl serde::Serialize + ?Sized)) -> io::Result<Self> {
        Ok(Self::new(serde_json::to_string(value)?))
    }

    /// Sets the name, which is the type of the event at the client (`addEventListener`).
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(one_line(name.into()));
        self
    }

    /// Sets the identifier, which the client sends as Last-Event-ID when it reconnects.
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        self.id = Some(one_line(id.into()));
        self
    }

    /// Sets the delay before the client reconnects, from now on, in whole milliseconds. Browsers have 3 to
    /// 5 seconds by default.
    pub fn with_retry(mut self, delay: Duration) -> Self {
        self.retry = Some(delay);
        self
    }

    /// Returns the identifier.
    pub(crate) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Returns the event as it is sent.
    pub(crate) fn render(&self) -> Bytes {
        let mut text = String::with_capacity(self.data.len() + 64);
        if let Some(name) = &self.name {
            push_field(&mut text, "event", name);
        }
        if let Some(id) = &self.id {
            push_field(&mut text, "id", id);
        }
        if let Some(delay) = self.retry {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "retry: {}", delay.as_millis());
        }
        let mut rest = Some(&*self.data);
        while let Some(data) = rest {
            let end = memchr::memchr2(b'\r', b'\n', data.as_bytes()).unwrap_or(data.len());
            push_field(&mut text, "data", &data[..end]);
            let after = &data[end..];
            let after = after.strip_prefix("\r\n").or_else(|| after.get(1..));
            rest = after.filter(|_| end < data.len());
        }
        text.push('\n');
        text.into()
    }
}

/// An event of type `message`.
impl<T: Into<String>> From<T> for Event {
    fn from(data: T) -> Self {
        Self::new(data)
    }
}

fn push_field(text: &mut String, name: &str, value: &str) {
    text.extend([name, ": ", value, "\n"]);
}

/// Removes what would end the field, or make a client ignore it.
fn one_line(mut text: String) -> String {
    text.retain(|char| !matches!(char, '\r' | '\n' | '\0'));
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// An event as a client dispatches it.
    #[derive(Debug, Default, PartialEq, Eq)]
    struct Dispatched {
        data: String,
        name: String,
        id: String,
    }

    /// Parses an event stream as WHATWG HTML §9.2.6 has it.
    fn parse(stream: &str) -> Vec<Dispatched> {
        let lines = stream.replace("\r\n", "\n").replace('\r', "\n");
        let mut events = Vec::new();
        let (mut data, mut name, mut id) = (String::new(), String::new(), String::new());
        let complete = lines.rfind('\n').map_or("", |end| &lines[..end]);
        for line in complete.split('\n') {
            if line.is_empty() {
                if let Some(data) = data.strip_suffix('\n') {
                    events.push(Dispatched {
                        data: data.to_owned(),
                        name: name.clone(),
                        id: id.clone(),
                    });
                }
                data.clear();
                name.clear();
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "data" => data.extend([value, "\n"]),
                "event" => name = value.to_owned(),
                "id" if !value.contains('\0') => id = value.to_owned(),
                _ => {}
            }
        }
        events
    }

    fn text(event: &Event) -> String {
        String::from_utf8(event.render().into()).expect("UTF-8")
    }

    #[test]
    fn fields_are_lines_and_empty_data_is_an_event() {
        let event = Event::new("a\r\nb\rc\n\nd\n").with_retry(Duration::from_millis(1500));
        assert_eq!(
            text(&event),
            "retry: 1500\ndata: a\ndata: b\ndata: c\ndata: \ndata: d\ndata: \n\n"
        );
        assert_eq!(text(&Event::new("")), "data: \n\n");
        let json = Event::json(&["a\nb"]).expect("JSON");
        assert_eq!(text(&json), "data: [\"a\\nb\"]\n\n");
    }

    proptest! {
        #[test]
        fn client_receives_the_data_and_nothing_can_be_injected(
            data in "[ab: \r\n\0\u{feff}é]{0,12}",
            name in "[ab: \r\n\0é]{0,6}",
            id in "[ab: \r\n\0é]{0,6}",
        ) {
            let event = Event::new(&*data).with_name(&*name).with_id(&*id);
            let clean = |text: &str| text.replace(['\r', '\n', '\0'], "");
            let expected = Dispatched {
                data: data.replace("\r\n", "\n").replace('\r', "\n"),
                name: clean(&name),
                id: clean(&id),
            };
            prop_assert_eq!(parse(&text(&event)), [expected]);
        }
    }
}
