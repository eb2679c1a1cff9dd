//! Tests of uploads by PUT and by form: storing, overwriting, preconditions, limits, races, and
//! rejected targets.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Barrier;
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;
use tws::StaticFiles;
use tws::site::{Site, Size, Upload};

use crate::support::{Client, HttpResponse, TestServer, TwsProcess, eventually, pattern};

/// Returns a folder with the folder `root` in it, and files that must not change.
fn tree() -> TempDir {
    let outside = tempfile::tempdir().expect("create temporary directory");
    let at = |name: &str| outside.path().join(name);
    fs::create_dir_all(at("root/sub")).expect("create directory");
    fs::create_dir_all(at("elsewhere")).expect("create directory");
    fs::write(at("secret"), "secret").expect("write file");
    fs::write(at("root/old.txt"), "old").expect("write file");
    fs::write(at("root/.tws.toml"), "").expect("write file");
    symlink("../secret", at("root/out")).expect("create symlink");
    symlink("old.txt", at("root/link")).expect("create symlink");
    symlink("../elsewhere", at("root/away")).expect("create symlink");
    symlink("sub", at("root/dir")).expect("create symlink");
    outside
}

fn serve(outside: &TempDir, change: impl FnOnce(&mut Site)) -> TestServer {
    let mut site = Site::default();
    site.upload = Some(Upload::default());
    change(&mut site);
    let files = StaticFiles::with_site(outside.path().join("root"), &site).expect("open site root");
    TestServer::start(files)
}

fn overwrite(site: &mut Site) {
    if let Some(upload) = &mut site.upload {
        upload.overwrite = true;
    }
}

fn send(
    client: &mut Client,
    method: &str,
    path: &str,
    fields: &str,
    content: &[u8],
) -> HttpResponse {
    let len = content.len();
    client.send(format!(
        "{method} {path} HTTP/1.1\r\nHost: test\r\nContent-Length: {len}\r\n{fields}\r\n"
    ));
    client.send(content);
    client.response()
}

fn put(server: &TestServer, path: &str, fields: &str, content: impl AsRef<[u8]>) -> HttpResponse {
    send(&mut server.client(), "PUT", path, fields, content.as_ref())
}

/// Paths at which nothing was found are remembered for a moment.
#[test]
fn uploaded_file_is_served_at_once() {
    let outside = tree();
    let server = serve(&outside, |_| {});
    let mut client = server.client();
    for number in 0..20 {
        let path = format!("/new-{number}.txt");
        assert_eq!(client.get(&path).status, 404);
        assert_eq!(send(&mut client, "PUT", &path, "", b"new").status, 201);
        assert_eq!(client.get(&path).status, 200);
    }
}

/// Returns a multipart form with these files, as a browser sends it.
fn form(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut form = b"--XyZ\r\nContent-Disposition: form-data; name=\"note\"\r\n\r\nx\r\n".to_vec();
    for (name, content) in files {
        let head = format!(
            "--XyZ\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\n\
             Content-Type: application/octet-stream\r\n\r\n"
        );
        form.extend_from_slice(head.as_bytes());
        form.extend_from_slice(content);
        form.extend_from_slice(b"\r\n");
    }
    form.extend_from_slice(b"--XyZ--\r\n");
    form
}

fn post(server: &TestServer, path: &str, fields: &str, files: &[(&str, &[u8])]) -> HttpResponse {
    let fields = format!("Content-Type: multipart/form-data; boundary=XyZ\r\n{fields}");
    send(&mut server.client(), "POST", path, &fields, &form(files))
}

/// Returns the paths and contents of all files, and the targets of links.
fn snapshot(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("read directory") {
        let path = entry.expect("read directory entry").path();
        let name = path.to_string_lossy().into_owned();
        match fs::read_link(&path) {
            Ok(target) => found.push((name, target.to_string_lossy().into_owned().into_bytes())),
            Err(_) if path.is_dir() => found.extend(snapshot(&path)),
            Err(_) => found.push((name, fs::read(&path).expect("read file"))),
        }
    }
    found.sort_unstable();
    found
}

#[test]
fn put_file_is_201_and_served() {
    let outside = tree();
    let server = serve(&outside, |_| {});
    let content = pattern(700_000);
    let mut client = server.client();
    let response = send(&mut client, "PUT", "/sub/a%20b%C3%B1.bin", "", &content);
    assert_eq!(response.status, 201, "{}", response.text());
    let location = response
        .field("Location")
        .expect("Location field")
        .to_owned();
    assert_eq!(location, "/sub/a%20b%C3%B1.bin");
    // The connection stays open.
    assert!(client.get(&location).content == content);
    let through_a_link = send(&mut client, "PUT", "/dir/x.txt", "", b"x");
    assert_eq!(through_a_link.status, 201);
    assert_eq!(client.get("/sub/x.txt").text(), "x");
    assert_eq!(send(&mut client, "PUT", "/empty", "", b"").status, 201);
    assert_eq!(client.get("/empty").text(), "");
    let chunked = "Host: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n";
    client.send(format!("PUT /chunked HTTP/1.1\r\n{chunked}"));
    assert_eq!(client.response().status, 201);
    assert_eq!(client.get("/chunked").text(), "abcd");
    let names: Vec<_> = snapshot(&outside.path().join("root/sub"));
    assert_eq!(names.len(), 2, "nothing else is left");
}

