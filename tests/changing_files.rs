//! Tests that a file that changes while it is requested is served as one version, with the
//! validators of that version, and that the version is recent.
//!
//! Every version has its own modification time, in whole seconds and long past. So its entity tag
//! is strong, and its Last-Modified identifies the version and thereby the expected content.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::support::{Client, HttpResponse, TestServer, pattern, wait_until};

const CLIENTS: usize = 4;
/// Requests of each client.
const REQUESTS: usize = 2000;
/// Symbolic links to the folder within itself.
const ALIASES: usize = 64;

/// A change becomes visible within this time, under load. This does not depend on the speed of the
/// machine: a response is based on a look-up at most 10 ms older than the request.
const SEEN_WITHIN: Duration = Duration::from_millis(50);

/// The server shows the last change of a file within this time: much more than a slow machine takes,
/// and less than a server takes that has missed the change.
const LAST_CHANGE_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs `clients` to completion, and `writers` in a loop until all clients are done.
fn under_load<'a>(
    writers: Vec<Box<dyn FnMut() + Send + 'a>>,
    clients: Vec<Box<dyn FnOnce() + Send + 'a>>,
) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for mut writer in writers {
            let done = &done;
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    writer();
                    // Load, not a wait: the server and the clients run between two changes.
                    thread::yield_now();
                }
            });
        }
        let clients: Vec<_> = clients.into_iter().map(|run| scope.spawn(run)).collect();
        let ends: Vec<_> = clients
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect();
        // The writers stop even if a client has panicked.
        done.store(true, Ordering::Relaxed);
        for end in ends {
            end.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
}

/// How a file changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ChangeKind {
    /// Another file is renamed to its name.
    Renamed,
    /// In every second version the file does not exist.
    Deleted,
    /// Mostly overwritten piece by piece; sometimes truncated and rewritten, sometimes shortened.
    /// (Truncation is slow in file systems, and more changes produce more races.)
    InPlace,
}

/// A file and its versions.
struct FileHistory {
    name: String,
    kind: ChangeKind,
    /// When each version but the last was replaced.
    over: Mutex<Vec<Instant>>,
}

impl FileHistory {
    fn new(kind: ChangeKind, at: usize) -> Self {
        Self {
            name: format!("{kind:?}-{at}.txt"),
            kind,
            over: Mutex::default(),
        }
    }

    fn last(&self) -> usize {
        self.over.lock().expect("lock is not poisoned").len()
    }

    /// Returns the content of a version; `None` if the file does not exist in it.
    fn content(&self, version: usize) -> Option<Vec<u8>> {
        let whole = |version: usize| {
            let line = format!("{} version {version:08}\n", self.name);
            line.repeat(100 + version * 37 % 800).into_bytes()
        };
        match (self.kind, version) {
            (ChangeKind::Deleted, version) if version % 2 == 1 => None,
            (ChangeKind::InPlace, version) if version % 16 == 15 => {
                let before = whole(version - 1);
                Some(before[..before.len() / 2].to_vec())
            }
            _ => Some(whole(version)),
        }
    }

    fn write(&self, folder: &Path, version: usize) {
        let path = folder.join(&self.name);
        let Some(content) = self.content(version) else {
            return fs::remove_file(path).expect("remove file");
        };
        let date = |file: &File| {
            file.set_modified(time_of(version))
                .expect("set modification time");
        };
        match (self.kind, version % 16) {
            (ChangeKind::Renamed | ChangeKind::Deleted, _) => {
                let new = folder.join(format!(".{}", self.name));
                fs::write(&new, content).expect("write file");
                date(&File::options().write(true).open(&new).expect("open file"));
                fs::rename(new, path).expect("rename file");
            }
            (ChangeKind::InPlace, 0) => {
                let mut file = File::create(path).expect("create file");
                file.write_all(&content).expect("write file");
                date(&file);
            }
            (ChangeKind::InPlace, rest) => {
                let mut file = File::options().write(true).open(path).expect("open file");
                if rest < 15 {
                    for piece in content.chunks(8 * 1024) {
                        file.write_all(piece).expect("write file");
                    }
                }
                file.set_len(content.len() as u64).expect("set file length");
                date(&file);
            }
        }
    }

    fn next(&self, folder: &Path) {
        self.write(folder, self.last() + 1);
        self.over
            .lock()
            .expect("lock is not poisoned")
            .push(Instant::now());
    }
}

const EPOCH: u64 = 784_111_777;

fn time_of(version: usize) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(EPOCH + version as u64)
}

/// Returns the version of a response by its Last-Modified.
fn version_of(response: &HttpResponse) -> usize {
    let date = response
        .field("Last-Modified")
        .expect("Last-Modified field");
    let time = httpdate::parse_http_date(date).expect("parse HTTP date");
    let since = time
        .duration_since(time_of(0))
        .expect("Last-Modified of a version");
    usize::try_from(since.as_secs()).expect("fits in usize")
}

