//! Tests of site rules, set in the site file or by flags: headers, redirects, error pages,
//! listings, hosts, symbolic links.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;
use tws::StaticFiles;
use tws::site::Site;

use crate::static_files::write;
use crate::support::{Client, HttpResponse, TestServer, TwsProcess, eventually};

/// Returns a folder with a site file, and a server of it.
pub(crate) fn site(rules: &str) -> (TempDir, TestServer) {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let at = folder.path();
    for (name, content) in [
        ("index.html", "<p>home"),
        ("app.js", "let app"),
        ("assets/deep/lib.js", "let lib"),
        ("docs/index.html", "<p>docs"),
        ("docs/page.html", "<p>page"),
        ("bare/a.txt", "a"),
        ("error.html", "<p>not here"),
        ("data.foo", "foo"),
        (".hidden", "hidden"),
    ] {
        write(at, name, content);
    }
    fs::write(at.join(".tws.toml"), rules).expect("write file");
    let rules = Site::read(&at.join(".tws.toml")).expect("read site file");
    let files = StaticFiles::with_site(at, &rules).expect("open site root");
    (folder, TestServer::start(files))
}

fn get(client: &mut Client, path: &str, fields: &str) -> HttpResponse {
    client.request("GET", path, fields)
}

#[test]
fn header_rule_applies_to_matching_successful_responses() {
    let (_folder, server) = site(
        "[[header]]\npath = \"/*.js\"\nCache-Control = \"public, max-age=60\"\nX-Kind = \"script\"\n\
         [[header]]\npath = \"/assets/*\"\nCache-Control = \"immutable\"\n",
    );
    let mut client = server.client();
    let app = client.get("/app.js");
    assert_eq!(app.field("Cache-Control"), Some("public, max-age=60"));
    assert_eq!(app.field("X-Kind"), Some("script"));
    // All matching rules apply; for each field the last one wins.
    let lib = client.get("/assets/deep/lib.js");
    assert_eq!(lib.field("Cache-Control"), Some("immutable"));
    assert_eq!(lib.field("X-Kind"), Some("script"));
    // RFC 9110 §15.4.5: a 304 has these fields, too.
    let tag = format!(
        "If-None-Match: {}\r\n",
        app.field("ETag").expect("ETag field")
    );
    let unchanged = get(&mut client, "/app.js", &tag);
    assert_eq!(
        (unchanged.status, unchanged.field("Cache-Control")),
        (304, Some("public, max-age=60"))
    );
    assert_eq!(unchanged.field("Vary"), Some("Accept-Encoding"));
    // Errors must not be cached for long.
    let missing = client.get("/assets/none.js");
    assert_eq!(
        (missing.status, missing.field("Cache-Control")),
        (404, None)
    );
    assert_eq!(client.get("/").field("Cache-Control"), None);
}

#[test]
fn redirect_rule_sets_status_and_location() {
    let (_folder, server) = site(
        "[[redirect]]\nfrom = \"/old/*\"\nto = \"/new/$1\"\n\
         [[redirect]]\nfrom = \"/out/*\"\nto = \"https://example.org/$1?from=here\"\nstatus = 302\n\
         [[redirect]]\nfrom = \"/any*\"\nto = \"/$1\"\nstatus = 308\n\
         [[redirect]]\nfrom = \"/part\"\nto = \"/page#part\"\n\
         [[redirect]]\nfrom = \"/moved\"\nto = \"/docs/\"\nstatus = 307\n",
    );
    let mut client = server.client();
    let table = [
        ("/old/a/b", 301, "/new/a/b"),
        ("/old/a%20%3F%0d%0aX?q=1", 301, "/new/a%20%3F%0D%0AX?q=1"),
        ("/out/x?q=1", 302, "https://example.org/x?from=here"),
        ("/any//evil.test/", 308, "/evil.test/"),
        ("/moved", 307, "/docs/"),
        ("/part?a=b", 301, "/page?a=b#part"),
    ];
    for (path, status, location) in table {
        let response = client.get(path);
        assert_eq!(
            (response.status, response.field("Location")),
            (status, Some(location)),
            "{path}"
        );
    }
}

