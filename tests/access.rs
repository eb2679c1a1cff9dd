//! Tests of `[[auth]]` and `[[access]]`: passwords and networks by path and host.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::static_files::write;
use crate::support::h2::H2Client;
use crate::support::{Client, TwsProcess, eventually};

/// Returns a folder with `www`, `host` and a settings file.
fn machine(rules: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let at = folder.path();
    for name in [
        "www/index.html",
        "www/a.txt",
        "www/admin.html",
        "www/private/index.html",
        "www/private/x.txt",
        "www/private/x.txt.gz",
        "www/private/logo.svg",
        "www/app/index.html",
        "www/.well-known/acme-challenge/token",
        "www/.well-known/other",
        "host/index.html",
        "host/private/x.txt",
    ] {
        write(at, name, name);
    }
    let config = format!("directory = 'www'\naccess-log = 'off'\nclean-urls = true\n{rules}");
    fs::write(at.join("tws.toml"), config).expect("write file");
    folder
}

fn start(folder: &Path, flags: &[&str]) -> TwsProcess {
    let args = ["--config=tws.toml", "--http2=all", "--host-name=*"];
    TwsProcess::start(folder, &[&args[..], flags].concat())
}

fn status(client: &mut Client, method: &str, path: &str, fields: &str) -> u16 {
    client.request(method, path, fields).status
}

#[cfg(feature = "auth")]
mod passwords {
    use super::*;
    use crate::middleware::USERS;

    const ANA: &str = "Authorization: Basic YW5hOnNlY3JldA==\r\n";
    /// Has the password of another file.
    const BO: &str = "Authorization: Basic Ym86b3RoZXI=\r\n";

    fn with_users(folder: TempDir) -> TempDir {
        let hash = bcrypt::hash("other", 4).expect("hash password");
        write(folder.path(), "ana.txt", USERS);
        write(folder.path(), "bo.txt", format!("bo:{hash}\n"));
        folder
    }

    /// Whatever the client writes, the file is the same.
    #[test]
    fn protected_file_has_no_unprotected_path() {
        let rules = "[[auth]]\npath = '/private/*'\nfile = 'ana.txt'\n\
                     [[auth]]\npath = '/admin.html'\nfile = 'ana.txt'\n\
                     [[route]]\npath = '/short'\nfile = 'private/x.txt'\n\
                     [[rewrite]]\nfrom = '/alias/*'\nto = '/private/$1'\n\
                     [[rewrite]]\nfrom = '/lost/*'\nto = '/private/$1'\nmissing = true\n";
        let folder = with_users(machine(rules));
        let process = start(folder.path(), &["--auth-failures=1000:1000"]);
        let mut client = process.client();
        for path in [
            "/private/x.txt",
            "/private/",
            "/private/none",
            "/private%2fx.txt",
            "/%70rivate/x.txt",
            "//private/x.txt",
            "/private//x.txt",
            "/a/../private/x.txt",
            "/./private/./x.txt",
            "/%2e/private/x.txt",
            "/private/x.txt?a",
            "/private/x.txt.gz",
            "http://test/private/x.txt",
            "/admin.html",
            "/admin",
            "/short",
            "/alias/x.txt",
            "/alias/",
            "/lost/x.txt",
        ] {
            for method in ["GET", "HEAD"] {
                assert_eq!(
                    status(&mut client, method, path, ""),
                    401,
                    "{method} {path}"
                );
                let fields = "Range: bytes=0-0\r\nIf-None-Match: *\r\n";
                assert_eq!(
                    status(&mut client, method, path, fields),
                    401,
                    "{method} {path}"
                );
                assert_eq!(
                    status(&mut process.client(), method, path, BO),
                    401,
                    "{method} {path}"
                );
                let found = status(&mut client, method, path, ANA);
                let expected = if path == "/private/none" { 404 } else { 200 };
                assert_eq!(found, expected, "{method} {path}");
            }
            if path.starts_with('/') {
                let mut http2 = H2Client::connect(process.address);
                assert_eq!(http2.get(path).status(), 401, "HTTP/2 {path}");
            }
        }
        for path in ["/", "/a.txt", "/private.txt", "/Private/x.txt"] {
            let found = status(&mut client, "GET", path, "");
            assert!([200, 404].contains(&found), "{path}: {found}");
        }
    }

    /// Neither a redirect nor its absence shows whether there is something that needs a password.
    #[test]
    fn redirect_to_protected_path_needs_its_password() {
        let rules = "[[auth]]\npath = '/private/*'\nfile = 'ana.txt'\n\
                     [[auth]]\npath = '/admin.html'\nfile = 'ana.txt'\n\
                     [[auth]]\npath = '/missing/*'\nfile = 'ana.txt'\n\
                     [[auth]]\npath = '/none.html'\nfile = 'ana.txt'\n\
                     [[auth]]\npath = '/blog/*'\nfile = 'bo.txt'\n";
        let folder = with_users(machine(rules));
        write(folder.path(), "www/blog.html", "blog");
        write(folder.path(), "www/blog/x.txt", "x");
        let process = start(folder.path(), &["--auth-failures=1000:1000"]);
        // Without a login, with that of ana, and with that of bo.
        for (path, expected) in [
            ("/private", [401, 301, 401]),
            ("/missing", [401, 404, 401]),
            ("/admin/", [401, 301, 401]),
            ("/none/", [401, 404, 401]),
            ("/private?a", [401, 301, 401]),
            ("//private", [401, 301, 401]),
            ("/blog", [200, 200, 200]),
            ("/blog/", [401, 401, 404]),
            ("/app", [301, 301, 301]),
            ("/a.txt/", [404, 404, 404]),
            ("/absent", [404, 404, 404]),
        ] {
            for method in ["GET", "HEAD"] {
                for (fields, expected) in ["", ANA, BO].into_iter().zip(expected) {
                    let found = status(&mut process.client(), method, path, fields);
                    assert_eq!(found, expected, "{method} {path} {fields}");
                }
            }
            let mut http2 = H2Client::connect(process.address);
            assert_eq!(http2.get(path).status(), expected[0], "HTTP/2 {path}");
        }
        // The login that is not required for the path itself is verified once; here for the first time.
        let other = start(folder.path(), &[]);
        assert_eq!(status(&mut other.client(), "GET", "/private", ANA), 301);
    }

