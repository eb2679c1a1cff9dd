//! Tests of `tws explain`: the response to a request and the reasons for it, without a socket.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use crate::command_line::fails;
use crate::support::TwsProcess;

fn explain(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tws"))
        .current_dir(folder)
        .arg("explain")
        .args(args)
        .env("TWS_HOST_NAME", "*")
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .output()
        .expect("run tws")
}

fn explained(folder: &Path, args: &[&str]) -> String {
    let output = explain(folder, args);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && error.is_empty(),
        "{args:?}: {error}"
    );
    // A decision that may block is made twice, and must be reported once.
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    let count = lines.len();
    lines.dedup();
    assert_eq!(lines.len(), count, "{args:?}: {text}");
    text
}

const SITE: &str = r#"
[[redirect]]
from = "/old/*"
to = "/new/$1"

[[header]]
path = "/assets/*"
Cache-Control = "immutable"

[[route]]
path = "/logo"
file = "index.html"

[[host]]
names = ["example.org", "*.example.org"]
root = "other"
"#;

fn site() -> TempDir {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let at = folder.path();
    for name in [".git", "assets", "docs", "other"] {
        fs::create_dir(at.join(name)).expect("create directory");
    }
    for (name, content) in [
        (".tws.toml", SITE),
        (".git/config", "[core]"),
        ("index.html", "<p>home"),
        ("assets/app.js", "let app = 1;"),
        ("assets/app.js.br", "br"),
        ("docs/page.html", "<p>page"),
        ("other/index.html", "<p>other"),
    ] {
        fs::write(at.join(name), content).expect("write file");
        let file = fs::File::options().write(true).open(at.join(name));
        let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_577_836_800);
        file.expect("open file")
            .set_modified(long_ago)
            .expect("set modification time");
    }
    symlink("/etc", at.join("current")).expect("create symlink");
    symlink("../outside", at.join("out")).expect("create symlink");
    symlink("docs", at.join("inside")).expect("create symlink");
    symlink("nothing", at.join("dangling")).expect("create symlink");
    folder
}

