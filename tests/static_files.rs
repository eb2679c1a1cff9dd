//! Tests of static files: paths, validators, conditional requests, ranges, methods, and downloads
//! of files that change.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use tws::site::Site;
use tws::{Handler, Request, Router, StaticFiles};

use crate::support::{TestServer, eventually, pattern};

/// Writes a file whose modification time is long past, so that its entity tag is strong.
pub(crate) fn write(folder: &Path, name: &str, content: impl AsRef<[u8]>) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().expect("path has a parent")).expect("create directory");
    fs::write(&path, content).expect("write file");
    let file = fs::File::options()
        .write(true)
        .open(&path)
        .expect("open file");
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    file.set_modified(time).expect("set modification time");
}

fn tree() -> TempDir {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let at = folder.path();
    write(at, "index.html", "<p>home");
    write(at, "about/index.html", "<p>about");
    write(at, "empty.txt", "");
    write(at, "large.bin", pattern(3_000_000));
    write(at, "ten.txt", "0123456789");
    write(at, "a b+c%#?ñ.txt", "odd");
    write(at, ".secret", "secret");
    write(at, ".git/config", "secret");
    write(at, ".well-known/security.txt", "public");
    write(at, "bare/file.txt", "x");
    folder
}

/// A program or a wrong clock has set a modification time in the future.
#[test]
fn download_of_a_file_from_the_future_resumes_by_its_tag() {
    let folder = tree();
    let path = folder.path().join("ten.txt");
    let file = fs::File::options().write(true).open(path).expect("a file");
    let time = SystemTime::now() + Duration::from_secs(365 * 86_400);
    file.set_modified(time).expect("a time");
    let server = TestServer::of(folder.path());
    let mut client = server.client();
    let whole = client.get("/ten.txt");
    let tag = whole.field("ETag").expect("a tag").to_owned();
    let date = whole.field("Last-Modified").expect("a date").to_owned();
    assert!(!tag.starts_with("W/"), "{tag}");
    let time = |text: &str| httpdate::parse_http_date(text).expect("a date");
    assert!(time(&date) <= time(whole.field("Date").expect("a date")));
    for (validator, status) in [(&tag, 206), (&date, 200)] {
        let fields = format!("Range: bytes=5-\r\nIf-Range: {validator}\r\n");
        let reply = client.request("GET", "/ten.txt", &fields);
        assert_eq!(reply.status, status, "{validator}");
    }
    for (fields, status) in [
        (format!("If-None-Match: {tag}\r\n"), 304),
        (format!("If-Modified-Since: {date}\r\n"), 304),
        (format!("If-Match: {tag}\r\n"), 200),
        (
            "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n".to_owned(),
            200,
        ),
    ] {
        assert_eq!(
            client.request("GET", "/ten.txt", &fields).status,
            status,
            "{fields}"
        );
    }
}

#[test]
fn paths_of_file_tree_get_expected_status() {
    let folder = tree();
    let server = TestServer::of(folder.path());
    let mut client = server.client();
    let table = [
        ("/", 200, Some("<p>home")),
        ("/index.html", 200, Some("<p>home")),
        ("/?query", 200, Some("<p>home")),
        ("/about/", 200, Some("<p>about")),
        ("/about", 301, None),
        ("/about/../ten.txt", 200, Some("0123456789")),
        ("/empty.txt", 200, Some("")),
        ("/a%20b+c%25%23%3F%C3%B1.txt", 200, Some("odd")),
        ("/a%20b+c%25%23%3Fñ.txt", 200, Some("odd")),
        ("/nothing", 404, None),
        ("/bare/", 404, None),
        ("/ten.txt/", 404, None),
        ("/ten.txt/x", 404, None),
        ("/.secret", 404, None),
        ("/%2esecret", 404, None),
        ("/.git/config", 404, None),
        ("/.well-known/security.txt", 200, Some("public")),
        ("/%00", 400, None),
    ];
    for (path, status, content) in table {
        // A rejection closes its connection.
        let response = match status {
            400 => server.client().get(path),
            _ => client.get(path),
        };
        assert_eq!(response.status, status, "{path}");
        if let Some(content) = content {
            assert_eq!(response.text(), content, "{path}");
        }
    }
}