    /// The name is that of a folder, whether its path has a slash or not.
    #[test]
    fn change_without_the_slash_of_a_protected_folder_needs_its_password() {
        let rules = "[manage]\ndelete = 'permanent'\n[upload]\n\
                     [[auth]]\npath = '/private/*'\nfile = 'ana.txt'\n\
                     [[auth]]\npath = '/ghost/*'\nfile = 'ana.txt'\n\
                     [[auth]]\npath = '/a.txt'\nfile = 'ana.txt'\n";
        let folder = with_users(machine(rules));
        let process = start(folder.path(), &["--auth-failures=1000:1000"]);
        let moved = "Destination: /moved\r\n";
        for (method, path, fields, with_login) in [
            ("PUT", "/private", "Content-Length: 0\r\n", 409),
            ("MKCOL", "/private", "", 409),
            ("MOVE", "/ghost", moved, 404),
            ("DELETE", "/ghost", "", 404),
            ("DELETE", "/a.txt/", "", 404),
            ("DELETE", "/private", "", 204),
        ] {
            for login in ["", BO] {
                let fields = format!("{fields}{login}");
                let found = status(&mut process.client(), method, path, &fields);
                assert_eq!(found, 401, "{method} {path} {login}");
            }
            let fields = format!("{fields}{ANA}");
            let found = status(&mut process.client(), method, path, &fields);
            assert_eq!(found, with_login, "{method} {path}");
        }
    }

    /// Browsers send the password of the site for a page beside a folder that has another password.
    #[test]
    fn page_beside_a_folder_with_another_password_needs_that_of_the_site() {
        let rules = "[[auth]]\npath = '/*'\nfile = 'ana.txt'\n\
                     [[auth]]\npath = '/blog/*'\nfile = 'bo.txt'\n\
                     [[auth]]\npath = '/private/*'\nfile = 'bo.txt'\n";
        let folder = with_users(machine(rules));
        write(folder.path(), "www/blog.html", "blog");
        write(folder.path(), "www/blog/x.txt", "x");
        let process = start(folder.path(), &["--auth-failures=0.0001:2"]);
        let mut client = process.client();
        for _ in 0..4 {
            assert_eq!(status(&mut client, "GET", "/blog", ANA), 200);
        }
        assert_eq!(status(&mut client, "GET", "/private", ANA), 401);
        assert_eq!(status(&mut client, "GET", "/private", ""), 401);
    }

    #[test]
    fn last_matching_rule_decides_and_public_is_for_reading() {
        let rules = "[[auth]]\npath = '/private/*'\nfile = 'bo.txt'\n\
                     [[auth]]\npath = '/private/logo.svg'\npublic = true\n\
                     [[auth]]\npath = '/app/*'\npublic = true\n";
        let folder = with_users(machine(rules));
        let process = start(folder.path(), &["--auth-file=ana.txt", "--upload"]);
        let mut client = process.client();
        for (method, path, fields, expected) in [
            ("GET", "/a.txt", "", 401),
            ("GET", "/a.txt", ANA, 200),
            ("GET", "/a.txt", BO, 401),
            ("GET", "/private/x.txt", ANA, 401),
            ("GET", "/private/x.txt", BO, 200),
            ("GET", "/private/logo.svg", "", 200),
            ("HEAD", "/private/logo.svg", "", 200),
            ("GET", "/app/", "", 200),
            // The index has a rule under its own path, too.
            ("GET", "/app/index.html", "", 200),
            ("GET", "/.well-known/acme-challenge/token", "", 200),
            ("GET", "/.well-known/acme-challenge/", "", 401),
            ("GET", "/.well-known/acme-challenge/../../a.txt", "", 401),
            ("GET", "/.well-known/other", "", 401),
        ] {
            assert_eq!(
                status(&mut client, method, path, fields),
                expected,
                "{method} {path} {fields}"
            );
        }
        for path in [
            "/app/new",
            "/.well-known/acme-challenge/new",
            "/private/logo.svg",
        ] {
            let put = "Content-Length: 0\r\n";
            assert_eq!(
                status(&mut process.client(), "PUT", path, put),
                401,
                "{path}"
            );
        }
        let put = format!("Content-Length: 0\r\n{ANA}");
        assert_eq!(status(&mut process.client(), "PUT", "/app/new", &put), 201);
    }

    /// A folder has several names of index files, which are files of their own.
    #[test]
    fn index_file_is_not_public_because_another_one_is() {
        let rules = "index = ['index.html', 'readme.html']\n\
                     [[auth]]\npath = '/private/*'\nfile = 'ana.txt'\n\
                     [[auth]]\npath = '/private/readme.html'\npublic = true\n";
        let folder = with_users(machine(rules));
        write(folder.path(), "www/private/readme.html", "readme");
        let process = start(folder.path(), &["--listing=on"]);
        let mut client = process.client();
        for (path, expected) in [
            ("/private/readme.html", 200),
            ("/private/readme", 200),
            ("/private/", 401),
            ("/private/?download=tar", 401),
            ("/private/index.html", 401),
            ("/private/index", 401),
            ("/private/x.txt", 401),
        ] {
            assert_eq!(status(&mut client, "GET", path, ""), expected, "{path}");
        }
        assert_eq!(status(&mut client, "GET", "/private/", ANA), 200);
    }