#[test]
fn index_routes_error_pages_and_media_types_apply() {
    let (_folder, server) = site(
        "index = [\"none.html\", \"page.html\"]\nclean-urls = true\ncharset = \"iso-8859-1\"\n\
         [[route]]\npath = \"/the app\"\nfile = \"app.js\"\n\
         [[route]]\npath = \"/zeros\"\nsize = \"1 TiB\"\n\
         [error-pages]\n404 = \"error.html\"\n\
         [media-types]\nfoo = \"text/x-foo\"\n",
    );
    let mut client = server.client();
    assert_eq!(client.get("/docs/").text(), "<p>page");
    assert_eq!(client.get("/docs/page").text(), "<p>page");
    assert_eq!(client.get("/the%20app").text(), "let app");
    let zeros = client.request("HEAD", "/zeros", "");
    assert_eq!(zeros.length(), Some(1 << 40));
    let far = get(&mut client, "/zeros", "Range: bytes=1099511627770-\r\n");
    assert_eq!((far.status, far.content), (206, vec![0; 6]));
    assert_eq!(
        client.get("/data.foo").field("Content-Type"),
        Some("text/x-foo; charset=iso-8859-1")
    );
    let missing = client.get("/none");
    assert_eq!(
        (missing.status, missing.text().as_str()),
        (404, "<p>not here")
    );
}

#[test]
fn error_page_format_follows_accept() {
    let (_folder, server) = site("");
    let mut client = server.client();
    for (accept, media_type) in [
        (
            "Accept: text/html,*/*;q=0.8\r\n",
            "text/html; charset=utf-8",
        ),
        ("Accept: application/json\r\n", "application/json"),
        ("Accept: */*\r\n", "text/plain; charset=utf-8"),
        ("", "text/plain; charset=utf-8"),
    ] {
        let response = get(&mut client, "/none<script>", accept);
        assert_eq!(
            (response.status, response.field("Content-Type")),
            (404, Some(media_type))
        );
        assert_eq!(response.field("Vary"), Some("Accept"));
        assert_eq!(response.field("X-Content-Type-Options"), Some("nosniff"));
        assert!(!response.text().contains("script"), "the path is echoed");
        let policy = response.field("Content-Security-Policy");
        let is_page = media_type.starts_with("text/html");
        assert_eq!(
            policy.is_some_and(|p| p.contains("default-src 'none'")),
            is_page
        );
    }
}

#[test]
fn error_405_format_follows_accept() {
    let (_folder, server) = site("");
    for (accept, media_type) in [
        ("Accept: text/html\r\n", "text/html; charset=utf-8"),
        ("Accept: application/json\r\n", "application/json"),
        ("", "text/plain; charset=utf-8"),
    ] {
        let response = server.client().request("DELETE", "/app.js", accept);
        assert_eq!(
            (response.status, response.field("Content-Type")),
            (405, Some(media_type))
        );
        assert_eq!(response.field("Allow"), Some("GET, HEAD, OPTIONS"));
        assert_eq!(response.field("Connection"), Some("close"));
    }
}

