//! What a client would rather have: Accept-Encoding and Accept (RFC 9110 §12.5).
//!
//! The fields are wishes, so nothing in them is an error: a member that is ill-formed is left out.
//! If something is named twice, its highest weight counts.

use std::cmp::Reverse;

use super::request::Fields;

/// A content coding (RFC 9110 §8.4.1), the one this server would rather send first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Coding {
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
    /// RFC 1952.
    Gzip,
    /// As it is.
    Identity,
}

impl Coding {
    /// Its name in Accept-Encoding and, but for identity, in Content-Encoding.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Identity => "identity",
        }
    }
}

/// A `q` in thousandths, 0 to 1000; 0 is "not acceptable" (RFC 9110 §12.4.2).
type Weight = u16;

const FULL: Weight = 1000;

/// Accept-Encoding (RFC 9110 §12.5.3): a weight for each coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AcceptEncoding {
    brotli: Weight,
    zstd: Weight,
    gzip: Weight,
    identity: Weight,
}

impl AcceptEncoding {
    /// Reads all field lines. Without the field any coding would be acceptable, but who does not
    /// ask for one may not know one: it is then as if the field were empty, identity only.
    pub(crate) fn parse(fields: &Fields<'_>) -> Self {
        let [mut brotli, mut zstd, mut gzip, mut identity, mut any] = [None; 5];
        for (name, weight) in fields.all("accept-encoding").flat_map(members) {
            let named = |coding: Coding| name.eq_ignore_ascii_case(coding.name().as_bytes());
            let slot = if name == b"*" {
                &mut any
            } else if named(Coding::Brotli) {
                &mut brotli
            } else if named(Coding::Zstd) {
                &mut zstd
            // RFC 9110 §8.4.1.3: the old name of the same.
            } else if named(Coding::Gzip) || name.eq_ignore_ascii_case(b"x-gzip") {
                &mut gzip
            } else if named(Coding::Identity) {
                &mut identity
            } else {
                continue;
            };
            *slot = (*slot).max(Some(weight));
        }
        let or_any = |coding: Option<Weight>| coding.or(any);
        Self {
            brotli: or_any(brotli).unwrap_or(0),
            zstd: or_any(zstd).unwrap_or(0),
            gzip: or_any(gzip).unwrap_or(0),
            // Acceptable if nothing excludes it, and less so than whatever is asked for.
            identity: or_any(identity).unwrap_or(1),
        }
    }

    /// The best of those available: the client's weights, then our order. `None` if it accepts none
    /// of them; RFC 9110 §12.5.3 leaves it to the caller whether to send identity all the same.
    pub(crate) fn preferred(self, available: &[Coding]) -> Option<Coding> {
        available
            .iter()
            .copied()
            .filter(|coding| self.weight(*coding) > 0)
            .max_by_key(|coding| (self.weight(*coding), Reverse(*coding)))
    }

    fn weight(self, coding: Coding) -> Weight {
        match coding {
            Coding::Brotli => self.brotli,
            Coding::Zstd => self.zstd,
            Coding::Gzip => self.gzip,
            Coding::Identity => self.identity,
        }
    }
}

/// What the server's own texts, errors and listings, are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// For a person in front of a browser.
    Html,
    /// For a program that asks for it by name.
    Json,
    /// For everybody else: `curl`, `fetch`, an `img` that will not show it.
    Text,
}

/// The form that suits the Accept field (RFC 9110 §12.5.1). A form is taken only if it is named:
/// `*/*` is what programs send that do not care.
pub(crate) fn form(fields: &Fields<'_>) -> Form {
    let accept = Accept::parse(fields);
    // The more specific media range decides.
    let html = accept.html.or(accept.like_html).unwrap_or(0);
    match accept.json {
        Some(json) if json > 0 && json >= html => Form::Json,
        _ if html > 0 => Form::Html,
        _ => Form::Text,
    }
}

/// True if text/html itself is asked for: a person follows a link. Scripts and images of the same
/// page do not name it.
pub(crate) fn accepts_html_navigation(fields: &Fields<'_>) -> bool {
    Accept::parse(fields).html.is_some_and(|weight| weight > 0)
}

/// What Accept says of the media types that matter here.
#[derive(Default)]
struct Accept {
    html: Option<Weight>,
    /// application/xhtml+xml or `text/*`.
    like_html: Option<Weight>,
    json: Option<Weight>,
}