    /// The target of a rewrite of missing paths is as protected as its own path, and what is at other paths
    /// is as public as before. Whether the target exists is not revealed.
    #[test]
    fn fallback_to_protected_page_needs_its_password_where_nothing_is_found() {
        let rules = "[[auth]]\npath = '/private/*'\nfile = 'ana.txt'\n\
                     [[auth]]\npath = '/fixed/*'\nfile = 'bo.txt'\n\
                     [[route]]\npath = '/dead'\nfile = 'gone.txt'\n\
                     [[rewrite]]\nfrom = '/renamed'\nto = '/a.txt'\n\
                     [[rewrite]]\nfrom = '/renamed-gone'\nto = '/gone.txt'\n\
                     [[rewrite]]\nfrom = '/lost/*'\nto = '/private/$1'\nmissing = true\n\
                     [[rewrite]]\nfrom = '/clean'\nto = '/private/page'\nmissing = true\n\
                     [[rewrite]]\nfrom = '/fixed/*'\nto = '/private/x.txt'\nmissing = true\n\
                     [[rewrite]]\nfrom = '/*'\nto = '/private'\nmissing = true\n";
        let folder = with_users(machine(rules));
        write(folder.path(), "www/private/page.html", "page");
        write(folder.path(), "www/fixed/there.txt", "there");
        write(folder.path(), "www/bare/x.txt", "x");
        let process = start(folder.path(), &["--auth-failures=1000:1000"]);
        // Without a login, with that of ana, and with that of bo.
        for (path, expected) in [
            ("/", [200, 200, 200]),
            ("/a.txt", [200, 200, 200]),
            ("/a.txt?none", [200, 200, 200]),
            ("/admin", [200, 200, 200]),
            ("/admin/", [301, 301, 301]),
            ("/app", [301, 301, 301]),
            ("/app/", [200, 200, 200]),
            // A folder that is not listed is not missing.
            ("/bare/", [404, 404, 404]),
            ("/bare", [301, 301, 301]),
            ("/renamed", [200, 200, 200]),
            ("/renamed-gone", [404, 404, 404]),
            ("/none", [401, 200, 401]),
            ("/none/", [401, 200, 401]),
            ("/a.txt/x", [401, 200, 401]),
            ("/none/../absent", [401, 200, 401]),
            ("/dead", [401, 200, 401]),
            ("/clean", [401, 200, 401]),
            ("/lost/x.txt", [401, 200, 401]),
            ("/lost/", [401, 200, 401]),
            ("/lost/none", [401, 404, 401]),
            ("/lost/page/", [401, 404, 401]),
            ("/fixed/there.txt", [401, 401, 200]),
            // The path needs another password than the target.
            ("/fixed/none", [401, 401, 401]),
        ] {
            for (fields, expected) in ["", ANA, BO].into_iter().zip(expected) {
                for method in ["GET", "HEAD"] {
                    let found = status(&mut process.client(), method, path, fields);
                    assert_eq!(found, expected, "{method} {path} {fields}");
                }
                if expected == 401 {
                    for condition in ["Range: bytes=0-0\r\n", "If-None-Match: *\r\n"] {
                        let fields = [fields, condition].concat();
                        let found = status(&mut process.client(), "GET", path, &fields);
                        assert_eq!(found, 401, "{path} {fields}");
                    }
                }
            }
            let mut http2 = H2Client::connect(process.address);
            assert_eq!(http2.get(path).status(), expected[0], "HTTP/2 {path}");
        }
        // The login is verified for the first time.
        let other = start(folder.path(), &[]);
        let response = other.client().request("GET", "/lost/x.txt", ANA);
        assert_eq!(response.text(), "www/private/x.txt");
    }

    /// A client of a denied network does not learn which password is right.
    #[test]
    fn denied_network_gets_403_whatever_the_password() {
        let rules = "[[auth]]\npath = '/private/*'\nfile = 'ana.txt'\n\
                     [[access]]\npath = '/private/*'\nallow = ['127.0.0.2']\n\
                     [[spa]]\npath = '/app'\npage = 'private/index.html'\n\
                     [[rewrite]]\nfrom = '/lost/*'\nto = '/private/$1'\nmissing = true\n";
        let folder = with_users(machine(rules));
        let process = start(folder.path(), &["--auth-failures=1000:1000"]);
        for (path, expected) in [
            ("/private/x.txt", [401, 200, 401]),
            ("/private", [401, 301, 401]),
            ("/lost/x.txt", [401, 200, 401]),
            ("/lost/none", [401, 404, 401]),
            ("/app/none", [401, 200, 401]),
            ("/a.txt", [200, 200, 200]),
        ] {
            for (login, expected) in ["", ANA, BO].into_iter().zip(expected) {
                let fields = format!("Sec-Fetch-Mode: navigate\r\n{login}");
                let mut client = Client::connect_from([127, 0, 0, 2], process.address);
                let found = status(&mut client, "GET", path, &fields);
                assert_eq!(found, expected, "{path} {login}");
                // With passwords that were verified before, and without that.
                let denied = if path == "/a.txt" { 200 } else { 403 };
                let found = status(&mut process.client(), "GET", path, &fields);
                assert_eq!(found, denied, "{path} {login}");
                let other = start(folder.path(), &[]);
                let found = status(&mut other.client(), "GET", path, &fields);
                assert_eq!(found, denied, "{path} {login}");
            }
        }
    }

    /// A login that the page would need does not matter for files that need none.
    #[test]
    fn wrong_password_for_the_page_of_an_application_does_not_matter_elsewhere() {
        let rules = "spa = 'index.html'\n[[auth]]\npath = '/'\nfile = 'ana.txt'\n";
        let folder = with_users(machine(rules));
        let process = start(folder.path(), &["--auth-failures=0.0001:1"]);
        let navigate = format!("Sec-Fetch-Mode: navigate\r\n{BO}");
        let mut client = process.client();
        for (path, expected) in [
            ("/a.txt", 200),
            ("/a.txt", 200),
            ("/some/where", 401),
            ("/some/where", 429),
            ("/a.txt", 200),
        ] {
            assert_eq!(
                status(&mut client, "GET", path, &navigate),
                expected,
                "{path}"
            );
        }
    }