/// The SPA page answers navigation requests; other missing files are 404.
#[test]
fn spa_page_answers_navigation_and_missing_assets_are_404() {
    let (_folder, server) =
        site("spa = \"index.html\"\n[[header]]\npath = \"/*\"\nCache-Control = \"immutable\"\n");
    let mut client = server.client();
    let html = "Accept: text/html,application/xhtml+xml,*/*;q=0.8\r\n";
    let page = get(&mut client, "/some/where", html);
    assert_eq!((page.status, page.text().as_str()), (200, "<p>home"));
    assert_eq!(page.field("Cache-Control"), Some("no-cache"));
    assert!(page.head.contains("Vary: Accept\r\n"), "{}", page.head);
    assert_eq!(
        client.get("/app.js").field("Cache-Control"),
        Some("immutable")
    );
    for (path, accept) in [
        ("/some/where", "Accept: */*\r\n"),
        ("/some/where", ""),
        (
            "/img/logo.png",
            "Sec-Fetch-Mode: no-cors\r\nAccept: image/*\r\n",
        ),
        (
            "/app.css",
            "Sec-Fetch-Mode: no-cors\r\nAccept: text/css\r\n",
        ),
        ("/some/where", "Accept: application/json\r\n"),
    ] {
        assert_eq!(
            get(&mut client, path, accept).status,
            404,
            "{path} {accept}"
        );
    }
    let post = server.client().request("POST", "/some/where", html);
    assert_eq!(post.status, 405);
}

/// Header rules apply to the path of the request and to that of the file, in every content coding.
#[test]
fn spa_page_has_the_rules_of_both_paths_in_every_coding() {
    let (folder, server) = site(
        "spa = \"index.html\"\n\
         [[header]]\npath = \"/*\"\nX-Frame-Options = \"DENY\"\n\
         [[header]]\npath = \"/nav*\"\nX-Nav = \"1\"\n\
         [[header]]\npath = \"/index.html\"\nX-Index = \"1\"\n",
    );
    let page = "<p>a page of an application</p>\n".repeat(100);
    write(folder.path(), "index.html", &page);
    let mut client = server.client();
    let codings: &[&str] = if cfg!(feature = "compress") {
        &["identity", "gzip", "br", "zstd"]
    } else {
        &["identity"]
    };
    let fields = |path: &str, coding: &str, client: &mut Client| {
        let accept = format!("Accept: text/html\r\nAccept-Encoding: {coding}\r\n");
        let response = get(client, path, &accept);
        assert_eq!(response.status, 200, "{path} {coding}");
        let field = |name| response.field(name).map(str::to_owned);
        let coding = field("Content-Encoding").unwrap_or_else(|| "identity".to_owned());
        let set = [field("X-Nav").is_some(), field("X-Index").is_some()];
        (
            coding,
            field("X-Frame-Options"),
            field("Cache-Control"),
            set,
        )
    };
    let mut check = |codings: &[&str]| {
        for coding in codings {
            for (path, cache_control, set) in [
                ("/nav", Some("no-cache"), [true, true]),
                ("/other", Some("no-cache"), [false, true]),
                ("/nav2", Some("no-cache"), [true, true]),
                ("/index.html", None, [false, true]),
            ] {
                let expected = (
                    (*coding).to_owned(),
                    Some("DENY".to_owned()),
                    cache_control.map(str::to_owned),
                    set,
                );
                assert_eq!(fields(path, coding, &mut client), expected, "{path}");
            }
        }
    };
    check(codings);
    drop(folder);

    let (folder, server) = site(
        "spa = \"index.html\"\ncompress = \"sidecar\"\n\
         [[header]]\npath = \"/*\"\nX-Frame-Options = \"DENY\"\n",
    );
    write(folder.path(), "index.html.gz", b"\x1F\x8Bas gzip");
    let source = fs::metadata(folder.path().join("index.html")).and_then(|file| file.modified());
    let sidecar = fs::File::options()
        .write(true)
        .open(folder.path().join("index.html.gz"));
    sidecar
        .and_then(|file| file.set_modified(source?))
        .expect("set modification time");
    let accept = "Accept: text/html\r\nAccept-Encoding: gzip\r\n";
    let response = get(&mut server.client(), "/nav", accept);
    assert_eq!(response.content, b"\x1F\x8Bas gzip");
    assert_eq!(response.field("X-Frame-Options"), Some("DENY"));
    assert_eq!(response.field("Cache-Control"), Some("no-cache"));
}

