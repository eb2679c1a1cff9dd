//! Tests of content codings, sidecars, multiple ranges and entity tags made from contents.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use tws::StaticFiles;
use tws::site::{Compress, EtagSource, Site};

use crate::static_files::write;
#[cfg(feature = "compress")]
use crate::support::eventually;
use crate::support::{Client, HttpResponse, TestServer, pattern};

/// Text that compression makes smaller.
fn text() -> String {
    (0..500)
        .map(|line| format!("this is line {line}\n"))
        .collect()
}

fn server(folder: &Path, change: impl FnOnce(&mut Site)) -> TestServer {
    let mut site = Site::default();
    change(&mut site);
    TestServer::start(StaticFiles::with_site(folder, &site).expect("open site root"))
}

fn sample_folder() -> TempDir {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let at = folder.path();
    write(at, "made.txt", text());
    write(at, "tiny.txt", "tiny");
    write(at, "photo.png", pattern(5000));
    write(at, "large.txt", "x".repeat(2_000_000));
    write(at, "side.js", "the source");
    write(at, "side.js.br", "as brotli");
    write(at, "side.js.gz", b"\x1F\x8Bas gzip");
    write(at, "paper.pdf", "the paper");
    // A skippable frame.
    write(at, "paper.pdf.zst", "P*M\x18as zstd");
    write(at, "stale.js", "the source");
    write(at, "stale.js.gz", b"\x1F\x8Bas gzip, long ago");
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    let stale = fs::File::options().write(true).open(at.join("stale.js.gz"));
    stale
        .expect("open file")
        .set_modified(old)
        .expect("set modification time");
    folder
}

fn get_accepting(client: &mut Client, path: &str, accept: &str) -> HttpResponse {
    client.request("GET", path, &format!("Accept-Encoding: {accept}\r\n"))
}

#[cfg(feature = "compress")]
fn decoded(response: &HttpResponse) -> Vec<u8> {
    use std::io::Read;
    let mut bytes = Vec::new();
    let content = &response.content[..];
    match response.field("Content-Encoding") {
        None => bytes.extend_from_slice(content),
        Some("gzip") => {
            let result = flate2::read::GzDecoder::new(content).read_to_end(&mut bytes);
            result.expect("decode gzip");
        }
        Some("br") => {
            let result = brotli::Decompressor::new(content, 4096).read_to_end(&mut bytes);
            result.expect("decode brotli");
        }
        Some("zstd") => bytes = zstd::decode_all(content).expect("decode zstd"),
        other => panic!("{other:?}"),
    }
    bytes
}

/// RFC 9110 §12.5.3.
#[cfg(feature = "compress")]
#[test]
fn accept_encoding_selects_coding() {
    let folder = sample_folder();
    let server = server(folder.path(), |_| {});
    let mut client = server.client();
    let table = [
        ("/made.txt", "gzip, deflate, br, zstd", Some("br")),
        ("/made.txt", "gzip, zstd", Some("zstd")),
        ("/made.txt", "gzip", Some("gzip")),
        ("/made.txt", "br;q=0.5, gzip;q=0.9", Some("gzip")),
        ("/made.txt", "*", Some("br")),
        ("/made.txt", "br;q=0, *;q=0.1", Some("zstd")),
        ("/made.txt", "identity", None),
        ("/made.txt", "identity, br;q=0.5", None),
        ("/made.txt", "identity;q=0, gzip", Some("gzip")),
        ("/made.txt", "", None),
        ("/made.txt", "rot13", None),
        // Too small, already compressed, or too large to be compressed before the first response.
        ("/tiny.txt", "br", None),
        ("/photo.png", "br", None),
        ("/large.txt", "br", None),
        // Sidecars: the better coding is preferred; a sidecar older than its source is not used.
        ("/side.js", "br, gzip", Some("br")),
        ("/side.js", "gzip", Some("gzip")),
        ("/side.js", "zstd", None),
        ("/stale.js", "gzip", None),
        ("/paper.pdf", "zstd", Some("zstd")),
        ("/paper.pdf", "gzip", None),
    ];
    for (path, accept, coding) in table {
        let response = get_accepting(&mut client, path, accept);
        assert_eq!(
            response.field("Content-Encoding"),
            coding,
            "{path} {accept:?}"
        );
        let varies = !path.ends_with(".png");
        let vary = varies.then_some("Accept-Encoding");
        assert_eq!(response.field("Vary"), vary, "{path}");
        if path == "/made.txt" {
            assert!(decoded(&response) == text().into_bytes(), "{accept:?}");
        }
    }
    assert_eq!(
        get_accepting(&mut client, "/side.js", "br").text(),
        "as brotli"
    );
    assert_eq!(
        get_accepting(&mut client, "/stale.js", "gzip").text(),
        "the source"
    );
}

