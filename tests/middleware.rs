//! Tests of middleware set by flags: passwords, CORS, and the log of slow requests.

use std::fs;
use std::io::{BufRead, BufReader};
#[cfg(feature = "auth")]
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use tempfile::TempDir;

#[cfg(feature = "auth")]
use crate::support::Client;
use crate::support::TwsProcess;

/// "secret" hashed by crypt(3) with bcrypt's lowest cost.
#[cfg(feature = "auth")]
pub(crate) const USERS: &str = "ana:$2y$04$CAEdaA94G7IhZBfoXyCMaeiZuCDGuWguBmdqyGRCxi1VqVOfYmlmW\n";

fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("create temporary directory");
    fs::write(folder.path().join("a.txt"), "a").expect("write file");
    folder
}

#[cfg(feature = "auth")]
mod auth {
    use super::*;
    use crate::command_line::fails;

    use std::os::unix::fs::symlink;
    use std::process::Command;

    const ANA: &str = "Authorization: Basic YW5hOnNlY3JldA==\r\n";
    const WRONG: &str = "Authorization: Basic YW5hOndyb25n\r\n";
    const UNKNOWN: &str = "Authorization: Basic Ym86c2VjcmV0\r\n";

    fn guarded(more: &[&str]) -> (TempDir, TwsProcess) {
        let folder = folder();
        fs::write(folder.path().join("users.txt"), USERS).expect("write file");
        let args = ["--auth-file=users.txt", "--access-log=off"];
        let process = TwsProcess::start(folder.path(), &[&args[..], more].concat());
        (folder, process)
    }

    #[test]
    fn request_without_valid_password_is_401() {
        let (_folder, site) = guarded(&["."]);
        let mut client = site.client();
        for (method, path, fields, status) in [
            ("GET", "/a.txt", "", 401),
            ("HEAD", "/a.txt", "", 401),
            ("OPTIONS", "*", "", 401),
            ("GET", "/none", "", 401),
            ("GET", "/a.txt", WRONG, 401),
            ("GET", "/a.txt", UNKNOWN, 401),
            ("GET", "/a.txt", ANA, 200),
            ("GET", "/a.txt", ANA, 200),
            ("HEAD", "/a.txt", ANA, 200),
            ("GET", "/none", ANA, 404),
            // The password file lies beneath the root, and is not served.
            ("GET", "/users.txt", ANA, 404),
            ("GET", "/a.txt", WRONG, 401),
        ] {
            let response = client.request(method, path, fields);
            assert_eq!(response.status, status, "{method} {path} {fields}");
            let challenge = response.field("WWW-Authenticate");
            assert_eq!(challenge.is_some(), status == 401, "{method} {path}");
        }
        let response = client.get("/");
        let challenge = "Basic realm=\"tws\", charset=\"UTF-8\"";
        assert_eq!(response.field("WWW-Authenticate"), Some(challenge));
    }

