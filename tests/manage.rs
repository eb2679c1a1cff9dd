//! Tests of changes of the tree: creating folders, renaming, deleting, and folders above uploaded files.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::Value;
use tempfile::TempDir;
use tws::site::{Deletion, Listing, Manage, Site, Upload};
use tws::{Router, StaticFiles};

use crate::support::{HttpResponse, TestServer, TwsProcess, eventually};

/// Returns a folder with the folder `root` in it, and files outside of that.
fn tree() -> TempDir {
    let outside = tempfile::tempdir().expect("create temporary directory");
    let at = |name: &str| outside.path().join(name);
    fs::create_dir_all(at("root/sub/deep")).expect("create directory");
    fs::create_dir_all(at("root/.hidden")).expect("create directory");
    fs::create_dir_all(at("elsewhere")).expect("create directory");
    fs::write(at("secret"), "secret").expect("write file");
    fs::write(at("elsewhere/kept"), "kept").expect("write file");
    fs::write(at("root/a.txt"), "a").expect("write file");
    fs::write(at("root/b.txt"), "b").expect("write file");
    fs::write(at("root/sub/c.txt"), "c").expect("write file");
    fs::write(at("root/sub/deep/d.txt"), "d").expect("write file");
    fs::write(at("root/.tws.toml"), "").expect("write file");
    symlink("../secret", at("root/out")).expect("create symlink");
    symlink("../elsewhere", at("root/sub/away")).expect("create symlink");
    symlink("a.txt", at("root/link")).expect("create symlink");
    outside
}

fn serve(outside: &TempDir, change: impl FnOnce(&mut Site)) -> TestServer {
    let mut site = Site::default();
    site.listing = Listing::On;
    site.manage = Some(Manage::default());
    change(&mut site);
    let files = StaticFiles::with_site(outside.path().join("root"), &site).expect("open site root");
    TestServer::start(files)
}

fn permanent(site: &mut Site) {
    if let Some(manage) = &mut site.manage {
        manage.delete = Deletion::Permanent;
    }
}

fn request(server: &TestServer, method: &str, path: &str, fields: &str) -> HttpResponse {
    server.client().request(method, path, fields)
}

fn rename(server: &TestServer, from: &str, to: &str) -> HttpResponse {
    request(server, "MOVE", from, &format!("Destination: {to}\r\n"))
}

/// Returns the paths of all files and links beneath a folder, relative to it.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).expect("read directory") {
        let entry = entry.expect("read directory entry");
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().expect("a type").is_dir() {
            let inner = files(&entry.path());
            found.extend(inner.iter().map(|inner| format!("{name}/{inner}")));
        } else {
            found.push(name);
        }
    }
    found.sort_unstable();
    found
}

#[test]
fn folder_is_created_where_its_name_is_free() {
    let outside = tree();
    let server = serve(&outside, |_| {});
    let created = request(&server, "MKCOL", "/sub/new%20%C3%B1/", "");
    assert_eq!(created.status, 201, "{}", created.text());
    assert_eq!(created.field("Location"), Some("/sub/new%20%C3%B1/"));
    assert!(outside.path().join("root/sub/new ñ").is_dir());
    for (path, status) in [
        ("/sub/new%20%C3%B1/", 409),
        ("/a.txt", 409),
        ("/none/x/", 409),
        ("/.dot/", 403),
        ("/sub/.tws.toml", 403),
        ("/.tws-trash/x", 403),
        ("/out/x/", 409),
        ("/sub/away/x/", 409),
        ("/", 403),
        ("/x%00", 400),
    ] {
        let refused = request(&server, "MKCOL", path, "Accept: application/json\r\n");
        assert_eq!(refused.status, status, "{path}");
        if status != 400 {
            let error: Value = serde_json::from_str(&refused.text()).expect("JSON");
            assert_eq!(error["status"], status, "{path}");
            assert!(error["explanation"].is_string(), "{path}");
        }
    }
    assert_eq!(files(&outside.path().join("elsewhere")), ["kept"]);
}

#[test]
fn folder_with_a_body_is_415() {
    let outside = tree();
    let server = serve(&outside, |_| {});
    for body in [
        "Content-Length: 1\r\n\r\nx",
        "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
    ] {
        let mut client = server.client();
        client.send(format!("MKCOL /new/ HTTP/1.1\r\nHost: test\r\n{body}"));
        assert_eq!(client.response().status, 415, "{body}");
        assert!(!outside.path().join("root/new").exists());
    }
}

