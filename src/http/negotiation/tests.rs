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

/// Returns the best of the available codings.
fn preferred(accept: AcceptEncoding, available: &[Coding]) -> Option<Coding> {
    accept.ranked().find(|coding| available.contains(coding))
}

#[test]
fn preferred_coding_follows_weights_then_server_order() {
    use Coding::{Brotli, Gzip, Identity, Zstd};
    let gzip: &[Coding] = &[Gzip, Identity];
    let table: &[(&[&str], &[Coding], Option<Coding>)] = &[
        // Without a named coding the response is not coded.
        (&[], ALL, Some(Identity)),
        (&[""], ALL, Some(Identity)),
        (&["", ""], ALL, Some(Identity)),
        (&[" ,, "], ALL, Some(Identity)),
        (&["deflate, compress"], ALL, Some(Identity)),
        (&["deflate"], &[Gzip], None),
        // The server's order decides between equal weights.
        (&["gzip, deflate, br, zstd"], ALL, Some(Brotli)),
        (&["gzip, deflate, br, zstd"], gzip, Some(Gzip)),
        (&["gzip, zstd"], ALL, Some(Zstd)),
        (&["gzip, identity"], ALL, Some(Gzip)),
        (&["gzip", "br"], ALL, Some(Brotli)),
        (&["gzip"], &[], None),
        (&["x-gzip"], ALL, Some(Gzip)),
        (&["GZIP"], ALL, Some(Gzip)),
        (&["X-Gzip;Q=0.5, BR;q=0.4"], ALL, Some(Gzip)),
        // The client's weights come first.
        (&["gzip;q=1.0, br;q=0.9"], ALL, Some(Gzip)),
        (&["gzip ; q=0.001 , br\t;\tq=0.002"], ALL, Some(Brotli)),
        (&["br;q=0.5, identity;q=0.501"], ALL, Some(Identity)),
        (&["br;q=0.5, identity;q=0.5"], ALL, Some(Brotli)),
        (&["gzip;q=0.001"], ALL, Some(Gzip)),
        // A weight of zero excludes a coding.
        (&["gzip;q=0"], gzip, Some(Identity)),
        (&["br;q=0.000, gzip"], ALL, Some(Gzip)),
        (&["identity;q=0"], ALL, None),
        (&["identity;q=0, gzip"], ALL, Some(Gzip)),
        (&["identity;q=0, br"], gzip, None),
        (&["*;q=0"], ALL, None),
        (&["*;q=0, identity"], ALL, Some(Identity)),
        (&["*;q=0, identity;q=0.1, gzip"], ALL, Some(Gzip)),
        // `*` stands for all codings that are not named, identity included.
        (&["*"], ALL, Some(Brotli)),
        (&["*"], gzip, Some(Gzip)),
        (&["br;q=0, *;q=0.1"], ALL, Some(Zstd)),
        (&["*, br;q=0"], ALL, Some(Zstd)),
        (&["gzip;q=0.1, *;q=0.5"], gzip, Some(Identity)),
        (&["identity;q=0, *"], &[Identity], None),
        // A coding named twice.
        (&["gzip;q=0", "x-gzip"], ALL, Some(Gzip)),
        (&["br", "br;q=0"], ALL, Some(Brotli)),
        // Ill-formed members are skipped.
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
        let best = preferred(accept_encoding(lines), available);
        assert_eq!(best, *expected, "{lines:?} {available:?}");
    }
}

