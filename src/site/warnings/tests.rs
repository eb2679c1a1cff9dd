use std::path::Path;

use super::*;

fn warnings(text: &str) -> Vec<String> {
    let mut site: Site = toml::from_str(text).expect("a site");
    let table = toml::de::DeTable::parse(text).expect("a table");
    let lines = crate::site::config_file::LineNumbers::of(text);
    crate::site::config_file::locate(&mut site, table.get_ref(), &lines, Path::new("f"));
    site.warnings()
}

/// From and to.
type Redirects = &'static [(&'static str, &'static str)];

fn redirects(rules: Redirects) -> Vec<String> {
    let rule = |(from, to): &(&str, &str)| format!("[[redirect]]\nfrom = {from:?}\nto = {to:?}\n");
    warnings(&rules.iter().map(rule).collect::<String>())
}

#[test]
fn effective_rules_have_no_warnings() {
    let text = r#"
        [[route]]
        path = "/logo"
        file = "logo.svg"
        [[redirect]]
        from = "/old/*"
        to = "/new/$1"
        [[redirect]]
        from = "/*/index.html"
        to = "/$1/"
        [[redirect]]
        from = "/www/*"
        to = "https://www.example.org/www/$1"
        [[header]]
        path = "/*"
        Cache-Control = "no-cache"
        [[header]]
        path = "/assets/*"
        Cache-Control = "immutable"
        [[header]]
        path = "/old/*"
        Cache-Control = "max-age=60"
        [[header]]
        path = "/a/*"
        Vary = "Cookie"
        [[header]]
        path = "/*"
        Vary = "DNT"
        [error-pages]
        404 = "error.html"
        [media-types]
        md = "text/markdown"
        [[host]]
        names = ["*.a.example.org"]
        root = "a"
        [[host]]
        names = ["*.example.org", "b.a.example.org", "[::1]", "127.0.0.1"]
        root = "b"
    "#;
    assert_eq!(warnings(text), Vec::<String>::new());
}

/// A flag is meant to override the file.
#[test]
fn header_flag_causes_no_warning() {
    let text = "[[header]]\npath = \"/a\"\nX-A = \"1\"\n";
    let mut site: Site = toml::from_str(text).expect("a site");
    site.headers.extend(HeaderRule::for_all("X-A: 2"));
    assert_eq!(site.warnings(), Vec::<String>::new());
}

#[test]
fn shadowed_and_impossible_redirects_are_warned_about() {
    let table: &[(Redirects, &[&str])] = &[
        (
            &[("/a/*", "/x/$1"), ("/a/b", "/y")],
            &["f:4: redirect /a/b → /y is never used: redirect /a/* → /x/$1 (line 1) comes first"],
        ),
        (
            &[("/a//b", "/y")],
            &[
                "f:1: redirect /a//b → /y matches no path: paths have no \"//\", \".\", \"..\" or backslashes",
            ],
        ),
        (&[("/a?b=*", "/y")], &["matches no query"]),
        (&[("/a#b", "/y")], &["matches no fragment"]),
        (&[("/a%20b", "/y")], &["matches no escape"]),
        (&[("/100%", "/y")], &[]),
    ];
    for (rules, expected) in table {
        let found = redirects(rules);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(*expected) {
            assert!(found.contains(expected), "{found}");
        }
    }
}

#[test]
fn redirect_loops_are_warned_about() {
    let table: &[(Redirects, usize)] = &[
        (&[("/a", "/a")], 1),
        (&[("/a", "/a?b#c")], 1),
        (&[("/*", "/index.html")], 1),
        (&[("/old/*", "/old/new/$1")], 1),
        (&[("/a", "/b"), ("/b", "/a")], 2),
        (
            &[("/a/*", "/b/$1"), ("/b/*", "/c/$1"), ("/c/*", "/a/$1")],
            3,
        ),
        (&[("/a", "/b"), ("/b", "/c")], 0),
        // Another server is not followed.
        (&[("/*", "https://example.org/$1")], 0),
        // Each step shortens the path, so it ends.
        (&[("/a*", "/$1")], 0),
        // An earlier rule leaves the loop.
        (&[("/b", "/c"), ("/a", "/b"), ("/*b", "/a")], 0),
    ];
    for (rules, circles) in table {
        let found = redirects(rules);
        let count = found.iter().filter(|line| line.contains(" loops")).count();
        assert_eq!(
            (count, found.len()),
            (*circles, *circles),
            "{rules:?}: {found:?}"
        );
    }
}