#[test]
fn file_and_folder_are_renamed_and_nothing_is_replaced() {
    let outside = tree();
    let server = serve(&outside, |_| {});
    assert_eq!(server.client().get("/new.txt").status, 404);
    let renamed = rename(&server, "/a.txt", "/new.txt");
    assert_eq!(renamed.status, 201, "{}", renamed.text());
    assert_eq!(renamed.field("Location"), Some("/new.txt"));
    assert_eq!(server.client().get("/new.txt").text(), "a");
    eventually!(|| server.client().get("/a.txt").status == 404);
    let url = format!("http://test/moved%20{}", "x");
    assert_eq!(rename(&server, "/sub/", &url).status, 201);
    assert_eq!(server.client().get("/moved%20x/deep/d.txt").text(), "d");
    for (from, to, status) in [
        ("/none", "/x", 404),
        ("/new.txt", "/b.txt", 412),
        ("/new.txt", "/new.txt", 409),
        ("/moved%20x", "/moved%20x/deep/y", 409),
        ("/new.txt", "/none/x", 409),
        ("/new.txt", "/.hidden/x", 403),
        ("/.hidden", "/x", 404),
        ("/.tws.toml", "/x", 404),
        ("/out", "/x", 404),
        ("/new.txt", "/../x", 400),
        ("/new.txt", "http://other.test/x", 502),
        ("/new.txt", "x", 400),
        ("/new.txt", "/x?y", 400),
        ("/new.txt", "//test/x", 400),
        ("/", "/x", 403),
    ] {
        let response = rename(&server, from, to);
        assert_eq!(
            response.status,
            status,
            "{from} to {to}: {}",
            response.text()
        );
    }
    assert_eq!(request(&server, "MOVE", "/b.txt", "").status, 400);
    assert!(!outside.path().join("x").exists());
}

#[test]
fn deleted_entries_are_in_the_trash_and_never_served() {
    let outside = tree();
    let server = serve(&outside, |site| {
        site.hidden = true;
        site.upload = Some(Upload::default());
    });
    for path in ["/a.txt", "/sub/deep/", "/sub/c.txt", "/sub/away"] {
        // A link out of the root does not exist for clients.
        let expected = if path == "/sub/away" { 404 } else { 204 };
        let response = request(&server, "DELETE", path, "");
        assert_eq!(response.status, expected, "{path}: {}", response.text());
        eventually!(|| server.client().get(path).status == 404);
    }
    let trash = outside.path().join("root/.tws-trash");
    let mut kept: Vec<_> = files(&trash)
        .iter()
        .map(|path| {
            path.split_once('/')
                .expect("a folder of its own")
                .1
                .to_owned()
        })
        .collect();
    kept.sort_unstable();
    assert_eq!(kept, ["a.txt", "sub/c.txt", "sub/deep/d.txt"]);
    let inside = format!("/.tws-trash/{}", files(&trash)[0].replace(' ', "%20"));
    for path in ["/.tws-trash/", "/.tws-trash", "/.TWS-trash/", &inside] {
        assert_eq!(server.client().get(path).status, 404, "{path}");
        assert_eq!(request(&server, "DELETE", path, "").status, 404, "{path}");
    }
    let upload = "Content-Length: 0\r\n";
    assert_eq!(request(&server, "PUT", "/.tws-trash/x", upload).status, 403);
    let mut client = server.client();
    client.send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
    client.head();
    let page = String::from_utf8(client.chunks()).expect("UTF-8");
    assert!(
        page.contains(".hidden") && !page.contains(".tws-trash"),
        "{page}"
    );
}

