//! Tests of the behaviours of the five projects that tws is based on, by name, on the sample site
//! and the real binary.

use std::fs;
use std::io::Write;
use std::path::Path;

use rustix::process::Signal;
use tws::{Handler, Method, Request, Response, Router, StatusCode};

use crate::support::{TestServer, TwsProcess};

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Starts `tws` in the project's folder without site arguments, as a new user does.
fn sample_site() -> TwsProcess {
    TwsProcess::start(project(), &["-v"])
}

mod tws_course_project {
    use super::*;

    #[test]
    fn page_one_has_one_image() {
        let page = sample_site().client().get("/page_one");
        assert_eq!(page.status, 200);
        assert_eq!(page.field("Content-Type"), Some("text/html; charset=utf-8"));
        assert_eq!(page.text().matches("<img").count(), 1);
    }

    #[test]
    fn page_two_has_several_images() {
        let page = sample_site().client().get("/page_two");
        assert!(page.text().matches("<img").count() > 1);
    }

    #[test]
    fn page_images_all_exist() {
        let site = sample_site();
        let mut client = site.client();
        for page in ["/", "/page_one", "/page_two", "/page_three", "/page_four"] {
            let text = client.get(page).text();
            for tag in text.split("<img").skip(1) {
                let (_, after) = tag.split_once("src=\"").expect("src attribute");
                let (source, _) = after.split_once('"').expect("src attribute");
                let path = format!("/{}", source.trim_start_matches('/'));
                let image = client.get(&path);
                assert_eq!(image.status, 200, "{page}: {source}");
                let media_type = image.field("Content-Type").expect("Content-Type field");
                assert!(media_type.starts_with("image/"), "{source}: {media_type}");
            }
        }
    }

    #[test]
    fn page_three_links_to_one_gib_download() {
        let site = sample_site();
        let mut client = site.client();
        assert!(
            client
                .get("/page_three")
                .text()
                .contains("/download/big.bin")
        );
        let head = client.request("HEAD", "/download/big.bin", "");
        assert_eq!((head.status, head.length()), (200, Some(1 << 30)));
        let part = client.request("GET", "/download/big.bin", "Range: bytes=1073741000-\r\n");
        assert_eq!((part.status, part.content), (206, vec![0; 824]));
    }

    #[test]
    fn page_four_has_large_download_and_several_images() {
        let text = sample_site().client().get("/page_four").text();
        assert!(text.contains("/download/big.bin"));
        assert!(text.matches("<img").count() > 1);
    }

    #[test]
    fn user_images_answer_get_and_head() {
        let site = sample_site();
        let mut client = site.client();
        for path in ["/image_user_one", "/image_user_two"] {
            let image = client.get(path);
            assert_eq!(
                (image.status, image.field("Content-Type")),
                (200, Some("image/jpeg"))
            );
            assert!(image.content.starts_with(b"\xFF\xD8"), "a JPEG");
            let head = client.request("HEAD", path, "");
            assert_eq!((head.status, head.length()), (200, image.length()));
        }
    }

    #[test]
    fn bigfile_is_text_over_one_megabyte() {
        let text = sample_site().client().get("/bigfile");
        assert_eq!(
            text.field("Content-Type"),
            Some("text/plain; charset=utf-8")
        );
        assert!(text.content.len() > 1_000_000);
        assert!(text.text().lines().count() > 10_000, "a text");
    }

    #[test]
    fn create_user_post_returns_201_with_location() {
        let site = sample_site();
        let mut client = site.client();
        let content = r#"{"Nombre": "Ana María"}"#;
        let fields = format!(
            "Content-Type: application/json\r\nContent-Length: {}\r\n",
            content.len()
        );
        client.send(format!(
            "POST /createUser HTTP/1.1\r\nHost: test\r\n{fields}\r\n{content}"
        ));
        let response = client.response();
        assert_eq!(
            (response.status, response.field("Location")),
            (201, Some("/users/1"))
        );
        let user: serde_json::Value = serde_json::from_str(&response.text()).expect("parse JSON");
        assert_eq!(
            (&user["id"], &user["Nombre"]),
            (&1.into(), &"Ana María".into())
        );
        assert_eq!(client.get("/users/1").content, response.content);
    }
}

mod a_pythonic_web_server {
    use super::*;

    #[test]
    fn single_port_argument_serves_www_on_that_port() {
        let folder = tempfile::tempdir().expect("create temporary directory");
        fs::create_dir(folder.path().join("www")).expect("create directory");
        fs::write(folder.path().join("www/sample.html"), "<html>sample</html>")
            .expect("write file");
        // Port 0 stands for a free port.
        let site = TwsProcess::start(folder.path(), &["0"]);
        assert_eq!(
            site.client().get("/sample.html").text(),
            "<html>sample</html>"
        );
    }