/// The server redirects too: it adds the slash to the path of a folder, and removes that of a page.
#[test]
fn redirect_against_the_slash_of_the_server_is_warned_about() {
    let strip = "[[redirect]]\nfrom = \"/*/\"\nto = \"/$1\"\n";
    let strip_one = "[[redirect]]\nfrom = \"/docs/\"\nto = \"/docs\"\n";
    let add = "[[redirect]]\nfrom = \"/about\"\nto = \"/about/\"\n";
    let chain = "[[redirect]]\nfrom = \"/docs/\"\nto = \"/old\"\n\
                 [[redirect]]\nfrom = \"/old\"\nto = \"/docs\"\n";
    let to_root = "[[redirect]]\nfrom = \"/home\"\nto = \"/\"\n";
    let rewritten = "[[rewrite]]\nfrom = \"/docs\"\nto = \"/a\"\n";
    let missing = "[[rewrite]]\nfrom = \"/*\"\nto = \"/a\"\nmissing = true\n";
    let route = "[[route]]\npath = \"/docs\"\nfile = \"a\"\n";
    let clean = "clean-urls = true\n";
    let (folder, page) = (
        "loops where there is a folder",
        "loops where there is a page",
    );
    for (rules, expected) in [
        ([strip, ""].concat(), vec![folder]),
        ([clean, strip].concat(), vec![folder]),
        ([strip_one, ""].concat(), vec![folder]),
        ([strip_one, missing].concat(), vec![folder]),
        ([chain, ""].concat(), vec![folder, folder]),
        ([strip_one, rewritten].concat(), vec![]),
        ([strip_one, route].concat(), vec![]),
        ([clean, add].concat(), vec![page]),
        ([add, ""].concat(), vec![]),
        ([clean, to_root].concat(), vec![]),
        (strip.replace("to = \"/", "to = \"https://a.test/"), vec![]),
        (strip.replace("to = \"/", "to = \"/new/"), vec![]),
    ] {
        let found = warnings(&rules);
        assert_eq!(found.len(), expected.len(), "{rules}: {found:?}");
        for (line, expected) in found.iter().zip(expected) {
            assert!(line.contains(expected), "{rules}: {line}");
        }
    }
}

/// Each redirect multiplies the length of the path.
#[test]
fn growing_redirects_are_analysed_within_bounds() {
    let growing: Redirects = &[("/*", "/x$1$1$1$1$1$1$1$1$1")];
    assert_eq!(redirects(growing), Vec::<String>::new());
    let alternating: Redirects = &[("/a*", "/b$1$1$1$1"), ("/b*", "/a$1$1?$1$1")];
    assert_eq!(redirects(alternating), Vec::<String>::new());
}

/// Comparing each rule with each other one would exceed the budget before the last rule.
#[test]
fn many_rules_are_analysed_within_the_budget() {
    let rule = |number: usize| {
        format!(
            "[[redirect]]\nfrom = \"/old/{number}\"\nto = \"/new/{number}\"\n\
             [[redirect]]\nfrom = \"/old/{number}/*\"\nto = \"/new/{number}/$1\"\n\
             [[route]]\npath = \"/file/{number}\"\nfile = \"{number}\"\n\
             [[header]]\npath = \"/file/{number}\"\nX-A = \"1\"\n"
        )
    };
    let last = "[[redirect]]\nfrom = \"/old/7/a\"\nto = \"/b\"\n";
    let text = (0..5_000).map(rule).collect::<String>() + last;
    let found = warnings(&text);
    assert_eq!(found.len(), 1, "{:?}", found.first());
    assert!(
        found[0].contains("redirect /old/7/* → /new/7/$1 (line 88) comes first"),
        "{}",
        found[0]
    );

    let shared =
        |number: usize| format!("[[redirect]]\nfrom = \"/*/{number}\"\nto = \"/{number}\"\n");
    warnings(&(0..5_000).map(shared).collect::<String>());
}