#[test]
fn every_decision_is_explained() {
    let folder = site();
    let table: &[(&[&str], &[&str])] = &[
        (
            &["GET", "/"],
            &[
                "request   GET / HTTP/1.1",
                "file      index.html has 7 bytes",
                "status    200 OK",
                "field     Content-Type: text/html; charset=utf-8",
                "content   7 bytes",
            ],
        ),
        (
            &["GET", "/a/../.git/config"],
            &[
                "path      /.git/config\n",
                "path      /.git/config is refused because .git is hidden (--hidden serves it)",
                "status    404 Not Found",
            ],
        ),
        (
            &["GET", "/.tws.toml", "--hidden"],
            &["the site file", "status    404"],
        ),
        (
            &["GET", "/current/passwd"],
            &[
                "symlink   current → /etc leads out of the root and is not followed (--symlinks",
                "file      current/passwd is not found",
                "status    404",
            ],
        ),
        (
            &["GET", "/out/x"],
            &["symlink   out → ../outside leads out of the root"],
        ),
        (
            &["GET", "/inside/page.html"],
            &["symlink   inside → docs is followed\n", "status    200"],
        ),
        (
            &["--symlinks", "never", "GET", "/inside/page.html"],
            &[
                "symlink   inside → docs is not followed (--symlinks inside",
                "status    404",
            ],
        ),
        (
            &["GET", "/dangling"],
            &[
                "symlink   dangling → nothing is followed\n",
                "status    404",
            ],
        ),
        (
            &["--symlinks=follow", "GET", "/current/passwd"],
            &[
                "symlink   current → /etc is followed (--symlinks follow)",
                "status    200",
            ],
        ),
        (
            &["GET", "/assets/app.js", "-H", "Accept-Encoding: gzip"],
            &["sidecar   assets/app.js.gz does not exist"],
        ),
        (
            &["GET", "/assets/app.js", "-H", "Accept-Encoding: gzip, br"],
            &[
                "          Accept-Encoding: gzip, br",
                "sidecar   assets/app.js.br is sent, as Accept-Encoding asks for it",
                "rule      header /assets/* (line 6) sets Cache-Control: immutable",
                "field     Content-Encoding: br",
                "field     Cache-Control: immutable",
            ],
        ),
        (
            &[
                "GET",
                "/assets/app.js",
                "-HIf-None-Match: *",
                "--compress=off",
            ],
            &[
                "coding    not compressed: compress is off",
                "condition If-None-Match: *: the client has the current version: 304",
                "status    304 Not Modified",
                "content   none",
            ],
        ),
        (
            &["GET", "/index.html", "-H", "If-Match: \"x\""],
            &[
                "condition If-Match: \"x\": the file is not in the required version: 412",
                "status    412",
            ],
        ),
        (
            &["GET", "/index.html", "-H", "range: bytes=1-2"],
            &[
                "range     bytes=1-2 selects 2 of 7 bytes",
                "status    206",
                "content   2 bytes",
            ],
        ),
        (
            &["GET", "/", "-H", "Range: bytes=9-"],
            &["range     bytes=9- is beyond the end", "status    416"],
        ),
        (
            &["HEAD", "/", "-H", "Range: bytes=1-2"],
            &[
                "ranges apply to GET only",
                "status    200",
                "content   7 bytes, not sent for HEAD",
            ],
        ),
        (
            &["GET", "/old/x?y"],
            &[
                "rule      redirect /old/* → /new/$1 (line 2) matches /old/x",
                "status    301",
                "field     Location: /new/x?y",
            ],
        ),
        (
            &["GET", "/logo"],
            &["route     /logo is a route to index.html", "status    200"],
        ),
        (
            &["GET", "/", "-H", "Host: www.example.org"],
            &[
                "host      www.example.org matches [[host]] *.example.org, ",
                "content   8 bytes",
            ],
        ),
        (
            &["GET", "http://example.org/"],
            &["host      example.org matches [[host]] example.org, "],
        ),
        (
            &["GET", "/", "-H", "Host: a.test"],
            &["host      a.test matches no [[host]], so the default site is used"],
        ),
        (
            &["GET", "/docs"],
            &[
                "path      a folder's path ends with a slash",
                "field     Location: /docs/",
            ],
        ),
        (
            &["GET", "/docs/"],
            &[
                "file      docs/index.html is not found",
                "index     docs/ has no index file",
                "listing   off, so the folder is not listed (--listing on",
                "status    404",
            ],
        ),
        (
            &["GET", "/docs/", "--listing", "on"],
            &["listing   on", "status    200"],
        ),
        (
            &["GET", "/docs/page"],
            &["clean     docs/page.html exists, but clean-urls is off"],
        ),
        (
            &["GET", "/x", "--spa", "-HAccept: text/html"],
            &["spa       index.html answers", "status    200"],
        ),
        (
            &["GET", "/x", "--spa"],
            &[
                "spa       index.html is not used because Accept lacks text/html",
                "status    404",
            ],
        ),
        (
            &["GET", "/x.js", "--spa", "-HSec-Fetch-Mode: no-cors"],
            &["Sec-Fetch-Mode is not navigate", "status    404"],
        ),
        (
            &["GET", "/", "--header", "X-A: b"],
            &[
                "rule      header /* (--header) sets X-A: b",
                "field     X-A: b",
            ],
        ),
        (
            &["GET", "/../x"],
            &[
                "target    refused: path goes above the root",
                "status    400",
            ],
        ),
        (
            &["GET", "/", "-H", "Host: a b"],
            &["head      refused: malformed Host field", "status    400"],
        ),
        (
            &["GET", "/", "-H", "Host: a", "-H", "host: a"],
            &["head      refused: more than one Host", "status    400"],
        ),
        (
            &["GET", "/", "-H", "Expect: the worst"],
            &["head      refused: only the expectation", "status    417"],
        ),
        (
            &["DELETE", "/"],
            &[
                "method    DELETE needs changes of files, which are off",
                "status    405",
            ],
        ),
        (&["OPTIONS", "*"], &["status    204"]),
        (
            &["index.html", "GET", "/x"],
            &["the root is a single file", "status    404"],
        ),
    ];
    for (args, expected) in table {
        let text = explained(folder.path(), args);
        for part in *expected {
            assert!(text.contains(part), "{args:?}: {part:?} in\n{text}");
        }
    }
}