impl Accept {
    fn parse(fields: &Fields<'_>) -> Self {
        let mut accept = Self::default();
        for (name, weight) in fields.all("accept").flat_map(members) {
            let named = |media_range: &[u8]| name.eq_ignore_ascii_case(media_range);
            let slot = if named(b"text/html") {
                &mut accept.html
            } else if named(b"application/xhtml+xml") || named(b"text/*") {
                &mut accept.like_html
            } else if named(b"application/json") {
                &mut accept.json
            } else {
                continue;
            };
            *slot = (*slot).max(Some(weight));
        }
        accept
    }
}

/// The members of a list with their weights: `name;parameter=value;q=0.5`. Parameters are passed
/// over.
fn members(value: &[u8]) -> impl Iterator<Item = (&[u8], Weight)> {
    split_outside_quotes(value, b',').filter_map(|member| {
        let mut pieces = split_outside_quotes(member, b';').map(<[u8]>::trim_ascii);
        let name = pieces.next()?;
        let weight = pieces.find_map(|piece| {
            // With white space around its `=` it is ill-formed, but no other parameter: it must
            // not turn into a full weight.
            let parameter = piece.split(|&byte| byte == b'=').next()?;
            let is_weight = parameter.trim_ascii_end().eq_ignore_ascii_case(b"q");
            is_weight.then(|| qvalue(piece.get(2..).unwrap_or_default()))
        });
        Some((name, weight.unwrap_or(Some(FULL))?))
    })
}

/// RFC 9110 §12.4.2: up to three decimals, and none but zeros behind a one.
fn qvalue(text: &[u8]) -> Option<Weight> {
    let (whole, decimals) = match text {
        [whole @ (b'0' | b'1')] => (whole, &[][..]),
        [whole @ (b'0' | b'1'), b'.', decimals @ ..] => (whole, decimals),
        _ => return None,
    };
    if decimals.len() > 3 || !decimals.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let digits = [whole].into_iter().chain(decimals).chain(b"000").take(4);
    let weight = digits.fold(0, |sum, digit| sum * 10 + Weight::from(digit - b'0'));
    (weight <= FULL).then_some(weight)
}

/// The value of a parameter may be a quoted string with separators in it (RFC 9110 §5.6.4).
fn split_outside_quotes(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    enum Place {
        Outside,
        Inside,
        /// Behind a backslash in quotes.
        Escaped,
    }
    let mut place = Place::Outside;
    // From front to back, each byte once.
    text.split(move |&byte| {
        place = match (&place, byte) {
            (Place::Outside, b'"') => Place::Inside,
            (Place::Outside, byte) if byte == separator => return true,
            (Place::Outside, _) | (Place::Inside, b'"') => Place::Outside,
            (Place::Inside, b'\\') => Place::Escaped,
            (Place::Inside | Place::Escaped, _) => Place::Inside,
        };
        false
    })
}

#[cfg(test)]
mod tests {
    use super::super::Request;
    use super::*;
    use proptest::prelude::*;

    const ALL: &[Coding] = &[Coding::Identity, Coding::Gzip, Coding::Zstd, Coding::Brotli];

