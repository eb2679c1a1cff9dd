//! Content negotiation: Accept-Encoding and Accept (RFC 9110 §12.5).
//!
//! These fields state preferences, so nothing in them is an error: an ill-formed member is skipped.
//! If a name occurs twice, its highest weight counts.

use std::cmp::Reverse;

use super::fields::Fields;
use super::list;

/// A content coding (RFC 9110 §8.4.1), in the server's order of preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Coding {
    /// RFC 7932.
    Brotli,
    /// RFC 8878.
    Zstd,
    /// RFC 1952.
    Gzip,
    /// No coding.
    Identity,
}

impl Coding {
    /// Returns the name of the coding in Accept-Encoding and, except for identity, in
    /// Content-Encoding.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Identity => "identity",
        }
    }

    /// Returns the extension of the names of files in the coding.
    pub(crate) fn extension(self) -> &'static [u8] {
        match self {
            Self::Brotli => b".br",
            Self::Zstd => b".zst",
            Self::Gzip => b".gz",
            Self::Identity => b"",
        }
    }

    /// Returns the coding that a file has by its name, and the name without the extension.
    pub(crate) fn of_file_name(name: &[u8]) -> Option<(Self, &[u8])> {
        let codings = [Self::Brotli, Self::Zstd, Self::Gzip];
        codings.into_iter().find_map(|coding| {
            let inner = name.strip_suffix(coding.extension())?;
            (!inner.is_empty() && !inner.ends_with(b"/")).then_some((coding, inner))
        })
    }
}

/// A quality value in thousandths, 0 to 1000; 0 means "not acceptable" (RFC 9110 §12.4.2).
type Weight = u16;

/// The weight of a member without a quality value.
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
    /// Parses all field lines.
    ///
    /// Without the field RFC 9110 permits any coding, but a client that does not send it may not
    /// support one. A missing field is therefore read as an empty one: identity only.
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
            // RFC 9110 §8.4.1.3: an alias of gzip.
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
            // Acceptable if nothing excludes it, with a lower weight than any coding that is named.
            identity: or_any(identity).unwrap_or(1),
        }
    }

    /// Returns the codings that the client accepts, the best first: by the client's weights, then by
    /// the server's order.
    pub(crate) fn ranked(self) -> impl Iterator<Item = Coding> {
        let mut codings = [Coding::Brotli, Coding::Zstd, Coding::Gzip, Coding::Identity];
        codings.sort_by_key(|coding| Reverse(self.weight(*coding)));
        let is_accepted = move |coding: &Coding| self.weight(*coding) > 0;
        codings.into_iter().take_while(is_accepted)
    }

    /// Returns true if the client does not accept content without a coding. RFC 9110 §12.5.3 leaves it
    /// to the server whether to send that anyway.
    pub(crate) fn rejects_identity(self) -> bool {
        self.identity == 0
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

/// The format of responses that the server generates itself: errors, listings, reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ResponseFormat {
    /// For browsers.
    Html,
    /// For programs that accept `application/json` by name.
    Json,
    /// For all other clients: `curl`, `fetch`, an `img` element that cannot display the text.
    Text,
}

/// Returns the format that the Accept field asks for (RFC 9110 §12.5.1). A format is chosen only if
/// it is named: programs without a preference send `*/*`.
pub(crate) fn response_format(fields: &Fields<'_>) -> ResponseFormat {
    let accept = Accept::parse(fields);
    // The more specific media range decides.
    let html = accept.html.or(accept.html_like).unwrap_or(0);
    match accept.json {
        Some(json) if json > 0 && json >= html => ResponseFormat::Json,
        _ if html > 0 => ResponseFormat::Html,
        _ => ResponseFormat::Text,
    }
}

/// Checks whether a request is a navigation: a browser follows a link, or a user opens an address. It is
/// one by its Sec-Fetch-Mode field (Fetch Metadata §2.2), or without that field, if text/html is accepted
/// by name: requests for the scripts and images of a page do not name it. The error is the reason why it
/// is none.
pub(crate) fn check_navigation(fields: &Fields<'_>) -> Result<(), &'static str> {
    match fields.first("sec-fetch-mode") {
        Some(b"navigate") => Ok(()),
        Some(_) => Err("Sec-Fetch-Mode is not navigate"),
        None if Accept::parse(fields).html.is_some_and(|weight| weight > 0) => Ok(()),
        None => Err("Accept lacks text/html"),
    }
}

/// Returns true if a browser loads the response as a part of a page, such as an image. It says so by
/// Sec-Fetch-Dest (Fetch Metadata §2.1): that of a download is `document` or `empty`. Over plain HTTP from
/// another machine this field is not sent; the media type that is accepted first tells images, styles and
/// the like from downloads (Fetch §4), but not scripts.
pub(crate) fn is_subresource(fields: &Fields<'_>) -> bool {
    if let Some(destination) = fields.first("sec-fetch-dest") {
        return !matches!(destination, b"document" | b"empty");
    }
    let first = fields.all("accept").flat_map(members).next();
    first.is_some_and(|(media_range, _)| {
        let kind = media_range.split(|&byte| byte == b'/').next();
        let kinds = [&b"image"[..], b"audio", b"video", b"font"];
        kind.is_some_and(|kind| kinds.iter().any(|it| kind.eq_ignore_ascii_case(it)))
            || media_range.eq_ignore_ascii_case(b"text/css")
    })
}

/// The weights in Accept of the media types that decide the format.
#[derive(Default)]
struct Accept {
    html: Option<Weight>,
    /// Of application/xhtml+xml or `text/*`.
    html_like: Option<Weight>,
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
                &mut accept.html_like
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

/// The members of a list with their weights: `name;parameter=value;q=0.5`. Other parameters are
/// ignored.
fn members(value: &[u8]) -> impl Iterator<Item = (&[u8], Weight)> {
    list::split(value, b',').filter_map(|member| {
        let mut pieces = list::split(member, b';');
        let name = pieces.next()?;
        let weight = pieces.find_map(|piece| {
            // White space around the `=` is ill-formed, but the parameter is still the quality
            // value: it must not be read as a full weight.
            let parameter = piece.split(|&byte| byte == b'=').next()?;
            let is_weight = parameter.trim_ascii_end().eq_ignore_ascii_case(b"q");
            is_weight.then(|| qvalue(piece.get(2..).unwrap_or_default()))
        });
        Some((name, weight.unwrap_or(Some(FULL))?))
    })
}

/// Parses a quality value: up to three decimals, which must be zeros after a one (RFC 9110 §12.4.2).
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

#[cfg(test)]
mod tests;
