//! Tests of disks that hang and disks that fail: only requests that need the disk wait for it.
//!
//! A FUSE file system stands for the disk, so the tests need root and are ignored by default.

use std::fs;

use serde_json::Value;
use tempfile::TempDir;

use crate::support::disk::{FileBehavior, FuseDisk};
use crate::support::h2::H2Client;
use crate::support::{Client, TwsProcess, eventually, pattern};

/// Large enough to be sent in many pieces.
const LARGE: usize = 4 << 20;

/// A multiple of the size of one read.
const FAILS_FROM: usize = 1 << 20;

/// A server of a folder with a faulty disk mounted in it. The disk is dropped first: a process that
/// waits for it cannot be killed.
struct DiskServer {
    disk: FuseDisk,
    server: TwsProcess,
    _site: TempDir,
}

impl DiskServer {
    /// Mounts the disk and serves the folder, or the disk itself.
    fn start(root: ServedRoot, args: &[&str]) -> Self {
        let site = tempfile::tempdir().expect("create temporary directory");
        fs::write(site.path().join("small.txt"), "small").expect("write file");
        fs::write(site.path().join("large"), pattern(LARGE)).expect("write file");
        fs::create_dir(site.path().join("list")).expect("create directory");
        let mount = site.path().join("disk");
        fs::create_dir(&mount).expect("create directory");
        let disk = FuseDisk::mount(
            &mount,
            &[
                ("small.txt", b"small".to_vec(), FileBehavior::Sound),
                ("large", pattern(LARGE), FileBehavior::Sound),
                ("hangs", pattern(LARGE), FileBehavior::HangsInReads),
                ("hangs.txt", pattern(1000), FileBehavior::HangsInReads),
                ("opens.txt", pattern(1000), FileBehavior::HangsInOpens),
                ("forgotten", pattern(LARGE), FileBehavior::Forgotten),
                (
                    "fails",
                    pattern(LARGE),
                    FileBehavior::FailsFrom(FAILS_FROM as u64),
                ),
                ("fails.first", pattern(LARGE), FileBehavior::FailsFrom(0)),
                ("fails.txt", pattern(1000), FileBehavior::FailsFrom(0)),
            ],
        );
        let root = match root {
            ServedRoot::Folder => site.path(),
            ServedRoot::Disk => &mount,
        };
        let server = TwsProcess::start(root, args);
        Self {
            disk,
            server,
            _site: site,
        }
    }