    fn request(name: &str, lines: &[&str]) -> Request<'static> {
        lines.iter().fold(Request::get("/"), |request, line| {
            request.with_header(name, line)
        })
    }

    fn accept_encoding(lines: &[&str]) -> AcceptEncoding {
        AcceptEncoding::parse(request("Accept-Encoding", lines).fields())
    }

    #[test]
    fn codings() {
        use Coding::{Brotli, Gzip, Identity, Zstd};
        let gzip: &[Coding] = &[Gzip, Identity];
        let table: &[(&[&str], &[Coding], Option<Coding>)] = &[
            // Nothing said, nothing coded.
            (&[], ALL, Some(Identity)),
            (&[""], ALL, Some(Identity)),
            (&["", ""], ALL, Some(Identity)),
            (&[" ,, "], ALL, Some(Identity)),
            (&["deflate, compress"], ALL, Some(Identity)),
            (&["deflate"], &[Gzip], None),
            // The order is ours if the weights are equal.
            (&["gzip, deflate, br, zstd"], ALL, Some(Brotli)),
            (&["gzip, deflate, br, zstd"], gzip, Some(Gzip)),
            (&["gzip, zstd"], ALL, Some(Zstd)),
            (&["gzip, identity"], ALL, Some(Gzip)),
            (&["gzip", "br"], ALL, Some(Brotli)),
            (&["gzip"], &[], None),
            (&["x-gzip"], ALL, Some(Gzip)),
            (&["GZIP"], ALL, Some(Gzip)),
            (&["X-Gzip;Q=0.5, BR;q=0.4"], ALL, Some(Gzip)),
            // Theirs counts first.
            (&["gzip;q=1.0, br;q=0.9"], ALL, Some(Gzip)),
            (&["gzip ; q=0.001 , br\t;\tq=0.002"], ALL, Some(Brotli)),
            (&["br;q=0.5, identity;q=0.501"], ALL, Some(Identity)),
            (&["br;q=0.5, identity;q=0.5"], ALL, Some(Brotli)),
            (&["gzip;q=0.001"], ALL, Some(Gzip)),
            // Zero excludes.
            (&["gzip;q=0"], gzip, Some(Identity)),
            (&["br;q=0.000, gzip"], ALL, Some(Gzip)),
            (&["identity;q=0"], ALL, None),
            (&["identity;q=0, gzip"], ALL, Some(Gzip)),
            (&["identity;q=0, br"], gzip, None),
            (&["*;q=0"], ALL, None),
            (&["*;q=0, identity"], ALL, Some(Identity)),
            (&["*;q=0, identity;q=0.1, gzip"], ALL, Some(Gzip)),
            // `*` is all that is not named, identity too.
            (&["*"], ALL, Some(Brotli)),
            (&["*"], gzip, Some(Gzip)),
            (&["br;q=0, *;q=0.1"], ALL, Some(Zstd)),
            (&["*, br;q=0"], ALL, Some(Zstd)),
            (&["gzip;q=0.1, *;q=0.5"], gzip, Some(Identity)),
            (&["identity;q=0, *"], &[Identity], None),
            // Twice.
            (&["gzip;q=0", "x-gzip"], ALL, Some(Gzip)),
            (&["br", "br;q=0"], ALL, Some(Brotli)),
            // What cannot be read is as if it were not there.
            (&["br;q=2, gzip;q=0.5"], ALL, Some(Gzip)),
            (&["br;q=1.001, gzip;q=0.5"], ALL, Some(Gzip)),
            (&["br;q=0.1234, gzip"], ALL, Some(Gzip)),
            (&["br;q=-1, gzip"], ALL, Some(Gzip)),
            (&["br;q=, gzip"], ALL, Some(Gzip)),
            (&["br;q=.5, gzip;q=0.1"], ALL, Some(Gzip)),
            (&["br;q, gzip;q=0.1"], ALL, Some(Gzip)),
            (&["br;q =1, gzip;q=0.1"], ALL, Some(Gzip)),
            (&["br;q= 1, gzip;q=0.1"], ALL, Some(Gzip)),
            (&["b r, gzip"], ALL, Some(Gzip)),
            (&["brotli, gzip"], ALL, Some(Gzip)),
            (&["identity;q=x"], ALL, Some(Identity)),
        ];
        for (lines, available, expected) in table {
            let preferred = accept_encoding(lines).preferred(available);
            assert_eq!(preferred, *expected, "{lines:?} {available:?}");
        }
    }

    #[test]
    fn weights() {
        let table: &[(&str, Option<Weight>)] = &[
            ("0", Some(0)),
            ("0.", Some(0)),
            ("0.0", Some(0)),
            ("0.001", Some(1)),
            ("0.5", Some(500)),
            ("0.75", Some(750)),
            ("0.999", Some(999)),
            ("1", Some(1000)),
            ("1.", Some(1000)),
            ("1.000", Some(1000)),
            ("1.001", None),
            ("1.9", None),
            ("2", None),
            ("01", None),
            ("", None),
            (".5", None),
            ("0.0000", None),
            ("0.5x", None),
            ("0,5", None),
            ("0 .5", None),
        ];
        for (text, expected) in table {
            assert_eq!(qvalue(text.as_bytes()), *expected, "{text}");
        }
    }

    const CHROME: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,\
        image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7";
    const FIREFOX_128: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,\
        image/webp,image/png,image/svg+xml,*/*;q=0.8";
    const FIREFOX_132: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
    const WEBKIT_2010: &str = "application/xml,application/xhtml+xml,text/html;q=0.9,text/plain;q=0.8,image/png,*/*;q=0.5";
    const CHROME_IMAGE: &str = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8";
    const FIREFOX_IMAGE: &str =
        "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5";
    const AXIOS: &str = "application/json, text/plain, */*";

    #[test]
    fn forms() {
        use Form::{Html, Json, Text};
        // The last column: text/html by name.
        let table: &[(&[&str], Form, bool)] = &[
            // Navigation. Safari sends what Firefox 132 does.
            (&[CHROME], Html, true),
            (&[FIREFOX_128], Html, true),
            (&[FIREFOX_132], Html, true),
            (&[WEBKIT_2010], Html, true),
            // Images, style sheets, `fetch` and curl, Java's HttpURLConnection.
            (&[CHROME_IMAGE], Text, false),
            (&[FIREFOX_IMAGE], Text, false),
            (&["text/css,*/*;q=0.1"], Text, false),
            (&["*/*"], Text, false),
            (
                &["text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"],
                Html,
                true,
            ),
            // Clients of APIs: axios, jQuery.
            (&[AXIOS], Json, false),
            (
                &["application/json, text/javascript, */*; q=0.01"],
                Json,
                false,
            ),
            (&["application/json"], Json, false),
            (&["Application/JSON;charset=utf-8"], Json, false),
            // Nothing that helps.
            (&[], Text, false),
            (&[""], Text, false),
            (&["text/plain"], Text, false),
            (&["application/*"], Text, false),
            (&["application/jsonp, xtext/html, text/htmlx"], Text, false),
            // Both: weights, and JSON if they are equal.
            (&["text/html, application/json"], Json, true),
            (&["text/html", "application/json"], Json, true),
            (&["text/html, application/json;q=0.9"], Html, true),
            (&["text/html;q=0.8, application/json;q=0.9"], Json, true),
            (&["text/html;q=0, application/json;q=0.1"], Json, false),
            (&["text/html, application/json;q=0"], Html, true),
            (&["application/json;q=0"], Text, false),
            // What comes near to HTML, unless text/html says otherwise.
            (&["TEXT/*"], Html, false),
            (&["application/xhtml+xml"], Html, false),
            (&["text/*;q=0.5, application/json;q=0.4"], Html, false),
            (&["text/html;q=0, text/*"], Text, false),
            (
                &["text/html;q=0.1, text/*, application/json;q=0.2"],
                Json,
                true,
            ),
            (&["text/html;q=0"], Text, false),
            // Ill-formed members; parameters, also with separators in quotes.
            (&["text/html;q=x, application/json;q=0.1"], Json, false),
            (
                &["text/html;level=1;q=0.5, application/json;q=0.4"],
                Html,
                true,
            ),
            (
                &["text/html;a=\",application/json;q=0,\";q=0.5"],
                Html,
                true,
            ),
            (
                &["image/png;a=\"\\\",text/html,\", application/json"],
                Json,
                false,
            ),
            (&["image/png;a=\", text/html"], Text, false),
            (&["\"text/html\""], Text, false),
        ];
        for (lines, expected, navigation) in table {
            let request = request("Accept", lines);
            assert_eq!(form(request.fields()), *expected, "{lines:?}");
            let navigates = accepts_html_navigation(request.fields());
            assert_eq!(navigates, *navigation, "{lines:?}");
        }
    }

    proptest! {
        /// The best of a list without repetitions is found by comparing each with each.
        #[test]
        fn nothing_available_is_better(weights in [0..=FULL, 0..=FULL, 0..=FULL, 0..=FULL]) {
            let field: Vec<String> = std::iter::zip(ALL, weights)
                .map(|(coding, q)| format!("{};q={}.{:03}", coding.name(), q / 1000, q % 1000))
                .collect();
            let accept = accept_encoding(&[&field.join(", ")]);
            let best = weights.into_iter().max().filter(|weight| *weight > 0);
            prop_assert_eq!(accept.preferred(ALL).map(|coding| accept.weight(coding)), best);
        }

        #[test]
        fn no_field_is_too_strange(value in "[a-z*/;q=0-9.,\" \\\\]{0,60}") {
            let coding = accept_encoding(&[&value]).preferred(ALL);
            prop_assert!(coding.is_none_or(|coding| ALL.contains(&coding)));
            form(request("Accept", &[&value]).fields());
        }
    }
}