/// A new file must not be served where another one is served now.
#[test]
fn upload_in_place_of_a_folders_page_is_409_without_overwrite() {
    let names = |names: &[&str]| {
        let parse = |name: &&str| name.parse().expect("an index name");
        names.iter().map(parse).collect::<Vec<_>>()
    };
    /// Index names, clean URLs, the file that exists, the upload, its status.
    type Row = (
        &'static [&'static str],
        bool,
        &'static str,
        &'static str,
        u16,
    );
    let table: &[Row] = &[
        (
            &["index.html", "default.htm"],
            false,
            "default.htm",
            "index.html",
            409,
        ),
        (
            &["default.htm", "index.html"],
            false,
            "default.htm",
            "index.html",
            201,
        ),
        (
            &["default.htm", "index.html"],
            false,
            "index.html",
            "default.htm",
            409,
        ),
        (&["a", "b", "c"], false, "sub/c", "sub/a", 409),
        (&["a", "b", "c"], false, "sub/c", "sub/b", 409),
        (&["a", "b", "c"], false, "sub/b", "sub/c", 201),
        (&["a", "b", "c"], false, "c", "sub/a", 201),
        (&[], false, "sub/a.txt", "sub/index.html", 201),
        (&[], true, "x.html", "x", 409),
        (&[], false, "x.html", "x", 201),
        (&[], true, "x", "x.html", 201),
        (&[], true, "sub/index.html", "sub.html", 409),
        (&["a", "b"], true, "sub/b", "sub.html", 409),
        (&[], false, "sub/index.html", "sub.html", 201),
        (&[], true, "sub/a.txt", "sub.html", 201),
    ];
    for (index, clean_urls, existing, upload, status) in table {
        let outside = tree();
        fs::write(outside.path().join("root").join(existing), "existing").expect("write file");
        let change = |site: &mut Site| {
            site.index = names(index);
            site.clean_urls = *clean_urls;
        };
        let server = serve(&outside, change);
        let row = format!("{index:?} {clean_urls} {existing} {upload}");
        let path = format!("/{upload}");
        assert_eq!(put(&server, &path, "", "new").status, *status, "{row}");
        let server = serve(&outside, |site| {
            change(site);
            overwrite(site);
        });
        assert!(put(&server, &path, "", "newer").status < 300, "{row}");
    }
}

#[test]
fn put_existing_file_is_409_without_overwrite() {
    let outside = tree();
    let server = serve(&outside, |_| {});
    let response = put(&server, "/old.txt", "", "new");
    assert_eq!(response.status, 409);
    assert!(
        response.text().contains("--upload-overwrite"),
        "{}",
        response.text()
    );
    assert_eq!(server.client().get("/old.txt").text(), "old");

    let server = serve(&outside, overwrite);
    assert_eq!(server.client().get("/old.txt").text(), "old");
    let response = put(&server, "/old.txt", "", "newer");
    assert_eq!((response.status, response.field("Location")), (204, None));
    eventually!(|| server.client().get("/old.txt").text() == "newer");
    for path in ["/sub", "/link", "/out"] {
        assert_eq!(put(&server, path, "", "x").status, 409, "{path}");
    }
    assert_eq!(
        fs::read(outside.path().join("secret")).expect("read file"),
        b"secret"
    );
}

/// A sidecar is served in place of its file, and `about` in place of `about.html`.
#[test]
fn put_file_shadowing_another_is_409_without_overwrite() {
    let outside = tree();
    fs::write(outside.path().join("root/about.html"), "about").expect("write file");
    let clean = |site: &mut Site| site.clean_urls = true;
    let server = serve(&outside, clean);
    for name in ["old.txt.gz", "old.txt.br", "old.txt.zst", "about"] {
        let response = put(&server, &format!("/{name}"), "", "new");
        assert_eq!(response.status, 409, "{name}");
        assert!(
            response.text().contains("--upload-overwrite"),
            "{}",
            response.text()
        );
        let files = [(name, &b"new"[..])];
        assert_eq!(post(&server, "/", "", &files).status, 409, "{name}");
    }
    for name in ["new.txt.gz", "old.txt.7z", "old", "sub.gz"] {
        let response = put(&server, &format!("/{name}"), "", "new");
        assert_eq!(response.status, 201, "{name}");
    }
    let server = serve(&outside, |site| {
        clean(site);
        overwrite(site);
    });
    for name in ["old.txt.gz", "about"] {
        let response = put(&server, &format!("/{name}"), "", "new");
        assert_eq!(response.status, 201, "{name}");
    }
}