/// Certificate authorities look there for what only the operator can write.
#[test]
fn well_known_is_not_changed() {
    let outside = tree();
    let at = |name: &str| outside.path().join("root").join(name);
    for folder in [".well-known", "sub/.well-known"] {
        fs::create_dir(at(folder)).expect("create folder");
        fs::write(at(folder).join("security.txt"), "x").expect("write file");
    }
    let server = serve(&outside, |site| {
        site.hidden = true;
        let mut upload = Upload::default();
        upload.overwrite = true;
        upload.parents = true;
        site.upload = Some(upload);
    });
    let before = files(&at(""));
    let empty = "Content-Length: 0\r\n";
    let form = "--B\r\nContent-Disposition: form-data; name=f; filename=x\r\n\r\n\r\n--B--\r\n";
    let posted = format!(
        "Content-Type: multipart/form-data; boundary=B\r\nContent-Length: {}\r\n",
        form.len()
    );
    for (method, path, fields) in [
        ("PUT", "/.well-known/acme-challenge/token", empty),
        ("PUT", "/.well-known/security.txt", empty),
        ("PUT", "/.Well-Known/x", empty),
        ("PUT", "/sub/.well-known/x", empty),
        ("POST", "/.well-known/", &posted),
        ("MKCOL", "/.well-known/acme-challenge", ""),
        ("MOVE", "/sub", "Destination: /.well-known/sub\r\n"),
        ("MOVE", "/.well-known", "Destination: /public\r\n"),
        ("DELETE", "/.well-known/security.txt", ""),
        ("DELETE", "/.well-known/", ""),
    ] {
        let mut client = server.client();
        let content = if method == "POST" { form } else { "" };
        client.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n{content}"
        ));
        assert_eq!(client.response().status, 403, "{method} {path}");
    }
    assert_eq!(files(&at("")), before);
    assert_eq!(server.client().get("/.well-known/security.txt").text(), "x");
}

/// A folder may be the root of another host, with a trash of its own.
#[test]
fn trash_in_a_subfolder_is_never_served() {
    let outside = tree();
    let trash = outside.path().join("root/sub/.tws-trash");
    fs::create_dir(&trash).expect("create folder");
    fs::write(trash.join("x"), "x").expect("write file");
    let server = serve(&outside, |site| {
        site.hidden = true;
        site.upload = Some(Upload::default());
    });
    for path in ["/sub/.tws-trash/x", "/sub/.tws-trash/", "/sub/.Tws-trash/x"] {
        assert_eq!(server.client().get(path).status, 404, "{path}");
        assert_eq!(request(&server, "DELETE", path, "").status, 404, "{path}");
    }
    let upload = "Content-Length: 0\r\n";
    let path = "/sub/.tws-trash/y";
    assert_eq!(request(&server, "PUT", path, upload).status, 403);
    for path in ["/sub/?json", "/sub/?download=tar"] {
        let mut client = server.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        assert_eq!(client.head().status, 200, "{path}");
        let content = client.chunks();
        let content = String::from_utf8_lossy(&content);
        assert!(content.contains("c.txt"), "{path}");
        assert!(!content.contains("tws-trash"), "{path}: {content}");
    }
}

#[test]
fn permanent_deletion_leaves_nothing_and_follows_no_link() {
    let outside = tree();
    let server = serve(&outside, permanent);
    for path in ["/sub/", "/link", "/b.txt"] {
        assert_eq!(request(&server, "DELETE", path, "").status, 204, "{path}");
    }
    let root = outside.path().join("root");
    assert_eq!(files(&root), [".tws.toml", "a.txt", "out"]);
    assert_eq!(
        fs::read_dir(root.join(".tws-trash"))
            .expect("trash")
            .count(),
        0
    );
    assert_eq!(files(&outside.path().join("elsewhere")), ["kept"]);
    for (path, status) in [
        ("/none", 404),
        ("/", 403),
        ("/.hidden/", 404),
        ("/out", 404),
    ] {
        assert_eq!(
            request(&server, "DELETE", path, "").status,
            status,
            "{path}"
        );
    }
}

/// A file system without room for another folder. It is unmounted when this is dropped.
struct FullDisk(PathBuf);

impl FullDisk {
    fn mount(path: &Path) -> Self {
        let options = c"nr_inodes=6";
        mount("tws-test", path, "tmpfs", MountFlags::empty(), options).expect("mount a tmpfs");
        Self(path.to_owned())
    }
}