/// Each reason why content is not compressed on the fly has a line of its own.
#[cfg(feature = "compress")]
#[test]
fn reason_for_no_compression_is_explained() {
    const MIB: u64 = 1024 * 1024;
    let folder = tempfile::tempdir().expect("create temporary directory");
    for (name, len) in [
        ("large.wasm", 1_400_000),
        ("huge.wasm", 16 * MIB + 1),
        ("limit.wasm", MIB),
        ("above.html", MIB + 1),
        ("small.html", 1023),
        ("page.html", 1024),
        ("film.mp4", 2048),
        ("data.bin", 2048),
    ] {
        let file = fs::File::create(folder.path().join(name)).expect("create file");
        file.set_len(len).expect("set file length");
    }
    // SplitMix64, whose output no coding makes smaller.
    let random = |at: u64| {
        let seed = at.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)).to_le_bytes()
    };
    let random: Vec<u8> = (1..=250).flat_map(random).collect();
    fs::write(folder.path().join("random.txt"), random).expect("write file");
    let table: &[(&str, &[&str], &str)] = &[
        ("/large.wasm", &[], "not compressed yet"),
        ("/huge.wasm", &[], "larger than 16777216 bytes"),
        ("/limit.wasm", &[], "compressed here with gzip"),
        ("/above.html", &[], "not compressed yet"),
        ("/small.html", &[], "smaller than 1024 bytes"),
        ("/page.html", &[], "compressed here with gzip"),
        (
            "/page.html",
            &["--compress=sidecar"],
            "only sidecars are served",
        ),
        ("/film.mp4", &[], "video/mp4 would not become smaller"),
        ("/data.bin", &[], "its media type is not compressed"),
        ("/random.txt", &[], "gzip would not make it smaller"),
        ("/", &["--listing=on"], "compressed here with gzip"),
        (
            "/",
            &["--listing=on", "--compress=sidecar"],
            "listings have no sidecars",
        ),
    ];
    for (path, flags, reason) in table {
        let request = ["GET", path, "-H", "Accept-Encoding: gzip"];
        let text = explained(folder.path(), &[flags, &request[..]].concat());
        let lines: Vec<_> = text
            .lines()
            .filter(|it| it.starts_with("coding "))
            .collect();
        assert!(
            matches!(&lines[..], [line] if line.contains(reason)),
            "{path} {flags:?}: {text}"
        );
        let is_compressed = reason.starts_with("compressed");
        assert_eq!(text.contains("field     Content-Encoding"), is_compressed);
    }
}

#[test]
fn unknown_host_names_are_explained() {
    let folder = site();
    let evil = ["GET", "/", "-H", "Host: evil.example"];
    let put = ["PUT", "/x", "-H", "Host: evil.example"];
    for (args, expected) in [
        (
            &evil[..],
            "evil.example is neither a local name nor an allowed one: 421",
        ),
        (&put, "status    421"),
        (&["GET", "/"], "status    200"),
        (
            &["GET", "/", "-H", "Host: www.example.org"],
            "[[host]] *.example.org",
        ),
    ] {
        let text = explained(folder.path(), &[args, &["--host-name=app.test"]].concat());
        assert!(text.contains(expected), "{args:?}: {text}");
    }
}

/// The text of a whole explanation. Other tests look for parts of it.
#[test]
fn explanation_matches_golden_text() {
    let folder = site();
    let text = explained(folder.path(), &["HEAD", "/docs", "-H", "Host: a.test"]);
    let expected = "request   HEAD /docs HTTP/1.1
          Host: a.test
host      a.test matches no [[host]], so the default site is used: .
redirect  no redirect for /docs
route     no route for /docs
file      docs is a folder
path      a folder's path ends with a slash, so the client is redirected there
status    301 Moved Permanently
field     Content-Type: text/plain; charset=utf-8
field     Location: /docs/
field     X-Content-Type-Options: nosniff
content   22 bytes, not sent for HEAD
";
    assert_eq!(text, expected);
}

/// The page of an error has the fields of an error.
#[test]
fn fields_of_an_error_page_are_explained_as_those_of_the_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    let rules = "[error-pages]\n404 = '404.html'\n\
                 [[header]]\npath = '/*'\nX-Good = '1'\n\
                 [[header]]\npath = '/*.html'\nX-Html = '1'\n\
                 [[header]]\npath = '/*'\nalways = true\nX-Always = '1'\n";
    fs::write(at.join(".tws.toml"), rules).expect("write file");
    fs::write(at.join("404.html"), "<p>missing").expect("write file");
    for (path, expected) in [
        ("/none", &[false, false, true][..]),
        ("/404.html", &[true, true, true]),
    ] {
        let text = explained(at, &["GET", path]);
        for (name, is_set) in ["X-Good", "X-Html", "X-Always"].into_iter().zip(expected) {
            let is_explained = text.contains(&format!("sets {name}: 1"));
            let is_sent = text.contains(&format!("field     {name}: 1"));
            assert_eq!(
                (is_explained, is_sent),
                (*is_set, *is_set),
                "{name}: {text}"
            );
        }
    }
}

