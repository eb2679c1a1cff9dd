use super::*;

fn read(text: &str) -> Result<ConfigFile, String> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tws.toml");
    fs::write(&path, text).expect("a file");
    ConfigFile::read(&path).map_err(|error| error.to_string())
}

#[test]
fn keys_are_those_that_serde_expects() {
    let error = toml::from_str::<Site>("no-key = 1").expect_err("unknown");
    let (_, list) = error
        .message()
        .split_once("expected one of ")
        .expect("a list");
    let keys: Vec<_> = list.split(", ").map(|key| key.trim_matches('`')).collect();
    assert_eq!(keys, Site::KEYS);
}

#[test]
fn other_keys_are_returned_with_their_lines() {
    let text = "port = 80\nhidden = true\nbind = [\n  '::1', \"a\"]\n'a b' = 0x10\n\
                q = false\n[tls]\nx = 1\n";
    let file = read(text).expect("a configuration file");
    assert!(file.site.hidden);
    let others: Vec<_> = file
        .others
        .iter()
        .map(|other| (other.name.as_str(), other.line, other.values.clone()))
        .collect();
    let list = |list: &[&str]| Some(list.iter().map(|&text| text.to_owned()).collect());
    assert_eq!(
        others,
        [
            ("a b", 5, list(&["0x10"])),
            ("bind", 3, list(&["::1", "a"])),
            ("port", 1, list(&["80"])),
            ("q", 6, list(&["false"])),
            ("tls", 7, None),
        ]
    );
}

#[test]
fn site_file_of_root_cannot_reach_out_of_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path().join("root");
    fs::create_dir_all(root.join("docs")).expect("a folder");
    std::os::unix::fs::symlink("..", root.join("out")).expect("a link");
    std::os::unix::fs::symlink("docs", root.join("in")).expect("a link");
    std::os::unix::fs::symlink("/nowhere/at/all", root.join("dangling")).expect("a link");
    let read = |text: &str| {
        fs::write(root.join(SITE_FILE), text).expect("a file");
        ConfigFile::of_root(&root).map(drop)
    };
    let host = |folder: &str| format!("[[host]]\nnames = ['a']\nroot = '{folder}'\n");
    let absolute = root.join("docs").display().to_string();
    let beside = folder.path().join("roots").display().to_string();
    fs::create_dir(&beside).expect("a folder");
    let allowed = [".", "docs", "in", "docs/../docs", &absolute].map(host);
    let store = "[users]\nstore = 'sqlite:a/users.db'\n".to_owned();
    for text in allowed.into_iter().chain([store]) {
        read(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
    }
    let outside = [
        "..",
        "../..",
        "/",
        "out",
        "out/root/..",
        "none/..",
        "../none",
        &beside,
    ];
    let hosts = outside.map(|folder| (host(folder), 3));
    let others = [
        ("hidden = true\nsymlinks = 'follow'\n".to_owned(), 2),
        (host("docs") + "symlinks = 'follow'\n", 4),
        (host("docs") + &host("/etc").replace("'a'", "'b'"), 6),
        ("[users]\nstore = 'sqlite:/tmp/users.db'\n".to_owned(), 1),
        ("[users]\nstore = 'sqlite:../users.db'\n".to_owned(), 1),
        ("[users]\nstore = 'postgres://127.0.0.1/a'\n".to_owned(), 1),
    ];
    for (text, line) in hosts.into_iter().chain(others) {
        let error = read(&text).expect_err(&text).to_string();
        assert!(
            error.contains(&format!("{SITE_FILE}:{line}: ")),
            "{text}: {error}"
        );
        assert!(error.contains("--config"), "{text}: {error}");
        // A file that the operator names may.
        ConfigFile::read(&root.join(SITE_FILE)).expect("a configuration file");
    }
    assert!(read(&host("dangling")).is_ok(), "opening it fails");
}

#[test]
fn error_names_the_line_of_the_mistake() {
    let route = "[[route]]\npath = '/a'\nfile = 'a'\n";
    let redirect = "[[redirect]]\nfrom = '/a'\nto = '/b'\n";
    let header = "[[header]]\npath = '/a'\nx-a = '1'\n";
    let host = "[[host]]\nnames = ['a']\nroot = 'a'\n";
    for (before, wrong) in [
        (route, "[[route]]\npath = '/x'"),
        (route, "[[route]]\nfile = 'a'"),
        (redirect, "[[redirect]]\nto = '/b'"),
        (redirect, "[[redirect]]\nfrom = '/x'\nto = '/$3'"),
        (redirect, "status = 200"),
        (redirect, "[[redirect]]\nfrom = '/x/*'\nto = 'http:///$1'"),
        (header, "[[header]]\nx-b = '1'"),
        (header, "[[header]]\npath = 'no'"),
        (host, "[[host]]\nroot = 'a'"),
        (host, "[[host]]\nnames = ['b']"),
        (host, "[[host]]\nnames = ['a']\nroot = 'b'"),
        ("hidden = true\n#\n#\n", "root = 'a'"),
        ("hidden = true\n#\n#\n", "names = ['a']"),
        (host, "[[host.header]]\nx-b = '1'"),
        ("[[redirect]]\nfrom = '/a'\nto = '/b'\n", "status = 'x'"),
    ] {
        let error = read(&format!("{before}{wrong}\n")).expect_err(wrong);
        assert!(error.contains("tws.toml:4: "), "{wrong}: {error}");
    }
}