#[test]
fn path_above_root_is_400() {
    let folder = tree();
    fs::create_dir(folder.path().join("root")).expect("create directory");
    let server = TestServer::of(&folder.path().join("root"));
    for path in [
        "/../ten.txt",
        "/..%2ften.txt",
        "/%2e%2e/ten.txt",
        "/x/../../ten.txt",
        "/..\\ten.txt",
        "/%5c..%5cten.txt",
        "/%2ften.txt",
        "/%2e%2e%2ften.txt",
        "/x%2f..%2f..%2ften.txt",
        "/x%2f%00",
    ] {
        assert_eq!(server.client().get(path).status, 400, "{path}");
    }
}

/// Package managers encode the slash in the name of a scoped package.
#[test]
fn encoded_slash_leads_where_a_slash_does() {
    let folder = tree();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir_all(at("@s/.git")).expect("create directory");
    for name in ["@s/p", "@s/.git/config", "@s/.env"] {
        fs::write(at(name), name).expect("write file");
    }
    std::os::unix::fs::symlink("/etc", at("@s/out")).expect("create symlink");
    let server = TestServer::of(folder.path());
    let mut client = server.client();
    for path in ["/@s%2fp", "/@s%2Fp", "/%40s%2fp?q"] {
        let response = client.get(path);
        assert_eq!(
            (response.status, response.text().as_str()),
            (200, "@s/p"),
            "{path}"
        );
    }
    for path in [
        "/@s%2f.env",
        "/@s%2f.git%2fconfig",
        "/@s%2f%2egit/config",
        "/@s%2fout%2fpasswd",
        "/@s%252fp",
        "/@s%2fp%2fx",
    ] {
        assert_eq!(client.get(path).status, 404, "{path}");
    }
}