/// A path below `--base` is that of a prefix, not of a route.
#[test]
fn base_path_is_explained_as_a_prefix() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("a.txt"), "a").expect("write file");
    let text = explained(folder.path(), &["--base=/docs", "GET", "/docs/a.txt"]);
    assert!(text.contains("/docs is the prefix of the path"), "{text}");
    assert!(!text.contains("is a route of the program"), "{text}");
}

/// The client is that of a trusted proxy, or the peer that a flag names.
#[test]
fn explained_client_is_that_of_the_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let at = folder.path();
    fs::create_dir_all(at.join("www/internal")).expect("create directory");
    fs::write(at.join("www/internal/x.html"), "x").expect("write file");
    let config = "trusted-proxy = ['127.0.0.1', 'unix']\n\
                  [[rewrite]]\nfrom = '/int'\nto = '/internal/x.html'\n\
                  [[access]]\npath = '/internal/*'\nallow = '10.0.0.0/8'\n";
    fs::write(at.join("tws.toml"), config).expect("write file");
    let forwarded = "-HX-Forwarded-For: 10.1.1.1";
    let reported = "client    10.1.1.1, as the trusted proxy 127.0.0.1 reports\n";
    let denied = "denies /internal/x.html to 127.0.0.1: 403\n";
    for (method, args, expected) in [
        (
            "GET",
            &["/internal/x.html"][..],
            &[denied, "status    403"][..],
        ),
        ("GET", &["/int"], &[denied, "status    403"]),
        ("GET", &["/int", forwarded], &[reported, "status    200"]),
        ("PUT", &["/internal/x.html"], &[denied, "status    403"]),
        (
            "PUT",
            &["/internal/x.html", forwarded],
            &[reported, "status    405"],
        ),
        (
            "GET",
            &["/int", forwarded, "--client=unix"],
            &["status    200"],
        ),
        ("GET", &["/int", "--client=10.2.2.2"], &["status    200"]),
        (
            "GET",
            &["/int", "--client=[::ffff:10.2.2.2]:1"],
            &["status    200"],
        ),
        (
            "GET",
            &["/int", forwarded, "--client", "192.0.2.1"],
            &["denies /internal/x.html to 192.0.2.1: 403\n"],
        ),
    ] {
        let text = explained(at, &[&["--config=tws.toml", method], args].concat());
        for line in expected {
            assert!(text.contains(line), "{args:?}: {line} in {text}");
        }
    }
    let args = ["explain", "GET", "/", "--client=example.org"];
    let error = fails(at, &args, 2);
    assert!(error.contains("must be an IP address"), "{error}");
}

/// `tws explain` uses the same handler, so its response equals the served one.
#[test]
fn explained_response_equals_served_response() {
    let folder = site();
    let server = TwsProcess::start(folder.path(), &["--access-log=off"]);
    let mut client = server.client();
    for path in [
        "/",
        "/.git/config",
        "/current/passwd",
        "/inside/page.html",
        "/dangling",
        "/old/x",
        "/docs",
        "/docs/",
        "/assets/app.js",
    ] {
        let response = client.get(path);
        let text = explained(folder.path(), &["GET", path]);
        let status = format!("\nstatus    {} ", response.status);
        assert!(text.contains(&status), "{path}: {status:?} in {text}");
        for line in text
            .lines()
            .filter_map(|line| line.strip_prefix("field     "))
        {
            assert!(
                response.head.contains(line),
                "{path}: {line} in {}",
                response.head
            );
        }
        // From outside, a link that is not followed looks like a missing file.
        assert!(!response.text().contains("link"), "{path}");
    }
}