/// Larger text is compressed in the background, for later responses.
#[cfg(feature = "compress")]
#[test]
fn large_text_is_compressed_for_later_responses() {
    let folder = sample_folder();
    write(
        folder.path(),
        "larger.txt",
        "x".repeat(16 * 1024 * 1024 + 1),
    );
    let server = server(folder.path(), |_| {});
    let mut client = server.client();
    for coding in ["gzip", "zstd"] {
        let first = get_accepting(&mut client, "/large.txt", coding);
        assert_eq!(first.field("Content-Encoding"), None);
        eventually!(|| {
            let later = get_accepting(&mut client, "/large.txt", coding);
            assert_eq!(later.field("Vary"), Some("Accept-Encoding"));
            assert!(decoded(&later) == "x".repeat(2_000_000).into_bytes());
            later.field("Content-Encoding") == Some(coding)
        });
        let part = client.request(
            "GET",
            "/large.txt",
            &format!("Accept-Encoding: {coding}\r\nRange: bytes=0-1\r\n"),
        );
        assert_eq!((part.status, part.content.len()), (206, 2));
    }
    assert_eq!(
        get_accepting(&mut client, "/larger.txt", "gzip").field("Content-Encoding"),
        None
    );
    // A new state of the file is another one.
    write(folder.path(), "large.txt", "y".repeat(1_999_999));
    eventually!(|| {
        let later = get_accepting(&mut client, "/large.txt", "gzip");
        let is_new = decoded(&later) == "y".repeat(1_999_999).into_bytes();
        is_new && later.field("Content-Encoding") == Some("gzip")
    });
}

#[test]
fn empty_and_damaged_sidecars_are_not_used() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 12345\n";
    let folder = tempfile::tempdir().expect("create temporary directory");
    for (name, accept, content) in [
        ("a.js", "gzip", ""),
        ("b.js", "gzip", pointer),
        ("c.js", "zstd", pointer),
        ("d.js", "br", pointer),
        ("e.js", "br", ""),
        ("f.js", "gzip", "<html>not found"),
    ] {
        let extension = match accept {
            "gzip" => "gz",
            "zstd" => "zst",
            other => other,
        };
        write(folder.path(), name, "source");
        write(folder.path(), &format!("{name}.{extension}"), content);
        let server = server(folder.path(), |site| site.compress = Compress::Sidecar);
        let response = get_accepting(&mut server.client(), &format!("/{name}"), accept);
        assert_eq!(
            (response.text().as_str(), response.field("Content-Encoding")),
            ("source", None),
            "{name}"
        );
    }
    // Content that is not read into memory at once.
    write(folder.path(), "g.js", "source");
    write(folder.path(), "g.js.gz", pointer.repeat(10_000));
    let server = server(folder.path(), |site| site.compress = Compress::Sidecar);
    assert_eq!(
        get_accepting(&mut server.client(), "/g.js", "gzip").text(),
        "source"
    );
}

#[cfg(feature = "compress")]
#[test]
fn listing_is_compressed() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    for number in 0..3000 {
        write(
            folder.path(),
            &format!("a file with a long name {number}.txt"),
            "",
        );
    }
    let server = server(folder.path(), |site| site.listing = tws::site::Listing::On);
    let mut client = server.client();
    let mut listing = |accept: &str| {
        let fields = format!("Accept: text/html\r\nAccept-Encoding: {accept}\r\n");
        client.send(format!("GET / HTTP/1.1\r\nHost: test\r\n{fields}\r\n"));
        let mut response = client.head();
        response.content = client.chunks();
        let head = client.request("HEAD", "/", &fields);
        assert_eq!(
            head.field("Content-Encoding"),
            response.field("Content-Encoding")
        );
        response
    };
    let plain = listing("identity");
    assert_eq!(plain.field("Content-Encoding"), None);
    for coding in ["gzip", "br", "zstd"] {
        let response = listing(coding);
        assert_eq!(response.field("Content-Encoding"), Some(coding));
        assert!(
            response.head.contains("Accept-Encoding"),
            "{}",
            response.head
        );
        assert!(response.content.len() < plain.content.len() / 5, "{coding}");
        assert!(decoded(&response) == plain.content, "{coding}");
    }
}