    /// The application's page is served under any path.
    #[test]
    fn page_of_application_is_as_protected_as_its_own_path() {
        let rules = "spa = 'index.html'\n[[auth]]\npath = '/'\nfile = 'ana.txt'\n";
        let folder = with_users(machine(rules));
        let process = start(folder.path(), &[]);
        let mut client = process.client();
        let navigate = "Sec-Fetch-Mode: navigate\r\n";
        for (path, fields, expected) in [
            ("/", "", 401),
            ("/index.html", "", 401),
            ("/some/where", navigate, 401),
            ("/some/where", "", 404),
            ("/a.txt", navigate, 200),
        ] {
            assert_eq!(
                status(&mut client, "GET", path, fields),
                expected,
                "{path} {fields}"
            );
        }
        let fields = format!("{navigate}{ANA}");
        assert_eq!(status(&mut client, "GET", "/some/where", &fields), 200);
        assert_eq!(status(&mut client, "GET", "/some/where", navigate), 401);
    }

    /// Which site a host name selects is decided once, so that no spelling of it evades a rule.
    #[test]
    fn hosts_have_rules_of_their_own() {
        let rules = "auth = [{ path = '/private/*', file = 'ana.txt' }]\n\
                     [[host]]\nnames = ['a.test', '*.b.test']\nroot = 'host'\n\
                     auth = [{ path = '/*', file = 'bo.txt' }, { path = '/private/x.txt', public = true }]\n";
        let folder = with_users(machine(rules));
        let process = start(folder.path(), &[]);
        for (host, path, login, expected) in [
            ("c.test", "/", "", 200),
            ("c.test", "/private/x.txt", "", 401),
            ("c.test", "/private/x.txt", ANA, 200),
            ("a.test", "/", "", 401),
            ("A.Test", "/", "", 401),
            ("a.test.", "/", "", 401),
            ("a.test:8000", "/", "", 401),
            ("x.B.test", "/", "", 401),
            ("a.test", "/", BO, 200),
            ("a.test", "/", ANA, 401),
            ("a.test", "/private/x.txt", "", 200),
            ("a.test", "/private/y.txt", BO, 404),
        ] {
            let mut client = process.client();
            client.send(format!(
                "GET {path} HTTP/1.1\r\nHost: {host}\r\n{login}\r\n"
            ));
            assert_eq!(client.response().status, expected, "{host} {path} {login}");
        }
        let mut client = process.client();
        client.send("GET http://a.test/ HTTP/1.1\r\nHost: c.test\r\n\r\n");
        assert_eq!(client.response().status, 401);
    }

    #[test]
    fn failed_logins_have_a_limit_of_their_own() {
        let folder = with_users(machine("[[auth]]\npath = '/private/*'\nfile = 'ana.txt'\n"));
        let process = start(folder.path(), &["--auth-failures=0.0001:2"]);
        let mut client = process.client();
        for expected in [401, 401, 429, 429] {
            assert_eq!(status(&mut client, "GET", "/private/x.txt", BO), expected);
        }
        assert_eq!(status(&mut client, "GET", "/a.txt", BO), 200);
        let mut other = Client::connect_from([127, 0, 0, 2], process.address);
        assert_eq!(status(&mut other, "GET", "/private/x.txt", ANA), 200);
    }

    #[test]
    fn site_file_of_root_sets_no_passwords() {
        let folder = with_users(machine(""));
        let rules = "[[auth]]\npath = '/*'\npublic = true\n";
        write(folder.path(), "www/.tws.toml", rules);
        crate::command_line::fails(folder.path(), &["www", "-p0"], 1);
    }
}

#[test]
fn networks_are_those_of_the_client_behind_trusted_proxies() {
    let rules = "trusted-proxy = '127.0.0.1'\n\
                 [[access]]\npath = '/private/*'\nallow = ['192.0.2.0/24', '127.0.0.9']\n\
                 [[access]]\npath = '/*'\ndeny = ['192.0.2.66', '2001:db8::/32']\n";
    let folder = machine(rules);
    let process = start(folder.path(), &[]);
    for (source, forwarded, path, expected) in [
        (1, "", "/a.txt", 200),
        (1, "", "/private/x.txt", 403),
        (1, "X-Forwarded-For: 192.0.2.7\r\n", "/private/x.txt", 200),
        (1, "X-Forwarded-For: 192.0.2.7\r\n", "/private//x.txt", 200),
        (1, "X-Forwarded-For: 192.0.2.66\r\n", "/private/x.txt", 403),
        (1, "X-Forwarded-For: 192.0.2.66\r\n", "/a.txt", 403),
        (1, "X-Forwarded-For: 192.0.2.66\r\n", "/none", 403),
        (1, "X-Forwarded-For: 2001:db8::1\r\n", "/a.txt", 403),
        (
            1,
            "X-Forwarded-For: 192.0.2.7, 198.51.100.1\r\n",
            "/private/x.txt",
            403,
        ),
        // Not a trusted proxy.
        (2, "X-Forwarded-For: 192.0.2.7\r\n", "/private/x.txt", 403),
        (9, "", "/private/x.txt", 200),
        (9, "", "/%70rivate/%78.txt", 200),
        (2, "", "/%70rivate/%78.txt", 403),
    ] {
        let mut client = Client::connect_from([127, 0, 0, source], process.address);
        let found = status(&mut client, "GET", path, forwarded);
        assert_eq!(found, expected, "127.0.0.{source} {forwarded} {path}");
        let mut client = Client::connect_from([127, 0, 0, source], process.address);
        let found = status(&mut client, "HEAD", path, forwarded);
        assert_eq!(found, expected, "127.0.0.{source} {forwarded} {path}");
    }
}

