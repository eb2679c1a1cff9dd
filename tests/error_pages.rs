//! Tests of error responses: the pages that a site has for them, and the fields that all have.

use std::fs;

use tempfile::TempDir;

use tws::site::Site;
use tws::{Outcome, Request, Response, StaticFiles, StatusCode};

use crate::static_files::write;
use crate::support::h2::H2Client;
use crate::support::{Client, TestServer, TwsProcess};

const STATUSES: [u16; 6] = [401, 403, 404, 405, 429, 503];

/// Returns a folder with `www`, and a settings file with these rules and a page for each status.
fn machine(rules: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let at = folder.path();
    for name in ["www/a.txt", "www/private/x.txt", "www/denied/x.txt"] {
        write(at, name, name);
    }
    let mut config = format!("directory = 'www'\naccess-log = 'off'\n{rules}\n[error-pages]\n");
    for status in STATUSES {
        write(
            at,
            &format!("www/e/{status}.html"),
            format!("page {status}"),
        );
        config += &format!("{status} = 'e/{status}.html'\n");
    }
    config += "[[access]]\npath = '/denied/*'\ndeny = ['all']\n";
    #[cfg(feature = "auth")]
    {
        write(at, "ana.txt", crate::middleware::USERS);
        config += "[[auth]]\npath = '/private/*'\nfile = 'ana.txt'\n";
    }
    fs::write(at.join("tws.toml"), config).expect("write file");
    folder
}

#[test]
fn page_of_the_site_is_sent_for_errors_of_all_layers() {
    let rules = "[[header]]\npath = '/*'\nalways = true\nmedia-type = 'text/html'\nX-Page = 'html'";
    let folder = machine(rules);
    let process = TwsProcess::start(folder.path(), &["--config=tws.toml", "--http2=all"]);
    let limited = ["--config=tws.toml", "--rate-limit=0.0001:1"];
    let limited = TwsProcess::start(folder.path(), &limited);
    assert_eq!(limited.client().get("/a.txt").status, 200);
    let wrong = "Authorization: Basic YW5hOndyb25n\r\n";
    let body = "Content-Length: 1\r\n";
    let mut table = vec![
        (&process, "GET", "/none", "", 404, "vary"),
        (&process, "GET", "/denied/x.txt", "", 403, "vary"),
        // Before the content is received.
        (&process, "PUT", "/denied/x.txt", body, 403, "connection"),
        (&process, "DELETE", "/a.txt", "", 405, "allow"),
        (&process, "PUT", "/a.txt", body, 405, "allow"),
        (&limited, "GET", "/a.txt", "", 429, "retry-after"),
    ];
    if cfg!(feature = "auth") {
        table.extend([
            (
                &process,
                "GET",
                "/private/x.txt",
                "",
                401,
                "www-authenticate",
            ),
            // Verified on another thread.
            (
                &process,
                "GET",
                "/private/x.txt",
                wrong,
                401,
                "www-authenticate",
            ),
            (
                &process,
                "PUT",
                "/private/x.txt",
                body,
                401,
                "www-authenticate",
            ),
        ]);
    }
    for (process, method, path, fields, status, field) in table {
        for accept in ["", "Accept: text/html\r\n"] {
            let fields = format!("{fields}{accept}");
            let response = process.client().request(method, path, &fields);
            let context = format!("{method} {path} {fields}: {}", response.head);
            assert_eq!(response.status, status, "{context}");
            assert_eq!(response.text(), format!("page {status}"), "{context}");
            for (name, value) in [
                ("content-type", "text/html; charset=utf-8"),
                ("x-content-type-options", "nosniff"),
                ("vary", "Accept"),
                ("x-page", "html"),
            ] {
                assert_eq!(response.field(name), Some(value), "{context}");
            }
            assert!(response.field(field).is_some(), "{context}");
            assert_eq!(response.field("content-security-policy"), None, "{context}");
        }
        let json = format!("{fields}Accept: application/json\r\n");
        let response = process.client().request(method, path, &json);
        assert_eq!(response.status, status, "{method} {path}");
        assert_eq!(response.field("content-type"), Some("application/json"));
        if method == "GET" {
            let mut client = process.client();
            client.send(format!(
                "HEAD {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n"
            ));
            let head = client.head();
            assert_eq!((head.status, head.length()), (status, Some(8)), "{path}");
            if status != 429 {
                let response = H2Client::connect(process.address).get(path);
                let found = (response.status(), response.text());
                assert_eq!(found, (status, &*format!("page {status}")), "{path}");
            }
        }
    }
    // Without its file, the built-in page is sent.
    fs::remove_file(folder.path().join("www/e/403.html")).expect("remove file");
    fs::remove_file(folder.path().join("www/e/405.html")).expect("remove file");
    let other = TwsProcess::start(folder.path(), &["--config=tws.toml"]);
    for (method, path, status) in [("GET", "/denied/x.txt", 403), ("DELETE", "/a.txt", 405)] {
        let response = other.client().request(method, path, "");
        assert_eq!(response.status, status, "{path}");
        assert!(!response.text().contains("page"), "{path}");
    }
}