/// Rewrites `old.txt` and returns its entity tag.
fn etag_of_old(outside: &TempDir, server: &TestServer) -> String {
    crate::static_files::write(&outside.path().join("root"), "old.txt", "old");
    let response = server.client().get("/old.txt");
    response.field("ETag").expect("ETag field").to_owned()
}

#[test]
fn put_precondition_failure_is_412() {
    let outside = tree();
    let server = serve(&outside, overwrite);
    let etag = etag_of_old(&outside, &server);
    let table = [
        ("/old.txt", "If-None-Match: *\r\n".to_owned(), 412),
        ("/old.txt", "If-Match: \"other\"\r\n".to_owned(), 412),
        ("/old.txt", format!("If-None-Match: {etag}\r\n"), 412),
        (
            "/old.txt",
            "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT\r\n".to_owned(),
            412,
        ),
        ("/new.txt", "If-Match: *\r\n".to_owned(), 412),
        ("/new.txt", format!("If-Match: {etag}\r\n"), 412),
        ("/new.txt", "If-None-Match: *\r\n".to_owned(), 201),
        ("/new.txt", "If-None-Match: *\r\n".to_owned(), 412),
        ("/old.txt", format!("If-Match: {etag}\r\n"), 204),
        // The entity tag has changed.
        ("/old.txt", format!("If-Match: {etag}\r\n"), 412),
        ("/old.txt", "If-Match: *\r\n".to_owned(), 204),
    ];
    for (path, fields, status) in table {
        assert_eq!(
            put(&server, path, &fields, "x").status,
            status,
            "{path} {fields}"
        );
    }
    // The file may not be replaced; a failed precondition is reported first.
    let server = serve(&outside, |_| {});
    assert_eq!(
        put(&server, "/old.txt", "If-None-Match: *\r\n", "x").status,
        412
    );
}

#[test]
fn put_forbidden_target_is_rejected_and_stores_nothing() {
    let outside = tree();
    let long = format!("/{}", "n".repeat(256));
    let table: &[(&str, &str, u16)] = &[
        ("/../x", "", 400),
        ("/sub/../../x", "", 400),
        ("/%2e%2e/x", "", 400),
        ("/sub%2f..%2f..%2fx", "", 400),
        ("/sub%2f", "", 400),
        ("/..%2fx", "", 400),
        ("/away/x", "", 409),
        ("/out/x", "", 409),
        ("/nothing/x", "", 409),
        ("/old.txt/x", "", 409),
        ("/", "", 409),
        ("/sub/", "", 409),
        ("/new/", "", 409),
        ("/.hidden", "", 403),
        ("/.git/config", "", 403),
        ("/.tws.toml", "", 403),
        ("/sub/.tws.toml", "", 403),
        ("/line%0Abreak", "", 400),
        (&long, "", 400),
        ("/x", "Content-Range: bytes 0-0/2\r\n", 400),
        ("/x", "Content-Encoding: gzip\r\n", 415),
        ("/x", "Origin: http://elsewhere.test\r\n", 403),
        ("/x", "Sec-Fetch-Site: cross-site\r\n", 403),
        ("/logo", "", 409),
        ("/moved/x", "", 409),
    ];
    let site_file = outside.path().join("site.toml");
    let rules = "[[route]]\npath = \"/logo\"\nfile = \"old.txt\"\n\
        [[redirect]]\nfrom = \"/moved/*\"\nto = \"/$1\"\n[upload]\noverwrite = true\n";
    fs::write(&site_file, rules).expect("write file");
    let before = snapshot(outside.path());
    let rules = Site::read(&site_file).expect("read site file");
    let server = serve(&outside, |site| *site = rules);
    for (path, fields, status) in table {
        assert_eq!(
            put(&server, path, fields, "x").status,
            *status,
            "{path} {fields}"
        );
    }
    // With --hidden, the server's own files are still reserved, in upper or lower case.
    let server = serve(&outside, |site| {
        overwrite(site);
        site.hidden = true;
    });
    for path in ["/.tws.toml", "/sub/.TWS.toml", "/.tws-upload-0"] {
        assert_eq!(put(&server, path, "", "x").status, 403, "{path}");
    }
    assert!(snapshot(outside.path()) == before);
    assert_eq!(put(&server, "/.hidden", "", "x").status, 201);
}