/// What a rewrite leads to may be a folder, which is served with its index, or a route.
#[test]
fn rewritten_path_is_as_protected_as_the_file_that_is_served() {
    let rules = "[[access]]\npath = '/private/*'\ndeny = ['127.0.0.1']\n\
                 [[route]]\npath = '/short'\nfile = 'private/x.txt'\n\
                 [[rewrite]]\nfrom = '/folder'\nto = '/private'\n\
                 [[rewrite]]\nfrom = '/lost/*'\nto = '/private'\nmissing = true\n\
                 [[rewrite]]\nfrom = '/routed/*'\nto = '/short'\n\
                 [[rewrite]]\nfrom = '/lost-route/*'\nto = '/short'\nmissing = true\n\
                 [[rewrite]]\nfrom = '/open'\nto = '/app'\n";
    let folder = machine(rules);
    let process = start(folder.path(), &[]);
    for (path, expected) in [
        ("/folder", 403),
        ("/lost/a", 403),
        ("/lost/", 403),
        ("/routed/", 403),
        ("/lost-route/a", 403),
        ("/short", 403),
        ("/open", 200),
    ] {
        let mut client = process.client();
        for method in ["GET", "HEAD"] {
            let found = status(&mut client, method, path, "");
            assert_eq!(found, expected, "{method} {path}");
        }
        let mut http2 = H2Client::connect(process.address);
        assert_eq!(http2.get(path).status(), expected, "HTTP/2 {path}");
    }
}

#[test]
fn fallback_to_path_of_denied_network_is_403_where_nothing_is_found() {
    let rules = "[[access]]\npath = '/private/*'\ndeny = ['all']\n\
                 [[route]]\npath = '/dead'\nfile = 'gone.txt'\n\
                 [[route]]\npath = '/short'\nfile = 'private/x.txt'\n\
                 [[rewrite]]\nfrom = '/renamed'\nto = '/a.txt'\n\
                 [[rewrite]]\nfrom = '/lost/*'\nto = '/private/$1'\nmissing = true\n\
                 [[rewrite]]\nfrom = '/routed/*'\nto = '/short'\nmissing = true\n\
                 [[rewrite]]\nfrom = '/*'\nto = '/private'\nmissing = true\n\
                 [[host]]\nnames = ['a.test']\nroot = 'host'\n\
                 rewrite = [{ from = '/b/*', to = '/private/x.txt', missing = true }]\n\
                 [[host]]\nnames = ['b.test']\nroot = 'host'\n\
                 access = [{ path = '/index.html', deny = 'all' }]\n\
                 rewrite = [{ from = '/b/*', to = '/', missing = true }]\n";
    let folder = machine(rules);
    write(folder.path(), "www/bare/x.txt", "x");
    write(folder.path(), "host/b/x.txt", "x");
    let process = start(folder.path(), &[]);
    for (host, path, expected) in [
        ("test", "/", 200),
        ("test", "/a.txt", 200),
        ("test", "/admin/", 301),
        ("test", "/app", 301),
        ("test", "/bare/", 404),
        ("test", "/renamed", 200),
        ("test", "/none", 403),
        ("test", "/none/", 403),
        ("test", "/dead", 403),
        ("test", "/routed/x", 403),
        ("test", "/lost/x.txt", 403),
        ("test", "/lost/none", 403),
        ("a.test", "/", 200),
        ("a.test", "/b/x.txt", 200),
        ("a.test", "/b/none", 403),
        ("a.test", "/none", 404),
        ("b.test", "/b/x.txt", 200),
        ("b.test", "/b/none", 403),
        ("b.test", "/none", 404),
    ] {
        for method in ["GET", "HEAD"] {
            let mut client = process.client();
            client.send(format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            assert_eq!(client.head().status, expected, "{method} {host} {path}");
        }
        let mut http2 = H2Client::connect(process.address);
        let stream = http2.request_to(host, "GET", path);
        let found = http2.response(stream).status();
        assert_eq!(found, expected, "HTTP/2 {host} {path}");
    }
}

/// Rewrites are for reading. What is changed, and what an archive has, is at the path itself.
#[test]
fn changes_and_archives_are_independent_of_a_protected_fallback() {
    let rules = "listing = 'on'\n[upload]\n[manage]\ndelete = 'permanent'\n\
                 [[access]]\npath = '/private/*'\ndeny = ['all']\n\
                 [[rewrite]]\nfrom = '/lost/*'\nto = '/private/$1'\nmissing = true\n\
                 [[rewrite]]\nfrom = '/*'\nto = '/private/x.txt'\nmissing = true\n";
    let folder = machine(rules);
    let at = folder.path();
    fs::create_dir(at.join("www/lost")).expect("create folder");
    let process = start(at, &[]);
    let mut client = process.client();
    for (method, path, fields, expected) in [
        ("OPTIONS", "/none", "", 204),
        ("GET", "/none", "", 403),
        ("GET", "/lost/?download=tar", "", 200),
        ("GET", "/gone/?download=tar", "", 404),
        ("GET", "/private/?download=tar", "", 403),
        ("PUT", "/new.txt", "Content-Length: 0\r\n", 201),
        ("GET", "/new.txt", "", 200),
        ("MKCOL", "/folder", "", 201),
        ("MOVE", "/new.txt", "Destination: /lost/moved\r\n", 201),
        ("MOVE", "/lost/x.txt", "Destination: /stolen\r\n", 404),
        ("MOVE", "/lost/moved", "Destination: /private/x\r\n", 403),
        ("DELETE", "/lost/x.txt", "", 404),
        ("DELETE", "/lost/moved", "", 204),
        ("GET", "/lost/moved", "", 403),
        ("PUT", "/private/new.txt", "Content-Length: 0\r\n", 403),
    ] {
        client.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n"
        ));
        let response = client.head();
        assert_eq!(response.status, expected, "{method} {path}");
        if path.starts_with("/lost/?") {
            let archive = client.chunks();
            let archive = String::from_utf8_lossy(&archive);
            assert!(!archive.contains("private"), "{archive}");
        } else if let Some(length) = response.field("content-length") {
            client.read(length.parse().expect("a length"));
        }
    }
}