    #[test]
    fn missing_file_is_404_page() {
        let folder = tempfile::tempdir().expect("create temporary directory");
        for site in [sample_site(), TwsProcess::start(folder.path(), &[])] {
            let page = site
                .client()
                .request("GET", "/sample.html", "Accept: text/html\r\n");
            assert_eq!(page.status, 404);
            assert_eq!(page.field("Content-Type"), Some("text/html; charset=utf-8"));
            assert!(
                page.text()
                    .contains("The requested file could not be found")
            );
        }
    }

    #[test]
    fn access_count_log_format_counts_requests_per_file() {
        let folder = tempfile::tempdir().expect("create temporary directory");
        fs::create_dir(folder.path().join("test")).expect("create directory");
        for name in ["index.html", "test.html", "test/folder.html"] {
            fs::write(folder.path().join(name), "x").expect("write file");
        }
        let mut site = TwsProcess::start(folder.path(), &["--log-format", "access-count"]);
        let mut client = site.client();
        let port = client.stream().local_addr().expect("local address").port();
        let paths = [
            "/index.html",
            "/test.html",
            "/test.html?q",
            "/sample.html",
            "/test/folder.html",
        ];
        for path in paths {
            client.get(path);
        }
        let expected = [
            "index.html|1",
            "test.html|1",
            "test.html|2",
            "sample.html|1",
            "test/folder.html|1",
        ];
        for line in expected {
            let (name, count) = line.split_once('|').expect("separator before the count");
            assert_eq!(site.line(), format!("{name}|127.0.0.1|{port}|{count}"));
        }
    }

    #[test]
    fn file_response_has_content_type_and_last_modified() {
        let site = sample_site();
        let mut client = site.client();
        for (path, media_type) in [
            ("/", "text/html; charset=utf-8"),
            ("/style.css", "text/css; charset=utf-8"),
            ("/test-page.js", "text/javascript; charset=utf-8"),
            ("/favicon.svg", "image/svg+xml"),
            ("/images/harbour.webp", "image/webp"),
        ] {
            let response = client.get(path);
            assert_eq!(
                (response.status, response.field("Content-Type")),
                (200, Some(media_type))
            );
            assert!(
                response
                    .field("Last-Modified")
                    .is_some_and(|date| date.ends_with(" GMT"))
            );
        }
    }
}

mod multi_thread_web_server {
    use super::*;

    #[test]
    fn root_serves_test_page() {
        let page = sample_site().client().get("/");
        assert_eq!(page.status, 200);
        assert!(page.text().contains("HTTP Server Test Page"));
    }

    #[test]
    fn default_port_is_8000() {
        assert_eq!(tws::Config::default().port, 8000);
    }

    #[test]
    fn if_modified_since_last_modified_is_304() {
        let site = sample_site();
        let mut client = site.client();
        let date = client
            .get("/")
            .field("Last-Modified")
            .expect("Last-Modified field")
            .to_owned();
        let fields = format!("If-Modified-Since: {date}\r\n");
        let response = client.request("GET", "/", &fields);
        assert_eq!((response.status, response.content.len()), (304, 0));
    }

    #[test]
    fn malformed_request_is_400() {
        let site = sample_site();
        let mut client = site.client();
        client.send("GET\r\n\r\n");
        assert_eq!(client.response().status, 400);
        assert_eq!(site.client().get("/%00").status, 400);
    }

    /// The behaviour of the original project's client: two requests on a persistent connection, one
    /// that closes it, and no response to another request.
    #[test]
    fn request_after_connection_close_gets_no_response() {
        let site = sample_site();
        let mut client = site.client();
        for _ in 0..2 {
            let response = client.request("GET", "/", "Connection: keep-alive\r\n");
            assert_eq!(
                (response.status, response.field("Connection")),
                (200, Some("keep-alive"))
            );
        }
        let last = client.request("GET", "/", "Connection: close\r\n");
        assert_eq!(
            (last.status, last.field("Connection")),
            (200, Some("close"))
        );
        client.expect_closed();
        // A request after the close gets no response, whether or not the kernel still accepts the
        // bytes.
        let _ = client
            .stream()
            .write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        client.expect_closed_or_reset();
    }

    #[test]
    fn access_log_to_stdout_and_file_has_same_line() {
        let folder = tempfile::tempdir().expect("create temporary directory");
        let log = folder.path().join("access.log");
        let path = log.to_str().expect("valid UTF-8");
        let mut site = TwsProcess::start(project(), &["--access-log", "-", "--access-log", path]);
        assert_eq!(site.client().get("/page_one").status, 200);
        let line = site.line();
        assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
        assert!(line.contains("] \"GET /page_one HTTP/1.1\" 200 "), "{line}");
        site.signal(Signal::INT);
        assert!(site.child.wait_for_exit().success());
        let file = fs::read_to_string(&log).expect("read log");
        assert_eq!(file.trim_end(), line);
    }