#[test]
fn upload_disabled_is_405() {
    let outside = tree();
    let server = TestServer::of(&outside.path().join("root"));
    let before = snapshot(outside.path());
    let response = put(&server, "/x", "", "x");
    assert_eq!(
        (response.status, response.field("Allow")),
        (405, Some("GET, HEAD, OPTIONS"))
    );
    assert_eq!(post(&server, "/", "", &[("x", b"x")]).status, 405);
    assert!(snapshot(outside.path()) == before);

    let server = serve(&outside, |_| {});
    let response = server.client().request("DELETE", "/x", "");
    assert_eq!(response.status, 405);
    assert_eq!(
        response.field("Allow"),
        Some("GET, HEAD, OPTIONS, POST, PUT")
    );
}

#[test]
fn concurrent_puts_of_new_file_have_one_winner() {
    const CLIENTS: usize = 8;
    let outside = tree();
    let server = serve(&outside, |_| {});
    for round in 0..5 {
        let path = format!("/race{round}");
        let barrier = Barrier::new(CLIENTS);
        let mut statuses: Vec<(u16, usize)> = thread::scope(|scope| {
            let one = |at: usize| {
                let (server, barrier, path) = (&server, &barrier, &path);
                scope.spawn(move || {
                    let content = vec![b'a' + at as u8; 200_000];
                    barrier.wait();
                    (put(server, path, "", content).status, at)
                })
            };
            let threads: Vec<_> = (0..CLIENTS).map(one).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().expect("thread does not panic"))
                .collect()
        });
        statuses.sort_unstable();
        let (winner, others) = statuses.split_first().expect("at least one client");
        assert_eq!(winner.0, 201);
        assert!(
            others.iter().all(|(status, _)| *status == 409),
            "{others:?}"
        );
        let expected = vec![b'a' + winner.1 as u8; 200_000];
        assert!(server.client().get(&path).content == expected);
    }
}

#[test]
fn concurrent_puts_with_same_if_match_have_one_winner() {
    const CLIENTS: usize = 8;
    let outside = tree();
    let server = serve(&outside, overwrite);
    let etag = etag_of_old(&outside, &server);
    let barrier = Barrier::new(CLIENTS);
    let mut statuses: Vec<u16> = thread::scope(|scope| {
        let one = |_| {
            let (server, barrier, etag) = (&server, &barrier, &etag);
            scope.spawn(move || {
                barrier.wait();
                put(server, "/old.txt", &format!("If-Match: {etag}\r\n"), "new").status
            })
        };
        let threads: Vec<_> = (0..CLIENTS).map(one).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("thread does not panic"))
            .collect()
    });
    statuses.sort_unstable();
    assert_eq!(statuses, [&[204][..], &[412; CLIENTS - 1]].concat());
}

#[test]
fn aborted_upload_leaves_no_files() {
    let outside = tree();
    let server = serve(&outside, overwrite);
    let before = snapshot(outside.path());
    let mut client = server.client();
    client.send("PUT /old.txt HTTP/1.1\r\nHost: test\r\nContent-Length: 500000\r\n\r\n");
    client.send(pattern(300_000));
    drop(client);
    let mut client = server.client();
    let mut half = form(&[("a.txt", b"whole"), ("b.txt", &pattern(300_000))]);
    half.truncate(200_000);
    client.send(
        "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 500000\r\n\
         Content-Type: multipart/form-data; boundary=XyZ\r\n\r\n",
    );
    client.send(half);
    drop(client);
    // Another upload completes after them.
    assert_eq!(put(&server, "/sub/x", "", "x").status, 201);
    fs::remove_file(outside.path().join("root/sub/x")).expect("remove file");
    eventually!(|| {
        // A file that the form stored completely before it was aborted may stay.
        let _ = fs::remove_file(outside.path().join("root/a.txt"));
        snapshot(outside.path()) == before
    });
}

#[test]
fn put_above_size_limit_is_413() {
    let outside = tree();
    let server = serve(&outside, |site| {
        if let Some(upload) = &mut site.upload {
            upload.max = Some(Size::of_bytes(100_000));
        }
    });
    let before = snapshot(outside.path());
    let mut client = server.client();
    client.send("PUT /x HTTP/1.1\r\nHost: test\r\nContent-Length: 100001\r\n\r\n");
    assert_eq!(client.response().status, 413, "before it is sent");
    let mut client = server.client();
    client.send("PUT /x HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n186A1\r\n");
    client.send(pattern(100_001)).send("\r\n0\r\n\r\n");
    assert_eq!(client.response().status, 413);
    eventually!(|| snapshot(outside.path()) == before);
    assert_eq!(put(&server, "/x", "", pattern(100_000)).status, 201);
}

