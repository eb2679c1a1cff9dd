//! Tests of error responses: the fields that all have.

use std::fs;

use tempfile::TempDir;

use crate::static_files::write;
use crate::support::TwsProcess;

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
