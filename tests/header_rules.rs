//! Tests of `[[header]]`: errors, the served file, conditions, files that are encoded already, CORS.

use crate::site_rules::site;
use crate::static_files::write;
use crate::support::TwsProcess;

#[test]
fn always_covers_errors() {
    let rules = "[[header]]\npath = \"/*\"\nalways = true\nX-Always = \"1\"\n\
                 [[header]]\npath = \"/*\"\nX-Good = \"1\"\n\
                 [[header]]\npath = \"/bare/*\"\nstatus = [404, \"5xx\"]\nX-Missing = \"1\"\n\
                 [error-pages]\n403 = \"error.html\"\n";
    let (folder, server) = site(rules);
    let mut client = server.client();
    for (method, path, fields, status, good, missing) in [
        ("GET", "/app.js", "", 200, true, false),
        ("GET", "/none", "", 404, false, false),
        ("GET", "/bare/none", "", 404, false, true),
        ("HEAD", "/bare/none", "", 404, false, true),
        (
            "GET",
            "/bare/a.txt",
            "Range: bytes=9-\r\n",
            416,
            false,
            false,
        ),
        (
            "GET",
            "/bare/a.txt",
            "If-Match: \"x\"\r\n",
            412,
            false,
            false,
        ),
        ("GET", "/bare/a.txt", "", 200, true, false),
        ("GET", "/docs", "", 301, true, false),
        ("OPTIONS", "/app.js", "", 204, true, false),
        ("GET", "/.hidden", "", 404, false, false),
    ] {
        let response = client.request(method, path, fields);
        let found = (
            response.status,
            response.field("X-Always").is_some(),
            response.field("X-Good").is_some(),
            response.field("X-Missing").is_some(),
        );
        assert_eq!(
            found,
            (status, true, good, missing),
            "{method} {path} {fields}"
        );
    }
    let response = server.client().request("DELETE", "/app.js", "");
    assert_eq!(
        (response.status, response.field("X-Always")),
        (405, Some("1"))
    );
    // Errors of the layers around the files, too.
    let process = TwsProcess::start(folder.path(), &[".", "--host-name=a.test"]);
    let mut client = process.client();
    client.send("GET / HTTP/1.1\r\nHost: evil.test\r\n\r\n");
    let response = client.response();
    assert_eq!(
        (response.status, response.field("X-Always")),
        (421, Some("1"))
    );
}

#[test]
fn rules_match_the_served_file() {
    let rules = "clean-urls = true\n[[spa]]\npath = \"/app\"\npage = \"index.html\"\n\
                 [[route]]\npath = \"/logo\"\nfile = \"app.js\"\n\
                 [[rewrite]]\nfrom = \"/blog/*\"\nto = \"/docs/$1\"\n\
                 [[header]]\npath = \"*.html\"\nX-Html = \"1\"\n\
                 [[header]]\npath = \"/*.js\"\nX-Script = \"1\"\n\
                 [[header]]\npath = \"/*\"\nmedia-type = \"text/*\"\nX-Text = \"1\"\n";
    let (_folder, server) = site(&rules.replace("\"*.html", "\"/*.html"));
    let mut client = server.client();
    for (path, html, script, text) in [
        ("/", true, false, true),
        ("/index.html", true, false, true),
        ("/docs/", true, false, true),
        ("/docs/page", true, false, true),
        ("/blog/page", true, false, true),
        ("/app/route.name", true, false, true),
        ("/logo", false, true, true),
        ("/app.js", false, true, true),
        ("/data.foo", false, false, false),
    ] {
        for fields in [
            "Accept: text/html\r\n",
            "Accept: text/html\r\nAccept-Encoding: gzip\r\n",
        ] {
            let response = client.request("GET", path, fields);
            let found = (
                response.status,
                response.field("X-Html").is_some(),
                response.field("X-Script").is_some(),
                response.field("X-Text").is_some(),
            );
            assert_eq!(found, (200, html, script, text), "{path}");
        }
    }
}

