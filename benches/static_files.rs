//! Files without a socket: a built request in, the response described, nothing sent.

use std::time::{Duration, SystemTime};

use criterion::{Criterion, criterion_group, criterion_main};
use tws::{Handler, Outcome, Request, Response, StaticFiles, StatusCode};

/// The reply of a file that is in memory: nobody else has to make it.
fn answer(files: &StaticFiles, request: &Request<'_>) -> Response {
    match files.handle(request) {
        Outcome::Ready(response) => response,
        _ => panic!("a hot file took patience"),
    }
}

fn static_files(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("1K.png");
    std::fs::write(&path, vec![b'x'; 1024]).expect("a file");
    // Entity tags of files that may still change are weak, and nothing is a range of them.
    let file = std::fs::File::open(&path).expect("the file");
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_577_836_800);
    file.set_modified(long_ago).expect("a time");
    let files = StaticFiles::new(folder.path()).expect("the folder");
    // The first answer may be made on another thread.
    let first = files.handle(&Request::get("/1K.png")).wait();
    let tag = first.headers().get("ETag").expect("a tag");
    let tag = tag.to_str().expect("text").to_owned();

    let requests = [
        ("hot", Request::get("/1K.png"), StatusCode::OK),
        ("missing", Request::get("/none.png"), StatusCode::NOT_FOUND),
        (
            "not modified",
            Request::get("/1K.png").with_header("If-None-Match", &tag),
            StatusCode::NOT_MODIFIED,
        ),
        (
            "range",
            Request::get("/1K.png").with_header("Range", "bytes=256-511"),
            StatusCode::PARTIAL_CONTENT,
        ),
    ];
    let mut group = criterion.benchmark_group("static files");
    for (name, request, status) in &requests {
        files.handle(request).wait();
        assert_eq!(answer(&files, request).status(), *status, "{name}");
        group.bench_function(*name, |bencher| {
            // Dropping a response is part of sending it.
            bencher.iter(|| answer(&files, std::hint::black_box(request)));
        });
    }
    group.finish();
}

criterion_group!(benches, static_files);
criterion_main!(benches);