/// One file may be the page of the application and of errors, and have its own path.
#[test]
fn page_of_application_and_errors_keeps_the_fields_of_each_use() {
    for first in ["/x.js", "/nav", "/index.html"] {
        let (_folder, server) = site("spa = \"index.html\"\n[error-pages]\n404 = \"index.html\"\n");
        let mut client = server.client();
        for path in [first, "/nav", "/x.js", "/index.html", "/nav"] {
            let mode = if path == "/x.js" {
                "no-cors"
            } else {
                "navigate"
            };
            let fields = format!("Accept: text/html\r\nSec-Fetch-Mode: {mode}\r\n");
            let response = get(&mut client, path, &fields);
            // Whether the page is served or 404 depends on the field.
            let varies = response.head.contains("Vary: Sec-Fetch-Mode\r\n");
            assert_eq!(varies, path != "/index.html", "{path}: {}", response.head);
            let (status, cache_control, vary) = match path {
                "/nav" => (200, Some("no-cache"), true),
                "/x.js" => (404, None, true),
                _ => (200, None, false),
            };
            let found = (response.status, response.field("Cache-Control"));
            assert_eq!(found, (status, cache_control), "{path} after {first}");
            let varies = response.head.contains("Vary: Accept\r\n");
            assert_eq!(varies, vary, "{path} after {first}: {}", response.head);
        }
    }
}

/// Captured text stays one parameter, whatever the request has in it.
#[test]
fn captured_text_adds_no_parameter_fragment_or_host() {
    let (_folder, server) = site(
        "[[redirect]]\nfrom = \"/q/*\"\nto = \"/s?n=$1&z=1\"\n\
         [[redirect]]\nfrom = \"/f/*\"\nto = \"/s#n=$1\"\n\
         [[redirect]]\nfrom = \"/h/*\"\nto = \"/s#a?b\"\n\
         [[redirect]]\nfrom = \"/p/*\"\nto = \"https://example.org/$1\"\n",
    );
    let mut client = server.client();
    for (path, location) in [
        ("/q/a%26admin=1", "/s?n=a%26admin%3D1&z=1"),
        ("/q/a&admin=1", "/s?n=a%26admin%3D1&z=1"),
        ("/q/a;b+c%2B%23d%25", "/s?n=a%3Bb%2Bc%2B%23d%25&z=1"),
        ("/q/%C3%B1/%FF", "/s?n=%C3%B1/%FF&z=1"),
        ("/f/a&b=%23%3F", "/s#n=a%26b%3D%23%3F"),
        ("/h/x?q=1", "/s?q=1#a?b"),
        ("/p/@evil.test/%3Fa", "https://example.org/@evil.test/%3Fa"),
    ] {
        assert_eq!(client.get(path).field("Location"), Some(location), "{path}");
    }
}

#[test]
fn cors_rule_sets_allow_origin_and_answers_preflight() {
    for (rule, origin, vary) in [
        ("cors = \"*\"\n", "*", Some("Accept-Encoding")),
        ("cors = \"https://a.test\"\n", "https://a.test", None),
    ] {
        let (_folder, server) = site(rule);
        let mut client = server.client();
        let response = client.get("/app.js");
        assert_eq!(response.field("Access-Control-Allow-Origin"), Some(origin));
        if vary.is_none() {
            assert!(response.head.contains("Vary: Origin"), "{}", response.head);
        }
        assert_eq!(
            client.get("/none").field("Access-Control-Allow-Origin"),
            Some(origin)
        );
        let preflight_fields = "Origin: https://a.test\r\nAccess-Control-Request-Method: GET\r\n";
        let preflight = client.request("OPTIONS", "/app.js", preflight_fields);
        assert_eq!(preflight.status, 204);
        assert_eq!(preflight.field("Access-Control-Allow-Origin"), Some(origin));
        assert_eq!(
            preflight.field("Access-Control-Allow-Methods"),
            Some("GET, HEAD")
        );
    }
    let (_folder, server) = site("");
    assert_eq!(
        server
            .client()
            .get("/app.js")
            .field("Access-Control-Allow-Origin"),
        None
    );
}