#[test]
fn response_to_too_large_upload_names_the_limit() {
    let outside = tree();
    let server = serve(&outside, |site| {
        if let Some(upload) = &mut site.upload {
            upload.max = Some(Size::of_bytes(96 << 10));
        }
    });
    for (method, framing) in [
        ("PUT", "Content-Length: 98305\r\n\r\n"),
        ("PUT", "Transfer-Encoding: chunked\r\n\r\n18001\r\n"),
        (
            "POST",
            "Content-Length: 98305\r\nContent-Type: multipart/form-data; boundary=x\r\n\r\n",
        ),
    ] {
        let path = if method == "PUT" { "/x" } else { "/" };
        for (accept, kind) in [
            ("application/json", "application/json"),
            ("text/html", "text/html; charset=utf-8"),
            ("*/*", "text/plain; charset=utf-8"),
        ] {
            let mut client = server.client();
            client.send(format!(
                "{method} {path} HTTP/1.1\r\nHost: test\r\nAccept: {accept}\r\n{framing}"
            ));
            if framing.contains("chunked") {
                client.send(pattern(98_305)).send("\r\n0\r\n\r\n");
            }
            let response = client.response();
            assert_eq!(response.status, 413, "{method} {framing}");
            assert_eq!(response.field("Content-Type"), Some(kind));
            assert_eq!(response.field("Connection"), Some("close"));
            assert!(response.text().contains("96 KiB"), "{}", response.text());
        }
    }
}

#[test]
fn multipart_form_files_are_stored() {
    let outside = tree();
    let server = serve(&outside, |_| {});
    let almost = [
        &b"\r\n--Xy\r\n--X"[..],
        &pattern(100_000),
        b"--XyZ--\r\n\n--XyZ\r\n-",
    ]
    .concat();
    let files: &[(&str, &[u8])] = &[
        ("a.bin", &almost),
        (r"C:\Users\me\b.txt", b""),
        ("../../c%22.txt", b"\r\n"),
    ];
    let response = post(&server, "/sub/", "Accept: application/json\r\n", files);
    assert_eq!(response.status, 201, "{}", response.text());
    let report: Value = serde_json::from_str(&response.text()).expect("parse JSON");
    let expected = json!([
        { "name": "a.bin", "size": almost.len(), "path": "/sub/a.bin" },
        { "name": "b.txt", "size": 0, "path": "/sub/b.txt" },
        { "name": "c\".txt", "size": 2, "path": "/sub/c%22.txt" },
    ]);
    assert_eq!(report, expected);
    let mut client = server.client();
    assert!(client.get("/sub/a.bin").content == almost);
    assert_eq!(client.get("/sub/b.txt").text(), "");
    assert_eq!(client.get("/sub/c%22.txt").text(), "\r\n");

    // A browser is redirected to the folder, so that a reload does not send the form again.
    let response = post(
        &server,
        "/sub/",
        "Accept: text/html,*/*;q=0.8\r\n",
        &[("d", b"d")],
    );
    assert_eq!(
        (response.status, response.field("Location")),
        (303, Some("/sub/"))
    );
    let response = post(&server, "/", "", &[("e", b"e")]);
    assert_eq!(response.text(), "201 Created\nstored: /e (1 bytes)\n");
}

