//! Tests of `[[rewrite]]`, `[[spa]]` and clean URLs.

use crate::site_rules::site;
use crate::static_files::write;

#[test]
fn rewrite_is_looked_up_as_its_target() {
    let rules = "[[route]]\npath = \"/blog/route\"\nfile = \"app.js\"\n\
                 [[rewrite]]\nfrom = \"/blog/*\"\nto = \"/docs/$1\"\n\
                 [[rewrite]]\nfrom = \"/loop\"\nto = \"/loop\"\n\
                 [[rewrite]]\nfrom = \"/up/*\"\nto = \"/docs/../$1\"\n\
                 [[rewrite]]\nfrom = \"/secret\"\nto = \"/.hidden\"\n\
                 [[rewrite]]\nfrom = \"/docs/*\"\nto = \"/bare/$1\"\nmissing = true\n\
                 [[rewrite]]\nfrom = \"/api/*/v*\"\nto = \"/docs/$1.$2\"\n";
    let (folder, server) = site(rules);
    write(folder.path(), "docs/a b.c", "<p>spaces");
    let mut client = server.client();
    for (path, status, text) in [
        ("/blog/page.html", 200, "<p>page"),
        ("/blog/", 200, "<p>docs"),
        ("/blog/route", 200, "let app"),
        ("/blog/none", 404, ""),
        ("/blog/page.html?q=1", 200, "<p>page"),
        ("/api/a%20b/vc", 200, "<p>spaces"),
        ("/docs/page.html", 200, "<p>page"),
        ("/docs/a.txt", 200, "a"),
        ("/docs/b.txt", 404, ""),
        // One rewrite only.
        ("/blog/a.txt", 404, ""),
        ("/loop", 404, ""),
        ("/up/app.js", 200, "let app"),
        ("/secret", 404, ""),
        ("/api/../v.", 404, ""),
    ] {
        let response = client.get(path);
        assert_eq!(response.status, status, "{path}");
        if status == 200 {
            assert_eq!(response.text(), text, "{path}");
        }
    }
    // A directory behind a rewrite has its index, but no redirect to a path that the client does not
    // know.
    let (_folder, server) = site("[[rewrite]]\nfrom = \"/d\"\nto = \"/docs\"\n");
    assert_eq!(server.client().get("/d").text(), "<p>docs");
}

#[test]
fn each_application_has_its_page() {
    let rules = "[[spa]]\npage = \"index.html\"\n[[spa]]\npath = \"/docs/app\"\npage = \"docs/page.html\"\n";
    let (_folder, server) = site(rules);
    let mut client = server.client();
    let navigate = "Sec-Fetch-Mode: navigate\r\nAccept: text/html\r\n";
    let script = "Sec-Fetch-Mode: no-cors\r\nSec-Fetch-Dest: script\r\nAccept: */*\r\n";
    for (path, fields, expected) in [
        ("/users/jane.doe", navigate, Some("<p>home")),
        ("/users/jane.doe", "Accept: text/html\r\n", Some("<p>home")),
        ("/docs/x", navigate, Some("<p>home")),
        ("/docs/app", navigate, Some("<p>page")),
        ("/docs/app/", navigate, Some("<p>page")),
        ("/docs/app/x.y/z", navigate, Some("<p>page")),
        ("/docs/apple", navigate, Some("<p>home")),
        ("/a/x.js", script, None),
        ("/a/x", script, None),
        ("/a/x.js", "Accept: */*\r\n", None),
        ("/a/x", "", None),
        (
            "/docs/app/x.css",
            "Sec-Fetch-Mode: cors\r\nAccept: text/html\r\n",
            None,
        ),
    ] {
        let response = client.request("GET", path, fields);
        let found = (response.status == 200).then(|| response.text());
        assert_eq!(found.as_deref(), expected, "{path} {fields:?}");
        if expected.is_some() {
            assert!(response.head.contains("Vary: Sec-Fetch-Mode\r\n"));
        }
    }
}

#[test]
fn clean_url_with_slash_redirects_to_the_page() {
    for (rules, expected) in [("clean-urls = true\n", 301), ("", 404)] {
        let (folder, server) = site(rules);
        for name in [
            "about.html",
            "both.html",
            "both/index.html",
            "d.html",
            "d/x",
        ] {
            write(folder.path(), name, "<p>about");
        }
        let mut client = server.client();
        let response = client.get("/about/?q=1");
        assert_eq!(response.status, expected);
        if expected == 301 {
            assert_eq!(response.field("Location"), Some("/about?q=1"));
        }
        assert_eq!(client.get("/none/").status, 404);
        assert_eq!(client.get("/both/").status, 200);
        // A folder without an index is no page.
        assert_eq!(client.get("/d/").status, 404);
        assert_eq!(client.get("/about.html/").status, 404);
    }
}