/// The layers check the path of a request. Archives, listings, forms and changes of the tree touch other
/// files as well.
#[test]
fn rules_hold_for_files_beside_that_of_the_path() {
    let rules = "listing = 'on'\n\
                 [upload]\noverwrite = true\n[manage]\ndelete = 'permanent'\n\
                 [[access]]\npath = '/private/*'\ndeny = ['127.0.0.1']\n\
                 [[access]]\npath = '/app/README.md'\ndeny = ['127.0.0.1']\n";
    let folder = machine(rules);
    let at = folder.path();
    fs::remove_file(at.join("www/index.html")).expect("remove file");
    fs::remove_file(at.join("www/app/index.html")).expect("remove file");
    for name in [
        "www/app/README.md",
        "www/app/b.txt",
        "www/open/README.md",
        "www/open/c.txt",
    ] {
        write(at, name, name);
    }
    let process = start(at, &[]);
    let mut client = process.client();
    let streamed = |client: &mut Client, path: &str| {
        client.send(format!(
            "GET {path} HTTP/1.1\r\nHost: test\r\nAccept: text/html\r\n\r\n"
        ));
        assert_eq!(client.head().status, 200, "{path}");
        client.chunks()
    };
    let archive = streamed(&mut client, "/?download=tar");
    let mut archive = tar::Archive::new(&archive[..]);
    let entries = archive.entries().expect("an archive");
    let names: Vec<String> = entries
        .map(|entry| String::from_utf8_lossy(&entry.expect("an entry").path_bytes()).into_owned())
        .collect();
    let has = |part: &str| names.iter().any(|name| name.contains(part));
    assert!(
        has("/a.txt") && has("/app/b.txt") && has("/open/README.md"),
        "{names:?}"
    );
    assert!(!has("/private") && !has("/app/README.md"), "{names:?}");
    for (path, is_shown) in [("/open/", true), ("/app/", false)] {
        let page = streamed(&mut client, path);
        let page = String::from_utf8_lossy(&page);
        assert_eq!(page.contains("<article"), is_shown, "{path}");
    }
    for (method, path, destination, expected) in [
        ("MOVE", "/private", "/stolen", 403),
        ("MOVE", "/private/", "/stolen", 403),
        ("MOVE", "/private/x.txt", "/stolen.txt", 403),
        ("MOVE", "/a.txt", "/private/new.txt", 403),
        ("MOVE", "/open/", "/private/open", 403),
        ("MOVE", "/app/", "/moved", 403),
        ("DELETE", "/private", "", 403),
        ("DELETE", "/app", "", 403),
        ("DELETE", "/app/README.md", "", 403),
        ("MKCOL", "/private/new", "", 403),
        ("MOVE", "/app/b.txt", "/moved.txt", 201),
        ("MOVE", "/open", "/moved", 201),
        ("DELETE", "/moved", "", 204),
    ] {
        let fields = match destination {
            "" => String::new(),
            destination => format!("Destination: {destination}\r\n"),
        };
        let found = status(&mut client, method, path, &fields);
        assert_eq!(found, expected, "{method} {path} {destination}");
    }
    let content = "--XyZ\r\nContent-Disposition: form-data; name=\"f\"; filename=\"README.md\"\r\n\r\n\
                   replaced\r\n--XyZ--\r\n";
    let fields = format!(
        "Content-Type: multipart/form-data; boundary=XyZ\r\nContent-Length: {}\r\n",
        content.len()
    );
    client.send(format!(
        "POST /app/ HTTP/1.1\r\nHost: test\r\n{fields}\r\n{content}"
    ));
    assert_eq!(client.response().status, 403);
    let kept = fs::read_to_string(at.join("www/app/README.md")).expect("read file");
    assert_eq!(kept, "www/app/README.md");
}

#[test]
fn redirect_to_path_of_denied_network_is_403() {
    let rules = "[[access]]\npath = '/private/*'\ndeny = ['all']\n\
                 [[access]]\npath = '/missing/*'\ndeny = ['all']\n\
                 [[access]]\npath = '/admin.html'\ndeny = ['all']\n\
                 [[access]]\npath = '/none.html'\ndeny = ['all']\n\
                 [[access]]\npath = '/app/*'\ndeny = ['10.0.0.0/8']\n";
    let folder = machine(rules);
    let process = start(folder.path(), &[]);
    let mut client = process.client();
    for (path, expected) in [
        ("/private", 403),
        ("/missing", 403),
        ("/admin/", 403),
        ("/none/", 403),
        ("/app", 301),
        ("/absent", 404),
        ("/a.txt", 200),
    ] {
        assert_eq!(status(&mut client, "GET", path, ""), expected, "{path}");
    }
}