/// Programs that write both names encode the plain one in their own ways.
#[test]
fn form_file_gets_its_extended_name() {
    let outside = tree();
    let server = serve(&outside, |_| {});
    for (names, path) in [
        (
            r#"filename="=?utf-8?B?w7w=?="; filename*=utf-8''%C3%BC.txt"#,
            "/%C3%BC.txt",
        ),
        (
            r#"filename*=UTF-8''n%20e%20t; filename="net""#,
            "/n%20e%20t",
        ),
        // Ill-formed, or a path: the rest of the checks apply as to any other name.
        (r#"filename="plain"; filename*=utf-8''%FF"#, "/plain"),
        (r#"filename="x"; filename*=utf-8''..%2F..%2Fup"#, "/up"),
    ] {
        let content = format!(
            "--XyZ\r\nContent-Disposition: form-data; name=\"f\"; {names}\r\n\r\nx\r\n--XyZ--\r\n"
        );
        let fields = "Content-Type: multipart/form-data; boundary=XyZ\r\n";
        let mut client = server.client();
        let response = send(&mut client, "POST", "/", fields, content.as_bytes());
        assert_eq!(response.status, 201, "{names}: {}", response.text());
        assert_eq!(client.get(path).text(), "x", "{names}");
    }
}

#[test]
fn file_size_rlimit_is_413_and_server_continues() {
    use rustix::process::{Resource, Rlimit, prlimit};
    let folder = tempfile::tempdir().expect("create temporary directory");
    let site = TwsProcess::start(folder.path(), &["--upload", "--access-log", "off"]);
    let limit = Rlimit {
        current: Some(100_000),
        maximum: None,
    };
    prlimit(Some(site.child.pid()), Resource::Fsize, limit).expect("set resource limit");
    let content = pattern(200_000);
    let response = send(&mut site.client(), "PUT", "/large", "", &content);
    assert_eq!(response.status, 413, "{}", response.text());
    let response = send(&mut site.client(), "PUT", "/small", "", b"small");
    assert_eq!(response.status, 201, "{}", response.text());
}

/// The response may wait in memory for a client that does not read it, so its size is bounded.
#[test]
fn form_with_overlong_names_is_400_with_bounded_response() {
    let outside = tree();
    let server = serve(&outside, |_| {});
    let name = "n".repeat(15_000);
    let files = vec![(&name[..], &b""[..]); 1000];
    let response = post(&server, "/", "", &files);
    assert_eq!(response.status, 400);
    assert!(response.text().contains("longer than 255 bytes"));
    assert!(
        response.content.len() < 1_000_000,
        "{}",
        response.content.len()
    );
}

#[test]
fn form_with_failed_files_reports_each_failure() {
    let outside = tree();
    let server = serve(&outside, |_| {});
    let json = "Accept: application/json\r\n";
    let response = post(
        &server,
        "/",
        json,
        &[
            ("a", b"1"),
            ("old.txt", b"2"),
            (".b", b"3"),
            ("..", b"4"),
            ("c", b"5"),
        ],
    );
    assert_eq!(response.status, 409);
    let report: Value = serde_json::from_str(&response.text()).expect("parse JSON");
    let pick = |list: &str, key: &str| -> Vec<Value> {
        let list = report[list].as_array().expect("JSON array");
        list.iter().map(|entry| entry[key].clone()).collect()
    };
    assert_eq!(pick("stored", "name"), ["a", "c"]);
    assert_eq!(pick("failed", "name"), ["old.txt", ".b", ".."]);
    assert_eq!(pick("failed", "status"), [409, 403, 400]);
    assert_eq!(server.client().get("/old.txt").text(), "old");

    for (files, path, fields, status) in [
        (&[("", &b""[..])][..], "/", "", 400),
        (&[], "/", "", 400),
        (&[("x", b"x")], "/nothing/", "", 404),
        (&[("x", b"x")], "/.git/", "", 404),
        (&[("x", b"x")], "/away/", "", 404),
        (&[("x", b"x")], "/old.txt", "", 409),
        (
            &[("x", b"x")],
            "/",
            "Origin: http://elsewhere.test\r\n",
            403,
        ),
        (&[("x", b"x")], "/", "Origin: null\r\n", 403),
        (
            &[("x", b"x")],
            "/",
            "Origin: null\r\nSec-Fetch-Site: none\r\nAuthorization: Basic YTpi\r\n",
            403,
        ),
        (
            &[("null", b"x")],
            "/",
            "Origin: null\r\nSec-Fetch-Site: same-origin\r\nAuthorization: Basic YTpi\r\n",
            201,
        ),
        (&[("x", b"x")], "/", "Sec-Fetch-Site: cross-site\r\n", 403),
        (
            &[("x", b"x")],
            "/",
            "Origin: http://test\r\nSec-Fetch-Site: same-origin\r\nAuthorization: Basic YTpi\r\n",
            201,
        ),
    ] {
        assert_eq!(
            post(&server, path, fields, files).status,
            status,
            "{path} {fields}"
        );
    }
    for (media_type, status) in [
        ("application/x-www-form-urlencoded", 415),
        ("multipart/form-data", 400),
    ] {
        let fields = format!("Content-Type: {media_type}\r\n");
        let response = send(&mut server.client(), "POST", "/", &fields, b"a=b");
        assert_eq!(response.status, status, "{media_type}");
    }
}

/// Browsers show the response to a form. Visitors cannot set the flags of the server.
#[test]
fn failed_upload_shows_browsers_a_page_with_a_way_back() {
    const BROWSER: &str = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";
    let outside = tree();
    let server = serve(&outside, |site| {
        if let Some(upload) = &mut site.upload {
            upload.max = Some(Size::of_bytes(1000));
        }
    });
    let assert_page = |response: &HttpResponse, status: u16, what: &str| {
        let page = response.text();
        assert_eq!(response.status, status, "{what}: {page}");
        let media_type = response.field("Content-Type");
        assert_eq!(media_type, Some("text/html; charset=utf-8"), "{what}");
        let policy = response.field("Content-Security-Policy");
        assert!(policy.is_some(), "{what}");
        let leads_back = page.contains("href=\"./\"") || page.contains("href=\"/\"");
        assert!(leads_back, "{what}: {page}");
        let (_, content) = page.split_once("</style>").expect("a style");
        assert!(!content.contains("--"), "{what}: {page}");
    };
    let first = post(&server, "/sub/", BROWSER, &[("a<b>.txt", b"1")]);
    assert_eq!(first.status, 303);
    let files: &[(&str, &[u8])] = &[("a<b>.txt", b"2"), ("new &.txt", b"3")];
    let second = post(&server, "/sub/", BROWSER, files);
    assert_page(&second, 409, "second upload");
    let page = second.text();
    assert!(page.contains("a&lt;b&gt;.txt"), "{page}");
    assert!(page.contains("href=\"new%20%26.txt\""), "{page}");
    assert!(page.contains("href=\"./\""), "{page}");

    for (path, fields, files, status) in [
        ("/", "", &[][..], 400),
        ("/", "", &[(".hidden", &b"x"[..])], 403),
        ("/", "", &[("old.txt.gz", b"x")], 409),
        ("/", "", &[("x", &[b'x'; 1000])], 413),
        ("/nothing/", "", &[("x", b"x")], 404),
        ("/old.txt", "", &[("x", b"x")], 409),
        (
            "/",
            "Origin: http://elsewhere.test\r\n",
            &[("x", b"x")],
            403,
        ),
        ("/", "Origin: http://test\r\n", &[("x", b"x")], 403),
        ("/", "Origin: null\r\n", &[("x", b"x")], 403),
    ] {
        let response = post(&server, path, &format!("{BROWSER}{fields}"), files);
        assert_page(&response, status, &format!("{path} {fields} {files:?}"));
    }
    for (path, fields, status) in [
        ("/old.txt", "", 409),
        ("/nothing/x", "", 409),
        ("/x", "If-Match: *\r\n", 412),
        ("/x", "Content-Encoding: gzip\r\n", 415),
    ] {
        let response = put(&server, path, &format!("{BROWSER}{fields}"), "x");
        assert_page(&response, status, &format!("{path} {fields}"));
    }
    // Responses to other clients name the remedy.
    let plain = post(&server, "/", "", &[("old.txt", b"x")]);
    assert!(plain.text().contains("--upload-overwrite"));
}

#[test]
fn stale_sidecar_after_put_is_not_served() {
    let outside = tree();
    let root = outside.path().join("root");
    crate::static_files::write(&root, "x.html", "old");
    crate::static_files::write(&root, "x.html.gz", b"\x1F\x8B");
    let server = serve(&outside, overwrite);
    let get = || {
        server
            .client()
            .request("GET", "/x.html", "Accept-Encoding: gzip\r\n")
    };
    assert_eq!(get().content, b"\x1F\x8B");
    assert_eq!(put(&server, "/x.html", "", "new").status, 204);
    eventually!(|| get().text() == "new");
    // Nor by a server that has not cached the old one.
    let server = serve(&outside, |_| {});
    let response = server
        .client()
        .request("GET", "/x.html", "Accept-Encoding: gzip\r\n");
    assert_eq!(response.text(), "new");
}

#[test]
fn listing_with_upload_has_form_and_hides_temp_files() {
    let outside = tree();
    fs::write(outside.path().join("root/.tws-upload-00"), "half").expect("write file");
    let server = serve(&outside, |site| {
        site.listing = tws::site::Listing::On;
        site.hidden = true;
    });
    let mut client = server.client();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    let head = client.head();
    let page = String::from_utf8(client.chunks()).expect("decode UTF-8");
    assert!(page.contains("multipart/form-data") && page.contains("old.txt"));
    assert!(!page.contains(".tws-upload"), "{page}");
    let policy = head
        .field("Content-Security-Policy")
        .expect("Content-Security-Policy field");
    assert!(policy.contains("form-action 'self'"), "{policy}");
    assert_eq!(client.get("/.tws-upload-00").status, 404);
}

#[test]
fn uploads_are_enabled_by_flags_and_site_file() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let at = folder.path();
    let run = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_tws"))
            .current_dir(at)
            .args(args)
            .output()
            .expect("run tws");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), error)
    };
    let (code, error) = run(&["-p0", "--upload", "-b", "0.0.0.0"]);
    assert_eq!(code, Some(2), "{error}");
    assert!(
        error.contains("--bind") && error.contains("--auth-file"),
        "{error}"
    );
    fs::write(at.join("film.mp4"), "film").expect("write file");
    let (code, error) = run(&["-p0", "--upload", "film.mp4"]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("film.mp4 is a file"), "{error}");

    let statuses = |args: &[&str]| {
        let site = TwsProcess::start(at, args);
        let mut client = site.client();
        let put = |client: &mut Client, path| send(client, "PUT", path, "", b"12345").status;
        [
            put(&mut client, "/film.mp4"),
            put(&mut site.client(), "/new"),
        ]
    };
    assert_eq!(statuses(&[]), [405, 405]);
    assert_eq!(statuses(&["--upload"]), [409, 201]);
    assert_eq!(statuses(&["--upload", "--upload-overwrite"]), [204, 204]);
    assert_eq!(statuses(&["--upload", "--upload-max=4"]), [413, 413]);

    let site_file = |text: &str| fs::write(at.join(".tws.toml"), text).expect("write file");
    site_file("[upload]\n");
    assert_eq!(statuses(&[]), [409, 409]);
    site_file("[upload]\nmax = \"5 B\"\noverwrite = true\n");
    assert_eq!(statuses(&[]), [204, 204]);
    let (code, error) = run(&["-p0", "-b", "0.0.0.0"]);
    assert_eq!(code, Some(1), "{error}");
    assert!(error.contains("[upload]"), "{error}");
    for (text, word) in [
        ("[upload]\nmaximum = \"1 B\"\n", "overwrite"),
        ("[upload]\nmax = \"1 GB\"\n", "GiB"),
    ] {
        site_file(text);
        let (code, error) = run(&["-p0"]);
        assert_eq!(code, Some(1), "{error}");
        assert!(
            error.contains(".tws.toml:2: ") && error.contains(word),
            "{error}"
        );
    }
}