/// Runs `tws compress` in a folder, and returns the exit code and the output.
#[cfg(all(feature = "cli", feature = "compress"))]
fn compress(folder: &Path, args: &[&str]) -> (Option<i32>, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tws"));
    let command = command.current_dir(folder).arg("compress").args(args);
    let output = command.output().expect("run tws");
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

/// `tws compress` writes what the server then sends.
#[cfg(all(feature = "cli", feature = "compress"))]
#[test]
fn compressed_folder_is_served_from_sidecars() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let files = [("made.txt", text()), ("tiny.txt", "t".to_owned())];
    for (name, content) in files {
        fs::write(folder.path().join(name), content).expect("write file");
    }
    fs::write(folder.path().join("photo.png"), [7; 5000]).expect("write file");
    let run = |args: &[&str]| compress(folder.path(), args).0;
    assert_eq!(run(&["--jobs=2", "."]), Some(0));
    assert_eq!(run(&["."]), Some(0));
    assert_eq!(run(&["none"]), Some(1));
    assert_eq!(run(&["tiny.txt"]), Some(1));
    assert_eq!(run(&[]), Some(2));
    assert_eq!(run(&["-j", "0", "."]), Some(2));
    assert_eq!(run(&["--help"]), Some(0));
    // What cannot be decoded is reported and kept.
    fs::write(folder.path().join("tiny.txt.gz"), "mine").expect("write file");
    assert_eq!(run(&["."]), Some(1));
    fs::remove_file(folder.path().join("tiny.txt.gz")).expect("remove file");
    let server = server(folder.path(), |site| site.compress = Compress::Sidecar);
    let mut client = server.client();
    for coding in ["gzip", "zstd", "br"] {
        let response = get_accepting(&mut client, "/made.txt", coding);
        assert_eq!(response.field("Content-Encoding"), Some(coding));
        assert!(decoded(&response) == text().into_bytes(), "{coding}");
    }
    assert!(!folder.path().join("tiny.txt.gz").exists());
    assert!(!folder.path().join("photo.png.gz").exists());
}

/// Modification times do not tell whether a sidecar has the content of its file: deploys keep them, and
/// reproducible builds set all of them to one time.
#[cfg(all(feature = "cli", feature = "compress"))]
#[test]
fn compressed_folder_is_served_with_current_content() {
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let now = SystemTime::now() - Duration::from_secs(3600);
    let after = now + Duration::from_secs(60);
    for (after, content) in [
        (old, "hi".to_owned()),
        (old, text().replace("line", "word")),
        (now, "hi".to_owned()),
        // Same size.
        (now, text().replace("line", "word")),
        (after, String::new()),
    ] {
        let folder = tempfile::tempdir().expect("create temporary directory");
        let write_at = |content: &str, time: SystemTime| {
            let path = folder.path().join("a.txt");
            fs::write(&path, content).expect("write file");
            let file = fs::File::options().write(true).open(path);
            file.and_then(|file| file.set_modified(time))
                .expect("set modification time");
        };
        write_at(&text(), now);
        assert_eq!(compress(folder.path(), &["."]).0, Some(0));
        write_at(&content, after);
        let (code, output) = compress(folder.path(), &["."]);
        assert_eq!(code, Some(0), "{output}");
        let server = server(folder.path(), |site| site.compress = Compress::Sidecar);
        for coding in ["gzip", "zstd", "br"] {
            let response = get_accepting(&mut server.client(), "/a.txt", coding);
            assert!(
                decoded(&response) == content.as_bytes(),
                "{after:?} {coding}"
            );
            let is_coded = response.field("Content-Encoding").is_some();
            assert_eq!(is_coded, content.len() > 1000, "{after:?} {coding}");
        }
    }
}