/// Pages of the permitted origin can read why they get an error, and browsers ask for permission without
/// a password, whether `cors` is a key of the site or the flag.
#[test]
fn cors_applies_to_errors_of_access_rules_and_preflights() {
    let rules = "cors = \"https://a.test\"\n\
                 [[access]]\npath = '/denied/*'\ndeny = ['all']\n";
    let auth = "[[auth]]\npath = '/private/*'\nfile = 'ana.txt'\n";
    let has_auth = cfg!(feature = "auth");
    let folder = machine(&[rules, auth][..if has_auth { 2 } else { 1 }].concat());
    #[cfg(feature = "auth")]
    write(folder.path(), "ana.txt", crate::middleware::USERS);
    let folder_of_flag = machine("[[access]]\npath = '/denied/*'\ndeny = ['all']\n");
    let site = start(folder.path(), &[]);
    let site_of_flag = start(folder_of_flag.path(), &["--cors=https://a.test"]);
    let table = [
        ("/a.txt", 200, true),
        ("/none", 404, true),
        ("/denied/x", 403, true),
        ("/private/x.txt", 401, has_auth),
    ];
    for (process, is_key) in [(&site, true), (&site_of_flag, false)] {
        let mut client = process.client();
        let mut http2 = H2Client::connect(process.address);
        let preflight = "Origin: https://a.test\r\nAccess-Control-Request-Method: GET\r\n";
        for (path, status, is_tested) in table {
            if !is_tested || !is_key && status == 401 {
                continue;
            }
            let origin = Some("https://a.test");
            let response = client.request("GET", path, "Origin: https://a.test\r\n");
            assert_eq!(response.status, status, "{path}");
            let allowed = response.field("access-control-allow-origin");
            assert_eq!(allowed, origin, "{path}");
            let response = client.request("OPTIONS", path, preflight);
            assert_eq!(response.status, 204, "{path}");
            let allowed = response.field("access-control-allow-origin");
            assert_eq!(allowed, origin, "{path}");
            assert!(response.field("access-control-allow-methods").is_some());
            let fields = [("origin", "https://a.test")];
            let stream = http2.request("GET", path, &fields);
            let response = http2.response(stream);
            assert_eq!(response.status(), status, "HTTP/2 {path}");
            assert_eq!(response.field("access-control-allow-origin"), origin);
            let fields = [fields[0], ("access-control-request-method", "GET")];
            let stream = http2.request("OPTIONS", path, &fields);
            let response = http2.response(stream);
            assert_eq!(response.status(), 204, "HTTP/2 {path}");
            assert_eq!(response.field("access-control-allow-origin"), origin);
        }
        // Other requests with this method need a password, and permission.
        assert_eq!(client.request("OPTIONS", "/denied/x", "").status, 403);
        if is_key && has_auth {
            assert_eq!(client.request("OPTIONS", "/private/x.txt", "").status, 401);
        }
    }
}

#[test]
fn cors_of_several_origins_applies_to_errors_and_preflights() {
    let folder = machine(
        "cors = [\"https://a.test\", \"https://b.test\"]\n\
         [[access]]\npath = '/denied/*'\ndeny = ['all']\n",
    );
    let site = start(folder.path(), &[]);
    let mut client = site.client();
    for (origin, expected) in [
        ("https://b.test", Some("https://b.test")),
        ("https://c.test", None),
    ] {
        for path in ["/denied/x", "/a.txt"] {
            for method in ["GET", "OPTIONS"] {
                let fields = format!("Origin: {origin}\r\nAccess-Control-Request-Method: GET\r\n");
                let response = client.request(method, path, &fields);
                let allowed = response.field("access-control-allow-origin");
                assert_eq!(allowed, expected, "{method} {path}");
            }
        }
    }
}

/// There is a folder at the first path only.
#[test]
fn page_of_an_application_does_not_reveal_what_is_at_a_protected_path() {
    let denied = |path: &str| format!("[[access]]\npath = '{path}'\ndeny = ['all']\n");
    let rules = [denied("/private/*"), denied("/ghost/*")].concat();
    let folder = machine(&format!("spa = 'index.html'\n{rules}"));
    let site = start(folder.path(), &[]);
    let mut client = site.client();
    for (path, status) in [("/private", 403), ("/ghost", 403), ("/other", 200)] {
        let response = client.request("GET", path, "Accept: text/html\r\n");
        assert_eq!(response.status, status, "{path}");
    }
}

/// A rewrite that is for missing paths, a file of a former root and an error are served where the path
/// itself leads to nothing. There is something at the first path of each pair only.
#[test]
fn nothing_served_in_place_of_a_missing_path_reveals_a_protected_one() {
    let denied = |path: &str| format!("[[access]]\npath = '{path}'\ndeny = ['all']\n");
    let rules = [
        denied("/private/*"),
        denied("/ghost/*"),
        denied("/admin.html"),
        denied("/none.html"),
    ]
    .concat();
    let rewrite = "[[rewrite]]\nfrom = '/*'\nto = '/a.txt'\nmissing = true\n";
    let folder = machine(&format!("{rewrite}{rules}"));
    let process = start(folder.path(), &[]);
    for (path, expected) in [
        ("/private", 403),
        ("/ghost", 403),
        ("/admin/", 403),
        ("/none/", 403),
        ("/other", 200),
        ("/app", 301),
    ] {
        let mut client = process.client();
        for fields in ["", "Range: bytes=0-0\r\n", "If-None-Match: *\r\n"] {
            let found = status(&mut client, "GET", path, fields);
            let expected = match (expected, fields) {
                (200, "Range: bytes=0-0\r\n") => 206,
                (200, "If-None-Match: *\r\n") => 304,
                (expected, _) => expected,
            };
            assert_eq!(found, expected, "{path} {fields}");
        }
        let mut http2 = H2Client::connect(process.address);
        assert_eq!(http2.get(path).status(), expected, "HTTP/2 {path}");
    }
}

/// A page is still public if a rewrite leads to it and the folder of its name is protected.
#[test]
fn page_beside_a_protected_folder_is_public_with_rewrites_of_missing_paths() {
    let rules = "[[rewrite]]\nfrom = '/*'\nto = '/a.txt'\nmissing = true\n\
                 [[access]]\npath = '/blog/*'\ndeny = ['all']\n";
    let folder = machine(rules);
    write(folder.path(), "www/blog.html", "blog");
    write(folder.path(), "www/blog/x.txt", "x");
    let process = start(folder.path(), &[]);
    assert_eq!(process.client().get("/blog").text(), "blog");
}

#[test]
fn file_of_a_former_root_does_not_reveal_a_protected_folder() {
    let rules = "keep-previous = '1h'\n\
                 [[access]]\npath = '/private/*'\ndeny = ['all']\n\
                 [[access]]\npath = '/ghost/*'\ndeny = ['all']\n";
    let folder = machine(rules);
    let at = folder.path();
    for name in ["private", "ghost", "other"] {
        write(at, &format!("old/{name}"), name);
    }
    fs::rename(at.join("www"), at.join("new")).expect("rename folder");
    fs::rename(at.join("old"), at.join("www")).expect("rename folder");
    let process = start(at, &[]);
    let mut client = process.client();
    assert_eq!(status(&mut client, "GET", "/private", ""), 200);
    fs::rename(at.join("www"), at.join("old")).expect("rename folder");
    fs::rename(at.join("new"), at.join("www")).expect("rename folder");
    // The new root is served.
    eventually!(|| status(&mut client, "GET", "/a.txt", "") == 200);
    for (path, expected) in [("/private", 403), ("/ghost", 403), ("/other", 200)] {
        assert_eq!(status(&mut client, "GET", path, ""), expected, "{path}");
    }
}