/// What all clients have observed.
#[derive(Default)]
struct Observations {
    /// Version and length by name and strong entity tag: both determine the content.
    versions: Mutex<HashMap<(String, String), (usize, usize)>>,
    parts: AtomicUsize,
    wholes_instead: AtomicUsize,
}

/// The strong entity tag of the latest complete version that one client has received, by name.
type LatestTags = HashMap<String, String>;

impl Observations {
    fn request(&self, client: &mut Client, file: &FileHistory, tags: &mut LatestTags, at: usize) {
        let requested_tag = tags
            .get(&file.name)
            .filter(|_| at.is_multiple_of(3))
            .cloned();
        let fields = requested_tag.as_ref().map_or(String::new(), |tag| {
            format!("Range: bytes=10-1009\r\nIf-Range: {tag}\r\n")
        });
        // By a different path nearly every time, so that the file is opened and read each time
        // instead of being found in the cache.
        let path = match file.kind {
            ChangeKind::InPlace => format!("/{}/{}", at % ALIASES, file.name),
            ChangeKind::Renamed | ChangeKind::Deleted => format!("/{}", file.name),
        };
        let sent = Instant::now();
        let response = client.request("GET", &path, &fields);
        match (response.status, file.kind) {
            (200 | 206, _) => {}
            // 503: the file was written to during each attempt to read it.
            (404, ChangeKind::Deleted) | (503, ChangeKind::InPlace) => return,
            (status, kind) => panic!("{status} for a file with changes of kind {kind:?}"),
        }
        let tag = response.field("ETag").expect("ETag field");
        if tag.starts_with("W/") {
            // A file written to moments ago: the bytes may be of any moment, and a weak entity tag
            // promises nothing.
            assert_eq!((file.kind, response.status), (ChangeKind::InPlace, 200));
            return;
        }
        let version = version_of(&response);
        let content = file.content(version).expect("version with a file");
        let name = &file.name;
        if response.status == 206 {
            assert_eq!(
                requested_tag.as_deref(),
                Some(tag),
                "a part of another version"
            );
            let range = format!("bytes 10-1009/{}", content.len());
            assert_eq!(
                response.field("Content-Range"),
                Some(range.as_str()),
                "{name}"
            );
            let same = response.content == content[10..1010];
            assert!(same, "{name}: a part of version {version} has other bytes");
            self.parts.fetch_add(1, Ordering::Relaxed);
        } else {
            // Linux truncates a file before it updates the modification time: a momentary version
            // that is a prefix of this one, with its own entity tag because of its size.
            let cut = file.kind == ChangeKind::InPlace && content.starts_with(&response.content);
            let same = response.content == content;
            assert!(same || cut, "{name}: version {version} has other bytes");
            if requested_tag.is_some() {
                assert_ne!(
                    requested_tag.as_deref(),
                    Some(tag),
                    "the whole file although If-Range matches"
                );
                self.wholes_instead.fetch_add(1, Ordering::Relaxed);
            }
            if same {
                tags.insert(name.clone(), tag.to_owned());
            }
        }
        let len = match response.status {
            206 => content.len(),
            _ => response.content.len(),
        };
        let key = (name.clone(), tag.to_owned());
        let is = (version, len);
        let was = self
            .versions
            .lock()
            .expect("lock is not poisoned")
            .insert(key, is);
        assert!(
            was.is_none_or(|was| was == is),
            "{name}: {tag} is of {was:?} and of {is:?}"
        );
        let over = file
            .over
            .lock()
            .expect("lock is not poisoned")
            .get(version)
            .copied();
        let late = over.map_or(Duration::ZERO, |over| sent.saturating_duration_since(over));
        assert!(
            late < SEEN_WITHIN,
            "{name}: version {version} was over {late:?} before it was requested_tag for"
        );
    }
}

