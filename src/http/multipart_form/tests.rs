use ::http::Method;

use super::*;
use proptest::prelude::*;

/// A reader that returns its bytes in pieces of these sizes, repeatedly.
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
    let reason = |error| match error {
        FormError::Malformed(reason) => reason.to_owned(),
        error => panic!("{error}"),
    };
    let mut form = FormData::new(source, boundary.as_bytes());
    let mut parts = Vec::new();
    while let Some(head) = form.next_head().map_err(reason)? {
        let mut content = Vec::new();
        while let Some(piece) = form.next_piece().map_err(reason)? {
            assert!(!piece.is_empty());
            content.extend_from_slice(piece);
        }
        parts.push((head.filename, content));
    }
    assert!(form.source.bytes.is_empty(), "something was not read");
    Ok(parts)
}

/// The parts of the form, which must not depend on how its bytes are split.
fn parts(bytes: &[u8]) -> Result<Parts, String> {
    let whole = read(bytes, "B", &[usize::MAX]);
    for sizes in [&[1][..], &[2, 3], &[7], &[1, 30]] {
        assert_eq!(read(bytes, "B", sizes), whole, "{sizes:?}");
    }
    whole
}

#[test]
fn well_formed_forms_yield_their_parts() {
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
        // No content and no line break for it.
        (format!("--B\r\n{FILE}\r\n\r\n--B--"), vec![file("n", "")]),
        // No head.
        ("--B\r\n\r\nx\r\n--B--".into(), vec![file("", "x")]),
        ("--B\r\n\r\n\r\n--B--".into(), vec![file("", "")]),
        // Starts of a delimiter, and delimiters that do not begin a line.
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
fn malformed_forms_are_rejected() {
    const FILE: &str = "Content-Disposition: form-data; filename=n";
    let long = "x".repeat(MAX_PART_HEAD_BYTES);
    let many = "A: b\r\n".repeat(MAX_PART_FIELDS + 1);
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
fn filename_escapes_of_browsers_are_decoded() {
    let table: &[(&str, Option<&str>)] = &[
        ("", None),
        ("; name=f", None),
        ("; filename=\"\"", Some("")),
        ("; filename=a.txt ; name=f", Some("a.txt")),
        (";;filename=\"a;b\";", Some("a;b")),
        ("; name=\"filename=x\"; filename=y", Some("y")),
        // Current browsers, old ones, curl.
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
        let head = PartHead::from_disposition(value.as_bytes()).expect("a disposition");
        let expected = expected.map(|name| name.as_bytes().to_vec());
        assert_eq!(head.filename, expected, "{parameters}");
    }
}

#[test]
fn well_formed_extended_filename_wins() {
    let table: &[(&str, Option<&str>)] = &[
        // .NET and PowerShell, aiohttp, and urllib3 before 1.25.
        (
            r#"; filename="=?utf-8?B?w7w=?="; filename*=utf-8''%C3%BC.txt"#,
            Some("ü.txt"),
        ),
        (
            r#"; filename="%C3%BC.txt"; filename*=utf-8''%C3%BC.txt"#,
            Some("ü.txt"),
        ),
        ("; filename*=utf-8''%C3%BC.txt", Some("ü.txt")),
        (
            "; filename*=UTF-8'de-CH'%c3%bc%20b.txt; name=f; filename=a",
            Some("ü b.txt"),
        ),
        ("; FILENAME*=utf-8''b; Filename=a", Some("b")),
        ("; filename=\"\"; filename*=utf-8''b", Some("b")),
        ("; filename=a; filename*=iso-8859-1'en'%FC%A4~", Some("ü¤~")),
        ("; filename=a; filename*=\"utf-8''b\"", Some("b")),
        (
            "; filename=a; filename*=utf-8''b!#$&+-.^_`|~9",
            Some("b!#$&+-.^_`|~9"),
        ),
        // Decoded once. The escapes of HTML forms are not those of this parameter.
        (
            "; filename=a; filename*=utf-8''%2522%2F..%2Fb",
            Some("%22/../b"),
        ),
        ("; filename=a; filename*=utf-8''x%0D%0A%00", Some("x\r\n\0")),
        // Ill-formed ones.
        ("; filename=a; filename*=utf-8''", Some("a")),
        ("; filename=a; filename*=utf-8'b", Some("a")),
        ("; filename=a; filename*=b", Some("a")),
        ("; filename=a; filename*=''b", Some("a")),
        ("; filename=a; filename*=koi8-r''%C1", Some("a")),
        ("; filename=a; filename*=utf-8''%FC", Some("a")),
        ("; filename=a; filename*=utf-8''%ED%A0%80", Some("a")),
        ("; filename=a; filename*=utf-8''%C0%AF", Some("a")),
        ("; filename=a; filename*=utf-8''%4", Some("a")),
        ("; filename=a; filename*=utf-8''%zz", Some("a")),
        ("; filename=a; filename*=utf-8''b c", Some("a")),
        ("; filename=a; filename*=utf-8''b/c", Some("a")),
        ("; filename=a; filename*=utf-8''b'c", Some("a")),
        ("; filename=a; filename*=utf-8''ü", Some("a")),
        ("; filename=a; filename*=utf-8'd e'b", Some("a")),
        ("; filename*=utf-8''%FC", None),
    ];
    for (parameters, expected) in table {
        let value = format!("form-data{parameters}");
        let head = PartHead::from_disposition(value.as_bytes()).expect("a disposition");
        let expected = expected.map(|name| name.as_bytes().to_vec());
        assert_eq!(head.filename, expected, "{parameters}");
    }
    let twice = PartHead::from_disposition(b"form-data; filename*=utf-8''a; filename*=utf-8''b");
    assert!(matches!(twice, Err(FormError::Malformed(_))));
}

#[test]
fn boundary_is_taken_from_the_content_type() {
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
        let request = request(content_type);
        let found = boundary(request.fields()).map(Result::ok);
        let expected = expected.map(|text| text.map(|text| text.as_bytes().to_vec()));
        assert_eq!(found, expected, "{content_type}");
        // Two parsers could choose different ones.
        let twice = request.with_header("Content-Type", "multipart/form-data; boundary=b");
        assert!(boundary(twice.fields()).is_none(), "{content_type}");
    }
    assert!(boundary(Request::get("/").fields()).is_none());
}

/// Content with many starts of a delimiter and no complete one.
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

const FRAGMENTS: [&[u8]; 12] = [
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
    fn parsed_contents_equal_the_sent_ones(
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
    fn result_does_not_depend_on_how_bytes_are_split(
        form in proptest::collection::vec(
            proptest::sample::select(&FRAGMENTS[..]),
            0..30,
        ),
        sizes in proptest::collection::vec(1..40usize, 1..8),
    ) {
        let form = form.concat();
        let whole = read(&form, "B", &[usize::MAX]);
        prop_assert_eq!(read(&form, "B", &sizes), whole);
    }
}

/// A form with a field and a file.
const FORM: &str = "--B\r\nContent-Disposition: form-data; name=\"ti%22tle\"\r\n\r\nHi\r\n\
    --B\r\nContent-Disposition: form-data; name=file; filename=\"../a.png\"\r\n\
    Content-Type: image/png\r\n\r\n0123456789\r\n--B--\r\n";

fn request(media_type: &str) -> Request<'static> {
    Request::post("/", FORM).with_header("Content-Type", media_type)
}

#[test]
fn parts_have_names_media_types_and_content() {
    let mut form = request("multipart/form-data; boundary=B")
        .form_data()
        .expect("a form");
    let mut field = form.next_part().expect("a form").expect("a field");
    assert_eq!(field.name(), Some("ti\"tle"));
    assert_eq!((field.filename(), field.media_type()), (None, None));
    assert_eq!(field.text(2).expect("text"), "Hi");
    let mut file = form.next_part().expect("a form").expect("a file");
    assert_eq!(file.name(), Some("file"));
    assert_eq!(file.filename().as_deref(), Some("../a.png"));
    assert_eq!(file.media_type(), Some("image/png"));
    let mut out = Vec::new();
    assert_eq!(file.copy_to(&mut out, 10).expect("a file"), 10);
    assert_eq!(out, b"0123456789");
    assert!(form.next_part().expect("a form").is_none());
}

#[test]
fn content_that_is_not_read_is_skipped() {
    let mut form = request("multipart/form-data; boundary=B")
        .form_data()
        .expect("a form");
    let mut count = 0;
    while form.next_part().expect("a form").is_some() {
        count += 1;
    }
    assert_eq!(count, 2);
}

#[test]
fn errors_of_the_client_differ_from_those_of_the_disk() {
    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    let media_type = "multipart/form-data; boundary=B";
    let first = |act: fn(&mut FormPart<'_, BodyReader>) -> Result<u64, FormError>| {
        let mut form = request(media_type).form_data().expect("a form");
        let mut part = form.next_part().expect("a form").expect("a part");
        act(&mut part).expect_err("an error")
    };
    let too_large = first(|part| part.bytes(1).map(|_| 0));
    assert_eq!(too_large.status(), 413);
    let full = first(|part| part.copy_to(&mut Full, 10));
    assert!(matches!(full, FormError::Write(_)), "{full}");
    assert_eq!(full.status(), 507);
    assert_eq!(Response::from(full).status(), 507);
    for (media_type, status) in [
        ("text/plain", 415),
        ("multipart/form-data", 400),
        ("multipart/form-data; boundary=", 400),
    ] {
        let error = request(media_type).form_data().expect_err("an error");
        assert_eq!(error.status(), status, "{media_type}");
        let response = Response::from(error);
        assert_eq!(response.status(), status, "{media_type}");
        assert_eq!(response.headers()["X-Content-Type-Options"], "nosniff");
        let accept = response.headers().get("Accept");
        let accepted = (status == 415).then_some("multipart/form-data");
        assert_eq!(accept.and_then(|value| value.to_str().ok()), accepted);
    }
    let mut form = request("multipart/form-data; boundary=other")
        .form_data()
        .expect("a form");
    assert_eq!(form.next_part().expect_err("incomplete").status(), 400);
    let broken = FormError::Read(io::ErrorKind::ConnectionReset.into());
    assert_eq!(broken.status(), 400);
}

#[test]
fn form_of_a_request_is_parsed_to_its_parts() {
    let parts: &[(&str, Option<&str>, &[u8])] = &[
        ("ti\"tle\r\n", None, b"Hi"),
        ("", Some("a\".txt"), b"\r\n--boundary\r\n--boundary-\r\n"),
        ("\u{f1}", Some(""), b""),
    ];
    let request = Request::new(Method::PUT, "/").with_form_data(parts);
    let mut form = request.form_data().expect("a form");
    for (name, filename, content) in parts {
        let mut part = form.next_part().expect("a form").expect("a part");
        assert_eq!(part.name(), Some(*name));
        assert_eq!(part.filename().as_deref(), *filename);
        assert_eq!(part.bytes(100).expect("content"), *content);
    }
    assert!(form.next_part().expect("a form").is_none());
}
