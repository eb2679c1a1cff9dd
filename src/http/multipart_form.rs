//! Forms with files: `multipart/form-data` (RFC 7578) read part by part from anything that can be
//! read, in memory that does not grow with the form. It knows nothing of what parts are for.
//!
//! The well-kept crate for this, multer, reads from asynchronous streams only.

use std::io::{self, Read};

use memchr::memmem;

/// What is read at once; a part's head must fit in.
const BUFFER_BYTES: usize = 64 * 1024;

/// A part's head: as much as a request's head may have.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// Header fields of a part; browsers send two.
const MAX_FIELDS: usize = 16;

/// White space behind a boundary, which transports may add (RFC 2046 §5.1.1). Nobody does.
const MAX_PADDING_BYTES: usize = 1024;

/// A form while it is read.
#[derive(Debug)]
pub(crate) struct FormData<R> {
    source: R,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// The line break that belongs to it, two hyphens and the boundary.
    delimiter: Vec<u8>,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In a part, or in what stands before the first one.
    Content,
    /// At a delimiter.
    Delimiter,
    /// Behind the last part.
    End,
}

/// What a part says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PartHead {
    /// The name of the file, as it was sent: perhaps with a path, in any characters. `None` if the
    /// part is no file.
    pub(crate) filename: Option<Vec<u8>>,
}

/// Why a form cannot be read further.
#[derive(Debug)]
pub(crate) enum FormError {
    /// Its bytes do not come.
    Read(io::Error),
    /// It is none; the text says why.
    Malformed(&'static str),
}

/// The boundary of a form, from its Content-Type; `None` if that is another media type. A form
/// whose boundary is none is `Err`.
pub(crate) fn boundary(content_type: &[u8]) -> Option<Result<Vec<u8>, FormError>> {
    const MEDIA_TYPE: &[u8] = b"multipart/form-data";
    let (media_type, rest) = split_at_semicolon(content_type);
    if !media_type.trim_ascii().eq_ignore_ascii_case(MEDIA_TYPE) {
        return None;
    }
    let malformed = FormError::Malformed("the form has no valid boundary");
    let boundary = parameter(rest, b"boundary").ok().flatten();
    Some(boundary.filter(|text| is_boundary(text)).ok_or(malformed))
}

/// RFC 2046 §5.1.1.
fn is_boundary(text: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(byte);
    (1..=70).contains(&text.len()) && text.iter().all(allowed) && !text.ends_with(b" ")
}

impl<R: Read> FormData<R> {
    pub(crate) fn new(source: R, boundary: &[u8]) -> Self {
        let mut buffer = vec![0; BUFFER_BYTES];
        // The first delimiter needs no line break before it.
        buffer[..2].copy_from_slice(b"\r\n");
        Self {
            source,
            buffer,
            start: 0,
            end: 2,
            delimiter: [b"\r\n--", boundary].concat(),
            place: Place::Content,
        }
    }

    /// The head of the next part, past whatever is left of this one; `None` at the end of the form.
    pub(crate) fn next_part(&mut self) -> Result<Option<PartHead>, FormError> {
        while self.next_piece()?.is_some() {}
        if self.place == Place::End {
            return Ok(None);
        }
        self.start += self.delimiter.len();
        if self.fill(2)?.starts_with(b"--") {
            // What follows is to be ignored (RFC 2046 §5.1.1). It is read, so that the connection
            // can go on.
            self.place = Place::End;
            self.start = self.end;
            while !self.fill(1)?.is_empty() {
                self.start = self.end;
            }
            return Ok(None);
        }
        self.skip_padding()?;
        let head = self.head()?;
        self.place = Place::Content;
        // A part without content may lack the line break that ends its head, or rather its end
        // begins with it.
        self.fill(self.delimiter.len())?;
        if !self.buffer[self.start..self.end].starts_with(&self.delimiter) {
            self.start += 2;
        }
        Ok(Some(head))
    }

    /// The next bytes of this part's content; `None` at its end.
    pub(crate) fn next_piece(&mut self) -> Result<Option<&[u8]>, FormError> {
        if self.place != Place::Content {
            return Ok(None);
        }
        // The last bytes may be the beginning of a delimiter.
        let len = self.delimiter.len();
        let available = self.fill(len)?.len();
        if available < len {
            return Err(FormError::Malformed("the form is incomplete"));
        }
        let window = &self.buffer[self.start..self.end];
        let content = match memmem::find(window, &self.delimiter) {
            Some(0) => {
                self.place = Place::Delimiter;
                return Ok(None);
            }
            Some(at) => at,
            None => window.len() - (len - 1),
        };
        let piece = self.start..self.start + content;
        self.start += content;
        Ok(Some(&self.buffer[piece]))
    }

