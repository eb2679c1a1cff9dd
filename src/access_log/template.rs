//! Line formats of the user's own, such as `{client} {host} "{request}" {status}`.

use std::fmt;
use std::str::FromStr;

use crate::error::SettingError;

/// The format of a line, with fields in braces. `{{` and `}}` are braces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LineTemplate {
    pub(super) segments: Vec<Segment>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Text(String),
    Field(LineField),
}

/// Declares the fields with their names.
macro_rules! fields {
    ($($name:literal => $field:ident),+ $(,)?) => {
        /// A field of a record.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum LineField {
            $($field),+
        }

        impl LineField {
            /// The names of the fields.
            const NAMES: &[&str] = &[$($name),+];

            fn parse(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$field),)+
                    _ => None,
                }
            }

            fn name(self) -> &'static str {
                match self {
                    $(Self::$field => $name),+
                }
            }
        }
    };
}

fields! {
    "bytes" => Bytes,
    "client" => Client,
    "duration" => Duration,
    "host" => Host,
    "iso-time" => IsoTime,
    "method" => Method,
    "outcome" => Outcome,
    "path" => Path,
    "port" => Port,
    "protocol" => Protocol,
    "query" => Query,
    "referer" => Referer,
    "request" => Request,
    "scheme" => Scheme,
    "status" => Status,
    "target" => Target,
    "time" => Time,
    "tls" => Tls,
    "user" => User,
    "user-agent" => UserAgent,
}

impl FromStr for LineTemplate {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        let names = || LineField::NAMES.join(", ");
        // A tab is escaped in the fields, so that it separates them.
        if text.contains(|letter: char| letter.is_control() && letter != '\t') {
            return Err(format!(
                "a log format must have no control characters except tabs (got {text:?})"
            )
            .into());
        }
        let mut segments = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, brace) = rest.split_at(at);
            literal += before;
            if let Some(after) = brace.strip_prefix("{{") {
                literal.push('{');
                rest = after;
            } else if let Some(after) = brace.strip_prefix("}}") {
                literal.push('}');
                rest = after;
            } else if let Some((name, after)) =
                brace.strip_prefix('{').and_then(|it| it.split_once('}'))
            {
                let field = LineField::parse(name).ok_or_else(|| {
                    format!(
                        "{{{name}}} is not a field of the access log; use {}",
                        names()
                    )
                })?;
                segments.push(Segment::Text(std::mem::take(&mut literal)));
                segments.push(Segment::Field(field));
                rest = after;
            } else {
                return Err(format!(
                    "a brace has no counterpart in {text:?}; write {{{{ or }}}} for a brace"
                )
                .into());
            }
        }
        literal += rest;
        segments.push(Segment::Text(literal));
        if !segments
            .iter()
            .any(|segment| matches!(segment, Segment::Field(_)))
        {
            return Err(format!(
                "a log format must have fields, such as {{client}} (got {text:?}); use {}",
                names()
            )
            .into());
        }
        segments.retain(|segment| *segment != Segment::Text(String::new()));
        Ok(Self { segments })
    }
}

/// Displays the template as it can be parsed.
impl fmt::Display for LineTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.segments.iter().try_for_each(|segment| match segment {
            Segment::Text(text) => f.write_str(&text.replace('{', "{{").replace('}', "}}")),
            Segment::Field(field) => write!(f, "{{{}}}", field.name()),
        })
    }
}
