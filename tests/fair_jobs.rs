//! Tests of the queues of helper threads: short jobs beside long ones, clients beside each other, and
//! jobs whose clients have disconnected.

use std::fs;
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tws::site::{Listing, Site};
use tws::{DiskJob, Outcome, Request, Response, Router, StaticFiles};

use crate::support::{Client, TestServer, eventually, log};

/// Returns a site that lists its folders.
fn listed(folder: &Path) -> StaticFiles {
    let mut site = Site::default();
    site.listing = Listing::On;
    StaticFiles::with_site(folder, &site).expect("open site root")
}

/// Jobs that tell when they begin, and run until the test releases them, one by one.
struct BlockingJobs {
    begun: Receiver<()>,
    release: Sender<()>,
}

impl BlockingJobs {
    /// Returns the jobs, and a closure that returns one of them.
    fn new() -> (
        Self,
        impl Fn() -> Box<dyn FnOnce() -> Response + Send> + Send + Sync,
    ) {
        let (begin, begun) = mpsc::channel();
        let (release, released) = mpsc::channel();
        let begin = Mutex::new(begin);
        let released = Arc::new(Mutex::new(released));
        let job = move || -> Box<dyn FnOnce() -> Response + Send> {
            let begin = begin.lock().expect("lock is not poisoned").clone();
            let released = Arc::clone(&released);
            Box::new(move || {
                let _ = begin.send(());
                let _ = released.lock().expect("lock is not poisoned").recv();
                Response::text("blocked")
            })
        };
        (Self { begun, release }, job)
    }

    fn wait_until_begun(&self) {
        let begun = self.begun.recv_timeout(crate::support::client::TIMEOUT);
        begun.expect("a job begins");
    }

    fn release(&self) {
        self.release.send(()).expect("the server exists");
    }
}

/// A server of a folder with one event loop and one thread for long jobs. `/block` is a long job of the
/// folder's disk that blocks.
fn server(folder: &Path) -> (TestServer, BlockingJobs) {
    let (jobs, job) = BlockingJobs::new();
    let device = fs::metadata(folder).expect("read metadata").dev();
    let router = Router::new()
        .get("/block", move |_: &Request<'_>| {
            Outcome::BlockingOnDisk(DiskJob::long(device, job()))
        })
        .fallback(listed(folder));
    let server = TestServer::configured(router, |config| {
        config.workers = Some(NonZeroUsize::MIN);
        config.helpers = NonZeroUsize::MIN;
    });
    (server, jobs)
}

/// Sends a request and waits until its handler was called.
fn send(server: &TestServer, client: &mut Client, path: &str) {
    let before = server.handle.stats().requests;
    client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
    eventually!(|| server.handle.stats().requests > before);
}

/// Reads the response with a listing.
fn listing(client: &mut Client) -> String {
    assert_eq!(client.head().status, 200);
    String::from_utf8(client.chunks()).expect("valid UTF-8")
}

/// Resets a connection.
fn reset(client: Client) {
    let socket = socket2::SockRef::from(client.stream());
    let linger = socket.set_linger(Some(Duration::ZERO));
    linger.expect("set linger time");
    drop(client);
}

#[test]
fn lookups_do_not_wait_for_listings() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    fs::create_dir(folder.path().join("big")).expect("create directory");
    fs::write(folder.path().join("file"), "file").expect("write file");
    let (server, jobs) = server(folder.path());
    send(&server, &mut server.client(), "/block");
    jobs.wait_until_begun();
    let mut listings: Vec<_> = (0..60).map(|_| server.client()).collect();
    for client in &mut listings {
        send(&server, client, "/big/");
    }
    drop(listings.split_off(30));
    let mut other = server.client();
    assert_eq!(other.get("/none").status, 404);
    assert_eq!(other.get("/no/such/folder/").status, 404);
    assert_eq!(other.get("/file").text(), "file");
    // It needs no entries.
    assert_eq!(other.request("HEAD", "/big/", "").status, 200);
    jobs.release();
    for client in &mut listings {
        listing(client);
    }
}

/// The requests are queued in this order, and the second job that blocks separates two readings.
#[test]
fn waiting_listings_share_one_reading_and_later_ones_see_changes() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    fs::write(folder.path().join("first"), "").expect("write file");
    let (server, jobs) = server(folder.path());
    let [
        mut warm,
        mut block,
        mut one,
        mut next_block,
        mut two,
        mut json,
        mut late,
    ] = [(); 7].map(|()| server.client());
    send(&server, &mut warm, "/");
    assert!(listing(&mut warm).contains("first"));
    send(&server, &mut block, "/block");
    jobs.wait_until_begun();
    send(&server, &mut one, "/");
    send(&server, &mut next_block, "/block");
    send(&server, &mut two, "/?sort=size");
    send(&server, &mut json, "/?json");
    jobs.release();
    assert!(listing(&mut one).contains("first"));
    jobs.wait_until_begun();
    fs::write(folder.path().join("second"), "").expect("write file");
    send(&server, &mut late, "/");
    jobs.release();
    for client in [&mut two, &mut json] {
        let text = listing(client);
        assert!(text.contains("first") && !text.contains("second"), "{text}");
    }
    let text = listing(&mut late);
    assert!(text.contains("first") && text.contains("second"), "{text}");
}

