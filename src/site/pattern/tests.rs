use super::*;
use proptest::prelude::*;

fn path_pattern(pattern: &str) -> PathPattern {
    PathPattern::new(pattern).expect("a pattern")
}

fn captures(pattern: &str, path: &[u8]) -> Option<Vec<Vec<u8>>> {
    let pattern = path_pattern(pattern);
    let captures = pattern.matches(path)?;
    assert_eq!(captures.number(0), None);
    assert_eq!(captures.number(pattern.stars() + 1), None);
    let capture = |number| captures.number(number).expect("one for each star").to_vec();
    Some((1..=pattern.stars()).map(capture).collect())
}

#[test]
fn pattern_of_every_path_is_a_star() {
    assert_eq!(PathPattern::new("/*"), Ok(PathPattern::every()));
}

#[test]
fn stars_match_lazily_and_the_last_the_remainder() {
    let table: &[(&str, &str, Option<&[&str]>)] = &[
        ("/", "/", Some(&[])),
        ("/", "/a", None),
        ("/a", "/a", Some(&[])),
        ("/a", "/A", None),
        ("/*", "/", Some(&[""])),
        ("/*", "/a/b", Some(&["a/b"])),
        ("/*", "", None),
        ("/a/*", "/a", None),
        ("/a/*", "/a/", Some(&[""])),
        ("/*/*", "/a/b/c", Some(&["a", "b/c"])),
        ("/*.html", "/a.html.html", Some(&["a.html"])),
        ("/*.html", "/.html", Some(&[""])),
        ("/*.html", "/a.htm", None),
        ("/*/x/*", "/a/x/b/x/c", Some(&["a", "b/x/c"])),
        ("/*/x/*.js", "/a/x/b/x/c.js", Some(&["a", "b/x/c"])),
        // The inner literal matches at its first occurrence, the last literal at the end.
        ("/*ab*b", "/xabab", Some(&["x", "a"])),
        ("/*aa", "/aaa", Some(&["a"])),
        // The first and the last literal may not overlap.
        ("/a*a", "/a", None),
        ("/a*a", "/aa", Some(&[""])),
        ("/**", "/ab", Some(&["", "ab"])),
        // No other character is special.
        ("/[a]?{b}\\", "/[a]?{b}\\", Some(&[])),
        ("/?", "/a", None),
        ("/ñ*", "/ñu", Some(&["u"])),
    ];
    for (pattern, path, expected) in table {
        let expected = expected.map(|all| {
            let bytes = |text: &&str| text.as_bytes().to_vec();
            all.iter().map(bytes).collect::<Vec<_>>()
        });
        let found = captures(pattern, path.as_bytes());
        assert_eq!(found, expected, "{pattern} {path}");
        assert_eq!(
            path_pattern(pattern).is_match(path.as_bytes()),
            found.is_some()
        );
    }
    assert_eq!(captures("/*/", b"/\xFF/"), Some(vec![b"\xFF".to_vec()]));
}

#[test]
fn invalid_patterns_and_templates_are_rejected() {
    let patterns = [
        ("", "a pattern must begin with a slash (got \"\")"),
        ("*", "a pattern must begin with a slash (got \"*\")"),
        (
            "/**********",
            "a pattern must have at most 9 stars (got 10 in \"/**********\")",
        ),
    ];
    for (pattern, error) in patterns {
        assert_eq!(PathPattern::new(pattern).err().as_deref(), Some(error));
    }
    let bare_dollar = |text: &str| {
        format!("a $ must be followed by 1 to 9 (got {text:?}); write $$ for a dollar sign")
    };
    let templates = [
        (
            "/$3",
            "\"/$3\" uses $3, but the pattern has 2 stars".to_owned(),
        ),
        ("/$0", bare_dollar("/$0")),
        ("/$", bare_dollar("/$")),
        ("/$x", bare_dollar("/$x")),
        ("/$ñ", bare_dollar("/$ñ")),
        ("/$$$", bare_dollar("/$$$")),
    ];
    for (text, error) in templates {
        assert_eq!(RedirectTemplate::new(text, 2).err(), Some(error));
    }
}

#[test]
fn templates_expand_captures() {
    let pattern = path_pattern("/*/*");
    let captures = pattern.matches(b"/a/b\xFF?$1").expect("a match");
    let table: &[(&str, &str)] = &[
        ("", ""),
        ("/new", "/new"),
        ("/new/$1", "/new/a"),
        ("/$2/$1", "/b%FF%3F$1/a"),
        ("$1$1", "aa"),
        ("/$12", "/a2"),
        ("/$$1$$", "/$1$"),
        ("/$$$1", "/$a"),
        ("//$1", "/a"),
        ("https://h/ñ/$1?q", "https://h/ñ/a?q"),
        ("/$2?$2", "/b%FF%3F$1?b%FF%3F%241"),
        ("/$2#$2", "/b%FF%3F$1#b%FF%3F%241"),
        ("/$$?$$/$2", "/$?$/b%FF%3F%241"),
    ];
    for (text, expected) in table {
        let template = RedirectTemplate::new(text, pattern.stars()).expect("a template");
        assert_eq!(template.expand(&captures), *expected, "{text}");
    }
}

#[test]
fn capture_with_leading_slash_stays_on_this_server() {
    let pattern = path_pattern("/old*");
    let captures = pattern.matches(b"/old/evil.test/x").expect("a match");
    let template = RedirectTemplate::new("/$1", pattern.stars()).expect("a template");
    assert_eq!(template.expand(&captures), "/evil.test/x");
}

