//! Benchmarks of `StaticFiles` without a socket: from a request to the description of a response.

use std::time::{Duration, SystemTime};

use criterion::{Criterion, criterion_group, criterion_main};
use tws::{Handler, Outcome, Request, Response, StaticFiles, StatusCode};

/// Returns the response for a cached file, which is ready without a helper thread.
fn ready(files: &StaticFiles, request: &Request<'_>) -> Response {
    match files.handle(request) {
        Outcome::Ready(response) => response,
        _ => panic!("the response of a cached file is not ready"),
    }
}

fn static_files(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("create a temporary directory");
    let path = folder.path().join("1K.png");
    std::fs::write(&path, vec![b'x'; 1024]).expect("write the file");
    // A recently modified file has a weak entity tag, and If-Range never matches a weak one.
    let file = std::fs::File::open(&path).expect("open the file");
    let long_ago = SystemTime::UNIX_EPOCH + Duration::from_secs(1_577_836_800);
    file.set_modified(long_ago)
        .expect("set the modification time");
    let files = StaticFiles::new(folder.path()).expect("open the root");
    // The first response may need a helper thread.
    let first = files.handle(&Request::get("/1K.png")).wait();
    let tag = first.headers().get("ETag").expect("ETag");
    let tag = tag.to_str().expect("ASCII").to_owned();

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
        assert_eq!(ready(&files, request).status(), *status, "{name}");
        group.bench_function(*name, |bencher| {
            // Dropping the response is part of the cost of a request.
            bencher.iter(|| ready(&files, std::hint::black_box(request)));
        });
    }
    group.finish();
}

criterion_group!(benches, static_files);
criterion_main!(benches);