#[test]
fn other_rules_without_effect_are_warned_about() {
    for (text, expected) in [
        (
            "[[redirect]]\nfrom = \"/a*\"\nto = \"/b\"\n[[route]]\npath = \"/ab\"\nfile = \"f\"\n",
            "f:4: route /ab is never used: redirect /a* → /b (line 1) comes first",
        ),
        (
            "[[route]]\npath = \"/a\"\nfile = \"f\"\n[[route]]\npath = \"/a\"\nsize = \"1\"\n",
            "f:1: route /a is never used: route /a (line 4) replaces it",
        ),
        (
            "[[redirect]]\nfrom = \"/a/*\"\nto = \"/b\"\n[[header]]\npath = \"/a/*.js\"\nX-A = \"1\"\n",
            "f:4: header /a/*.js applies to no file: redirect /a/* → /b (line 1) answers at all of its paths",
        ),
        (
            "[[header]]\npath = \"/a/*\"\nX-A = \"1\"\nX-B = \"1\"\n\
             [[header]]\npath = \"/*\"\nX-A = \"2\"\nX-B = \"2\"\nX-C = \"2\"\n",
            "f:1: header /a/* has no effect: header /* (line 5) sets the same fields",
        ),
        (
            "[[header]]\npath = \"/a\"\n",
            "f:1: header /a sets no field",
        ),
        (
            "[[header]]\npath = \"/../a\"\nX-A = \"1\"\n",
            "matches no path",
        ),
        (
            "[error-pages]\n413 = \"no.html\"\n",
            "f:2: error page 413 = \"no.html\" is never used",
        ),
        (
            "[media-types]\n\"tar.gz\" = \"application/gzip\"\n",
            "f:2: media type \"tar.gz\" applies to no file: an extension is what follows the last dot",
        ),
        (
            "[media-types]\nMD = \"text/plain\"\nmd = \"text/markdown\"\n",
            "f:2: media type \"MD\" is never used: \"md\" is the same extension",
        ),
        (
            "[[host]]\nnames = [\"*.example.org\"]\nroot = \"a\"\n\
             [[host]]\nnames = [\"b.test\", \"*.a.example.org\"]\nroot = \"b\"\n",
            "f:5: host b.test: the name \"*.a.example.org\" is never used: \"*.example.org\" of an earlier host matches the same",
        ),
        (
            "[[host]]\nnames = [\"a..b\"]\nroot = \"a\"\n",
            "f:2: host a..b: no request can have the name \"a..b\"",
        ),
        (
            "[[host]]\nnames = [\"a\"]\nroot = \"a\"\n[[host.redirect]]\nfrom = \"/a\"\nto = \"/a\"\n",
            "f:4: host a: redirect /a → /a loops; browsers give up",
        ),
    ] {
        let found = warnings(text);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(expected), "{}", found[0]);
    }
}

#[test]
fn routes_rewrites_and_applications_without_effect_are_warned_about() {
    for (text, expected) in [
        ("[[route]]\npath = '/a/*'\nfile = 'a'\n", 1),
        ("[[route]]\npath = '/a%20b'\nfile = 'a'\n", 1),
        ("[[route]]\npath = '/a b'\nfile = 'a'\n", 0),
        ("[[rewrite]]\nfrom = '/a//b'\nto = '/c'\n", 1),
        (
            "[[rewrite]]\nfrom = '/a/*'\nto = '/c'\n[[rewrite]]\nfrom = '/a/b'\nto = '/d'\n",
            1,
        ),
        (
            "[[rewrite]]\nfrom = '/a/b'\nto = '/c'\n[[rewrite]]\nfrom = '/a/*'\nto = '/d'\n",
            0,
        ),
        (
            "[[rewrite]]\nfrom = '/a/*'\nto = '/c'\nmissing = true\n[[rewrite]]\nfrom = '/a/b'\nto = '/d'\n",
            0,
        ),
        (
            "[[rewrite]]\nfrom = '/a/b'\nto = '/c'\nmissing = true\n[[rewrite]]\nfrom = '/a/*'\nto = '/d'\n",
            1,
        ),
        (
            "[[redirect]]\nfrom = '/a/*'\nto = '/b'\n[[rewrite]]\nfrom = '/a/x'\nto = '/c'\n",
            1,
        ),
        (
            "[[spa]]\npath = '/a'\npage = 'a'\n[[spa]]\npath = '/a/'\npage = 'b'\n",
            1,
        ),
        (
            "[[header]]\npath = '/*'\nX-A = '1'\n[[header]]\npath = '/*'\nalways = true\nX-A = '2'\n",
            1,
        ),
        (
            "[[header]]\npath = '/*'\nalways = true\nX-A = '1'\n[[header]]\npath = '/*'\nX-A = '2'\n",
            0,
        ),
        (
            "[[header]]\npath = '/*'\nX-A = '1'\n[[header]]\npath = '/*'\nstatus = 200\nX-A = '2'\n",
            0,
        ),
        ("[[header]]\npath = '/Build/*'\nencoded = true\n", 0),
        ("[[header]]\npath = '/Build/*'\n", 1),
        (
            "[[header]]\npath = '/*'\nstatus = [304, 206]\nX-A = '1'\n",
            1,
        ),
        (
            "[[header]]\npath = '/*'\nstatus = [304, 404]\nX-A = '1'\n",
            0,
        ),
        ("[[access]]\npath = '/*'\nallow = 'all'\n", 1),
        ("[[access]]\npath = '/*'\nallow = 'all'\ndeny = '::1'\n", 0),
        (
            "cors = ['*', 'https://a.test', 'http://a.test:443', 'app://a']\n",
            0,
        ),
        ("cors = 'https://*.a.test'\n", 1),
        ("cors = 'https://A.test'\n", 1),
        ("cors = 'https://a.test:443'\n", 1),
    ] {
        assert_eq!(
            warnings(text).len(),
            expected,
            "{text}: {:?}",
            warnings(text)
        );
    }
}