/// A symbolic link is not compressed, but a sidecar beside it is served.
#[cfg(all(feature = "cli", feature = "compress"))]
#[test]
fn compress_reports_sidecars_with_other_content_than_a_link() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let at = folder.path();
    write(at, "a.txt", text());
    write(at, "b.txt", text().replace("line", "word"));
    assert_eq!(compress(at, &["."]).0, Some(0));
    for (target, code) in [("a.txt", 0), ("b.txt", 1)] {
        let _ = fs::remove_file(at.join("link.txt"));
        std::os::unix::fs::symlink(target, at.join("link.txt")).expect("create link");
        fs::copy(at.join("a.txt.gz"), at.join("link.txt.gz")).expect("copy file");
        let (found, output) = compress(at, &["."]);
        assert_eq!(found, Some(code), "{output}");
        assert_eq!(output.contains("link.txt.gz: "), code == 1, "{output}");
        assert!(at.join("link.txt.gz").exists());
    }
    // Neither has a file that a client could get in their place.
    for name in ["gone.txt.gz", "dump.tar.gz"] {
        fs::copy(at.join("a.txt.gz"), at.join(name)).expect("copy file");
    }
    fs::create_dir(at.join("dump.tar")).expect("create directory");
    fs::remove_file(at.join("link.txt.gz")).expect("remove file");
    assert_eq!(compress(at, &["."]).0, Some(0));
    assert!(at.join("gone.txt.gz").exists() && at.join("dump.tar.gz").exists());
}

/// A file that a killed process was writing is no obstacle for the next one.
#[cfg(all(feature = "cli", feature = "compress"))]
#[test]
fn compress_succeeds_after_another_was_killed() {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};
    let folder = tempfile::tempdir().expect("create temporary directory");
    let at = folder.path().canonicalize().expect("absolute path");
    // It takes seconds, and this test only the time until the process has created a file.
    let content: String = (0..400_000_u64).map(|n| format!("{:x}\n", n * n)).collect();
    write(&at, "a.txt", content);
    let mut command = Command::new(env!("CARGO_BIN_EXE_tws"));
    command.current_dir(&at).args(["compress", "."]);
    let mut killed = command.stdout(Stdio::null()).spawn().expect("run tws");
    let descriptors = format!("/proc/{}/fd", killed.id());
    eventually!(|| {
        let entries = fs::read_dir(&descriptors).expect("list descriptors");
        let mut files = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        files.any(|file| file.starts_with(&at) && file != at && file != at.join("a.txt"))
    });
    killed.kill().expect("kill tws");
    assert_eq!(killed.wait().expect("wait for exit").signal(), Some(9));
    write(&at, "a.txt", text());
    let (code, output) = compress(&at, &["."]);
    assert_eq!(code, Some(0), "{output}");
    for extension in ["br", "zst", "gz"] {
        assert!(at.join(format!("a.txt.{extension}")).exists());
    }
}

/// Each coding is a separate representation (RFC 9110 §8.8.3.3).
#[cfg(feature = "compress")]
#[test]
fn each_coding_has_own_etag_and_length() {
    let folder = sample_folder();
    let server = server(folder.path(), |_| {});
    let mut client = server.client();
    for path in ["/made.txt", "/side.js"] {
        let responses = ["", "gzip", "br"].map(|accept| get_accepting(&mut client, path, accept));
        let tags = responses
            .each_ref()
            .map(|response| response.field("ETag").expect("ETag field"));
        assert!(
            tags[0] != tags[1] && tags[1] != tags[2] && tags[0] != tags[2],
            "{tags:?}"
        );
        for (response, accept) in responses.iter().zip(["", "gzip", "br"]) {
            let tag = response.field("ETag").expect("ETag field");
            let fields = format!("Accept-Encoding: {accept}\r\nIf-None-Match: {tag}\r\n");
            let unchanged = client.request("GET", path, &fields);
            assert_eq!(
                (unchanged.status, unchanged.field("ETag")),
                (304, Some(tag))
            );
            assert_eq!(unchanged.field("Vary"), Some("Accept-Encoding"));
            let head = client.request("HEAD", path, &format!("Accept-Encoding: {accept}\r\n"));
            assert_eq!(head.length(), response.length(), "{path} {accept:?}");
            // A part of this representation, not of another.
            let fields = format!("Accept-Encoding: {accept}\r\nRange: bytes=2-4\r\n");
            let part = client.request("GET", path, &fields);
            assert_eq!(
                (part.status, part.field("Vary")),
                (206, Some("Accept-Encoding"))
            );
            assert!(part.content == response.content[2..5], "{path} {accept:?}");
        }
    }
}

#[test]
fn compress_sidecar_and_off_do_not_compress() {
    let folder = sample_folder();
    let sidecar = server(folder.path(), |site| site.compress = Compress::Sidecar);
    assert_eq!(
        get_accepting(&mut sidecar.client(), "/side.js", "br").field("Content-Encoding"),
        Some("br")
    );
    assert_eq!(
        get_accepting(&mut sidecar.client(), "/made.txt", "br").field("Content-Encoding"),
        None
    );
    let off = server(folder.path(), |site| site.compress = Compress::Off);
    for path in ["/side.js", "/made.txt"] {
        let response = get_accepting(&mut off.client(), path, "br");
        assert_eq!(
            (response.field("Content-Encoding"), response.field("Vary")),
            (None, None)
        );
    }
}