impl Drop for FullDisk {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

#[test]
#[ignore = "needs root"]
fn deletion_on_a_full_disk_is_507_with_a_remedy() {
    let outside = tempfile::tempdir().expect("create temporary directory");
    let root = outside.path().join("root");
    fs::create_dir(&root).expect("create directory");
    let _disk = FullDisk::mount(&root);
    fs::create_dir(root.join("sub")).expect("create directory");
    fs::write(root.join("sub/a.txt"), "a").expect("write file");
    let full = (0..).find(|name| fs::write(root.join(format!("{name}.txt")), "").is_err());
    assert!(full.is_some_and(|count| count > 0));
    let explanation = |server: &TestServer, path: &str| {
        let response = request(server, "DELETE", path, "Accept: application/json\r\n");
        let error: Value = serde_json::from_slice(&response.content).expect("JSON");
        assert_eq!(
            (response.status, &error["status"]),
            (507, &507.into()),
            "{path}"
        );
        error["explanation"].as_str().expect("a text").to_owned()
    };
    let server = serve(&outside, |_| {});
    for path in ["/0.txt", "/sub/", "/sub/a.txt"] {
        let text = explanation(&server, path);
        assert!(text.contains("--manage-delete permanent"), "{path}: {text}");
        assert!(text.contains(".tws-trash"), "{path}: {text}");
    }
    let response = request(&server, "MKCOL", "/new/", "Accept: application/json\r\n");
    assert_eq!(response.status, 507);
    // Files can be deleted permanently, and then there is room.
    let server = serve(&outside, permanent);
    assert!(!explanation(&server, "/sub/").contains("--manage-delete"));
    for path in ["/sub/a.txt", "/0.txt", "/sub/"] {
        assert_eq!(request(&server, "DELETE", path, "").status, 204, "{path}");
    }
}

#[test]
fn own_files_of_the_server_and_folders_with_them_are_not_changed() {
    let outside = tree();
    let mut site = Site::default();
    site.manage = Some(Manage::default());
    let root = outside.path().join("root");
    let own = root.join("sub/deep/d.txt");
    let files = StaticFiles::with_site(&root, &site).expect("open site root");
    let server = TestServer::start(files.hiding(&own));
    for (method, path) in [
        ("DELETE", "/sub/deep/d.txt"),
        ("DELETE", "/sub/deep/"),
        ("DELETE", "/sub/"),
        ("MOVE", "/sub"),
    ] {
        let response = request(&server, method, path, "Destination: /x\r\n");
        assert!(matches!(response.status, 403 | 404), "{method} {path}");
    }
    assert!(own.exists());
    assert_eq!(request(&server, "DELETE", "/sub/c.txt", "").status, 204);
}

#[test]
fn change_from_another_origin_or_of_another_version_is_rejected() {
    let outside = tree();
    let server = serve(&outside, |_| {});
    for fields in [
        "Origin: http://other.test\r\n",
        "Origin: null\r\n",
        "Sec-Fetch-Site: cross-site\r\n",
        "Sec-Fetch-Site: same-site\r\n",
    ] {
        for method in ["DELETE", "MKCOL", "MOVE"] {
            let fields = format!("{fields}Destination: /x\r\n");
            let path = if method == "MKCOL" { "/y" } else { "/a.txt" };
            assert_eq!(
                request(&server, method, path, &fields).status,
                403,
                "{fields}"
            );
        }
    }
    let stale = "If-Match: \"other\"\r\n";
    assert_eq!(request(&server, "DELETE", "/a.txt", stale).status, 412);
    assert_eq!(server.client().get("/a.txt").text(), "a");
    let current = server.client().get("/a.txt");
    let tag = current
        .field("ETag")
        .expect("a tag")
        .trim_start_matches("W/");
    let matching = format!("If-None-Match: {tag}\r\n");
    assert_eq!(request(&server, "DELETE", "/a.txt", &matching).status, 412);
}

/// A slash at the end is that of a folder, as for GET.
#[test]
fn path_of_a_file_with_a_slash_does_not_exist() {
    let outside = tree();
    let server = serve(&outside, permanent);
    assert_eq!(server.client().get("/a.txt/").status, 404);
    assert_eq!(request(&server, "DELETE", "/a.txt/", "").status, 404);
    for (from, to, status) in [
        ("/a.txt/", "/x", 404),
        ("/a.txt", "/x/", 409),
        ("/link/", "/x", 404),
        ("/sub/", "/x", 201),
        ("/x", "/y/", 201),
        ("/y/", "/z/", 201),
    ] {
        assert_eq!(rename(&server, from, to).status, status, "{from} to {to}");
    }
    assert_eq!(server.client().get("/a.txt").text(), "a");
    assert_eq!(request(&server, "DELETE", "/z", "").status, 204);
}

/// A folder has no entity tag, but exists (RFC 9110 §13.1).
#[test]
fn preconditions_apply_to_folders() {
    let outside = tree();
    let server = serve(&outside, |site| {
        permanent(site);
        site.upload = Some(Upload::default());
    });
    let form = "--B\r\nContent-Disposition: form-data; name=f; filename=x\r\n\r\n\r\n--B--\r\n";
    let posted = format!(
        "Content-Type: multipart/form-data; boundary=B\r\nContent-Length: {}\r\n",
        form.len()
    );
    for (method, path, fields, status) in [
        ("DELETE", "/sub/", "If-Match: \"nope\"\r\n", 412),
        ("DELETE", "/sub/", "If-None-Match: *\r\n", 412),
        ("MOVE", "/sub/", "If-Match: \"nope\"\r\n", 412),
        ("POST", "/sub/", "If-Match: \"nope\"\r\n", 412),
        ("MKCOL", "/new/", "If-Match: *\r\n", 412),
        ("MKCOL", "/new/", "If-Match: \"nope\"\r\n", 412),
        ("MKCOL", "/sub/", "If-Match: \"nope\"\r\n", 409),
        ("MKCOL", "/new/", "If-None-Match: *\r\n", 201),
        ("POST", "/sub/", "If-Match: *\r\n", 201),
        ("MOVE", "/new/", "If-Match: *\r\n", 201),
        ("DELETE", "/moved/", "If-None-Match: \"nope\"\r\n", 204),
        ("DELETE", "/sub/", "If-Match: *\r\n", 204),
    ] {
        let mut client = server.client();
        let (fields, content) = match method {
            "POST" => (format!("{posted}{fields}"), form),
            "MOVE" => (format!("Destination: /moved/\r\n{fields}"), ""),
            _ => (fields.to_owned(), ""),
        };
        client.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n{content}"
        ));
        let found = client.response().status;
        assert_eq!(found, status, "{method} {path} {fields}");
    }
}