#[test]
fn covers_is_containment() {
    for (wide, narrow, covers) in [
        ("/*", "/", true),
        ("/*", "/*/*", true),
        ("/*/*", "/*", false),
        ("/a", "/a", true),
        ("/a", "/b", false),
        ("/a/*", "/a", false),
        ("/a/*", "/a/b/*.js", true),
        ("/*.js", "/a/*.js", true),
        ("/a/*.js", "/*.js", false),
        ("/*a*", "/*b*a", true),
        ("/*aa*", "/*a*", false),
        ("/*a*a*", "/aa", true),
        ("/a*a", "/a", false),
        // Adjacent stars are equivalent to one.
        ("/*", "/**", true),
        ("/**", "/*", true),
        ("/***a", "/*a", true),
    ] {
        assert_eq!(
            path_pattern(wide).covers(&path_pattern(narrow)),
            covers,
            "{wide} {narrow}"
        );
    }
}

#[test]
fn abnormal_patterns_are_impossible() {
    for pattern in [
        "//", "/a//b", "/../a", "/*/..", "/a/./*", "/.", "/a\\b*", "/a\0",
    ] {
        assert!(!path_pattern(pattern).is_possible(), "{pattern}");
    }
    for pattern in [
        "/",
        "/*",
        "/*/*/",
        "/.*",
        "/..*",
        "/a.",
        "/*..",
        "/a b%?#ñ",
        "/.a/",
    ] {
        assert!(path_pattern(pattern).is_possible(), "{pattern}");
    }
}

/// With backtracking the time would be exponential.
#[test]
fn repetitive_path_matches_in_linear_time() {
    let path = [b"/", &vec![b'a'; 1 << 20][..]].concat();
    assert!(!path_pattern("/*a*a*a*a*a*a*a*a*b").is_match(&path));
    assert!(!path_pattern("/*ab*ab*ab*ab*ab*ab*ab*ab*").is_match(&path));
    let half = "a".repeat(1 << 10);
    assert!(!path_pattern(&format!("/*{half}b*{half}b*")).is_match(&path));
}

/// The definition: tries all captures, shorter ones first.
fn naive(pattern: &[u8], path: &[u8]) -> Option<Vec<Vec<u8>>> {
    match pattern {
        [] => path.is_empty().then(Vec::new),
        [b'*', rest @ ..] => (0..=path.len()).find_map(|len| {
            let mut captures = naive(rest, &path[len..])?;
            captures.insert(0, path[..len].to_vec());
            Some(captures)
        }),
        [byte, rest @ ..] => naive(rest, path.strip_prefix(&[*byte])?),
    }
}

proptest! {
    #[test]
    fn matches_equals_exhaustive_search(pattern in "/([ab/]{0,2}\\*){0,4}[ab]{0,2}", path in "/[ab/]{0,14}") {
        prop_assert_eq!(
            captures(&pattern, path.as_bytes()),
            naive(pattern.as_bytes(), path.as_bytes())
        );
    }

    /// If `wide` covers `narrow`, it matches a path that `narrow` matches; if not, the example
    /// path is a counterexample.
    #[test]
    fn covers_holds_for_every_matching_path(
        wide in "/([ab/]{0,2}\\*){0,3}[ab]{0,1}",
        narrow in "/([ab/]{0,2}\\*){0,3}[ab]{0,1}",
        fillings in proptest::collection::vec("[ab/]{0,4}", 3),
    ) {
        let (wide, narrow) = (path_pattern(&wide), path_pattern(&narrow));
        let mut path = narrow.literals[0].clone();
        for (filling, literal) in fillings.iter().zip(&narrow.literals[1..]) {
            path = [&path, filling.as_bytes(), literal].concat();
        }
        prop_assert!(narrow.is_match(&path));
        if wide.covers(&narrow) {
            prop_assert!(wide.is_match(&path));
        } else {
            prop_assert!(!wide.is_match(&narrow.example_path()) && narrow.is_match(&narrow.example_path()));
        }
    }

    #[test]
    fn patterns_and_templates_display_as_written(
        pattern in "/[ab*]{0,9}",
        template in "/([ab]|\\$\\$|\\$1)*",
    ) {
        let stars = pattern.matches('*').count();
        prop_assert_eq!(path_pattern(&pattern).to_string(), &pattern[..]);
        if let Ok(read) = RedirectTemplate::new(&template, stars) {
            prop_assert_eq!(read.to_string(), template);
        }
    }

    /// A path built from a pattern matches it, and its captures in the pattern's own template
    /// yield the path.
    #[test]
    fn captures_in_own_template_yield_the_path(
        literals in proptest::collection::vec("[ab/]{0,2}", 1..=MAX_STARS + 1),
        between in proptest::collection::vec("[ab/$*]{0,3}", MAX_STARS),
    ) {
        let stars = literals.len() - 1;
        let mut path = format!("/{}", literals[0]);
        let mut template = path.clone();
        for number in 1..=stars {
            path = path + &between[number - 1] + &literals[number];
            template = template + &format!("${number}") + &literals[number];
        }
        let pattern = path_pattern(&format!("/{}", literals.join("*")));
        let captures = pattern.matches(path.as_bytes()).expect("made to match");
        let template = RedirectTemplate::new(&template, stars).expect("a template");
        let expanded = template.expand(&captures);
        let joined = path.trim_start_matches('/');
        prop_assert_eq!(expanded, format!("/{}", encode_path(joined.as_bytes())));
    }

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>(), dollars in "[$0-9a]{0,9}", stars in 0..12usize) {
        let pattern = format!("/{text}");
        match PathPattern::new(&pattern) {
            // A star in the path is matched by the star.
            Ok(parsed) => prop_assert!(parsed.is_match(pattern.as_bytes())),
            Err(_) => prop_assert!(text.matches('*').count() > MAX_STARS),
        }
        for text in [text, dollars] {
            if let Ok(template) = RedirectTemplate::new(&text, stars) {
                template.expand(&Captures::default());
            }
        }
    }
}