/// Returns a server with these numbers of threads and of waiting jobs. `/block` is a job that blocks,
/// `/count` one that is counted.
fn job_server(threads: usize, waiting: usize) -> (TestServer, BlockingJobs, Arc<AtomicUsize>) {
    let (jobs, job) = BlockingJobs::new();
    let count = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&count);
    let router = Router::new()
        .get("/block", move |_: &Request<'_>| Outcome::blocking(job()))
        .get("/count", move |_: &Request<'_>| {
            let counter = Arc::clone(&counter);
            Outcome::blocking(move || {
                counter.fetch_add(1, Ordering::Relaxed);
                Response::text("counted")
            })
        });
    let server = TestServer::configured(router, |config| {
        config.workers = Some(NonZeroUsize::MIN);
        config.helpers = NonZeroUsize::new(threads).expect("nonzero");
        config.limits.max_waiting_jobs = waiting;
    });
    (server, jobs, count)
}

const OTHER: [u8; 4] = [127, 0, 0, 2];

#[test]
fn client_with_many_jobs_leaves_threads_to_others() {
    let (server, jobs, _) = job_server(2, 100);
    let mut clients: Vec<_> = (0..20).map(|_| server.client()).collect();
    for client in &mut clients {
        send(&server, client, "/block");
    }
    jobs.wait_until_begun();
    let mut other = Client::connect_from(OTHER, server.address);
    assert_eq!(other.get("/count").text(), "counted");
    for client in &mut clients {
        jobs.release();
        assert_eq!(client.response().status, 200);
    }
}

#[test]
fn full_queue_rejects_the_client_with_the_most_jobs() {
    let (server, jobs, _) = job_server(1, 3);
    let mut clients: Vec<_> = (0..4).map(|_| server.client()).collect();
    for client in &mut clients {
        send(&server, client, "/block");
    }
    jobs.wait_until_begun();
    let mut other = Client::connect_from(OTHER, server.address);
    send(&server, &mut other, "/count");
    let rejected = clients.pop().expect("a client").response();
    assert_eq!(
        (rejected.status, rejected.field("Retry-After")),
        (503, Some("1"))
    );
    jobs.release();
    assert_eq!(clients[0].response().status, 200);
    // It is next, although two jobs were there before.
    assert_eq!(other.response().text(), "counted");
    for client in &mut clients[1..] {
        jobs.release();
        assert_eq!(client.response().status, 200);
    }
}

#[test]
fn job_of_a_disconnected_client_is_not_begun() {
    let (server, jobs, count) = job_server(1, 100);
    let mut blocked = server.client();
    send(&server, &mut blocked, "/block");
    jobs.wait_until_begun();
    for _ in 0..10 {
        let mut client = server.client();
        send(&server, &mut client, "/count");
        reset(client);
    }
    eventually!(|| server.handle.connections() == 1);
    let mut last = server.client();
    send(&server, &mut last, "/count");
    jobs.release();
    assert_eq!(blocked.response().status, 200);
    assert_eq!(last.response().status, 200);
    assert_eq!(count.load(Ordering::Relaxed), 1);
}

#[test]
fn missing_root_is_404_and_logged_once() {
    log::keep_errors();
    let folder = tempfile::tempdir().expect("create temporary directory");
    let root = folder.path().join("missing-root-1");
    fs::create_dir(&root).expect("create directory");
    let server = TestServer::start(listed(&root));
    fs::remove_dir(&root).expect("remove directory");
    let mut client = server.client();
    let logged = || log::errors_with("missing-root-1");
    eventually!(|| {
        for path in ["/?missing-root-1", "/file?missing-root-1"] {
            assert_eq!(client.get(path).status, 404);
        }
        !logged().is_empty()
    });
    for _ in 0..100 {
        assert_eq!(client.get("/?missing-root-1").status, 404);
    }
    let logged = logged();
    assert_eq!(logged.len(), 1, "{logged:?}");
    fs::create_dir(&root).expect("create directory");
    fs::write(root.join("file"), "again").expect("write file");
    eventually!(|| client.get("/file").status == 200);
}
