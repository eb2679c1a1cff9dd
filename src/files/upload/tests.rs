//! Whole uploads through the handler.

use std::fs;
use std::io;
use std::path::Path;

use ::http::header::ALLOW;
use serde_json::json;
use tempfile::TempDir;

use super::policy::MAX_CONCURRENT_UPLOADS;
use super::*;
use crate::files::StaticFiles;
use crate::handler::Handler;
use crate::http::Body;
use crate::site::{Site, Size, Upload};

fn site(upload: Upload) -> (TempDir, StaticFiles) {
    let folder = tempfile::tempdir().expect("a folder");
    let site = Site {
        upload: Some(upload),
        ..Site::default()
    };
    let files = StaticFiles::with_site(folder.path(), &site).expect("a folder");
    (folder, files)
}

fn put(target: &str, content: &str) -> Request<'static> {
    Request::new(Method::PUT, target).with_content(content)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let name = |entry: io::Result<fs::DirEntry>| entry.map(|entry| entry.file_name());
    let mut names: Vec<_> = entries
        .map(|entry| {
            name(entry)
                .expect("an entry")
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    names.sort_unstable();
    names
}

#[test]
fn interrupted_content_leaves_no_file() {
    struct Broken(&'static [u8]);
    impl Read for Broken {
        fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
            match self.0.read(room)? {
                0 => Err(io::ErrorKind::ConnectionReset.into()),
                count => Ok(count),
            }
        }
    }
    let (folder, files) = site(Upload::default());
    let site = &files.hosts.default;
    let status =
        |request: &Request<'_>, content| site.store(request, Broken(content)).status().as_u16();
    assert_eq!(status(&put("/a", ""), b"half"), 400);
    let form =
        Request::post("/", "").with_header("Content-Type", "multipart/form-data; boundary=B");
    let half = b"--B\r\nContent-Disposition: form-data; filename=a\r\n\r\nhalf";
    assert_eq!(status(&form, half), 400);
    assert_eq!(names(folder.path()), [""; 0]);
}

#[test]
fn uploads_beyond_the_concurrency_limit_are_503() {
    let (_folder, files) = site(Upload::default());
    let replies: Vec<_> = (0..=MAX_CONCURRENT_UPLOADS)
        .map(|at| files.handle(&put_by(at as u8, &format!("/{at}"))))
        .collect();
    let statuses: Vec<_> = replies
        .into_iter()
        .map(|reply| reply.wait().status().as_u16())
        .collect();
    let (last, others) = statuses.split_last().expect("some");
    assert_eq!((others, *last), (&[201; MAX_CONCURRENT_UPLOADS][..], 503));
    assert_eq!(files.handle(&put("/again", "")).wait().status(), 201);
}

/// Returns an upload by one of 256 clients.
fn put_by(client: u8, target: &str) -> Request<'static> {
    put(target, "").with_client_addr(([192, 0, 2, client], 1).into())
}

#[test]
fn uploads_of_one_client_leave_room_for_others() {
    let (_folder, files) = site(Upload::default());
    let share = MAX_CONCURRENT_UPLOADS / 4;
    let held: Vec<_> = (0..share)
        .map(|at| files.handle(&put_by(1, &format!("/{at}"))))
        .collect();
    let status = |client, target| files.handle(&put_by(client, target)).wait().status();
    assert_eq!(status(1, "/more"), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(status(2, "/other"), StatusCode::CREATED);
    drop(held);
    assert_eq!(status(1, "/more"), StatusCode::CREATED);
}

#[test]
fn form_with_too_many_files_is_413() {
    let (folder, files) = site(Upload::default());
    let mut form = String::new();
    for at in 0..=MAX_FILES {
        form += &format!("--B\r\nContent-Disposition: form-data; filename={at}\r\n\r\n\r\n");
    }
    let form = Request::post("/", form + "--B--")
        .with_header("Content-Type", "multipart/form-data; boundary=B");
    assert_eq!(files.handle(&form).wait().status(), 413);
    assert_eq!(names(folder.path()).len(), MAX_FILES);
}

#[test]
fn admission_streams_or_rejects_by_the_head_alone() {
    let (_folder, files) = site(Upload {
        max: Some(Size::of_bytes(5)),
        ..Upload::default()
    });
    match files.admit(&put("/a", "")) {
        BodyPolicy::Stream { max } => assert_eq!(max, 5),
        other => panic!("{other:?}"),
    }
    for request in [
        put("/.a", ""),
        put("/", ""),
        put("/a", "").with_header("Content-Range", "bytes 0-1/2"),
        Request::post("/", ""),
    ] {
        assert!(matches!(files.admit(&request), BodyPolicy::Reject(_)));
    }
    let options = files.handle(&Request::new(Method::OPTIONS, "/")).wait();
    assert_eq!(options.headers()[ALLOW], "GET, HEAD, OPTIONS, POST, PUT");
}

#[test]
fn errors_are_json_or_text_by_accept() {
    let (_folder, files) = site(Upload::default());
    let error_body = |accept: &str| {
        let request = put("/.a", "").with_header("Accept", accept);
        match files.handle(&request).wait().take_body() {
            Body::Bytes(text) => String::from_utf8_lossy(&text).into_owned(),
            other => panic!("{other:?}"),
        }
    };
    let reason = "files with this name are not served";
    assert_eq!(error_body("*/*"), format!("403 Forbidden: {reason}\n"));
    let json: serde_json::Value =
        serde_json::from_str(&error_body("application/json")).expect("JSON");
    let expected = json!({ "status": 403, "error": "Forbidden", "explanation": reason });
    assert_eq!(json, expected);
}
