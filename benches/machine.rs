//! Benchmarks of a round trip through the protocol machine: request bytes in, response bytes out, no
//! socket.

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tws::bench::BenchConnection;
use tws::{Body, Response, StatusCode};

const REQUEST: &[u8] = b"GET /index.html HTTP/1.1\r\nHost: localhost:8000\r\n\r\n";

fn response(content: Bytes) -> Response {
    Response::new(StatusCode::OK)
        .with_header("Content-Type", "text/plain; charset=utf-8")
        .with_header("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")
        .with_header("ETag", "\"17a2b3c4d5e6f708-2a00\"")
        .with_header("Accept-Ranges", "bytes")
        .with_body(Body::Bytes(content))
}

fn machine(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("machine");
    for (name, depth, len) in [
        ("1 KiB", 1, 1024),
        ("16 KiB", 1, 16 * 1024),
        ("1 KiB x16", 16, 1024),
    ] {
        let input = REQUEST.repeat(depth);
        let content = Bytes::from(vec![b'x'; len]);
        let respond = || response(content.clone());
        group.throughput(Throughput::Elements(depth as u64));
        group.bench_function(name, |bencher| {
            let mut exchange = BenchConnection::default();
            let sent = exchange.round_trip(&input, respond);
            assert!(sent > depth * len);
            bencher.iter(|| exchange.round_trip(std::hint::black_box(&input), respond));
        });
    }
    group.finish();
}

criterion_group!(benches, machine);
criterion_main!(benches);
