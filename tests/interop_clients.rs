//! Tests of curl and wget against the sample site, ignored by default because the programs must be
//! installed.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use crate::support::{TestServer, TwsProcess, pattern};

fn run(program: &str, folder: &Path, args: &[&str]) -> Output {
    Command::new(program)
        .current_dir(folder)
        .env("no_proxy", "*")
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}"))
}

fn sample_site() -> TwsProcess {
    TwsProcess::start(
        Path::new(env!("CARGO_MANIFEST_DIR")),
        &["--access-log", "off"],
    )
}

#[test]
#[ignore = "needs curl"]
fn curl_requests_to_sample_site_get_expected_status() {
    let site = sample_site();
    let folder = tempfile::tempdir().expect("create temporary directory");
    let table: &[(&[&str], &str)] = &[
        (&["/"], "200"),
        (&["--head", "/image_user_one"], "200"),
        (&["/page_one"], "200"),
        (&["/no-such-page"], "404"),
        (&["/%00"], "400"),
        (&["--path-as-is", "/../etc/passwd"], "400"),
        (&["-r", "0-99", "/bigfile"], "206"),
        (&["-r", "99999999-", "/bigfile"], "416"),
        (&["-X", "POST", "/index.html"], "405"),
        (&["-X", "BREW", "/"], "501"),
        (&["--http1.0", "/"], "200"),
        (&["-H", "Host:", "/"], "400"),
        (
            &[
                "-d",
                r#"{"Nombre":"Ana"}"#,
                "-H",
                "Content-Type: application/json",
                "/createUser",
            ],
            "201",
        ),
        (&["-d", r#"{"Nombre":"Ana"}"#, "/createUser"], "415"),
        (&["-X", "POST", "/createUser"], "411"),
        (
            &[
                "-d",
                "{",
                "-H",
                "Content-Type: application/json",
                "/createUser",
            ],
            "400",
        ),
        (&["/users/1"], "200"),
    ];
    for (args, status) in table {
        let (path, flags) = args.split_last().expect("path argument");
        let url = format!("http://{}{path}", site.address);
        let mut all = vec!["-s", "-o", "out", "-w", "%{http_code}"];
        all.extend_from_slice(flags);
        all.push(&url);
        let output = run("curl", folder.path(), &all);
        assert!(output.status.success(), "{args:?}: {output:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), *status, "{args:?}");
    }
}

#[test]
#[ignore = "needs curl"]
fn curl_large_post_gets_413() {
    let site = sample_site();
    let folder = tempfile::tempdir().expect("create temporary directory");
    fs::write(folder.path().join("large"), vec![b'x'; 20_000_000]).expect("write file");
    let url = format!("http://{}/createUser", site.address);
    let json = "Content-Type: application/json";
    for extra in [
        &[][..],
        &["-H", "Transfer-Encoding: chunked"],
        &["-H", "Expect:"],
    ] {
        let mut args = vec![
            "-s",
            "-w",
            "%{http_code}",
            "-H",
            json,
            "--data-binary",
            "@large",
        ];
        args.extend_from_slice(extra);
        args.push(&url);
        let output = run("curl", folder.path(), &args);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            text.starts_with("{\"error\":") && text.ends_with("413"),
            "{extra:?}: {text}"
        );
    }
}

#[test]
#[ignore = "needs wget"]
fn wget_resumed_download_is_complete() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let content = pattern(5_000_000);
    fs::create_dir(folder.path().join("site")).expect("create directory");
    fs::write(folder.path().join("site/big.bin"), &content).expect("write file");
    let server = TestServer::of(&folder.path().join("site"));
    let url = format!("http://{}/big.bin", server.address);
    let output = run("wget", folder.path(), &["-q", &url]);
    assert!(output.status.success(), "{output:?}");
    let fetched = folder.path().join("big.bin");
    assert!(fs::read(&fetched).expect("read file") == content);

    fs::write(&fetched, &content[..1_234_567]).expect("write file");
    let output = run("wget", folder.path(), &["-c", &url]);
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && log.contains("206"), "{log}");
    assert!(fs::read(&fetched).expect("read file") == content);
}

#[test]
#[ignore = "needs wget"]
fn wget_mirror_of_sample_site_is_complete() {
    let site = sample_site();
    let folder = tempfile::tempdir().expect("create temporary directory");
    let url = format!("http://{}/", site.address);
    let args = [
        "-q",
        "-r",
        "-p",
        "-nH",
        "--reject",
        "big.bin",
        "--reject-regex",
        "/users",
        &url,
    ];
    let output = run("wget", folder.path(), &args);
    assert!(output.status.success(), "{output:?}");
    for name in [
        "index.html",
        "page_one",
        "page_four",
        "style.css",
        "bigfile",
    ] {
        assert!(folder.path().join(name).exists(), "{name}");
    }
}
