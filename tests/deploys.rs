//! Tests of deploys: the root is a link that is switched, or a folder that is replaced.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;
use tws::StaticFiles;
use tws::site::Site;

use crate::static_files::write;
use crate::support::{Client, TestServer, eventually};

/// Two releases, and `current`, which leads to the first.
fn releases() -> TempDir {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let at = folder.path();
    for (release, names) in [
        (
            "1",
            &[
                "index.html",
                "page.html",
                "app.1.js",
                "shared.js",
                "docs/old.css",
            ][..],
        ),
        ("2", &["index.html", "app.2.js", "shared.js"]),
        ("3", &["index.html", "app.3.js"]),
    ] {
        for name in names {
            write(
                at,
                &format!("{release}/{name}"),
                format!("{release} {name}"),
            );
        }
    }
    switch(at, "1");
    folder
}

fn switch(folder: &Path, release: &str) {
    symlink(release, folder.join("next")).expect("create symlink");
    fs::rename(folder.join("next"), folder.join("current")).expect("switch symlink");
}

fn serve(folder: &Path, rules: &str) -> TestServer {
    let site: Site = toml::from_str(rules).expect("a site");
    let files = StaticFiles::with_site(folder.join("current"), &site).expect("open site root");
    TestServer::start(files)
}

fn text(client: &mut Client, path: &str) -> Option<String> {
    let fields = "Accept: text/html\r\nSec-Fetch-Mode: no-cors\r\n";
    let response = client.request("GET", path, fields);
    (response.status == 200).then(|| response.text())
}

#[test]
fn assets_of_former_root_stay_available() {
    let folder = releases();
    let server = serve(folder.path(), "keep-previous = '1h'\nspa = 'index.html'\n");
    let mut client = server.client();
    assert_eq!(
        text(&mut client, "/app.1.js").as_deref(),
        Some("1 app.1.js")
    );
    assert_eq!(text(&mut client, "/app.2.js"), None);
    switch(folder.path(), "2");
    eventually!(|| text(&mut client, "/index.html").as_deref() == Some("2 index.html"));
    for (path, expected) in [
        ("/app.2.js", Some("2 app.2.js")),
        ("/app.1.js", Some("1 app.1.js")),
        ("/docs/old.css", Some("1 docs/old.css")),
        // The current root has precedence.
        ("/shared.js", Some("2 shared.js")),
        // Pages are those of the current root alone.
        ("/page.html", None),
        ("/docs/", None),
        ("/none.js", None),
    ] {
        assert_eq!(text(&mut client, path).as_deref(), expected, "{path}");
    }
    let part = client.request("GET", "/app.1.js", "Range: bytes=0-0\r\n");
    assert_eq!((part.status, part.text().as_str()), (206, "1"));
    switch(folder.path(), "3");
    eventually!(|| text(&mut client, "/index.html").as_deref() == Some("3 index.html"));
    // Of two former roots, the last one comes first.
    assert_eq!(
        text(&mut client, "/shared.js").as_deref(),
        Some("2 shared.js")
    );
    assert_eq!(
        text(&mut client, "/app.1.js").as_deref(),
        Some("1 app.1.js")
    );
    // A navigation to what is missing gets the application's page.
    let page = client.request("GET", "/page.html", "Sec-Fetch-Mode: navigate\r\n");
    assert_eq!(page.text(), "3 index.html");
}

#[test]
fn assets_of_former_root_are_missing_without_the_setting_and_after_its_time() {
    let folder = releases();
    for rules in ["", "keep-previous = '0s'\n", "keep-previous = '1s'\n"] {
        switch(folder.path(), "1");
        let server = serve(folder.path(), rules);
        let mut client = server.client();
        assert_eq!(
            text(&mut client, "/app.1.js").as_deref(),
            Some("1 app.1.js")
        );
        switch(folder.path(), "2");
        eventually!(|| text(&mut client, "/index.html").as_deref() == Some("2 index.html"));
        if !rules.contains("1s") {
            assert_eq!(text(&mut client, "/app.1.js"), None, "{rules}");
        }
        eventually!(|| text(&mut client, "/app.1.js").is_none());
    }
}