#[cfg(feature = "compress")]
#[test]
fn svgz_is_served_with_gzip_coding() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let image = [&b"\x1F\x8B"[..], &pattern(5000)].concat();
    write(folder.path(), "a.svgz", &image);
    write(folder.path(), "plain.svgz", "<svg/>");
    write(
        folder.path(),
        "small.txt",
        "small small small small small small small small",
    );
    let server = server(folder.path(), |_| {});
    let mut client = server.client();
    let svgz = get_accepting(&mut client, "/a.svgz", "br, gzip");
    assert_eq!(svgz.field("Content-Type"), Some("image/svg+xml"));
    assert_eq!(svgz.field("Content-Encoding"), Some("gzip"));
    assert!(svgz.content == image);
    let plain = get_accepting(&mut client, "/plain.svgz", "br, gzip");
    assert_eq!(plain.field("Content-Encoding"), None);
    // Compression gains nothing, but the client does not accept identity.
    let refused = get_accepting(&mut client, "/small.txt", "gzip, identity;q=0");
    assert_eq!(refused.field("Content-Encoding"), Some("gzip"));
}

/// A sidecar written moments ago may be incomplete.
#[test]
fn fresh_sidecar_is_not_used() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    write(folder.path(), "a.js", "source");
    fs::write(folder.path().join("a.js.gz"), "half").expect("write file");
    let server = server(folder.path(), |site| site.compress = Compress::Sidecar);
    assert_eq!(
        get_accepting(&mut server.client(), "/a.js", "gzip").text(),
        "source"
    );
}

/// A large file that is overwritten in place is a new version immediately.
#[test]
fn file_rewritten_in_place_gets_new_etag() {
    use std::os::unix::fs::FileExt;
    const LEN: usize = 64_000;
    let folder = tempfile::tempdir().expect("create temporary directory");
    let server = server(folder.path(), |_| {});
    let mut client = server.client();
    for round in 0..50 {
        let name = format!("{round}.bin");
        write(folder.path(), &name, vec![b'A'; LEN]);
        let first = client.get(&format!("/{name}"));
        let file = fs::File::options()
            .write(true)
            .open(folder.path().join(&name));
        file.expect("open file")
            .write_all_at(&[b'B'; LEN], 0)
            .expect("overwrite file");
        let second = client.get(&format!("/{name}"));
        assert!(first.content == [b'A'; LEN] && second.content == [b'B'; LEN]);
        assert_ne!(first.field("ETag"), second.field("ETag"));
    }
}

/// A download is aborted if its file is rewritten meanwhile; it is complete if the file only grows.
#[test]
fn file_rewritten_during_download_aborts_it() {
    use std::os::unix::fs::FileExt;
    const LEN: usize = 24_000_000;
    let folder = tempfile::tempdir().expect("create temporary directory");
    let server = server(folder.path(), |_| {});
    for (name, at, whole) in [("log", LEN as u64, true), ("image", 0, false)] {
        write(folder.path(), name, vec![b'A'; LEN]);
        let mut client = server.client();
        client.send(format!(
            "GET /{name} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
        ));
        assert_eq!(client.head().length(), Some(LEN as u64));
        let file = fs::File::options()
            .write(true)
            .open(folder.path().join(name));
        file.expect("open file")
            .write_all_at(&[b'B'; 1000], at)
            .expect("overwrite file");
        let content = client.rest().expect("read to end of connection");
        assert_eq!(content.len() == LEN, whole, "{name}");
    }
}

/// Reproducible builds give all files the same modification time.
#[test]
fn content_etag_is_equal_for_equal_files() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let at = folder.path();
    for (name, content) in [("a.txt", "same"), ("b.txt", "same"), ("c.txt", "else")] {
        write(at, name, content);
    }
    write(at, "big.bin", pattern(1_000_000));
    for name in ["a.txt", "c.txt", "big.bin"] {
        let file = fs::File::options()
            .write(true)
            .open(at.join(name))
            .expect("open file");
        let times = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        file.set_modified(times).expect("set modification time");
    }
    let server = server(at, |site| site.etag = EtagSource::Content);
    let mut client = server.client();
    let mut tag = |name: &str| {
        let response = client.get(name);
        let tag = response.field("ETag").expect("ETag field").to_owned();
        (tag, response.field("Last-Modified").map(str::to_owned))
    };
    let (a, dated) = tag("/a.txt");
    assert_eq!(dated, None, "Last-Modified is omitted");
    assert!(a.starts_with('"') && a.len() == 34, "{a}");
    assert_eq!(tag("/b.txt").0, a);
    assert_ne!(tag("/c.txt").0, a);
    let big = tag("/big.bin").0;
    assert_eq!(tag("/big.bin").0, big);
}

