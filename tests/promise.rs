//! The mission's promise: nothing slow slows anybody else down.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use tws::StaticFiles;

use crate::support::{TestServer, pattern};

#[test]
fn small_requests_are_answered_beside_stalled_and_greedy_downloads() {
    const STALLED: usize = 50;
    const GREEDY: usize = 4;
    const LARGE: usize = 32 * 1024 * 1024;
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("small.txt"), "small").expect("a file");
    let content = pattern(LARGE);
    fs::write(folder.path().join("large.bin"), &content).expect("a file");
    let files = StaticFiles::new(folder.path()).expect("a folder");
    // One event loop: everybody shares it.
    let server = TestServer::configured(files, |config| {
        config.workers = Some(1.try_into().expect("1"));
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

    let read = Arc::new(AtomicU64::new(0));
    let expected = Arc::new(content);
    let greedy: Vec<_> = (0..GREEDY)
        .map(|_| {
            let mut client = server.client();
            let (read, expected) = (Arc::clone(&read), Arc::clone(&expected));
            thread::spawn(move || {
                for _ in 0..4 {
                    let reply = client.get("/large.bin");
                    assert!(reply.content == *expected, "every byte");
                    read.fetch_add(reply.content.len() as u64, Ordering::Relaxed);
                }
            })
        })
        .collect();

    // While they are at it, and afterwards.
    let mut client = server.client();
    for _ in 0..500 {
        let reply = client.get("/small.txt");
        assert_eq!((reply.status, reply.text().as_str()), (200, "small"));
    }
    for thread in greedy {
        thread.join().expect("all bytes");
    }
    assert_eq!(read.load(Ordering::Relaxed), (4 * GREEDY * LARGE) as u64);
    assert_eq!(client.get("/small.txt").text(), "small");
    // Those who stalled have lost nothing.
    for client in stalled.iter_mut().take(3) {
        assert!(client.read(LARGE) == *expected, "every byte");
    }
}