    fn skip_padding(&mut self) -> Result<(), FormError> {
        let window = self.fill(MAX_PADDING_BYTES)?;
        let window = &window[..window.len().min(MAX_PADDING_BYTES)];
        let is_padding = |byte: &&u8| matches!(byte, b' ' | b'\t');
        let padding = window.iter().take_while(is_padding).count();
        // More behind the boundary is another boundary, for whoever compares whole lines.
        if !window[padding..].starts_with(b"\r\n") {
            return Err(FormError::Malformed(
                "a form boundary is not at the end of its line",
            ));
        }
        self.start += padding;
        Ok(())
    }

    /// Reads a head, from the line break before it up to the one that ends it, which is left.
    fn head(&mut self) -> Result<PartHead, FormError> {
        const END: &[u8] = b"\r\n\r\n";
        let window = self.fill(MAX_HEAD_BYTES)?;
        let window = &window[..window.len().min(MAX_HEAD_BYTES)];
        let end = memmem::find(window, END).ok_or(FormError::Malformed(
            "a part's header is too long or incomplete",
        ))?;
        let head = PartHead::parse(&window[2..end + END.len()])?;
        self.start += end + 2;
        Ok(head)
    }

    /// What is buffered: at least `wanted` bytes, or all there are.
    fn fill(&mut self, wanted: usize) -> Result<&[u8], FormError> {
        if self.end - self.start < wanted {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        while self.end - self.start < wanted {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(FormError::Read(error)),
            }
        }
        Ok(&self.buffer[self.start..self.end])
    }
}

impl PartHead {
    /// Parses field lines and the empty line behind them.
    fn parse(lines: &[u8]) -> Result<Self, FormError> {
        const MALFORMED: FormError = FormError::Malformed("a part's header is malformed");
        let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
        let fields = match httparse::parse_headers(lines, &mut fields) {
            Ok(httparse::Status::Complete((len, fields))) if len == lines.len() => fields,
            _ => return Err(MALFORMED),
        };
        let mut head = None;
        for field in fields {
            let named = |name| field.name.eq_ignore_ascii_case(name);
            if named("content-disposition") {
                let disposition = Self::of_disposition(field.value)?;
                if head.replace(disposition).is_some() {
                    return Err(MALFORMED);
                }
            }
            // Deprecated (RFC 7578 §4.7); to store the coded bytes would be to store others.
            let as_it_is = [&b"7bit"[..], b"8bit", b"binary"];
            let coding = field.value.trim_ascii().to_ascii_lowercase();
            if named("content-transfer-encoding") && !as_it_is.contains(&&coding[..]) {
                return Err(FormError::Malformed(
                    "Content-Transfer-Encoding is not supported",
                ));
            }
        }
        Ok(head.unwrap_or_default())
    }

