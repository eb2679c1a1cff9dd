//! Tests that stalled and greedy downloads do not delay small requests.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use tws::StaticFiles;

use crate::support::{TestServer, pattern};

#[test]
fn small_requests_beside_large_downloads_wait_bounded_bytes() {
    const STALLED: usize = 50;
    const GREEDY: usize = 4;
    const SMALL: usize = 500;
    const LARGE: usize = 32 * 1024 * 1024;
    let folder = tempfile::tempdir().expect("create temporary directory");
    fs::write(folder.path().join("small.txt"), "small").expect("write file");
    let content = pattern(LARGE);
    fs::write(folder.path().join("large.bin"), &content).expect("write file");
    let files = StaticFiles::new(folder.path()).expect("open site root");
    // One event loop, shared by all connections.
    let server = TestServer::configured(files, |config| {
        config.workers = Some(1.try_into().expect("nonzero"));
    });

    let mut stalled: Vec<_> = (0..STALLED)
        .map(|_| {
            let mut client = server.client();
            client.send("GET /large.bin HTTP/1.1\r\nHost: test\r\n\r\n");
            let head = client.head();
            assert_eq!(head.length(), Some(LARGE as u64));
            client
        })
        .collect();

    // The greedy clients read as long as the small requests take, and finish their last download.
    let small_done = Arc::new(AtomicBool::new(false));
    let read = Arc::new(AtomicU64::new(0));
    let expected = Arc::new(content);
    let greedy: Vec<_> = (0..GREEDY)
        .map(|_| {
            let mut client = server.client();
            let (read, expected) = (Arc::clone(&read), Arc::clone(&expected));
            let small_done = Arc::clone(&small_done);
            thread::spawn(move || {
                while !small_done.load(Ordering::Relaxed) {
                    client.send("GET /large.bin HTTP/1.1\r\nHost: test\r\n\r\n");
                    assert_eq!(client.head().length(), Some(LARGE as u64));
                    for expected in expected.chunks(256 * 1024) {
                        assert!(client.read(expected.len()) == expected, "every byte");
                        read.fetch_add(expected.len() as u64, Ordering::Relaxed);
                    }
                }
            })
        })
        .collect();

    // Each small request waits for a bounded number of bytes of the greedy downloads, however fast
    // they are: the test counts bytes, not seconds.
    let mut client = server.client();
    let mut moved = Vec::new();
    for _ in 0..SMALL {
        let before = read.load(Ordering::Relaxed);
        let response = client.get("/small.txt");
        assert_eq!((response.status, response.text().as_str()), (200, "small"));
        moved.push(read.load(Ordering::Relaxed) - before);
    }
    small_done.store(true, Ordering::Relaxed);
    for thread in greedy {
        thread.join().expect("thread does not panic");
    }
    moved.sort_unstable();
    let (median, total) = (moved[SMALL / 2], read.load(Ordering::Relaxed));
    assert!(total > LARGE as u64, "the downloads went on: {total}");
    assert!(
        median <= 8 * 1024 * 1024,
        "a small request waited for {median} bytes"
    );
    // The stalled downloads are complete.
    for client in stalled.iter_mut().take(3) {
        assert!(client.read(LARGE) == *expected, "every byte");
    }
}