    /// Under its own name and under that of a symbolic link to it.
    #[test]
    fn password_file_is_404_on_every_host() {
        let folder = folder();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("root/blog")).expect("create directory");
        fs::write(at("root/blog/users.txt"), USERS).expect("write file");
        fs::write(at("secret.txt"), USERS).expect("write file");
        std::os::unix::fs::symlink("../../secret.txt", at("root/blog/link.txt"))
            .expect("create symlink");
        let hosts = "symlinks = \"follow\"\n[[host]]\nnames = [\"blog.test\"]\nroot = \"root/blog\"\n\
                     symlinks = \"follow\"\n";
        fs::write(at("tws.toml"), hosts).expect("write file");
        for name in ["users.txt", "link.txt"] {
            let file = format!("--auth-file=root/blog/{name}");
            let args = ["root", "--config=tws.toml", &file, "--access-log=off"];
            let site = TwsProcess::start(folder.path(), &args);
            let mut client = site.client();
            for (host, path) in [("test", "/blog/"), ("blog.test", "/")] {
                client.send(format!(
                    "GET {path}{name} HTTP/1.1\r\nHost: {host}\r\n{ANA}\r\n"
                ));
                assert_eq!(client.response().status, 404, "{host}: {name}");
            }
        }
    }

    /// Through a link, a folder that is a link, a second name, a clean URL, and after a replacement.
    #[test]
    fn server_files_are_never_served_or_replaced() {
        let folder = folder();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir_all(at("root/releases/7")).expect("create directory");
        fs::write(at("root/releases/7/users.txt"), USERS).expect("write file");
        fs::write(at("root/releases/7/other.txt"), "other").expect("write file");
        fs::write(at("root/cfg.html"), "clean-urls = true\n").expect("write file");
        symlink("releases/7", at("root/current")).expect("create symlink");
        symlink("cfg.html", at("root/index.html")).expect("create symlink");
        fs::hard_link(at("root/releases/7/users.txt"), at("root/second")).expect("create link");
        let args = [
            "root",
            "--config=root/cfg.html",
            "--auth-file=root/current/users.txt",
            "--access-log=root/access.log",
            "--upload",
            "--upload-overwrite",
            "--listing=on",
        ];
        let site = TwsProcess::start(folder.path(), &args);
        let mut client = site.client();
        let names = [
            "/current/users.txt",
            "/releases/7/users.txt",
            "/second",
            "/cfg",
            "/cfg.html",
            "/index.html",
            "/access.log",
        ];
        assert_eq!(client.request("GET", "/current/other.txt", ANA).status, 200);
        for name in names {
            assert_eq!(client.request("GET", name, ANA).status, 404, "{name}");
        }
        assert_eq!(client.request("GET", "/index", ANA).status, 404);
        client
            .send(format!("GET /current/ HTTP/1.1\r\nHost: test\r\n{ANA}\r\n"))
            .head();
        let listing = String::from_utf8(client.chunks()).expect("UTF-8");
        assert!(listing.contains("other.txt"), "{listing}");
        assert!(!listing.contains("users.txt"), "{listing}");
        let put = |name: &str| {
            let fields = format!("{ANA}Content-Length: 1\r\nConnection: close\r\n");
            let mut client = site.client();
            client.send(format!(
                "PUT {name} HTTP/1.1\r\nHost: test\r\n{fields}\r\nx"
            ));
            client.head().status
        };
        assert_eq!(put("/current/other.txt"), 204);
        for name in [
            "/current/users.txt",
            "/releases/7/users.txt",
            "/cfg.html",
            "/access.log",
        ] {
            assert_eq!(put(name), 403, "{name}");
        }
        fs::write(at("users.new"), USERS).expect("write file");
        fs::rename(at("users.new"), at("root/releases/7/users.txt")).expect("rename file");
        for name in ["/current/users.txt", "/releases/7/users.txt"] {
            assert_eq!(client.request("GET", name, ANA).status, 404, "{name}");
            assert_eq!(put(name), 403, "{name}");
        }
        fs::remove_file(at("root/releases/7/users.txt")).expect("remove file");
        assert_eq!(put("/current/users.txt"), 403);
        let output = Command::new(env!("CARGO_BIN_EXE_tws"))
            .arg("check")
            .args(args)
            .current_dir(folder.path())
            .output()
            .expect("run tws");
        let report = String::from_utf8_lossy(&output.stdout);
        for name in ["cfg.html", "access.log"] {
            let warned = report
                .lines()
                .any(|line| line.starts_with("warning: ") && line.contains(name));
            assert!(warned, "{report}");
        }
    }

    /// Pipelined requests wait for the password check of the first, and each has its own result.
    #[test]
    fn pipelined_auth_requests_are_answered_in_order() {
        let (_folder, site) = guarded(&["."]);
        let mut client = site.client();
        let get = |path, fields| format!("GET {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n");
        let requests = [get("/a.txt", ANA), get("/a.txt", WRONG), get("/x", ANA)];
        client.send(requests.concat());
        let statuses = requests.map(|_| client.response().status);
        assert_eq!(statuses, [200, 401, 404]);
    }

    #[test]
    fn unauthenticated_body_is_not_read() {
        let (_folder, site) = guarded(&["."]);
        let mut client = site.client();
        // The body is never sent.
        client.send("POST /a.txt HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\n");
        assert_eq!(client.response().status, 401);
        let mut client = site.client();
        client.send(format!(
            "POST /a.txt HTTP/1.1\r\nHost: test\r\n{ANA}Content-Length: 9\r\n\r\n123456789"
        ));
        assert_eq!(client.response().status, 405);
    }

    /// More connections of one client with wrong passwords than fit into its queue: it gets 401, then
    /// 429 or 503; another client is let in, and stays in.
    #[test]
    fn flood_of_wrong_passwords_does_not_lock_others_out() {
        let (_folder, site) = guarded(&[".", "--bind=0.0.0.0"]);
        let address = SocketAddr::from(([127, 0, 0, 1], site.address.port()));
        let attack = format!("GET /a.txt HTTP/1.1\r\nHost: test\r\n{WRONG}\r\n");
        let mut attackers: Vec<_> = (0..80)
            .map(|_| {
                let mut attacker = Client::connect_from([127, 0, 0, 2], address);
                attacker.send(&attack);
                attacker
            })
            .collect();
        let mut client = Client::connect(address);
        assert_eq!(client.request("GET", "/a.txt", ANA).status, 200);
        let mut statuses = std::collections::BTreeSet::new();
        for attacker in &mut attackers {
            let reply = attacker.response();
            statuses.insert(reply.status);
            if reply.status == 429 {
                assert!(reply.field("Retry-After").is_some());
            }
        }
        assert!(statuses.is_subset(&[401, 429, 503].into()), "{statuses:?}");
        assert!(statuses.is_superset(&[401, 429].into()), "{statuses:?}");
        // It has no body to read either.
        let mut attacker = Client::connect_from([127, 0, 0, 2], address);
        attacker.send(format!(
            "POST /a.txt HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n{WRONG}\r\n"
        ));
        assert_eq!(attacker.response().status, 429);
        // Logins that were accepted are known at every address.
        let mut other = Client::connect_from([127, 0, 0, 2], address);
        assert_eq!(other.request("GET", "/a.txt", ANA).status, 200);
        assert_eq!(client.request("GET", "/a.txt", ANA).status, 200);
    }

    #[test]
    fn cors_preflight_needs_no_password() {
        let (_folder, site) = guarded(&[".", "--cors=https://a.test"]);
        let mut client = site.client();
        let preflight_fields = "Origin: https://a.test\r\nAccess-Control-Request-Method: GET\r\n";
        let preflight = client.request("OPTIONS", "/a.txt", preflight_fields);
        assert_eq!(preflight.status, 204);
        let allowed = preflight.field("Access-Control-Allow-Headers");
        assert_eq!(allowed, Some("*, Authorization"));
        // With CORS fields, so that the page can read the status.
        let denied = client.get("/a.txt");
        assert_eq!(denied.status, 401);
        let origin = denied.field("Access-Control-Allow-Origin");
        assert_eq!(origin, Some("https://a.test"));
    }

    /// As nginx, Windows editors and Excel write them.
    #[test]
    fn password_file_with_comments_bom_and_crlf_is_read() {
        let hash = USERS.trim_end();
        for text in [
            format!("{hash}:comment\n"),
            format!("{hash}:a:b\r\n"),
            format!("\u{FEFF}{hash}\r\n"),
            format!("\u{FEFF}# users\r\n\r\n{hash} \t\r\n"),
        ] {
            let folder = folder();
            fs::write(folder.path().join("users.txt"), &text).expect("write file");
            let args = ["--auth-file=users.txt", "--access-log=off"];
            let site = TwsProcess::start(folder.path(), &args);
            let mut client = site.client();
            assert_eq!(client.request("GET", "/a.txt", ANA).status, 200, "{text:?}");
            assert_eq!(
                client.request("GET", "/a.txt", WRONG).status,
                401,
                "{text:?}"
            );
        }
    }

    #[test]
    fn invalid_password_file_is_error_with_advice() {
        let folder = folder();
        let at = folder.path();
        let args = ["-p", "0", "--auth-file", "u"];
        let error = fails(at, &args, 1);
        assert!(error.contains("read the passwords in u"), "{error}");
        for (text, expected) in [
            ("# nobody\n", "u: there is no user"),
            ("\nana:secret\n", "u:2: \"ana\" has a plain password"),
            ("ana:$apr1$a$b\n", "u:1: \"ana\" has an MD5 hash"),
            ("ana\n", "u:1: it is not `user:hash`"),
        ] {
            fs::write(at.join("u"), text).expect("write file");
            let error = fails(at, &args, 1);
            assert!(error.contains(expected), "{error}");
            assert!(error.contains("htpasswd"), "{error}");
        }
    }
}

