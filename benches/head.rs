//! Benchmarks of the request head parser, without a connection.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tws::bench::{HeadParser, parse_head};

const SMALL: &[u8] = b"GET /index.html HTTP/1.1\r\nHost: localhost:8000\r\n\r\n";

const BROWSER: &[u8] = b"GET /images/user_one.jpg?size=large HTTP/1.1\r\n\
Host: localhost:8000\r\n\
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
Accept: image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5\r\n\
Accept-Language: en-US,en;q=0.5\r\n\
Accept-Encoding: gzip, deflate, br, zstd\r\n\
Connection: keep-alive\r\n\
Referer: http://localhost:8000/page_one\r\n\
Sec-Fetch-Dest: image\r\n\
Sec-Fetch-Mode: no-cors\r\n\
Sec-Fetch-Site: same-origin\r\n\
If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
If-None-Match: \"17a2b3c4d5e6f708-2a00\"\r\n\
Priority: u=5, i\r\n\r\n";

const ENCODED: &[u8] = b"GET /a%20b/%C3%B1/../c%23d/./e HTTP/1.1\r\nHost: localhost:8000\r\n\r\n";

fn head(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("head");
    for (name, bytes) in [("small", SMALL), ("browser", BROWSER), ("encoded", ENCODED)] {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |bencher| {
            let mut parser = HeadParser::default();
            assert!(parse_head(bytes, &mut parser));
            bencher.iter(|| parse_head(std::hint::black_box(bytes), &mut parser));
        });
    }
    group.finish();
}

criterion_group!(benches, head);
criterion_main!(benches);