#[test]
fn changing_files_are_served_as_one_version_with_own_etag() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let histories = [
        ChangeKind::Renamed,
        ChangeKind::Deleted,
        ChangeKind::InPlace,
    ]
    .map(|kind| [0, 1, 2, 3].map(|at| FileHistory::new(kind, at)));
    let files: Vec<_> = histories.iter().flatten().collect();
    for file in &files {
        file.write(folder.path(), 0);
    }
    for alias in 0..ALIASES {
        symlink(".", folder.path().join(alias.to_string())).expect("create symlink");
    }
    let server = TestServer::of(folder.path());
    let observed = Observations::default();

    let writers = histories
        .iter()
        .map(|files| {
            let mut next_file = files.iter().cycle();
            let folder = folder.path();
            Box::new(move || next_file.next().expect("endless iterator").next(folder))
                as Box<dyn FnMut() + Send>
        })
        .collect();
    let clients = (0..CLIENTS)
        .map(|client| {
            let (files, observed, server) = (&files, &observed, &server);
            Box::new(move || {
                let mut connection = server.client();
                let mut tags = LatestTags::new();
                for at in 0..REQUESTS {
                    let file = files[(at + client * 5) % files.len()];
                    observed.request(&mut connection, file, &mut tags, at / files.len());
                }
            }) as Box<dyn FnOnce() + Send>
        })
        .collect();
    under_load(writers, clients);

    // Checks that the test has observed changes at all.
    let versions = observed.versions.lock().expect("lock is not poisoned");
    for file in &files {
        let count = versions.keys().filter(|(name, _)| *name == file.name);
        assert!(
            count.count() > 1,
            "{} was observed in one version",
            file.name
        );
    }
    assert!(observed.parts.load(Ordering::Relaxed) > 0);
    assert!(observed.wholes_instead.load(Ordering::Relaxed) > 0);

    let mut client = server.client();
    for file in &files {
        let last = file.content(file.last());
        wait_until(&file.name, LAST_CHANGE_TIMEOUT, || {
            let response = client.get(&format!("/{}", file.name));
            match &last {
                Some(content) => response.status == 200 && response.content == *content,
                None => response.status == 404,
            }
        });
    }
}

/// Returns the content of a page; every line names its tree.
fn page(tree: &str, name: &str) -> Vec<u8> {
    let count = 200 + tree.len() * 50;
    format!("{name} of {tree}\n").repeat(count).into_bytes()
}

/// Switches `link` to `tree` atomically.
fn switch(link: &Path, tree: &str) {
    let new = link.with_extension("new");
    symlink(tree, &new).expect("create symlink");
    fs::rename(new, link).expect("switch symlink");
}

/// Switches `link` to `tree` in two steps, as `ln -sfn` does.
fn switch_in_two_steps(link: &Path, tree: &str) {
    fs::remove_file(link).expect("remove symlink");
    symlink(tree, link).expect("create symlink");
}

#[test]
fn switched_root_symlink_serves_old_or_new_tree() {
    const TREES: [&str; 2] = ["old", "newer"];
    const PAGES: [&str; 4] = ["index.html", "a.txt", "deep/er/b.txt", "deep/index.html"];
    const BIG: usize = 24_000_000;
    let folder = tempfile::tempdir().expect("create temporary directory");
    for tree in TREES {
        for name in PAGES {
            let path = folder.path().join(tree).join(name);
            fs::create_dir_all(path.parent().expect("path has a parent"))
                .expect("create directory");
            fs::write(&path, page(tree, name)).expect("write file");
            let file = File::options().write(true).open(path).expect("open file");
            file.set_modified(time_of(0))
                .expect("set modification time");
        }
    }
    let big = pattern(BIG);
    fs::write(folder.path().join("old/big.bin"), &big).expect("write file");
    let link = folder.path().join("current");
    symlink("old", &link).expect("create symlink");
    let server = TestServer::of(&link);

    let mut download = server.client();
    download.send("GET /big.bin HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(download.head().length(), Some(BIG as u64));

    let observed = TREES.map(|_| AtomicUsize::new(0));
    let mut switches = 0;
    let switcher = || {
        switches += 1;
        match switches % 4 {
            3 => switch_in_two_steps(&link, TREES[switches % 2]),
            _ => switch(&link, TREES[switches % 2]),
        }
    };
    let clients = (0..CLIENTS)
        .map(|client| {
            let (observed, server) = (&observed, &server);
            Box::new(move || {
                let mut connection = server.client();
                for at in 0..REQUESTS {
                    let name = PAGES[(at + client) % PAGES.len()];
                    let path = name.strip_suffix("index.html").unwrap_or(name);
                    let response = connection.get(&format!("/{path}"));
                    assert_eq!(response.status, 200, "{path}");
                    let tree = TREES
                        .iter()
                        .position(|tree| response.content == page(tree, name));
                    let tree = tree.unwrap_or_else(|| panic!("/{path} is of neither tree"));
                    observed[tree].fetch_add(1, Ordering::Relaxed);
                }
            }) as Box<dyn FnOnce() + Send>
        })
        .collect();
    under_load(vec![Box::new(switcher)], clients);
    for (tree, count) in TREES.iter().zip(observed) {
        assert!(count.into_inner() > 0, "{tree} was never observed");
    }

    switch(&link, "newer");
    let mut client = server.client();
    for name in PAGES {
        wait_until(name, LAST_CHANGE_TIMEOUT, || {
            client.get(&format!("/{name}")).content == page("newer", name)
        });
    }
    wait_until("404 for /big.bin", LAST_CHANGE_TIMEOUT, || {
        client.get("/big.bin").status == 404
    });
    assert!(
        download.read(BIG) == big,
        "the download differs from the old tree's file"
    );
}