#[cfg(feature = "sqlite")]
#[test]
fn cors_flag_applies_to_files_users_and_errors() {
    let folder = folder();
    let args = [
        "--users=sqlite:u.db",
        "--cors=https://a.test",
        "--access-log=off",
    ];
    let site = TwsProcess::start(folder.path(), &args);
    let mut client = site.client();
    let origin = "Origin: https://a.test\r\n";
    for (method, path, fields, status) in [
        ("GET", "/users", "", 200),
        ("GET", "/users/7", "", 404),
        ("GET", "/a.txt", "", 200),
        ("GET", "/none", "", 404),
        ("OPTIONS", "/users", "", 204),
        (
            "OPTIONS",
            "/createUser",
            "Access-Control-Request-Method: POST\r\n",
            204,
        ),
        // The body is rejected unread, and the connection closes.
        (
            "POST",
            "/createUser",
            "Content-Type: application/json\r\nContent-Length: 9000000\r\n",
            413,
        ),
    ] {
        let response = client.request(method, path, &format!("{origin}{fields}"));
        assert_eq!(response.status, status, "{method} {path}");
        let allowed = response.field("Access-Control-Allow-Origin");
        assert_eq!(allowed, Some("https://a.test"), "{method} {path}");
        assert_eq!(
            response.head.matches("Vary: Origin").count(),
            1,
            "{}",
            response.head
        );
        let methods = response.field("Access-Control-Allow-Methods");
        assert_eq!(
            methods.is_some(),
            fields.contains("Method"),
            "{method} {path}"
        );
    }
    let mut client = site.client();
    let tag = client.get("/a.txt");
    let tag = tag.field("ETag").expect("ETag field");
    let unchanged = client.request("GET", "/a.txt", &format!("If-None-Match: {tag}\r\n"));
    assert_eq!(unchanged.status, 304);
    assert!(
        unchanged.head.contains("Vary: Origin"),
        "{}",
        unchanged.head
    );
}