#[test]
fn folder_is_not_renamed_beneath_itself_through_a_link() {
    let outside = tree();
    symlink("sub", outside.path().join("root/alias")).expect("create symlink");
    let server = serve(&outside, |_| {});
    for to in ["/alias/x", "/alias/deep/x"] {
        assert_eq!(rename(&server, "/sub/", to).status, 409, "{to}");
    }
    assert_eq!(server.client().get("/sub/c.txt").text(), "c");
}

#[test]
fn destination_is_on_the_site_of_the_request() {
    let outside = tree();
    let mut site = Site::default();
    site.manage = Some(Manage::default());
    let files = StaticFiles::with_site(outside.path().join("root"), &site).expect("open site root");
    let server = TestServer::start(Router::new().nest("/docs", Router::new().fallback(files)));
    for (to, status) in [
        ("/docsnew.txt", 400),
        ("/docs", 400),
        ("/docs/", 400),
        ("/new.txt", 400),
        ("/docs/../new.txt", 400),
        ("/docs/new.txt", 201),
    ] {
        assert_eq!(rename(&server, "/docs/a.txt", to).status, status, "{to}");
    }
    assert!(outside.path().join("root/new.txt").exists());
}

#[test]
fn changes_are_off_by_default() {
    let outside = tree();
    let server = serve(&outside, |site| site.manage = None);
    let options = request(&server, "OPTIONS", "/", "");
    assert!(!options.field("Allow").expect("Allow").contains("DELETE"));
    for method in ["DELETE", "MKCOL", "MOVE"] {
        let status = request(&server, method, "/a.txt", "Destination: /x\r\n").status;
        assert!(matches!(status, 405 | 501), "{method}: {status}");
    }
    let server = serve(&outside, |_| {});
    let options = request(&server, "OPTIONS", "/", "");
    assert_eq!(
        options.field("Allow"),
        Some("DELETE, GET, HEAD, MKCOL, MOVE, OPTIONS")
    );
}