#[test]
fn host_field_selects_site() {
    let elsewhere = tempfile::tempdir().expect("create temporary directory");
    write(elsewhere.path(), "index.html", "<p>elsewhere");
    let root = elsewhere.path().display();
    let (_folder, server) = site(&format!(
        "[[host]]\nnames = [\"docs.test\", \"*.docs.test\"]\nroot = \"docs\"\nclean-urls = true\n\
         [[host]]\nnames = [\"www.docs.test\"]\nroot = \"{root}\"\n\
         [[host.header]]\npath = \"/*\"\nX-Site = \"elsewhere\"\n"
    ));
    let at = |host: &str, path: &str| {
        let mut client = server.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        client.response()
    };
    for (host, content) in [
        ("docs.test", "<p>docs"),
        ("DOCS.test:8000", "<p>docs"),
        ("a.b.docs.test.", "<p>docs"),
        ("www.docs.test", "<p>elsewhere"),
        ("other.test", "<p>home"),
        ("notdocs.test", "<p>home"),
        ("127.0.0.1", "<p>home"),
        ("", "<p>home"),
    ] {
        assert_eq!(at(host, "/").text(), content, "{host}");
    }
    assert_eq!(at("docs.test", "/page").text(), "<p>page");
    assert_eq!(at("other.test", "/page").status, 404);
    assert_eq!(at("www.docs.test", "/").field("X-Site"), Some("elsewhere"));
    assert_eq!(
        at("docs.test", "http://www.docs.test/").text(),
        "<p>elsewhere"
    );
}

#[test]
fn listing_on_returns_html_and_json_without_hidden_files() {
    let (folder, server) = site("listing = \"on\"\n");
    write(folder.path(), "bare/<b>&\"'.txt", "x");
    write(folder.path(), "bare/ñ %#?.txt", "y");
    write(folder.path(), "bare/sub/z", "z");
    write(folder.path(), "bare/.secret", "s");
    symlink("/etc/passwd", folder.path().join("bare/passwd")).expect("create symlink");
    let mut client = server.client();
    let send = |client: &mut Client, path: &str, fields: &str| {
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n"));
        let mut response = client.head();
        assert_eq!(response.field("Transfer-Encoding"), Some("chunked"));
        response.content = client.chunks();
        response
    };
    let page = send(&mut client, "/bare/", "Accept: text/html\r\n");
    assert_eq!(page.field("Content-Type"), Some("text/html; charset=utf-8"));
    assert!(
        page.field("Content-Security-Policy")
            .is_some_and(|p| p.contains("default-src 'none'"))
    );
    let text = page.text();
    assert!(
        !text.contains("<b>") && !text.contains("secret") && !text.contains("passwd"),
        "{text}"
    );
    // Every link leads to the entry it names.
    for link in text
        .split("href=\"")
        .skip(1)
        .filter_map(|rest| rest.split('"').next())
    {
        let link = link.replace("&amp;", "&").replace("&#39;", "'");
        let link = link.split('?').next().unwrap_or_default();
        if !link.is_empty() && !link.starts_with("..") {
            let mut client = server.client();
            client.send(format!("GET /bare/{link} HTTP/1.1\r\nHost: test\r\n\r\n"));
            assert_eq!(client.head().status, 200, "{link}");
        }
    }
    for (path, fields) in [
        ("/bare/?json", ""),
        ("/bare/", "Accept: application/json\r\n"),
    ] {
        let json = send(&mut client, path, fields);
        assert_eq!(json.field("Content-Type"), Some("application/json"));
        let entries: serde_json::Value = serde_json::from_slice(&json.content).expect("parse JSON");
        let names: Vec<_> = entries
            .as_array()
            .expect("JSON array")
            .iter()
            .map(|entry| {
                (
                    entry["name"].as_str().expect("JSON string"),
                    entry["type"].as_str().expect("JSON string"),
                )
            })
            .collect();
        assert!(names.contains(&("sub", "directory")), "{names:?}");
        assert!(names.contains(&("<b>&\"'.txt", "file")), "{names:?}");
        assert_eq!(names.len(), 4, "{names:?}");
    }
    // A folder with an index file is not listed.
    assert_eq!(client.get("/docs/").text(), "<p>docs");
    let (_folder, off) = site("listing = \"off\"\n");
    assert_eq!(off.client().get("/bare/").status, 404);
}