#[test]
fn file_response_has_type_length_and_validators() {
    let folder = tree();
    let server = TestServer::of(folder.path());
    let mut client = server.client();
    let response = client.get("/ten.txt");
    assert_eq!(
        response.field("Content-Type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(response.field("Content-Length"), Some("10"));
    assert_eq!(
        response.field("Last-Modified"),
        Some("Sun, 06 Nov 1994 08:49:37 GMT")
    );
    assert_eq!(response.field("Accept-Ranges"), Some("bytes"));
    let etag = response.field("ETag").expect("ETag field").to_owned();
    assert!(etag.starts_with('"'), "{etag}");
    let head = client.request("HEAD", "/ten.txt", "");
    let without_date = |head: &str| {
        let lines = head.lines().filter(|line| !line.starts_with("Date:"));
        lines.collect::<Vec<_>>().join("\n")
    };
    assert_eq!(without_date(&head.head), without_date(&response.head));
    // No body follows the head of a HEAD response: the next response is complete.
    assert_eq!(client.get("/ten.txt").text(), "0123456789");
}

#[test]
fn conditional_request_is_304_or_412() {
    let folder = tree();
    let server = TestServer::of(folder.path());
    let mut client = server.client();
    let etag = client
        .get("/ten.txt")
        .field("ETag")
        .expect("ETag field")
        .to_owned();
    let table = [
        (format!("If-None-Match: {etag}\r\n"), 304),
        (format!("If-None-Match: \"x\", W/{etag}\r\n"), 304),
        ("If-None-Match: \"x\"\r\n".to_owned(), 200),
        (
            "If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n".to_owned(),
            304,
        ),
        (
            "If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n".to_owned(),
            200,
        ),
        (format!("If-Match: {etag}\r\n"), 200),
        ("If-Match: \"x\"\r\n".to_owned(), 412),
    ];
    for (fields, status) in table {
        for method in ["GET", "HEAD"] {
            let response = client.request(method, "/ten.txt", &fields);
            assert_eq!(response.status, status, "{method} {fields}");
            if status == 304 {
                assert_eq!(response.field("ETag"), Some(etag.as_str()));
                assert_eq!(response.field("Content-Length"), None);
            }
        }
    }
}

#[test]
fn range_request_is_206_and_range_beyond_end_is_416() {
    let folder = tree();
    let server = TestServer::of(folder.path());
    let mut client = server.client();
    let table = [
        ("bytes=2-4", 206, "234", Some("bytes 2-4/10")),
        ("bytes=7-", 206, "789", Some("bytes 7-9/10")),
        ("bytes=-2", 206, "89", Some("bytes 8-9/10")),
        ("bytes=0-99", 206, "0123456789", Some("bytes 0-9/10")),
        ("lines=1-2", 200, "0123456789", None),
    ];
    for (range, status, content, shown) in table {
        let response = client.request("GET", "/ten.txt", &format!("Range: {range}\r\n"));
        assert_eq!(
            (response.status, response.text().as_str()),
            (status, content),
            "{range}"
        );
        assert_eq!(response.field("Content-Range"), shown, "{range}");
    }
    let response = client.request("GET", "/ten.txt", "Range: bytes=10-\r\n");
    assert_eq!(
        (response.status, response.field("Content-Range")),
        (416, Some("bytes */10"))
    );
    let part = client.request("GET", "/large.bin", "Range: bytes=1000000-2999999\r\n");
    assert!(
        part.content == pattern(3_000_000)[1_000_000..],
        "every byte"
    );
}

#[test]
fn folder_redirect_keeps_query_and_host() {
    let folder = tree();
    let odd = folder.path().join(std::ffi::OsStr::from_bytes(b"d%\xFF ?"));
    fs::create_dir(odd).expect("create directory");
    let server = TestServer::of(folder.path());
    let mut client = server.client();
    let table = [
        ("/about", "/about/"),
        ("/about?a=b&c", "/about/?a=b&c"),
        ("//about", "/about/"),
        ("/d%25%FF%20%3f", "/d%25%FF%20%3F/"),
    ];
    for (path, location) in table {
        let response = client.get(path);
        assert_eq!(
            (response.status, response.field("Location")),
            (301, Some(location)),
            "{path}"
        );
    }
}

#[test]
fn unsupported_method_is_405_with_allow() {
    let folder = tree();
    let server = TestServer::of(folder.path());
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE"] {
        let mut client = server.client();
        let response = client.request(method, "/ten.txt", "");
        let seen = (
            response.status,
            response.field("Allow"),
            response.field("Connection"),
        );
        assert_eq!(
            seen,
            (405, Some("GET, HEAD, OPTIONS"), Some("close")),
            "{method}"
        );
    }
    assert_eq!(server.client().request("BREW", "/ten.txt", "").status, 501);
    let response = server.client().request("OPTIONS", "/ten.txt", "");
    assert_eq!(
        (response.status, response.field("Allow")),
        (204, Some("GET, HEAD, OPTIONS"))
    );
}

#[test]
fn download_completes_after_file_is_replaced_or_unlinked() {
    let folder = tree();
    let content = pattern(24_000_000);
    write(folder.path(), "big.bin", &content);
    let server = TestServer::of(folder.path());
    let begin = || {
        let mut client = server.client();
        client.send("GET /big.bin HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(client.head().status, 200);
        client
    };
    let mut replaced = begin();
    write(folder.path(), "new.bin", "new");
    fs::rename(folder.path().join("new.bin"), folder.path().join("big.bin")).expect("rename file");
    let mut other = server.client();
    eventually!(|| other.get("/big.bin").content == b"new");
    assert!(
        replaced.read(content.len()) == content,
        "every byte of the old file"
    );

    write(folder.path(), "big.bin", &content);
    eventually!(|| other.get("/big.bin").content == content);
    let mut unlinked = begin();
    fs::remove_file(folder.path().join("big.bin")).expect("remove file");
    eventually!(|| other.get("/big.bin").status == 404);
    assert!(
        unlinked.read(content.len()) == content,
        "every byte of the old file"
    );
}

/// The opened file is sent: neither appended bytes nor later permissions matter.
#[test]
fn download_completes_after_file_grows_or_becomes_unreadable() {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    let folder = tree();
    let content = pattern(24_000_000);
    write(folder.path(), "big.bin", &content);
    let path = folder.path().join("big.bin");
    let server = TestServer::of(folder.path());
    let begin = || {
        let mut client = server.client();
        client.send("GET /big.bin HTTP/1.1\r\nHost: test\r\n\r\n");
        assert_eq!(client.head().length(), Some(24_000_000));
        client
    };
    let mut unreadable = begin();
    let mut grown = begin();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("set permissions");
    assert!(unreadable.read(content.len()) == content, "every byte");
    assert_eq!(unreadable.get("/ten.txt").text(), "0123456789");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("set permissions");
    let mut file = fs::File::options()
        .append(true)
        .open(&path)
        .expect("open file");
    file.write_all(b"more").expect("write file");
    assert!(grown.read(content.len()) == content, "every byte");
    assert_eq!(grown.get("/ten.txt").text(), "0123456789");
}

#[test]
fn truncated_file_closes_connection_early() {
    let folder = tree();
    let len = 24_000_000;
    write(folder.path(), "big.bin", pattern(len));
    let server = TestServer::of(folder.path());
    let mut client = server.client();
    client.send("GET /big.bin HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.head().length(), Some(len as u64));
    let file = fs::File::options()
        .write(true)
        .open(folder.path().join("big.bin"));
    file.expect("open file")
        .set_len(1000)
        .expect("truncate file");
    let rest = client.rest().expect("read to end of connection");
    assert!(rest.len() < len, "the response has its full length");
    assert_eq!(server.client().get("/ten.txt").text(), "0123456789");
}

/// A file evicted from the page cache is read by a helper thread; the response is the same.
#[test]
fn cold_files_are_served_with_same_content() {
    let folder = tree();
    let server = TestServer::of(folder.path());
    let mut client = server.client();
    for round in 0..20 {
        let name = format!("cold-{round}.txt");
        write(folder.path(), &name, "0123456789");
        let file = fs::File::open(folder.path().join(&name)).expect("open file");
        file.sync_all().expect("sync file");
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("advise kernel");
        let response = client.get(&format!("/{name}"));
        assert_eq!(
            (response.status, response.text().as_str()),
            (200, "0123456789")
        );
        assert_eq!(client.get(&format!("/never-{round}")).status, 404);
    }
}

#[test]
fn single_file_root_is_served_at_root_and_name() {
    let folder = tree();
    let files = StaticFiles::new(folder.path().join("ten.txt")).expect("open site root");
    let server = TestServer::start(files);
    let mut client = server.client();
    for path in ["/", "/ten.txt"] {
        let response = client.get(path);
        assert_eq!(
            (response.status, response.text().as_str()),
            (200, "0123456789")
        );
        assert_eq!(
            response.field("Content-Type"),
            Some("text/plain; charset=utf-8")
        );
    }
    assert_eq!(client.get("/large.bin").status, 404);
}

#[cfg(feature = "config-file")]
#[test]
fn nested_site_redirects_keep_prefix() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    fs::create_dir(folder.path().join("docs")).expect("create directory");
    for name in ["index.html", "docs/index.html", "a b.txt"] {
        fs::write(folder.path().join(name), name).expect("write file");
    }
    fs::write(folder.path().join(OsStr::from_bytes(b"\xF1")), "bytes").expect("write file");
    let rules = "[[redirect]]\nfrom = \"/old\"\nto = \"/docs/\"\n\
                 [[redirect]]\nfrom = \"/away\"\nto = \"https://a.test/\"\n";
    fs::write(folder.path().join(".tws.toml"), rules).expect("write file");
    let site = Site::of_root(folder.path()).expect("read site file");
    let site = site.expect("a site file");
    let files = StaticFiles::with_site(folder.path(), &site).expect("open site root");
    let inner = Router::new().nest("/{name}", files);
    let router = Router::new().nest("/a b", inner);
    for (target, status, location) in [
        ("/a%20b/ñ/a%20b.txt", 200, None),
        ("/a%20b/x/%F1", 200, None),
        ("/a%20b/x/", 200, None),
        // Links in the index file are relative to this path.
        ("/a%20b/%C3%B1?q=1", 301, Some("/a%20b/%C3%B1/?q=1")),
        ("/a%20b/x/docs?q", 301, Some("/a%20b/x/docs/?q")),
        ("/a%20b/x/old", 301, Some("/a%20b/x/docs/")),
        ("/a%20b/x/away", 301, Some("https://a.test/")),
        ("/a%20b/x/none", 404, None),
        ("/x/docs", 404, None),
    ] {
        let response = router.handle(&Request::get(target)).wait();
        let found = response.headers().get("Location");
        let found = found.map(|value| value.to_str().expect("valid UTF-8"));
        assert_eq!(
            (response.status().as_u16(), found),
            (status, location),
            "{target}"
        );
    }
    // The page of the first prefix is not that of the others.
    for name in ["x", "y", "%3Cz%3E", "x"] {
        let request =
            Request::get(&format!("/a%20b/{name}/none")).with_header("Accept", "text/html");
        let response = router.handle(&request).wait();
        let page = String::from_utf8(response.into_content().expect("bytes in memory"))
            .expect("a page is UTF-8");
        assert!(page.contains(&format!("href=\"/a%20b/{name}/\"")), "{page}");
    }
}
