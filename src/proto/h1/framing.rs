//! How the end of a body is found (RFC 9112 §6.3) and whether a connection persists (§9.3).

use ::http::{StatusCode, Version};

use crate::http::fields::NameFilter;
use crate::http::{Fields, Rejection, list};
use crate::proto::request_rules::content_length;

/// How the end of a request body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is no body.
    None,
    /// The length in bytes, at least one.
    Length(u64),
    Chunked,
}

/// How the end of a response body is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyFraming {
    /// By its length, which the head announces.
    Length(u64),
    /// RFC 9112 §7.1.
    Chunked,
    /// By the end of the connection, for HTTP/1.0.
    UntilClose,
}

/// Whether the connection is used for another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Persistence {
    KeepAlive,
    Close,
}

/// The framing of a request body (RFC 9112 §6.3). Anything that two parsers could read differently is
/// rejected, as request smuggling relies on it (§11.2).
pub(crate) fn framing(version: Version, fields: &Fields<'_>) -> Result<Framing, Rejection> {
    const NAMES: NameFilter = NameFilter::of(&["content-length", "transfer-encoding"]);
    if !fields.may_have_any(NAMES) {
        return Ok(Framing::None);
    }
    let length = content_length(fields)?;
    if fields.first("transfer-encoding").is_none() {
        return Ok(match length {
            None | Some(0) => Framing::None,
            Some(length) => Framing::Length(length),
        });
    }
    if length.is_some() {
        return Err(Rejection::bad_request(
            "both Content-Length and Transfer-Encoding",
        ));
    }
    if version == Version::HTTP_10 {
        return Err(Rejection::bad_request("Transfer-Encoding in HTTP/1.0"));
    }
    transfer_encoding(fields)
}

fn transfer_encoding(fields: &Fields<'_>) -> Result<Framing, Rejection> {
    let mut codings = fields.all("transfer-encoding").flat_map(list::members);
    let first = codings.next();
    match (first, codings.next()) {
        (Some(coding), None) if coding.eq_ignore_ascii_case(b"chunked") => Ok(Framing::Chunked),
        (None, _) => Err(Rejection::bad_request("empty Transfer-Encoding")),
        _ => {
            // RFC 9112 §6.3 rule 4: chunked must be applied once, as the last coding.
            let codings: Vec<_> = fields
                .all("transfer-encoding")
                .flat_map(list::members)
                .collect();
            let before_last = codings.iter().rev().skip(1);
            if before_last
                .into_iter()
                .any(|coding| coding.eq_ignore_ascii_case(b"chunked"))
            {
                return Err(Rejection::bad_request(
                    "chunked must be the last transfer coding",
                ));
            }
            Err(Rejection::new(
                StatusCode::NOT_IMPLEMENTED,
                "only the transfer coding chunked is supported",
            ))
        }
    }
}

/// Whether the client wants the connection to persist (RFC 9112 §9.3), with the `keep-alive` option
/// that HTTP/1.0 clients send (§C.2.2).
pub(crate) fn persistence(version: Version, fields: &Fields<'_>) -> Persistence {
    let has = |option: &[u8]| {
        let mut options = fields.all("connection").flat_map(list::members);
        options.any(|item| item.eq_ignore_ascii_case(option))
    };
    match fields.single("connection") {
        Ok(None) if version == Version::HTTP_10 => Persistence::Close,
        Ok(None | Some(b"keep-alive")) => Persistence::KeepAlive,
        _ if has(b"close") => Persistence::Close,
        _ if version == Version::HTTP_10 && !has(b"keep-alive") => Persistence::Close,
        _ => Persistence::KeepAlive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::request::get_with as request;

    #[test]
    fn ambiguous_framing_is_rejected() {
        let cl = "Content-Length";
        let te = "Transfer-Encoding";
        type Expected = Result<Framing, u16>;
        let table: &[(&[(&str, &str)], Expected)] = &[
            (&[], Ok(Framing::None)),
            (&[(cl, "0")], Ok(Framing::None)),
            (&[(cl, "5")], Ok(Framing::Length(5))),
            (&[(cl, "5"), (cl, "5")], Ok(Framing::Length(5))),
            (&[(cl, "5, 5")], Ok(Framing::Length(5))),
            (&[(cl, "5"), (cl, "6")], Err(400)),
            (&[(cl, "5,6")], Err(400)),
            (&[(cl, "5,")], Err(400)),
            (&[(cl, "")], Err(400)),
            (&[(cl, "+5")], Err(400)),
            (&[(cl, "-5")], Err(400)),
            (&[(cl, "0x5")], Err(400)),
            (&[(cl, "5 5")], Err(400)),
            (&[(cl, "99999999999999999999")], Err(400)),
            (&[(te, "chunked")], Ok(Framing::Chunked)),
            (&[(te, "Chunked")], Ok(Framing::Chunked)),
            (&[(te, " , chunked")], Ok(Framing::Chunked)),
            (&[(te, "chunked"), (cl, "5")], Err(400)),
            (&[(te, "chunked"), (cl, "0")], Err(400)),
            (&[(te, "chunked, chunked")], Err(400)),
            (&[(te, "chunked"), (te, "chunked")], Err(400)),
            (&[(te, "")], Err(400)),
            (&[(te, "gzip, chunked")], Err(501)),
            (&[(te, "gzip"), (te, "chunked")], Err(501)),
            (&[(te, "chunked, gzip")], Err(400)),
            (&[(te, "identity")], Err(501)),
            (&[(te, "xchunked")], Err(501)),
            (&[(te, "\"chunked\"")], Err(501)),
        ];
        for (fields, expected) in table {
            let result = framing(Version::HTTP_11, request(fields).fields());
            let result = result.map_err(|rejection| rejection.status().as_u16());
            assert_eq!(result, *expected, "{fields:?}");
        }
        let old = request(&[(te, "chunked")]);
        assert!(framing(Version::HTTP_10, old.fields()).is_err());
    }

    #[test]
    fn persistence_follows_version_and_connection_options() {
        use Persistence::{Close, KeepAlive};
        let table: &[(&[&str], Persistence, Persistence)] = &[
            (&[], KeepAlive, Close),
            (&["close"], Close, Close),
            (&["CLOSE"], Close, Close),
            (&["keep-alive"], KeepAlive, KeepAlive),
            (&["Keep-Alive, TE"], KeepAlive, KeepAlive),
            (&["te, close"], Close, Close),
            (&["te", "close"], Close, Close),
            (&["keep-alive, close"], Close, Close),
            (&["closed"], KeepAlive, Close),
        ];
        for (options, on_11, on_10) in table {
            let fields: Vec<_> = options.iter().map(|o| ("Connection", *o)).collect();
            let request = request(&fields);
            let of = |version| persistence(version, request.fields());
            assert_eq!(of(Version::HTTP_11), *on_11, "{options:?}");
            assert_eq!(of(Version::HTTP_10), *on_10, "{options:?}");
        }
    }
}