#[cfg(feature = "archive")]
#[test]
fn rule_for_a_media_type_applies_to_archives() {
    let rule = |media_type: &str, name: &str| {
        format!("[[header]]\npath = \"/*\"\nmedia-type = \"{media_type}\"\n{name} = \"1\"\n")
    };
    let rules = [rule("application/zip", "X-Zip"), rule("text/*", "X-Text")];
    let (_folder, server) = site(&format!("listing = \"on\"\n{}", rules.concat()));
    for (path, zip, text) in [
        ("/bare/?download=zip", true, false),
        ("/bare/?download=tar", false, false),
        ("/bare/", false, true),
    ] {
        let mut client = server.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        let head = client.head();
        let has = |name: &str| head.field(name).is_some();
        assert_eq!(
            (head.status, has("X-Zip"), has("X-Text")),
            (200, zip, text),
            "{path}"
        );
    }
}

/// As Unity and Emscripten name their files.
#[test]
fn encoded_file_is_sent_with_its_coding_and_inner_type() {
    let (folder, server) = site("[[header]]\npath = \"/Build/*\"\nencoded = true\n");
    let (gzip, zstd) = (&b"\x1F\x8Bbytes"[..], &b"\x28\xB5\x2F\xFDbytes"[..]);
    let pointer = &b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n"[..];
    write(folder.path(), "Build/.br", "bytes");
    write(folder.path(), "other/a.wasm.br", "bytes");
    let mut client = server.client();
    let octets = "application/octet-stream";
    for (name, content, media_type, coding) in [
        ("a.wasm.br", &b"bytes"[..], "application/wasm", Some("br")),
        (
            "a.js.zst",
            zstd,
            "text/javascript; charset=utf-8",
            Some("zstd"),
        ),
        ("a.data.gz", gzip, octets, Some("gzip")),
        ("a.tar.gz", gzip, "application/x-tar", Some("gzip")),
        ("b.wasm", b"bytes", "application/wasm", None),
        // A client could not decode these.
        ("pointer.wasm.gz", pointer, "application/gzip", None),
        ("pointer.wasm.zst", pointer, "application/zstd", None),
        ("pointer.wasm.br", pointer, octets, None),
        ("empty.wasm.gz", b"", "application/gzip", None),
        (
            "large.wasm.gz",
            &b"text".repeat(100_000),
            "application/gzip",
            None,
        ),
    ] {
        write(folder.path(), &format!("Build/{name}"), content);
        for fields in ["", "Accept-Encoding: gzip, br\r\n"] {
            let response = client.request("GET", &format!("/Build/{name}"), fields);
            assert_eq!(response.status, 200, "{name}");
            assert_eq!(response.field("Content-Encoding"), coding, "{name}");
            assert_eq!(response.field("Content-Type"), Some(media_type), "{name}");
            assert!(response.content == content, "{name}");
        }
    }
    let other = client.get("/other/a.wasm.br");
    assert_eq!(other.field("Content-Encoding"), None);
}

#[test]
fn cors_permits_the_one_of_several_origins() {
    let (folder, server) = site("cors = [\"https://a.test\", \"https://b.test\"]\n");
    let process = TwsProcess::start(
        folder.path(),
        &[
            ".",
            "--no-site-file",
            "--cors=https://a.test,https://b.test",
        ],
    );
    for mut client in [server.client(), process.client()] {
        for (method, path, origin, expected) in [
            ("GET", "/app.js", "https://a.test", Some("https://a.test")),
            ("GET", "/app.js", "https://b.test", Some("https://b.test")),
            ("GET", "/app.js", "https://c.test", None),
            ("GET", "/none", "https://b.test", Some("https://b.test")),
            (
                "OPTIONS",
                "/app.js",
                "https://b.test",
                Some("https://b.test"),
            ),
            ("OPTIONS", "/app.js", "https://c.test", None),
        ] {
            client.send(format!(
                "{method} {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\n\
                 Access-Control-Request-Method: GET\r\n\r\n"
            ));
            let response = client.response();
            let allowed = response.field("Access-Control-Allow-Origin");
            assert_eq!(allowed, expected, "{method} {path} {origin}");
            assert!(
                response.head.contains("Vary: Origin\r\n"),
                "{}",
                response.head
            );
            let exposed = response.field("Access-Control-Expose-Headers");
            assert!(exposed.is_some_and(|names| names.contains("Content-Range")));
        }
    }
}