/// The flag applies to all hosts; a header rule for specific files overrides it.
#[test]
fn cors_flag_overrides_site_and_header_rule_overrides_flag() {
    let folder = folder();
    let rules = "cors = \"https://site.test\"\n[[header]]\npath = \"/b.txt\"\n\
                 Access-Control-Allow-Origin = \"https://rule.test\"\n";
    fs::write(folder.path().join(".tws.toml"), rules).expect("write file");
    fs::write(folder.path().join("b.txt"), "b").expect("write file");
    let allowed = |args: &[&str], path: &str| {
        let site = TwsProcess::start(folder.path(), args);
        let response = site.client().get(path);
        response
            .field("Access-Control-Allow-Origin")
            .map(str::to_owned)
    };
    for (args, path, expected) in [
        (&[][..], "/a.txt", "https://site.test"),
        (&["--cors"], "/a.txt", "*"),
        (&["--cors"], "/b.txt", "https://rule.test"),
    ] {
        assert_eq!(
            allowed(args, path).as_deref(),
            Some(expected),
            "{args:?} {path}"
        );
    }
}

#[test]
fn slow_request_is_logged_to_stderr() {
    let folder = folder();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tws"));
    let command = command.current_dir(folder.path());
    let command = command.args(["--port=0", "--slow-log=0"]);
    let mut site = TwsProcess::run(command.stderr(Stdio::piped()));
    assert_eq!(site.client().get("/a.txt?b=\"c").status, 200);
    let stderr = BufReader::new(site.child.stderr.take().expect("stdio pipe"));
    let line = stderr
        .lines()
        .next()
        .expect("a line on standard error")
        .expect("read line");
    let expected = "slow request: GET \"/a.txt?b=\\\"c\" 200 for 127.0.0.1:";
    assert!(line.contains(expected), "{line}");
    assert!(line.contains("WARN") && line.ends_with(" ms"), "{line}");
}