/// RFC 9110 §14.6, §15.3.7.2.
#[test]
fn multiple_ranges_are_multipart_byteranges() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let (small, large) = (pattern(1000), pattern(3_000_000));
    write(folder.path(), "small.bin", &small);
    write(folder.path(), "large.bin", &large);
    let server = server(folder.path(), |_| {});
    let mut client = server.client();
    for (path, content) in [("/small.bin", &small), ("/large.bin", &large)] {
        let last = content.len() - 5;
        let fields = format!("Range: bytes=0-9,500-599,{last}-\r\n");
        let response = client.request("GET", path, &fields);
        assert_eq!(response.status, 206);
        let media_type = response.field("Content-Type").expect("Content-Type field");
        let boundary = media_type
            .strip_prefix("multipart/byteranges; boundary=")
            .expect("multipart boundary");
        assert_eq!(response.field("Content-Range"), None);
        let total = content.len();
        let mut expected = Vec::new();
        for (start, end) in [(0, 10), (500, 600), (last, total)] {
            let head = format!(
                "\r\n--{boundary}\r\nContent-Type: application/octet-stream\r\n\
                 Content-Range: bytes {start}-{}/{total}\r\n\r\n",
                end - 1
            );
            expected.extend_from_slice(head.as_bytes());
            expected.extend_from_slice(&content[start..end]);
        }
        expected.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        assert!(response.content == expected, "{path}");
        // The connection stays open.
        assert_eq!(
            client.request("GET", path, "Range: bytes=1-2\r\n").content,
            content[1..3]
        );
    }
    for (range, status) in [
        ("bytes=0-1,2-3", 206),
        ("bytes=5000000-,6000000-", 416),
        ("bytes=0-1,x", 200),
        (
            "bytes=0-0,100-100,200-200,300-300,400-400,500-500,600-600,700-700,800-800,900-900,910-910,920-920,930-930,940-940,950-950,960-960,970-970",
            206,
        ),
    ] {
        let response = client.request("GET", "/small.bin", &format!("Range: {range}\r\n"));
        assert_eq!(response.status, status, "{range}");
    }
    // Two adjacent ranges are merged.
    let one = client.request("GET", "/small.bin", "Range: bytes=0-1,2-3\r\n");
    assert_eq!(one.field("Content-Range"), Some("bytes 0-3/1000"));
}

/// Clients that download the changed blocks of a file request dozens of ranges.
#[test]
fn up_to_256_ranges_are_parts_and_more_are_ignored() {
    const LEN: usize = 300_000;
    let folder = tempfile::tempdir().expect("create temporary directory");
    let content = pattern(LEN);
    write(folder.path(), "large.bin", &content);
    let server = server(folder.path(), |_| {});
    let mut client = server.client();
    let mut request = |ranges: &[(usize, usize)]| {
        let members = ranges
            .iter()
            .map(|(start, end)| format!("{start}-{}", end - 1));
        let set = members.collect::<Vec<_>>().join(",");
        client.request("GET", "/large.bin", &format!("Range: bytes={set}\r\n"))
    };
    for count in [40, 256] {
        let ranges: Vec<_> = (0..count).map(|at| (at * 1000, at * 1000 + 10)).collect();
        let response = request(&ranges);
        assert_eq!(response.status, 206, "{count}");
        let parts = String::from_utf8_lossy(&response.content)
            .matches("Content-Range: bytes ")
            .count();
        assert_eq!(parts, count);
    }
    let ranges: Vec<_> = (0..257).map(|at| (at * 1000, at * 1000 + 10)).collect();
    let whole = request(&ranges);
    assert_eq!((whole.status, whole.content.len()), (200, LEN));
    // Overlapping ranges are merged, so no byte is sent twice.
    let overlapping = request(&vec![(0, LEN); 256]);
    assert_eq!((overlapping.status, overlapping.content.len()), (206, LEN));
}