    /// `filename*` is not for forms (RFC 7578 §4.2).
    fn of_disposition(value: &[u8]) -> Result<Self, FormError> {
        let (kind, rest) = split_at_semicolon(value);
        if !kind.trim_ascii().eq_ignore_ascii_case(b"form-data") {
            return Ok(Self::default());
        }
        let filename = parameter(rest, b"filename")?;
        Ok(Self {
            filename: filename.map(|text| decode(&text)),
        })
    }
}

fn split_at_semicolon(value: &[u8]) -> (&[u8], &[u8]) {
    let at = memchr::memchr(b';', value).unwrap_or(value.len());
    value.split_at(at)
}

/// The value of a parameter in `; name=value; name="value"`. One that is there twice is malformed,
/// as is anything else that could be read in two ways.
fn parameter(mut text: &[u8], wanted: &[u8]) -> Result<Option<Vec<u8>>, FormError> {
    const MALFORMED: FormError = FormError::Malformed("malformed header parameters");
    let mut found = None;
    loop {
        text = text.trim_ascii_start();
        match text {
            [] => return Ok(found),
            [b';', rest @ ..] => text = rest.trim_ascii_start(),
            _ => return Err(MALFORMED),
        }
        if text.is_empty() || text.starts_with(b";") {
            continue;
        }
        let equals = memchr::memchr(b'=', text).ok_or(MALFORMED)?;
        let (name, rest) = text.split_at(equals);
        let (value, rest) = take_value(&rest[1..]).ok_or(MALFORMED)?;
        text = rest;
        if name.eq_ignore_ascii_case(wanted) && found.replace(value).is_some() {
            return Err(MALFORMED);
        }
    }
}

/// A token or a quoted string, and what follows it.
///
/// In a quoted string a backslash stands before a quote or a backslash, as old browsers and curl
/// write it; before anything else it is one, as old browsers write paths.
fn take_value(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let Some(mut rest) = text.strip_prefix(b"\"") else {
        let (token, rest) = split_at_semicolon(text);
        return Some((token.trim_ascii().to_vec(), rest));
    };
    let mut value = Vec::new();
    loop {
        rest = match rest {
            [] => return None,
            [b'"', rest @ ..] => return Some((value, rest)),
            [b'\\', byte @ (b'"' | b'\\'), rest @ ..] | [byte, rest @ ..] => {
                value.push(*byte);
                rest
            }
        };
    }
}

/// Browsers write what would end a name in three escapes, and no others (HTML §4.10.21.8).
fn decode(text: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [byte, tail @ ..] = rest {
        let (byte, tail) = match rest {
            [b'%', b'2', b'2', tail @ ..] => (b'"', tail),
            [b'%', b'0', b'D' | b'd', tail @ ..] => (b'\r', tail),
            [b'%', b'0', b'A' | b'a', tail @ ..] => (b'\n', tail),
            _ => (*byte, tail),
        };
        decoded.push(byte);
        rest = tail;
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Hands out its bytes in pieces of these sizes, over and over.
    struct Split<'a> {
        bytes: &'a [u8],
        sizes: &'a [usize],
        reads: usize,
    }

    impl Read for Split<'_> {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            let size = self.sizes[self.reads % self.sizes.len()];
            self.reads += 1;
            let count = size.min(room.len()).min(self.bytes.len());
            let (piece, rest) = self.bytes.split_at(count);
            room[..count].copy_from_slice(piece);
            self.bytes = rest;
            Ok(count)
        }
    }

    type Parts = Vec<(Option<Vec<u8>>, Vec<u8>)>;

    fn read(bytes: &[u8], boundary: &str, sizes: &[usize]) -> Result<Parts, String> {
        let source = Split {
            bytes,
            sizes,
            reads: 0,
        };
        let said = |error| match error {
            FormError::Read(error) => panic!("{error}"),
            FormError::Malformed(reason) => reason.to_owned(),
        };
        let mut form = FormData::new(source, boundary.as_bytes());
        let mut parts = Vec::new();
        while let Some(head) = form.next_part().map_err(said)? {
            let mut content = Vec::new();
            while let Some(piece) = form.next_piece().map_err(said)? {
                assert!(!piece.is_empty());
                content.extend_from_slice(piece);
            }
            parts.push((head.filename, content));
        }
        assert!(form.source.bytes.is_empty(), "something was not read");
        Ok(parts)
    }

    /// What comes out of the form, whatever the pieces it comes in.
    fn parts(bytes: &[u8]) -> Result<Parts, String> {
        let whole = read(bytes, "B", &[usize::MAX]);
        for sizes in [&[1][..], &[2, 3], &[7], &[1, 30]] {
            assert_eq!(read(bytes, "B", sizes), whole, "{sizes:?}");
        }
        whole
    }

    #[test]
    fn forms() {
        let file = |name: &str, content: &str| {
            let name = (!name.is_empty()).then(|| name.as_bytes().to_vec());
            (name, content.as_bytes().to_vec())
        };
        const FILE: &str = "Content-Disposition: form-data; name=f; filename=n";
        let table: &[(String, Parts)] = &[
            ("--B--".into(), vec![]),
            ("--B--\r\nan epilogue\r\n--B\r\n".into(), vec![]),
            ("preamble\r\n--B--\r\n".into(), vec![]),
            (
                format!("--B\r\n{FILE}\r\n\r\ntext\r\n--B--\r\n"),
                vec![file("n", "text")],
            ),
            (
                format!("--B \t \r\n{FILE}\r\n\r\ntext\r\n--B  \r\n\r\nx\r\n--B-- \r\n"),
                vec![file("n", "text"), file("", "x")],
            ),
            (
                "--B\r\ncontent-disposition: FORM-DATA; FileName=\"a b\"\r\nX: y\r\n\r\n\r\n--B--"
                    .into(),
                vec![file("a b", "")],
            ),
            // No content, not even an empty one.
            (format!("--B\r\n{FILE}\r\n\r\n--B--"), vec![file("n", "")]),
            // No head.
            ("--B\r\n\r\nx\r\n--B--".into(), vec![file("", "x")]),
            ("--B\r\n\r\n\r\n--B--".into(), vec![file("", "")]),
            // Neither beginnings of a delimiter nor one that is not on its own line.
            (
                format!("--B\r\n{FILE}\r\n\r\n-\r\n-\r\n--\r--B\n--B\r\r\n-B--B\r\n--\r\n--B--"),
                vec![file("n", "-\r\n-\r\n--\r--B\n--B\r\r\n-B--B\r\n--")],
            ),
            (
                "--B\r\nContent-Disposition: attachment; filename=n\r\n\r\nx\r\n--B--".into(),
                vec![file("", "x")],
            ),
        ];
        for (form, expected) in table {
            assert_eq!(parts(form.as_bytes()).as_ref(), Ok(expected), "{form:?}");
        }
    }

    #[test]
    fn what_is_no_form() {
        const FILE: &str = "Content-Disposition: form-data; filename=n";
        let long = "x".repeat(MAX_HEAD_BYTES);
        let many = "A: b\r\n".repeat(MAX_FIELDS + 1);
        let table: &[(String, &str)] = &[
            (String::new(), "form is incomplete"),
            ("--".into(), "form is incomplete"),
            ("text".into(), "form is incomplete"),
            ("--C\r\n".into(), "form is incomplete"),
            ("--B".into(), "not at the end of its line"),
            ("--B\r\n".into(), "too long or incomplete"),
            ("--B-".into(), "not at the end of its line"),
            ("--Bx\r\n\r\n\r\n--B--".into(), "not at the end of its line"),
            (
                format!("--B{}\r\n", " ".repeat(MAX_PADDING_BYTES)),
                "not at the end",
            ),
            (format!("--B\r\n{FILE}\r\n\r\ntext"), "form is incomplete"),
            (
                format!("--B\r\n{FILE}\r\n\r\ntext\r\n--B"),
                "not at the end",
            ),
            (
                format!("--B\r\n{FILE}\r\n{FILE}\r\n\r\n\r\n--B--"),
                "header is malformed",
            ),
            (
                "--B\r\nno field\r\n\r\n\r\n--B--".into(),
                "header is malformed",
            ),
            (
                "--B\r\nA: b\n\nC: d\r\n\r\n\r\n--B--".into(),
                "header is malformed",
            ),
            (format!("--B\r\n{many}\r\n\r\n--B--"), "header is malformed"),
            (format!("--B\r\nA: {long}\r\n\r\n\r\n--B--"), "too long"),
            (
                "--B\r\nContent-Transfer-Encoding: base64\r\n\r\neA==\r\n--B--".into(),
                "Content-Transfer-Encoding is not",
            ),
            (
                format!("--B\r\n{FILE};filename=o\r\n\r\n\r\n--B--"),
                "parameters",
            ),
            (format!("--B\r\n{FILE};x=\"\r\n\r\n\r\n--B--"), "parameters"),
            (
                format!("--B\r\n{FILE};x=\"\"y\r\n\r\n\r\n--B--"),
                "parameters",
            ),
            (format!("--B\r\n{FILE};x\r\n\r\n\r\n--B--"), "parameters"),
        ];
        for (form, expected) in table {
            let reason = parts(form.as_bytes()).expect_err("no form");
            assert!(reason.contains(expected), "{form:?}: {reason}");
        }
    }

    #[test]
    fn names_as_they_are_written() {
        let table: &[(&str, Option<&str>)] = &[
            ("", None),
            ("; name=f", None),
            ("; filename*=UTF-8''x", None),
            ("; filename=\"\"", Some("")),
            ("; filename=a.txt ; name=f", Some("a.txt")),
            (";;filename=\"a;b\";", Some("a;b")),
            ("; name=\"filename=x\"; filename=y", Some("y")),
            // Of today's browsers, of old ones, of curl.
            (
                r#"; filename="a%22b%0D%0Ac%25%zz""#,
                Some("a\"b\r\nc%25%zz"),
            ),
            (r#"; filename="C:\new\a.txt""#, Some(r"C:\new\a.txt")),
            (r#"; filename="a\"b\\c""#, Some(r#"a"b\c"#)),
            ("; filename=\"ñ.txt\"", Some("ñ.txt")),
        ];
        for (parameters, expected) in table {
            let value = format!("form-data{parameters}");
            let head = PartHead::of_disposition(value.as_bytes()).expect("a disposition");
            let expected = expected.map(|name| name.as_bytes().to_vec());
            assert_eq!(head.filename, expected, "{parameters}");
        }
    }

    #[test]
    fn boundaries() {
        let longest = "x".repeat(70);
        let table: &[(String, Option<Option<&str>>)] = &[
            ("text/plain; boundary=x".into(), None),
            ("multipart/form-data".into(), Some(None)),
            ("multipart/form-data; boundary=".into(), Some(None)),
            ("multipart/form-data; boundary=\"a\"b".into(), Some(None)),
            ("multipart/form-data; boundary=a\\b".into(), Some(None)),
            (
                format!("multipart/form-data; boundary=x{longest}"),
                Some(None),
            ),
            (
                "Multipart/Form-Data ;charset=x; BOUNDARY=a".into(),
                Some(Some("a")),
            ),
            (
                "multipart/form-data; boundary=\"a b?\"".into(),
                Some(Some("a b?")),
            ),
            (
                format!("multipart/form-data;boundary={longest}"),
                Some(Some(&longest)),
            ),
        ];
        for (content_type, expected) in table {
            let found = boundary(content_type.as_bytes()).map(Result::ok);
            let expected = expected.map(|text| text.map(|text| text.as_bytes().to_vec()));
            assert_eq!(found, expected, "{content_type}");
        }
    }

    /// Bytes that are often on the way to a delimiter, and never one.
    fn content() -> impl Strategy<Value = Vec<u8>> {
        const PIECES: [&[u8]; 8] = [
            b"\r\n--bound",
            b"\r\n--boundar",
            b"\n--boundary",
            b"\r\n-",
            b"\r",
            b"\n",
            b"--",
            b"\0\xFFx",
        ];
        let piece = proptest::sample::select(&PIECES[..]);
        let pieces = proptest::collection::vec(piece, 0..40);
        let content = pieces.prop_map(|pieces| pieces.concat());
        content.prop_filter("a delimiter", |content| {
            let framed = [b"\r\n", &content[..], b"\r\n--boundary"].concat();
            memmem::find(&framed, b"\r\n--boundary") == Some(content.len() + 2)
        })
    }

    const WORDS: [&[u8]; 12] = [
        b"--B",
        b"\r\n--B",
        b"\r\n",
        b"--",
        b"\r",
        b"\n",
        b"-",
        b" ",
        b"B",
        b"A: b",
        b"Content-Disposition: form-data; filename=x",
        b"\xFF\0;\"=",
    ];

    proptest! {
        #[test]
        fn contents_come_out_as_they_went_in(
            contents in proptest::collection::vec(content(), 0..5),
            filler in 0..2 * BUFFER_BYTES,
            sizes in proptest::collection::vec(1..100_000usize, 1..8),
        ) {
            let mut form = Vec::new();
            let mut expected = Vec::new();
            for (at, mut content) in contents.into_iter().enumerate() {
                content.extend(std::iter::repeat_n(b'-', filler));
                form.extend_from_slice(b"--boundary\r\nContent-Disposition: form-data; ");
                form.extend_from_slice(format!("filename={at}\r\n\r\n").as_bytes());
                form.extend_from_slice(&content);
                form.extend_from_slice(b"\r\n");
                expected.push((Some(at.to_string().into_bytes()), content));
            }
            form.extend_from_slice(b"--boundary--\r\n");
            prop_assert_eq!(read(&form, "boundary", &sizes), Ok(expected));
        }

        #[test]
        fn how_bytes_are_split_changes_nothing(
            form in proptest::collection::vec(
                proptest::sample::select(&WORDS[..]),
                0..30,
            ),
            sizes in proptest::collection::vec(1..40usize, 1..8),
        ) {
            let form = form.concat();
            let whole = read(&form, "B", &[usize::MAX]);
            prop_assert_eq!(read(&form, "B", &sizes), whole);
        }
    }
}
