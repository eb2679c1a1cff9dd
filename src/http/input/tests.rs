use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize, PartialEq)]
struct Filter {
    #[serde(default)]
    tag: Vec<String>,
    limit: Option<u32>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Point {
    x: i32,
}

fn status<T: fmt::Debug>(result: Result<T, InputError>) -> u16 {
    result.expect_err("an error").status().as_u16()
}

#[test]
fn query_parameters_are_decoded_as_urlencoded_forms() {
    let request = Request::get("/users?after=%31+0&empty&after=2&x=%FF");
    assert_eq!(request.query_str(), Some("after=%31+0&empty&after=2&x=%FF"));
    assert_eq!(request.query_param("after").as_deref(), Some("1 0"));
    assert_eq!(request.query_param("empty").as_deref(), Some(""));
    assert_eq!(request.query_param("x").as_deref(), Some("\u{FFFD}"));
    assert_eq!(request.query_param("limit"), None);
    let all: Vec<String> = request.query_params("after").collect();
    assert_eq!(all, ["1 0", "2"]);
}

#[test]
fn query_is_a_value_with_all_values_of_a_name() {
    let of = |target| Request::get(target).query::<Filter>();
    let filter = |tag: &[&str], limit| {
        let tag = tag.iter().copied().map(str::to_owned).collect();
        Ok(Filter { tag, limit })
    };
    assert_eq!(of("/"), filter(&[], None));
    assert_eq!(of("/?"), filter(&[], None));
    assert_eq!(of("/?tag=a"), filter(&["a"], None));
    assert_eq!(
        of("/?tag=a+b&limit=7&tag=%C3%B1&other"),
        filter(&["a b", "ñ"], Some(7))
    );
    for target in ["/?limit=x", "/?limit=-1", "/?limit=1&limit=2"] {
        assert_eq!(status(of(target)), 400, "{target}");
    }
}

#[test]
fn error_of_a_query_or_a_form_has_the_name_of_the_value() {
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Fields {
        #[expect(dead_code)]
        a: u32,
        #[expect(dead_code)]
        b: Option<Vec<bool>>,
        #[serde(rename = "c d")]
        #[expect(dead_code)]
        c: Option<f32>,
    }

    let long = "z".repeat(1000);
    let table = [
        ("a=", Some("a")),
        ("a=1&a=2", Some("a")),
        ("&&b=on&a=x", Some("a")),
        ("a=1&b=true&b=2&c+d=1", Some("b")),
        ("a=1&b=on&a=2", Some("a")),
        ("a=1&c%20d=x", Some("c d")),
        // The reason has the name.
        ("", None),
        ("a=1&e=1", None),
    ];
    for (text, expected) in table {
        match Request::get(&format!("/?{text}")).query::<Fields>() {
            Err(InputError::Query { name, .. }) => assert_eq!(name.as_deref(), expected, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
        let form = Request::post("/", text)
            .with_header("Content-Type", "application/x-www-form-urlencoded");
        match form.form::<Fields>() {
            Err(InputError::Form { name, .. }) => assert_eq!(name.as_deref(), expected, "{text}"),
            other => panic!("{text}: {other:?}"),
        }
    }
    let any = Request::get(&format!("/?%0A{long}=x")).query::<BTreeMap<String, u32>>();
    let text = any.expect_err("an error").to_string();
    assert!(text.chars().count() < 2 * MAX_QUOTED_CHARS, "{text}");
    assert!(!text.contains(char::is_control), "{text:?}");
    // The keys of a map need not be strings.
    let numbers = Request::get("/?7=x").query::<BTreeMap<u32, String>>();
    assert_eq!(numbers, Ok(BTreeMap::from([(7, "x".to_owned())])));
}

#[test]
fn path_parameter_is_parsed_or_400() {
    let request = Request::get("/").with_param("id", "42");
    assert_eq!(request.param::<u64>("id"), Ok(42));
    assert_eq!(request.param::<String>("id"), Ok("42".to_owned()));
    assert_eq!(request.param_str("id"), Some("42"));
    let request = Request::get("/").with_param("id", "4 2");
    assert_eq!(status(request.param::<u64>("id")), 400);
    // The handler asks for a parameter that its route does not have.
    assert_eq!(status(request.param::<u64>("other")), 500);
}

#[test]
fn json_needs_its_media_type() {
    let of = |media_types: &[&str]| {
        let request = Request::post("/", r#"{"x":1}"#);
        let request = media_types.iter().fold(request, |request, media_type| {
            request.with_header("Content-Type", media_type)
        });
        request.json::<Point>()
    };
    for accepted in [
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/problem+json",
    ] {
        assert_eq!(of(&[accepted]), Ok(Point { x: 1 }), "{accepted}");
    }
    for other in [
        &[][..],
        &["text/plain"],
        &["application/jsonp"],
        &["+json"],
        &["/+json"],
        &["a/+json"],
        &["/a+json"],
        &["a/b/c+json"],
        &["application/json", "text/plain"],
    ] {
        assert_eq!(status(of(other)), 415, "{other:?}");
    }
    let response = Response::from(of(&[]).expect_err("an error"));
    assert_eq!(response.headers()[ACCEPT], "application/json");
}

#[test]
fn coded_content_is_415() {
    let of = |media_type, codings: &[&str]| {
        let request = Request::post("/", "x").with_header("Content-Type", media_type);
        codings.iter().fold(request, |request, coding| {
            request.with_header("Content-Encoding", coding)
        })
    };
    let form_data = "multipart/form-data; boundary=B";
    for coded in [&["gzip"][..], &["br, gzip"], &["identity", "gzip"]] {
        for response in [
            Response::from(of(JSON, coded).json::<Point>().expect_err("an error")),
            Response::from(of(FORM, coded).form::<Filter>().expect_err("an error")),
            Response::from(of(form_data, coded).form_data().expect_err("an error")),
        ] {
            assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
            assert_eq!(response.headers()[ACCEPT_ENCODING], "identity");
        }
    }
    for uncoded in [&[][..], &["identity"], &[""]] {
        assert_eq!(status(of(JSON, uncoded).json::<Point>()), 400);
        assert!(of(FORM, uncoded).form::<Filter>().is_ok());
        assert!(of(form_data, uncoded).form_data().is_ok());
    }
}

#[test]
fn json_error_has_its_status_and_position() {
    let of = |text: &str| {
        Request::post("/", text)
            .with_header("Content-Type", "application/json")
            .json::<Point>()
    };
    for (text, expected) in [
        ("", (1, 0)),
        ("{\"x\":\n  1,}", (2, 5)),
        ("{\"x\":1} {", (1, 9)),
        ("{\"x\":1", (1, 6)),
    ] {
        match of(text) {
            Err(InputError::JsonSyntax { line, column, .. }) => {
                assert_eq!((line, column), expected, "{text:?}");
            }
            other => panic!("{text:?}: {other:?}"),
        }
        assert_eq!(status(of(text)), 400);
    }
    for text in ["{}", "[true]", "{\"x\":\n\"one\"}", "{\"x\":1.5}"] {
        match of(text) {
            Err(InputError::JsonData { line, .. }) => assert!(line > 0, "{text:?}"),
            other => panic!("{text:?}: {other:?}"),
        }
        assert_eq!(status(of(text)), 422);
    }
    // Nesting is limited, so the stack cannot overflow.
    let request = Request::post("/", "[".repeat(1_000_000));
    let request = request.with_header("Content-Type", "application/json");
    assert_eq!(status(request.json::<serde_json::Value>()), 400);
}

#[test]
fn reason_is_short_and_one_line() {
    let name = format!(
        "{{\"x\":\"{}\"}}",
        "a\\n\u{1b}ñ".repeat(1000).replace('\u{1b}', "\\u001b")
    );
    let request = Request::post("/", name).with_header("Content-Type", "application/json");
    let text = request.json::<Point>().expect_err("an error").to_string();
    assert!(text.chars().count() < MAX_QUOTED_CHARS + 10, "{text}");
    assert!(!text.contains(char::is_control), "{text:?}");
}

#[test]
fn form_is_a_value() {
    let of = |text: &str, media_type| {
        Request::post("/", text)
            .with_header("Content-Type", media_type)
            .form::<Filter>()
    };
    let form = of("tag=a%2Cb&tag=c+d", FORM).expect("a form");
    assert_eq!(form.tag, ["a,b", "c d"]);
    assert_eq!(status(of("limit=many", FORM)), 422);
    assert_eq!(status(of("tag=a", "application/json")), 415);
}

#[test]
fn newest_extension_of_a_type_is_returned() {
    let request = Request::get("/").with_extension(1_u8).with_extension(2_u8);
    assert_eq!(request.extension::<u8>(), Ok(&2));
    assert_eq!(request.clone().into_owned().extension::<u8>(), Ok(&2));
    assert_eq!(request.with_params(Vec::new()).extension::<u8>(), Ok(&2));
    assert_eq!(status(request.extension::<u16>()), 500);
}
