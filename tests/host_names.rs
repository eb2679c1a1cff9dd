//! Which host names the binary serves: none but local ones where only this machine can connect, so that
//! DNS rebinding fails.

use std::fs;
use std::process::Command;

use tempfile::TempDir;

use crate::support::{Client, TwsProcess};

/// Starts the binary in a folder with two sites, with the host names that it has without a variable.
fn site(args: &[&str]) -> (TempDir, TwsProcess) {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("a.txt"), "default").expect("a file");
    fs::create_dir(folder.path().join("other")).expect("a folder");
    fs::write(folder.path().join("other/a.txt"), "other").expect("a file");
    fs::write(folder.path().join(".tws.toml"), SITE).expect("a file");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tws"));
    command
        .current_dir(folder.path())
        .args([".", "--port=0", "--access-log=off", "--no-sandbox"])
        .args(args)
        .env_remove("TWS_HOST_NAME");
    let process = TwsProcess::run(&mut command);
    (folder, process)
}

const SITE: &str = "[[host]]\nnames = ['other.test', '*.more.test']\nroot = 'other'\n";

fn status(client: &mut Client, method: &str, host: &str, fields: &str) -> u16 {
    client.send(format!(
        "{method} /a.txt HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n"
    ));
    match method {
        "HEAD" => client.head().status,
        _ => client.response().status,
    }
}

#[test]
fn unknown_host_names_are_421_on_loopback() {
    let machine = rustix::system::uname();
    let machine = machine.nodename().to_string_lossy().into_owned();
    let (_folder, site) = site(&["--upload"]);
    for (host, status) in [
        ("localhost", 200),
        ("localhost:1", 200),
        ("LOCALHOST.", 200),
        ("app.localhost:8000", 200),
        ("127.0.0.1:8000", 200),
        ("127.1.2.3", 200),
        ("[::1]:8000", 200),
        ("192.0.2.7", 200),
        ("", 200),
        (&machine, 200),
        ("other.test", 200),
        ("a.more.test", 200),
        ("evil.example", 421),
        ("evil.example:8000", 421),
        ("EVIL.EXAMPLE.", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("more.test", 421),
        ("a.other.test", 421),
    ] {
        for method in ["GET", "HEAD", "OPTIONS"] {
            let expected = match (method, status) {
                ("OPTIONS", 200) => 204,
                _ => status,
            };
            let found = self::status(&mut site.client(), method, host, "");
            assert_eq!(found, expected, "{method} {host}");
        }
        if status == 421 {
            for fields in ["Content-Length: 5\r\n", "Expect: tea\r\n"] {
                let found = self::status(&mut site.client(), "PUT", host, fields);
                assert_eq!(found, 421, "PUT {host} {fields}");
            }
        }
    }
    let mut client = site.client();
    client.send("GET http://evil.example/a.txt HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(client.response().status, 421);
    let mut old = site.client();
    old.send("GET /a.txt HTTP/1.0\r\n\r\n");
    assert_eq!(old.response().status, 200);
}

#[test]
fn host_name_flag_and_proxies_decide_elsewhere() {
    for (args, host, expected) in [
        (&["--host-name=app.test"][..], "app.test", 200),
        (&["--host-name=app.test"], "evil.example", 421),
        (&["--host-name=*.app.test"], "a.b.app.test", 200),
        (&["--host-name=*.app.test"], "app.test", 421),
        (
            &["--host-name=app.test", "-b", "0.0.0.0"],
            "evil.example",
            421,
        ),
        (&["--host-name=app.test", "-b", "0.0.0.0"], "localhost", 200),
        (&["--host-name=*"], "evil.example", 200),
        (&["-b", "0.0.0.0"], "evil.example", 200),
        (&["--trusted-proxy=127.0.0.1"], "public.example", 200),
        (&["--trusted-proxy=10.0.0.0/8"], "public.example", 200),
        (
            &["--trusted-proxy=127.0.0.1", "--host-name=app.test"],
            "public.example",
            421,
        ),
        (&["--rate-limit=0.0001:1", "--cors"], "evil.example", 421),
    ] {
        let (_folder, site) = site(args);
        let address = ([127, 0, 0, 1], site.address.port()).into();
        let found = status(&mut Client::connect(address), "GET", host, "");
        assert_eq!(found, expected, "{args:?} {host}");
    }
}

#[test]
#[cfg(feature = "tls")]
fn redirect_to_https_does_not_name_an_unknown_host() {
    let (_folder, site) = site(&["--tls-self-signed", "--redirect-http=0"]);
    let (_, behind) = site
        .announcement
        .split_once("redirects here: http://")
        .expect("a redirect");
    let (address, _) = behind.split_once('/').expect("a path");
    let address = address.parse().expect("an address");
    for (host, expected) in [
        ("localhost", 308),
        ("other.test", 308),
        ("evil.example", 421),
    ] {
        let found = status(&mut Client::connect(address), "GET", host, "");
        assert_eq!(found, expected, "{host}");
    }
}

#[test]
fn preflight_for_an_unknown_host_name_is_421() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let settings = folder.path().join("tws.toml");
    fs::write(&settings, "cors = '*'\n").expect("write file");
    let key = format!("--config={}", settings.display());
    for flag in ["--cors", &key] {
        let (_folder, site) = site(&[flag]);
        let preflight = "Origin: http://evil.example\r\nAccess-Control-Request-Method: PUT\r\n";
        for (host, expected) in [("localhost", 204), ("evil.example", 421)] {
            let found = status(&mut site.client(), "OPTIONS", host, preflight);
            assert_eq!(found, expected, "{flag} {host}");
        }
    }
}