#[test]
fn quality_values_are_parsed_in_thousandths() {
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
const WEBKIT_2010: &str =
    "application/xml,application/xhtml+xml,text/html;q=0.9,text/plain;q=0.8,image/png,*/*;q=0.5";
const CHROME_IMAGE: &str = "image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8";
const FIREFOX_IMAGE: &str = "image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5";
const AXIOS: &str = "application/json, text/plain, */*";

#[test]
fn accept_chooses_the_response_format() {
    use ResponseFormat::{Html, Json, Text};
    // The last column: whether text/html is accepted by name.
    let table: &[(&[&str], ResponseFormat, bool)] = &[
        // Navigation. Safari sends the same as Firefox 132.
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
        // API clients: axios, jQuery.
        (&[AXIOS], Json, false),
        (
            &["application/json, text/javascript, */*; q=0.01"],
            Json,
            false,
        ),
        (&["application/json"], Json, false),
        (&["Application/JSON;charset=utf-8"], Json, false),
        // No format named.
        (&[], Text, false),
        (&[""], Text, false),
        (&["text/plain"], Text, false),
        (&["application/*"], Text, false),
        (&["application/jsonp, xtext/html, text/htmlx"], Text, false),
        // Both named: weights decide, JSON wins a tie.
        (&["text/html, application/json"], Json, true),
        (&["text/html", "application/json"], Json, true),
        (&["text/html, application/json;q=0.9"], Html, true),
        (&["text/html;q=0.8, application/json;q=0.9"], Json, true),
        (&["text/html;q=0, application/json;q=0.1"], Json, false),
        (&["text/html, application/json;q=0"], Html, true),
        (&["application/json;q=0"], Text, false),
        // Media ranges that include HTML, unless text/html itself is named.
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
        // Ill-formed members, and parameters with separators in quotes.
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
        assert_eq!(response_format(request.fields()), *expected, "{lines:?}");
        let navigates = check_navigation(request.fields()).is_ok();
        assert_eq!(navigates, *navigation, "{lines:?}");
    }
}

/// Sec-Fetch-Mode decides if it is there.
#[test]
fn navigation_is_told_by_fetch_metadata() {
    for (mode, accept, expected) in [
        ("navigate", "text/html", true),
        ("navigate", "*/*", true),
        ("no-cors", "text/html", false),
        ("cors", "*/*", false),
        ("Navigate", "text/html", false),
        ("", "text/html", false),
    ] {
        let request = request("Accept", &[accept]).with_header("Sec-Fetch-Mode", mode);
        let navigates = check_navigation(request.fields()).is_ok();
        assert_eq!(navigates, expected, "{mode:?} {accept}");
    }
}

#[test]
fn parts_of_pages_are_told_by_fetch_metadata_or_accept() {
    for (destination, accept, expected) in [
        (Some("image"), "*/*", true),
        (Some("script"), "*/*", true),
        (Some("document"), "text/html,*/*;q=0.8", false),
        (Some("empty"), "image/*", false),
        (None, "image/avif,image/webp,*/*;q=0.8", true),
        (None, "Text/CSS,*/*;q=0.1", true),
        (None, "video/webm,video/*;q=0.9", true),
        (None, "text/html,image/webp,*/*;q=0.8", false),
        (None, "*/*", false),
        (None, "", false),
    ] {
        let mut request = request("Accept", &[accept]);
        if let Some(destination) = destination {
            request = request.with_header("Sec-Fetch-Dest", destination);
        }
        let found = is_subresource(request.fields());
        assert_eq!(found, expected, "{destination:?} {accept}");
    }
}

proptest! {
    /// Without repetitions, the preferred coding is one of maximum weight.
    #[test]
    fn preferred_coding_has_the_maximum_weight(weights in [0..=FULL, 0..=FULL, 0..=FULL, 0..=FULL]) {
        let field: Vec<String> = std::iter::zip(ALL, weights)
            .map(|(coding, q)| format!("{};q={}.{:03}", coding.name(), q / 1000, q % 1000))
            .collect();
        let accept = accept_encoding(&[&field.join(", ")]);
        let best = weights.into_iter().max().filter(|weight| *weight > 0);
        prop_assert_eq!(preferred(accept, ALL).map(|coding| accept.weight(coding)), best);
    }

    #[test]
    fn arbitrary_fields_do_not_panic(value in "[a-z*/;q=0-9.,\" \\\\]{0,60}") {
        let coding = preferred(accept_encoding(&[&value]), ALL);
        prop_assert!(coding.is_none_or(|coding| ALL.contains(&coding)));
        response_format(request("Accept", &[&value]).fields());
    }
}