#[test]
fn explaining_upload_stores_nothing() {
    let folder = site();
    let at = folder.path();
    let table: &[(&[&str], &str)] = &[
        (
            &["PUT", "/x"],
            "needs uploads, which are off (--upload turns them on)",
        ),
        (
            &["PUT", "/x", "--upload"],
            "answer    201 Created: up to 1073741824 bytes would be stored as /x",
        ),
        (
            &["PUT", "/index.html", "--upload"],
            "answer    409 Conflict: the file already exists",
        ),
        (
            &["PUT", "/index.html", "--upload", "--upload-overwrite"],
            "answer    204 No Content: up to 1073741824 bytes would replace /index.html",
        ),
        (
            &["PUT", "/none/x", "--upload"],
            "answer    409 Conflict: the folder does not exist",
        ),
        (
            &["PUT", "/none/x", "--upload", "--upload-parents"],
            "would be stored as /none/x",
        ),
        (
            &["PUT", "/.x", "--upload"],
            "upload    refused: files with this name are not served",
        ),
        (
            &[
                "POST",
                "/docs/",
                "--upload",
                "-HContent-Type: multipart/form-data; boundary=x",
            ],
            "would be stored in /docs/",
        ),
        (&["POST", "/docs/", "--upload"], "status    415"),
    ];
    for (args, expected) in table {
        let text = explained(at, args);
        assert!(text.contains(expected), "{args:?}: {text}");
    }
    let content = fs::read_to_string(at.join("index.html")).expect("read file");
    assert_eq!(content, "<p>home");
    assert!(!at.join("x").exists() && !at.join("none").exists());
}

#[cfg(feature = "sqlite")]
#[test]
fn explaining_users_route_opens_no_database() {
    let folder = site();
    let state = tempfile::tempdir().expect("create temporary directory");
    let dir = state.path().to_str().expect("valid UTF-8");
    let users = ["--users=sqlite:u.db", "--state-dir", dir];
    for (request, expected) in [
        (
            &["GET", "/users"][..],
            "answer    depends on the user database",
        ),
        (
            &["POST", "/createUser", "-HContent-Length: 9"],
            "answer    depends on the user database",
        ),
        (&["POST", "/createUser"], "status    411"),
        (&["DELETE", "/users"], "status    405"),
    ] {
        let text = explained(folder.path(), &[request, &users].concat());
        assert!(text.contains(expected), "{request:?}: {text}");
    }
    let entries = fs::read_dir(state.path()).expect("read directory");
    assert_eq!(entries.count(), 0, "nothing was made");
}

#[cfg(feature = "auth")]
#[test]
fn explaining_with_credentials_verifies_and_hides_them() {
    let folder = site();
    fs::write(folder.path().join("users"), crate::middleware::USERS).expect("write file");
    let guarded = ["--auth-file", "users", "--upload"];
    for (request, expected) in [
        (
            &["GET", "/"][..],
            "password  there is no well-formed Authorization",
        ),
        (
            &["GET", "/", "-HAuthorization: Basic YW5hOm5v"],
            "password  the user is unknown or the password is wrong",
        ),
        (
            &["PUT", "/x", "-HAuthorization: Basic YW5hOm5v"],
            "password  the user is unknown or the password is wrong",
        ),
    ] {
        let text = explained(folder.path(), &[request, &guarded].concat());
        assert!(text.contains(expected), "{request:?}: {text}");
        assert!(text.contains("status    401"), "{request:?}: {text}");
        assert!(
            !text.contains("YW5h") && !text.contains("would be"),
            "{text}"
        );
    }
    let right = "-HAuthorization: Basic YW5hOnNlY3JldA==";
    for (request, expected) in [
        (&["GET", "/", right][..], "status    200"),
        (&["PUT", "/x", right], "answer    201 Created"),
    ] {
        let text = explained(folder.path(), &[request, &guarded].concat());
        assert!(
            text.contains("password  the password is correct\n"),
            "{text}"
        );
        assert!(text.contains(expected), "{request:?}: {text}");
    }
}

#[test]
fn invalid_explain_arguments_are_one_line_and_exit_2() {
    let folder = site();
    for (args, expected) in [
        (&["explain"][..], "METHOD and TARGET are missing"),
        (&["explain", "GET"], "METHOD and TARGET are missing"),
        (&["explain", "site", "GET"], "\"site\" is not a method"),
        (&["explain", "get", "/"], "\"get\" is not a method"),
        (&["explain", "GET", "/ñ"], "is not a request target"),
        (
            &["explain", "GET", "/", "-H", "foo"],
            "\"foo\" is not a header field",
        ),
        (
            &["explain", "GET", "/", "-H", "a b: c"],
            "is not a header field",
        ),
        (&["explain", "a", "b", "GET", "/"], "give only one folder"),
        (&["explain", "GET", "/", "--prot", "1"], "--prot"),
    ] {
        let error = fails(folder.path(), args, 2);
        assert!(error.contains(expected), "{args:?}: {error}");
    }
    let error = fails(folder.path(), &["explain", "nowhere", "GET", "/"], 1);
    assert!(error.contains("nowhere"), "{error}");
}