#[test]
#[ignore = "needs curl"]
fn curl_put_and_form_uploads_are_stored() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let served = tempfile::tempdir().expect("create temporary directory");
    let site = TwsProcess::start(served.path(), &["--upload", "--access-log", "off"]);
    let content = pattern(300_000);
    for name in ["a.bin", "b \"2\".bin"] {
        let mut file = fs::File::create(folder.path().join(name)).expect("create file");
        file.write_all(&content).expect("write file");
    }
    let curl = |args: &[&str], path: &str| {
        let output = Command::new("curl")
            .current_dir(folder.path())
            .env("no_proxy", "*")
            .args(["-sS", "-o", "answer", "-w", "%{http_code}"])
            .args(args)
            .arg(format!("http://{}{path}", site.address))
            .output()
            .expect("run curl");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!(curl(&["-T", "a.bin"], "/"), "201");
    assert_eq!(curl(&["-T", "a.bin"], "/"), "409");
    assert_eq!(curl(&["-F", "f=@b \"2\".bin", "-F", "note=x"], "/"), "201");
    let stdin = &["-T", "-", "-H", "Expect: 100-continue"];
    assert_eq!(curl(stdin, "/empty"), "201");
    for name in ["a.bin", "b \"2\".bin"] {
        assert!(
            fs::read(served.path().join(name)).expect("read file") == content,
            "{name}"
        );
    }
}