    /// Connects `count` clients that send a request for `path`.
    fn send_requests(&self, path: &str, count: usize) -> Vec<Client> {
        let clients = (0..count).map(|_| {
            let mut client = self.server.client();
            client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
            client
        });
        clients.collect()
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServedRoot {
    Folder,
    Disk,
}

impl ServedRoot {
    fn path_on_disk(self, name: &str) -> String {
        match self {
            Self::Folder => format!("/disk/{name}"),
            Self::Disk => format!("/{name}"),
        }
    }
}

/// More than there are helper threads of any kind.
const MANY: usize = 32;

#[test]
#[ignore = "needs root and /dev/fuse"]
fn hanging_disk_does_not_block_other_requests() {
    for root in [ServedRoot::Folder, ServedRoot::Disk] {
        for (name, len) in [("hangs", LARGE), ("hangs.txt", 1000), ("opens.txt", 1000)] {
            let args = ["--listing=on", "--access-log=off", "--workers=1"];
            let site = DiskServer::start(root, &args);
            let case = format!("{root:?} {name}");
            let (content, large) = (pattern(len), pattern(LARGE));
            let mut kept = site.server.client();
            assert_eq!(
                kept.get(&root.path_on_disk("small.txt")).text(),
                "small",
                "{case}"
            );
            let mut waiting = site.send_requests(&root.path_on_disk(name), MANY);
            eventually!(|| site.disk.waiting() > 0);
            // There is one event loop, and it answers requests that need no disk.
            for client in [&mut kept, &mut site.server.client()] {
                assert_eq!(client.request("OPTIONS", "/", "").status, 204, "{case}");
                assert_eq!(client.get("/%00").status, 400, "{case}");
            }
            // Requests that need another disk: cached and uncached, large, and with a helper
            // thread.
            if root == ServedRoot::Folder {
                let mut other = site.server.client();
                assert_eq!(other.get("/small.txt").text(), "small", "{case}");
                assert_eq!(other.get("/none/of/it").status, 404, "{case}");
                assert_eq!(other.request("HEAD", "/large", "").status, 200, "{case}");
                assert!(other.get("/large").content == large, "{case}");
                other.send("GET /list/ HTTP/1.1\r\nHost: test\r\n\r\n");
                assert_eq!(other.head().status, 200, "{case}");
                assert!(!other.chunks().is_empty(), "{case}");
            }
            // File contents are read by separate threads, so opening other files on this disk
            // works.
            if name == "hangs" {
                let mut same = site.server.client();
                assert_eq!(
                    same.get(&root.path_on_disk("small.txt")).text(),
                    "small",
                    "{case}"
                );
                let head = same.request("HEAD", &root.path_on_disk("hangs"), "");
                assert_eq!(head.length(), Some(LARGE as u64), "{case}");
                assert_eq!(same.get(&root.path_on_disk("none")).status, 404, "{case}");
            }
            site.disk.release();
            for client in &mut waiting {
                let response = client.response();
                assert_eq!(response.status, 200, "{case}");
                assert!(response.content == content, "{case}");
                // The connection is as usable as any other.
                assert_eq!(
                    client.get(&root.path_on_disk("small.txt")).text(),
                    "small",
                    "{case}"
                );
            }
        }
    }
}

/// Bytes read by a helper thread are sent as they are: reading again, after the kernel has evicted
/// them from the page cache, would block.
#[test]
#[ignore = "needs root and /dev/fuse"]
fn cold_file_is_never_read_by_event_loop() {
    for root in [ServedRoot::Folder, ServedRoot::Disk] {
        let site = DiskServer::start(root, &["--access-log=off", "--workers=1"]);
        let path = root.path_on_disk("forgotten");
        let mut client = site.server.client();
        assert!(client.get(&path).content == pattern(LARGE), "{root:?}");
        let field = format!("Range: bytes={}-\r\n", LARGE - 1000);
        let end = client.request("GET", &path, &field);
        assert!(end.content == pattern(LARGE)[LARGE - 1000..], "{root:?}");
        // A client that pauses, so that the bytes read are not sent at once.
        client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        client.head();
        let halves = [LARGE / 2, LARGE - LARGE / 2].map(|len| client.read(len));
        assert!(halves.concat() == pattern(LARGE), "{root:?}");
        let requesting_threads = site.disk.requesting_threads();
        assert!(
            requesting_threads.contains("helper"),
            "{root:?} {requesting_threads:?}"
        );
        let waits = requesting_threads
            .iter()
            .find(|name| name.starts_with("worker"));
        assert!(waits.is_none(), "{root:?} {requesting_threads:?}");
    }
}

/// Reading the error page of a 404 hangs. The page is looked up in the course of answering another
/// path.
#[test]
#[ignore = "needs root and /dev/fuse"]
fn hanging_error_page_does_not_block_other_requests() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let rules = folder.path().join("rules.toml");
    fs::write(&rules, "[error-pages]\n404 = \"disk/hangs.txt\"\n").expect("write file");
    let config = rules.to_str().expect("valid UTF-8");
    let args = ["--config", config, "--access-log=off", "--workers=1"];
    let site = DiskServer::start(ServedRoot::Folder, &args);
    let mut waiting = site.send_requests("/none", 1);
    eventually!(|| site.disk.waiting() > 0);
    // Meanwhile it is cached that the file does not exist, which needs no disk.
    waiting.extend(site.send_requests("/none", 1));
    let mut other = site.server.client();
    assert_eq!(other.request("OPTIONS", "/", "").status, 204);
    site.disk.release();
    for mut client in waiting {
        let response = client.response();
        assert_eq!(response.status, 404);
        assert!(response.content == pattern(1000));
    }
}

#[test]
#[ignore = "needs root and /dev/fuse"]
fn failing_disk_is_500_before_head_and_abort_after() {
    for root in [ServedRoot::Folder, ServedRoot::Disk] {
        let mut site = DiskServer::start(root, &["--log-format=json", "--workers=1"]);
        let mut client = site.server.client();
        for name in ["fails.first", "fails.txt"] {
            let response = client.get(&root.path_on_disk(name));
            assert_eq!(response.status, 500, "{root:?} {name}");
            let line: Value = serde_json::from_str(&site.server.line()).expect("parse JSON");
            let logged = (&line["status"], &line["outcome"]);
            assert_eq!(logged, (&500.into(), &"complete".into()), "{root:?} {name}");
            client = site.server.client();
        }
        // The head with the length is sent, and the body ends early: it is not padded.
        let mut client = site.send_requests(&root.path_on_disk("fails"), 1).remove(0);
        let head = client.head();
        assert_eq!(
            (head.status, head.length()),
            (200, Some(LARGE as u64)),
            "{root:?}"
        );
        let content = client.rest().expect("read to end of connection");
        assert!(
            content == pattern(LARGE)[..FAILS_FROM],
            "{root:?} {}",
            content.len()
        );
        let line: Value = serde_json::from_str(&site.server.line()).expect("parse JSON");
        let logged = (&line["status"], &line["outcome"], &line["bytes"]);
        let expected = (&200.into(), &"aborted".into(), &FAILS_FROM.into());
        assert_eq!(logged, expected, "{root:?}");
        // Other files on that disk are site.
        let mut client = site.server.client();
        assert!(
            client.get(&root.path_on_disk("large")).content == pattern(LARGE),
            "{root:?}"
        );
    }
}

/// Over HTTP/2 files are read into frames, from the page cache or by the threads of the disk.
#[test]
#[ignore = "needs root and /dev/fuse"]
fn streams_of_one_connection_do_not_wait_for_each_others_disk() {
    let args = ["--http2=all", "--access-log=off", "--workers=1"];
    let site = DiskServer::start(ServedRoot::Folder, &args);
    let (content, large) = (pattern(1000), pattern(LARGE));
    let mut client = H2Client::connect(site.server.address);
    let hanging = ["/disk/hangs", "/disk/hangs.txt", "/disk/opens.txt"]
        .map(|path| client.request("GET", path, &[]));
    for (path, expected) in [("/large", &large), ("/disk/large", &large)] {
        let response = client.get(path);
        assert!(response.content == *expected, "{path}");
    }
    let response = client.get("/disk/fails");
    assert!(response.reset.is_some(), "{:?}", response.fields);
    assert!(large[..FAILS_FROM].starts_with(&response.content));
    assert_eq!(client.get("/disk/fails.first").status(), 500);
    assert_eq!(client.get("/small.txt").text(), "small");
    site.disk.release();
    let expected = [&large, &content, &content];
    for (stream, expected) in hanging.into_iter().zip(expected) {
        assert!(client.response(stream).content == *expected);
    }
}