#[test]
fn large_listing_does_not_block_other_requests() {
    const ENTRIES: usize = 20_000;
    let (folder, server) = site("listing = \"on\"\n");
    fs::create_dir(folder.path().join("many")).expect("create directory");
    for at in 0..ENTRIES {
        fs::File::create(folder.path().join(format!("many/{at}.txt"))).expect("create file");
    }
    let mut large = server.client();
    large.send("GET /many/?json HTTP/1.1\r\nHost: test\r\n\r\n");
    // A client that does not read its listing.
    let mut stalled = server.client();
    stalled.send("GET /many/ HTTP/1.1\r\nHost: test\r\n\r\n");
    let mut other = server.client();
    for _ in 0..100 {
        assert_eq!(other.get("/app.js").status, 200);
    }
    assert_eq!(large.head().status, 200);
    let entries: serde_json::Value = serde_json::from_slice(&large.chunks()).expect("parse JSON");
    assert_eq!(entries.as_array().map(Vec::len), Some(ENTRIES));
}

#[test]
fn switched_root_is_served_and_running_download_completes() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let at = folder.path();
    let large = crate::support::pattern(24_000_000);
    write(at, "one/page.txt", "one");
    write(at, "one/large.bin", &large);
    write(at, "two/page.txt", "two");
    symlink("one", at.join("current")).expect("create symlink");
    let server = TestServer::of(&at.join("current"));
    let mut download = server.client();
    download.send("GET /large.bin HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(download.head().status, 200);
    let mut client = server.client();
    assert_eq!(client.get("/page.txt").text(), "one");
    symlink("two", at.join("next")).expect("create symlink");
    fs::rename(at.join("next"), at.join("current")).expect("switch symlink");
    eventually!(|| {
        let text = client.get("/page.txt").text();
        assert!(text == "one" || text == "two", "{text}");
        text == "two"
    });
    assert_eq!(client.get("/large.bin").status, 404);
    assert!(
        download.read(large.len()) == large,
        "every byte of the old tree"
    );
}

/// A listing and a redirect are not files: rules for files set neither their caching nor their
/// content security policy.
#[test]
fn header_rules_do_not_cache_listings_or_redirects() {
    let (_folder, server) = site(
        "listing = \"on\"\n[[header]]\npath = \"/*\"\nCache-Control = \"immutable\"\n\
         Content-Security-Policy = \"default-src 'self'\"\nX-A = \"b\"\n",
    );
    let mut client = server.client();
    let slash = client.get("/bare");
    assert_eq!((slash.status, slash.field("Cache-Control")), (301, None));
    client.send("GET /bare/ HTTP/1.1\r\nHost: test\r\nAccept: text/html\r\n\r\n");
    let listing = client.head();
    assert_eq!(
        (listing.status, listing.field("Cache-Control")),
        (200, None)
    );
    let policy = listing
        .field("Content-Security-Policy")
        .expect("Content-Security-Policy field");
    assert!(policy.contains("default-src 'none'"), "{policy}");
    assert_eq!(listing.field("X-A"), Some("b"));
}

#[test]
fn invalid_rule_is_error() {
    for (rules, word) in [
        (
            "[[redirect]]\nfrom = \"/a*\"\nto = \"https://b$1\"\n",
            "choose the server",
        ),
        (
            "[[header]]\npath = \"/*\"\nETag = \"x\"\n",
            "set by the server",
        ),
        (
            "[[host]]\nnames = [\"a.test:80\"]\nroot = \".\"\n",
            "name of a host",
        ),
        (
            "[[host]]\nnames = [\"a.test.\"]\nroot = \".\"\n",
            "name of a host",
        ),
        ("[[host]]\nroot = \".\"\n", "has no names"),
        ("names = [\"a.test\"]\n", "[[host]]"),
    ] {
        let folder = tempfile::tempdir().expect("create temporary directory");
        let path = folder.path().join(".tws.toml");
        fs::write(&path, rules).expect("write file");
        let error = Site::read(&path).expect_err("invalid rule").to_string();
        assert!(error.contains(word), "{error}");
    }
}