#[test]
fn folders_above_an_upload_are_created_only_if_allowed() {
    let outside = tree();
    let put = |server: &TestServer, path: &str| {
        let mut client = server.client();
        client.send(format!(
            "PUT {path} HTTP/1.1\r\nHost: test\r\nContent-Length: 1\r\n\r\nx"
        ));
        client.response().status
    };
    let with = |parents: bool| {
        serve(&outside, |site| {
            let mut upload = Upload::default();
            upload.parents = parents;
            site.upload = Some(upload);
        })
    };
    assert_eq!(put(&with(false), "/new/x.txt"), 409);
    let server = with(true);
    for (path, status) in [
        ("/new/one/x.txt", 201),
        ("/sub/x.txt", 201),
        ("/link/x.txt", 409),
        ("/a.txt/x.txt", 409),
        ("/.dot/x.txt", 403),
        ("/new/.dot/x.txt", 403),
        ("/sub/away/x.txt", 409),
        ("/sub/away/new/x.txt", 409),
        ("/out/new/x.txt", 409),
    ] {
        assert_eq!(put(&server, path), status, "{path}");
    }
    assert_eq!(server.client().get("/new/one/x.txt").text(), "x");
    assert_eq!(files(&outside.path().join("elsewhere")), ["kept"]);
    // Such a folder could be created, and not be opened.
    let deep = format!("/deep/{}x.txt", "d/".repeat(2100));
    assert_eq!(put(&server, &deep), 400);
    assert!(!outside.path().join("root/deep").exists());
}

#[test]
fn upload_that_fails_creates_no_folders() {
    let outside = tree();
    let server = serve(&outside, |site| {
        let mut upload = Upload::default();
        upload.parents = true;
        site.upload = Some(upload);
    });
    let new = outside.path().join("root/new");
    let put = |fields: &str, content: &str| {
        let mut client = server.client();
        client.send(format!(
            "PUT /new/deep/x HTTP/1.1\r\nHost: test\r\n{fields}\r\n{content}"
        ));
        client
    };
    let mut client = put("Content-Length: 1\r\nIf-Match: \"q\"\r\n", "x");
    assert_eq!(client.response().status, 412);
    assert!(!new.exists());
    // The interim response shows that the upload has begun.
    let mut interrupted = put("Content-Length: 9\r\nExpect: 100-continue\r\n", "");
    assert_eq!(interrupted.head().status, 100);
    interrupted.send("half").end_input();
    interrupted.rest_or_reset();
    assert!(!new.exists());
    assert_eq!(put("Content-Length: 1\r\n", "x").response().status, 201);
    assert_eq!(server.client().get("/new/deep/x").text(), "x");
}

#[test]
fn folder_that_cannot_be_created_is_explained_without_a_remedy() {
    let outside = tree();
    for parents in [false, true] {
        let server = serve(&outside, |site| {
            let mut upload = Upload::default();
            upload.parents = parents;
            site.upload = Some(upload);
        });
        for (path, has_remedy) in [
            ("/a.txt/x", false),
            ("/sub/away/new/x", false),
            ("/new/x", true),
        ] {
            if has_remedy && parents {
                continue;
            }
            let response = request(&server, "PUT", path, "Content-Length: 0\r\n");
            assert_eq!(response.status, 409, "{path}");
            let found = response.text().contains("--upload-parents");
            assert_eq!(found, has_remedy, "{path}: {}", response.text());
        }
    }
}

/// The real program, in its sandbox.
#[test]
fn program_manages_files_and_requires_a_password_for_other_machines() {
    let outside = tree();
    let root = outside.path().join("root");
    let exposed = Command::new(env!("CARGO_BIN_EXE_tws"))
        .args(["--manage", "-b", "0.0.0.0"])
        .arg(&root)
        .output()
        .expect("run tws");
    assert_eq!(exposed.status.code(), Some(2));
    let args = [
        "--manage",
        "--upload",
        "--upload-parents",
        "--access-log=off",
        ".",
    ];
    let site = TwsProcess::start(&root, &args);
    let mut client = crate::support::Client::connect(site.address);
    let mut status = |method: &str, path: &str, fields: &str| {
        client.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n{fields}\r\n"
        ));
        let response = client.response();
        (response.status, response.text())
    };
    let to = "Destination: /new/again\r\n";
    for (method, path, fields, expected) in [
        ("MKCOL", "/new/", "", 201),
        ("MOVE", "/sub", "Destination: /new/sub\r\n", 201),
        ("MOVE", "/a.txt", to, 201),
        ("PUT", "/one/two/three", "", 201),
        ("DELETE", "/one/", "", 204),
        ("DELETE", "/new/again", "", 204),
    ] {
        let (found, text) = status(method, path, fields);
        assert_eq!(found, expected, "{method} {path}: {text}");
    }
}