#[test]
fn folder_named_explain_is_served_as_path() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    fs::create_dir(folder.path().join("explain")).expect("create directory");
    fs::write(folder.path().join("explain/a"), "a").expect("write file");
    let server = TwsProcess::start(folder.path(), &["./explain"]);
    assert_eq!(server.client().get("/a").text(), "a");
}

#[test]
fn redirect_loop_is_warned_about_at_start() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let rules =
        "[[redirect]]\nfrom = \"/a\"\nto = \"/b\"\n[[redirect]]\nfrom = \"/b\"\nto = \"/a\"\n";
    fs::write(folder.path().join(".tws.toml"), rules).expect("write file");
    // The start fails after the warning, because the password file does not exist.
    let output = Command::new(env!("CARGO_BIN_EXE_tws"))
        .current_dir(folder.path())
        .args(["-p0", "--auth-file=none"])
        .env_remove("RUST_LOG")
        .output()
        .expect("run tws");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.contains(".tws.toml:4: redirect /b → /a loops"),
        "{error}"
    );
}

/// Each kind of rule says that it applies.
#[cfg(feature = "auth")]
#[test]
fn applied_rules_are_explained_with_their_lines() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let at = folder.path();
    for (name, content) in [
        ("www/index.html", "<p>home"),
        ("www/app.wasm.br", "wasm"),
        ("www/private/x.txt", "private"),
        ("www/posts/a.html", "<p>post"),
        ("users.txt", crate::middleware::USERS),
        (
            "tws.toml",
            "cors = ['https://a.test', 'https://b.test']\n\
             [[rewrite]]\nfrom = '/blog/*'\nto = '/posts/$1.html'\n\
             [[spa]]\npath = '/app'\npage = 'index.html'\n\
             [[header]]\npath = '/*'\nalways = true\nX-A = 'b'\n\
             [[header]]\npath = '/*.br'\nencoded = true\n\
             [[auth]]\npath = '/private/*'\nfile = 'users.txt'\n\
             [[access]]\npath = '/internal/*'\ndeny = 'all'\n",
        ),
    ] {
        fs::create_dir_all(at.join(name).parent().expect("a folder")).expect("create directory");
        fs::write(at.join(name), content).expect("write file");
    }
    let table: &[(&str, &[&str], &[&str])] = &[
        (
            "/blog/a",
            &[],
            &[
                "rule      rewrite /blog/* → /posts/$1.html (line 2) matches /blog/a: /posts/a.html",
                "file      posts/a.html",
                "status    200",
            ],
        ),
        (
            "/app/x",
            &["-HSec-Fetch-Mode: navigate"],
            &[
                "spa       index.html answers the navigation",
                "status    200",
            ],
        ),
        (
            "/none",
            &[],
            &[
                "rule      header /* (line 8) sets X-A: b",
                "field     X-A: b",
                "status    404",
            ],
        ),
        (
            "/app.wasm.br",
            &[],
            &[
                "rule      header /*.br (line 12) sends app.wasm.br as app.wasm",
                "field     Content-Encoding: br",
            ],
        ),
        (
            "/private/x.txt",
            &[],
            &[
                "access    auth /private/* (line 15) requires a password",
                "status    401",
            ],
        ),
        ("/.well-known/acme-challenge/x", &[], &["status    404"]),
        (
            "/internal/x",
            &[],
            &[
                "access    access /internal/* (line 18) denies",
                "status    403",
            ],
        ),
        (
            "/",
            &["-HOrigin: https://b.test"],
            &["field     Access-Control-Allow-Origin: https://b.test"],
        ),
    ];
    for (path, fields, expected) in table {
        let args = ["--config=tws.toml", "www", "GET", path];
        let text = explained(at, &[&args[..], fields].concat());
        for line in *expected {
            assert!(text.contains(line), "{path}: {line} in {text}");
        }
    }
}