    #[test]
    fn sigint_stops_server_with_exit_0() {
        let mut site = sample_site();
        assert_eq!(site.client().get("/").status, 200);
        site.signal(Signal::INT);
        assert_eq!(site.child.wait_for_exit().code(), Some(0));
        assert!(std::net::TcpStream::connect(site.address).is_err());
    }
}

mod python_http_server {
    use super::*;

    #[test]
    fn without_arguments_current_directory_is_served() {
        let folder = tempfile::tempdir().expect("create temporary directory");
        fs::write(folder.path().join("here.txt"), "here").expect("write file");
        let site = TwsProcess::start(folder.path(), &[]);
        assert_eq!(site.client().get("/here.txt").text(), "here");
    }

    #[test]
    fn folder_without_slash_redirects_to_its_index() {
        let folder = tempfile::tempdir().expect("create temporary directory");
        fs::create_dir(folder.path().join("about")).expect("create directory");
        fs::write(folder.path().join("about/index.html"), "about").expect("write file");
        let site = TwsProcess::start(folder.path(), &[]);
        let mut client = site.client();
        let redirect = client.get("/about");
        assert_eq!(
            (redirect.status, redirect.field("Location")),
            (301, Some("/about/"))
        );
        assert_eq!(client.get("/about/").text(), "about");
    }

    /// As `class Handler(BaseHTTPRequestHandler)` with `do_GET`, and one more method.
    #[test]
    fn handler_trait_dispatches_by_method() {
        struct Homepage;
        impl Handler for Homepage {
            fn handle(&self, request: &Request<'_>) -> tws::Outcome {
                match (request.method(), request.path()) {
                    (&Method::GET, "/") => Response::text("Homepage\n"),
                    (&Method::DELETE, "/") => Response::new(StatusCode::NO_CONTENT),
                    _ => Response::text("Page not found\n").with_status(StatusCode::NOT_FOUND),
                }
                .into()
            }
        }
        let server = TestServer::start(Homepage);
        let mut client = server.client();
        assert_eq!(client.get("/").text(), "Homepage\n");
        let missing = client.get("/other");
        assert_eq!(
            (missing.status, missing.text().as_str()),
            (404, "Page not found\n")
        );
        assert_eq!(client.request("DELETE", "/", "").status, 204);
    }

    #[test]
    fn router_closures_answer_get_post_and_fallback() {
        let router = Router::new()
            .get("/", |_: &Request<'_>| Response::text("Homepage\n"))
            .post("/", |request: &Request<'_>| {
                Response::text(String::from_utf8_lossy(request.content()))
            })
            .fallback(|_: &Request<'_>| {
                Response::text("Page not found\n").with_status(StatusCode::NOT_FOUND)
            });
        let server = TestServer::start(router);
        let mut client = server.client();
        assert_eq!(client.get("/").text(), "Homepage\n");
        client.send("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\necho");
        assert_eq!(client.response().text(), "echo");
        assert_eq!(client.get("/other").status, 404);
    }
}

mod a_threaded_server {
    use super::*;

    #[test]
    fn keep_alive_field_has_timeout_and_max() {
        let site = TwsProcess::start(
            project(),
            &["--keep-alive-timeout=10", "--keep-alive-max=100"],
        );
        let mut client = site.client();
        for left in (90..=100).rev() {
            let expected = format!("timeout=10, max={left}");
            assert_eq!(client.get("/").field("Keep-Alive"), Some(expected.as_str()));
        }
    }

    #[test]
    fn error_404_page_links_to_index() {
        let folder = tempfile::tempdir().expect("create temporary directory");
        for site in [sample_site(), TwsProcess::start(folder.path(), &[])] {
            let mut client = site.client();
            let page = client
                .request("GET", "/hello.html", "Accept: text/html\r\n")
                .text();
            assert!(page.contains("Error: 404"), "{page}");
            assert!(
                page.contains("Hint: visit") && page.contains("href=\"/\""),
                "{page}"
            );
        }
    }

    #[test]
    fn hundred_concurrent_clients_are_served() {
        let site = sample_site();
        let mut clients: Vec<_> = (0..100).map(|_| site.client()).collect();
        for client in &mut clients {
            client.send("GET /page_one HTTP/1.1\r\nHost: test\r\n\r\n");
        }
        for client in clients.iter_mut().rev() {
            assert_eq!(client.response().status, 200);
        }
    }
}