#[test]
fn error_with_content_of_its_own_keeps_it() {
    let folder = machine("");
    let pages = STATUSES.map(|status| format!("{status} = 'e/{status}.html'\n"));
    let rules = folder.path().join("rules.toml");
    fs::write(&rules, format!("[error-pages]\n{}", pages.concat())).expect("write file");
    let site = Site::read(&rules).expect("read site file");
    let files = StaticFiles::with_site(folder.path().join("www"), &site).expect("open root");
    let handler = |request: &Request<'_>| -> Outcome {
        let status = request.query_str().expect("a query").parse();
        let status = StatusCode::from_u16(status.expect("a number")).expect("a status");
        match request.path() {
            "/status" => status.into(),
            "/job" => Outcome::blocking(move || status.into()),
            _ => Response::text("own").with_status(status).into(),
        }
    };
    let server = TestServer::start(files.add_error_fields(handler));
    let text = |client: &mut Client, path: &str| client.get(path).text();
    for status in STATUSES {
        let mut client = server.client();
        for path in ["status", "job"] {
            let page = text(&mut client, &format!("/{path}?{status}"));
            assert_eq!(page, format!("page {status}"));
        }
        assert_eq!(text(&mut client, &format!("/own?{status}")), "own");
    }
    let mut client = server.client();
    assert_eq!(text(&mut client, "/own?200"), "own");
    assert_eq!(text(&mut client, "/status?418"), "418 I'm a teapot\n");
}

/// A browser must not take an error for anything but what its media type says.
#[test]
fn every_error_forbids_guessing_its_media_type() {
    let folder = machine("");
    fs::remove_dir_all(folder.path().join("www/e")).expect("remove folder");
    let args = ["--config=tws.toml", "--base=/docs", "--host-name=test"];
    let process = TwsProcess::start(folder.path(), &args);
    let limited = TwsProcess::start(
        folder.path(),
        &[&args[..], &["--rate-limit=0.0001:1"]].concat(),
    );
    limited.client().get("/docs/a.txt");
    for accept in ["", "Accept: text/html\r\n", "Accept: application/json\r\n"] {
        for (process, request, status) in [
            (&process, "GET /docs/none HTTP/1.1\r\nHost: test", 404),
            (&process, "GET /none HTTP/1.1\r\nHost: test", 404),
            (
                &process,
                "GET /docs/denied/x.txt HTTP/1.1\r\nHost: test",
                403,
            ),
            (&process, "DELETE /docs/a.txt HTTP/1.1\r\nHost: test", 405),
            (&process, "DELETE /none HTTP/1.1\r\nHost: test", 404),
            (&process, "BREW /docs/ HTTP/1.1\r\nHost: test", 501),
            (&process, "GET /docs/ HTTP/1.1\r\nHost: unknown", 421),
            (&process, "GET /%zz HTTP/1.1\r\nHost: test", 400),
            (
                &process,
                "GET /docs/ HTTP/1.1\r\nHost: test\r\nExpect: x",
                417,
            ),
            (
                &process,
                "POST /docs/ HTTP/1.1\r\nHost: test\r\nContent-Length: x",
                400,
            ),
            (&limited, "GET /docs/a.txt HTTP/1.1\r\nHost: test", 429),
            (
                &process,
                "GET /docs/private/x.txt HTTP/1.1\r\nHost: test",
                if cfg!(feature = "auth") { 401 } else { 200 },
            ),
        ] {
            let mut client = process.client();
            client.send(format!("{request}\r\n{accept}\r\n"));
            let response = client.response();
            assert_eq!(response.status, status, "{request}");
            if status >= 400 {
                let value = response.field("x-content-type-options");
                assert_eq!(
                    value,
                    Some("nosniff"),
                    "{request} {accept}: {}",
                    response.head
                );
            }
        }
    }
}