#[test]
fn error_states_line_key_cause_and_remedy() {
    for (text, expected) in [
        (
            "port = \"80",
            ":1: the string is not closed; add the quote at its end",
        ),
        ("port: 80", ":1: TOML needs `key = value`; is this YAML?"),
        (
            "{ \"port\": 80 }",
            ":1: TOML needs `key = value`; is this JSON?",
        ),
        (
            "a = = b",
            ":1: there is one = too many; write `key = value`",
        ),
        ("\nport =", ":2: the value is missing; write `key = value`"),
        ("port 80", ":1: the value is missing; write `key = value`"),
        (
            "listing = auto",
            ":1: not a TOML value; put text in quotes: `key = \"value\"`",
        ),
        (
            "index = \"a\\q\"",
            ":1: the string has an unknown escape; write \\\\ for a backslash",
        ),
        ("bind = [\"::\"", ":1: a bracket is not closed; add ]"),
        ("[[route]\n", ":1: a bracket is not closed; add ]"),
        (
            "bind = ['a' 'b']",
            ":1: a comma is missing in the array; add it",
        ),
        (
            "port = 1\nport = 2",
            ":2: the key is given twice; remove one",
        ),
        ("port = 8_", ":1: `_` may only go between digits"),
        (
            "clean-urls = 1",
            ":1: clean-urls: must be true or false (got integer 1)",
        ),
        ("index = 'a'", ":1: index: must be an array (got a string)"),
        (
            "upload = 's3cret'",
            ":1: upload: must be a table (got a string)",
        ),
        (
            "listing = 'maybe'",
            ":1: listing: must be one of auto, on, off (got \"maybe\")",
        ),
        (
            "[[route]]\npath = '/a'\nfiel = 'a'",
            ":3: route: fiel: unknown key; the keys are path, file, size",
        ),
        (
            "[[route]]\npath = '/a'\nfile = '../a'",
            ":3: route.file: must be the name of a file below the root (got \"../a\")",
        ),
        (
            "[[redirect]]\nfrom = '/a'",
            ":1: redirect: the key `to` is missing; add it",
        ),
        (
            "[[redirect]]\nfrom = '/a'\nto = '/b'\nstatus = 200",
            ":4: redirect.status: must be one of 301, 302, 307, 308 (got integer 200)",
        ),
        (
            "[[redirect]]\nfrom = '/a'\nto = '/b'\nstatus = '301'",
            ":4: redirect.status: must be one of 301, 302, 307, 308 (got a string)",
        ),
        (
            "directory = ../www",
            ":1: not a TOML value; put text in quotes: `key = \"value\"`",
        ),
        (
            "bind = 127.0.0.1",
            ":1: not a TOML value; put text in quotes: `key = \"value\"`",
        ),
        (
            "compress = true",
            ":1: compress: must be one of auto, sidecar, off (got boolean true)",
        ),
        (
            "[manage]\ndelete = 1",
            ":2: manage.delete: must be one of trash, permanent (got integer 1)",
        ),
        (
            "[header]\npath = '/*'",
            ":1: header: must be tables [[header]] (got a table)",
        ),
        (
            "auth = 'u:p'",
            ":1: auth: must be tables [[auth]] (got a string)",
        ),
        (
            "auth = ['u:p']",
            ":1: auth: must be tables [[auth]] (got a string)",
        ),
        (
            "[[host]]\nnames = ['b.test']\nroot = 'a'\nheader = 'X: y'",
            ":4: host b.test: header: must be tables [[host.header]] (got a string)",
        ),
        (
            "[[header]]\npath = '/*'\nX-A = 5",
            ":3: header.X-A: must be a string in quotes (got integer 5)",
        ),
        (
            "[[header]]\npath = '/*'\nclean-urls = true",
            ":3: header.clean-urls: a key of the site, not a header field; move it above the first [table]",
        ),
        (
            "[[header]]\npath = '/*'\nmedia_type = 'text/html'",
            ":3: header.media_type: not a header field; write it as media-type",
        ),
        (
            "[upload]\nmax = '1 GB'",
            ":2: upload.max: must be a size such as 512 KiB, 100 MiB or 1 GiB (got \"1 GB\")",
        ),
        (
            "[error-pages]\n200 = 'a'",
            ":2: error-pages: the status must be an integer between 400 and 599 (got \"200\")",
        ),
        (
            "[[host]]\nnames = ['a']\nroot = 'a'\nhidden = 2",
            ":4: host a: hidden: must be true or false (got integer 2)",
        ),
        (
            "[[host]]\nroot = 'a'",
            ":1: a [[host]] has no names; add names = [\"example.org\"]",
        ),
    ] {
        let error = read(text).expect_err(text);
        let (_, found) = error.split_once("tws.toml").expect("the file");
        assert_eq!(found, expected, "{text}");
    }
}

#[test]
fn errors_do_not_contain_passwords() {
    for text in [
        "users = \"postgres://u:s3\\\"cret@h/d\"",
        "[users]\nstore = \"postgre://u:s3\\\"cret@h/d\"",
        "upload = \"s3\\\"cret\"",
    ] {
        let error = read(text).expect_err("wrong");
        assert!(!error.contains("cret"), "{error}");
    }
}
