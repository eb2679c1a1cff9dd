//! Benchmarks of the chunked transfer coding, in isolation.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tws::bench::{decode_chunked, encode_chunked};

fn chunked(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chunked");
    for (name, len) in [("64 B chunks", 64), ("16 KiB chunks", 16 * 1024)] {
        let content = vec![b'x'; 256 * 1024];
        let mut encoded = Vec::new();
        encode_chunked(&content, len, &mut encoded);
        let mut decoded = Vec::new();
        assert!(decode_chunked(&encoded, &mut decoded));
        assert_eq!(decoded, content);

        group.throughput(Throughput::Bytes(content.len() as u64));
        group.bench_function(format!("decode {name}"), |bencher| {
            bencher.iter(|| {
                decoded.clear();
                decode_chunked(std::hint::black_box(&encoded), &mut decoded)
            });
        });
        group.bench_function(format!("encode {name}"), |bencher| {
            bencher.iter(|| {
                encoded.clear();
                encode_chunked(std::hint::black_box(&content), len, &mut encoded);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, chunked);
criterion_main!(benches);