#[test]
fn single_file_symlink_switch_serves_new_target() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let at = folder.path();
    write(at, "v1.txt", "one");
    write(at, "v2.txt", "two!");
    symlink("v1.txt", at.join("current.txt")).expect("create symlink");
    let files = StaticFiles::new(at.join("current.txt")).expect("open site root");
    let server = TestServer::start(files);
    let mut client = server.client();
    assert_eq!(client.get("/current.txt").text(), "one");
    assert_eq!(client.get("/v1.txt").status, 404);
    symlink("v2.txt", at.join("next")).expect("create symlink");
    fs::rename(at.join("next"), at.join("current.txt")).expect("switch symlink");
    eventually!(|| client.get("/").text() == "two!");
}

#[test]
fn absolute_symlink_within_symlinked_root_is_followed() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let at = folder.path();
    write(at, "release/shared/a.txt", "a");
    symlink("release", at.join("current")).expect("create symlink");
    symlink(at.join("current/shared"), at.join("release/link")).expect("create symlink");
    let server = TestServer::of(&at.join("current"));
    assert_eq!(server.client().get("/link/a.txt").text(), "a");
}

/// Flags override the site file.
#[test]
fn flags_override_site_file() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let outside = tempfile::tempdir().expect("create temporary directory");
    write(outside.path(), "secret.txt", "secret");
    let at = folder.path();
    write(at, "a.txt", "a");
    write(at, ".dot", "dot");
    symlink("a.txt", at.join("inside.txt")).expect("create symlink");
    symlink(outside.path().join("secret.txt"), at.join("outside.txt")).expect("create symlink");
    let status = |args: &[&str], path: &str, fields: &str| {
        let site = TwsProcess::start(
            Path::new("/"),
            &[&[at.to_str().expect("valid UTF-8")], args].concat(),
        );
        let mut client = site.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n"));
        client.head()
    };
    let table: &[(&[&str], &str, u16)] = &[
        (&[], "/", 200),
        (&["--listing=off"], "/", 404),
        (&[], "/.dot", 404),
        (&["--hidden"], "/.dot", 200),
        (&["--hidden"], "/.tws.toml", 404),
        (&[], "/inside.txt", 200),
        (&["--symlinks=never"], "/inside.txt", 404),
        (&[], "/outside.txt", 404),
        (&["--symlinks=follow"], "/outside.txt", 200),
        (&["--spa=a.txt"], "/x/y", 200),
    ];
    fs::write(at.join(".tws.toml"), "").expect("write file");
    for (args, path, expected) in table {
        let response = status(args, path, "Accept: text/html\r\n");
        assert_eq!(response.status, *expected, "{args:?} {path}");
    }
    // For every host.
    let rules = "[[host]]\nnames = [\"other.test\"]\nroot = \".\"\n";
    fs::write(at.join(".tws.toml"), rules).expect("write file");
    for path in ["http://other.test/inside.txt", "/inside.txt"] {
        assert_eq!(
            status(&["--symlinks=never"], path, "").status,
            404,
            "{path}"
        );
    }
    let response = status(&["-H", "X-A: b", "--cors"], "/a.txt", "");
    assert_eq!(response.field("X-A"), Some("b"));
    assert_eq!(response.field("Access-Control-Allow-Origin"), Some("*"));
    // A folder that was not named on the command line is not listed.
    let unnamed = TwsProcess::start(at, &[]);
    assert_eq!(unnamed.client().get("/").status, 404);
}