/// The file is stored at its path, not in the folder that was there when the upload began.
#[test]
fn folder_that_is_renamed_meanwhile_does_not_take_the_upload_along() {
    for (parents, expected) in [(true, 201), (false, 409)] {
        let outside = tree();
        let root = outside.path().join("root");
        let server = serve(&outside, |site| {
            if let Some(upload) = &mut site.upload {
                upload.parents = parents;
            }
        });
        fs::create_dir(root.join("before")).expect("create folder");
        let mut client = server.client();
        // Too large to be received before the folder is opened.
        client.send(
            "PUT /before/new.bin HTTP/1.1\r\nHost: test\r\nExpect: 100-continue\r\n\
             Content-Length: 200000\r\n\r\n",
        );
        assert_eq!(client.head().status, 100);
        fs::rename(root.join("before"), root.join("after")).expect("rename folder");
        client.send(vec![b'x'; 200_000]);
        assert_eq!(client.response().status, expected, "{parents}");
        assert_eq!(root.join("before/new.bin").exists(), parents);
        assert!(!root.join("after/new.bin").exists());
    }
}

/// A client that sends slowly, on many connections.
#[test]
fn slow_uploads_of_one_client_leave_room_for_others() {
    let outside = tree();
    let mut site = Site::default();
    site.upload = Some(Upload::default());
    let files = StaticFiles::with_site(outside.path().join("root"), &site).expect("open site root");
    let server = TestServer::configured(files, |config| {
        config.addresses = vec![std::net::IpAddr::from([0, 0, 0, 0]).into()];
        // The request that is rejected is handled after the others.
        config.workers = Some(std::num::NonZeroUsize::MIN);
    });
    let at = std::net::SocketAddr::from(([127, 0, 0, 1], server.address.port()));
    let begin = |source: [u8; 4], name: usize| {
        let mut client = Client::connect_from(source, at);
        // Too large to be received before the handler is called.
        client.send(format!(
            "PUT /{name} HTTP/1.1\r\nHost: test\r\nContent-Length: 100000\r\n\r\n"
        ));
        client
    };
    let mut slow: Vec<_> = (0..16).map(|name| begin([127, 0, 0, 1], name)).collect();
    eventually!(|| server.handle.stats().requests == 16);
    let rejected = begin([127, 0, 0, 1], 16).response();
    assert_eq!(
        (rejected.status, rejected.field("Retry-After")),
        (503, Some("1"))
    );
    let mut other = begin([127, 0, 0, 2], 17);
    assert_eq!(other.send(pattern(100_000)).response().status, 201);
    for client in &mut slow {
        assert_eq!(client.send(pattern(100_000)).response().status, 201);
    }
}