/// At the path there is a folder without an index now. In the former root there was nothing, and so the
/// target of a rewrite.
#[test]
fn fallback_of_a_former_root_is_as_protected_as_its_path() {
    let rules = "keep-previous = '1h'\nlisting = 'off'\n\
                 [[rewrite]]\nfrom = '/dir/*'\nto = '/secret/old.txt'\nmissing = true\n\
                 [[rewrite]]\nfrom = '/gone/*'\nto = '/secret/old.txt'\nmissing = true\n\
                 [[access]]\npath = '/secret/*'\ndeny = ['all']\n";
    let folder = machine(rules);
    let at = folder.path();
    write(at, "old/secret/old.txt", "old");
    write(at, "www/dir/x.txt", "x");
    fs::rename(at.join("www"), at.join("new")).expect("rename folder");
    fs::rename(at.join("old"), at.join("www")).expect("rename folder");
    let process = start(at, &[]);
    let mut client = process.client();
    assert_eq!(status(&mut client, "GET", "/dir/", ""), 403);
    fs::rename(at.join("www"), at.join("old")).expect("rename folder");
    fs::rename(at.join("new"), at.join("www")).expect("rename folder");
    eventually!(|| status(&mut client, "GET", "/a.txt", "") == 200);
    for (path, expected) in [("/dir/", 403), ("/gone/", 403), ("/dir/x.txt", 200)] {
        assert_eq!(status(&mut client, "GET", path, ""), expected, "{path}");
    }
}

/// A change looks for a file and for a folder of each of its names. There is something at the first of two
/// paths only.
#[test]
fn changes_do_not_reveal_what_is_at_a_protected_path() {
    let protected = [
        "/private/*",
        "/ghost/*",
        "/a.txt",
        "/none.txt",
        "/page/index.html",
        "/lost/index.html",
    ];
    let denied = |path| format!("[[access]]\npath = '{path}'\ndeny = ['all']\n");
    let rules: String = protected.into_iter().map(denied).collect();
    let keys = "[upload]\nparents = true\n[manage]\ndelete = 'permanent'\n";
    let folder = machine(&format!("{keys}{rules}"));
    let at = folder.path();
    write(at, "www/page/index.html", "page");
    write(at, "www/page/free.txt", "free");
    for name in ["b.txt", "c.txt"] {
        write(at, &format!("www/{name}"), name);
    }
    let process = start(at, &[]);
    let form = |name: &str| {
        format!(
            "--XyZ\r\nContent-Disposition: form-data; name=\"f\"; filename=\"{name}\"\r\n\r\n\
             new\r\n--XyZ--\r\n"
        )
    };
    let form_type = "Content-Type: multipart/form-data; boundary=XyZ\r\n";
    for (method, paths, fields, content, expected) in [
        ("DELETE", ["/private", "/ghost"], "", ["", ""], 403),
        ("DELETE", ["/a.txt/", "/none.txt/"], "", ["", ""], 403),
        (
            "MOVE",
            ["/private", "/ghost"],
            "Destination: /m\r\n",
            ["", ""],
            403,
        ),
        (
            "MOVE",
            ["/a.txt/", "/none.txt/"],
            "Destination: /m\r\n",
            ["", ""],
            403,
        ),
        ("MKCOL", ["/private", "/ghost"], "", ["", ""], 403),
        ("MKCOL", ["/a.txt/", "/none.txt/"], "", ["", ""], 403),
        ("PUT", ["/private", "/ghost"], "", ["new", "new"], 403),
        ("PUT", ["/a.txt/x", "/none.txt/x"], "", ["new", "new"], 403),
        ("PUT", ["/page.html", "/lost.html"], "", ["new", "new"], 403),
        (
            "POST",
            ["/", "/"],
            form_type,
            [&form("private")[..], &form("ghost")],
            403,
        ),
    ] {
        let mut responses = Vec::new();
        for (path, content) in paths.into_iter().zip(content) {
            let mut client = process.client();
            let len = content.len();
            client.send(format!(
                "{method} {path} HTTP/1.1\r\nHost: test\r\n{fields}Content-Length: {len}\r\n\r\n{content}"
            ));
            let response = client.response();
            assert_eq!(response.status, expected, "{method} {path}");
            responses.push(response.text().replace("private", "ghost"));
        }
        assert_eq!(responses[0], responses[1], "{method} {paths:?}");
    }
    let mut client = process.client();
    for (source, destinations) in [
        ("/b.txt", ["/private", "/ghost"]),
        ("/app/", ["/private", "/ghost"]),
        ("/app/", ["/a.txt", "/none.txt"]),
    ] {
        for destination in destinations {
            let fields = format!("Destination: {destination}\r\n");
            let found = status(&mut client, "MOVE", source, &fields);
            assert_eq!(found, 403, "MOVE {source} {destination}");
        }
    }
    for (method, path, fields, expected) in [
        ("PUT", "/new/x.txt", "Content-Length: 0\r\n", 201),
        ("MOVE", "/new", "Destination: /moved\r\n", 201),
        ("DELETE", "/moved", "", 204),
        ("DELETE", "/b.txt", "", 204),
        ("DELETE", "/c.txt/", "", 404),
        ("DELETE", "/page/free.txt", "", 204),
        ("DELETE", "/absent", "", 404),
    ] {
        let found = status(&mut client, method, path, fields);
        assert_eq!(found, expected, "{method} {path}");
    }
}
