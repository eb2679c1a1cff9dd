//! Tests of the number of instructions per request in user space. Unlike times they do not depend on
//! the load of the machine.
//!
//! The release build is measured under callgrind, which counts each thread apart: the event loop is
//! the thread that executes more with more requests. One client sends them one after the other on one
//! connection. The difference of two runs with different numbers of requests contains neither the
//! start nor the end of the server.
//!
//! What is left of the spread, 1 % to 2.5 %: hash tables have random seeds, and a cached file is checked
//! every ten milliseconds, which is more often per request on a slow machine. Both only ever add
//! instructions, so the least of three differences counts, and the limits are 3 % above what was
//! measured: 5820, 6100, 5780, 7810 and 8970.

use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use rustix::process::Signal;

use crate::support::tws_process::announced_address;
use crate::support::{ChildProcess, Client};

const WARM_UP: usize = 256;
const MEASURED: usize = 1024;
const RUNS: usize = 3;

const NO_FIELDS: &str = "";

/// What a browser sends: the Last-Modified that it has received.
const NOT_MODIFIED: &str = "If-Modified-Since: Wed, 01 Jan 2020 00:00:00 GMT\r\n";

const RANGE: &str = "Range: bytes=2048-3071\r\n";

/// What Chromium sends for an image of a page.
const BROWSER: &str = "Connection: keep-alive\r\n\
    sec-ch-ua-platform: \"Linux\"\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
    Chrome/140.0.0.0 Safari/537.36\r\n\
    sec-ch-ua: \"Chromium\";v=\"140\", \"Not=A?Brand\";v=\"24\"\r\n\
    sec-ch-ua-mobile: ?0\r\n\
    Accept: image/avif,image/webp,image/apng,image/svg+xml,image/*,*/*;q=0.8\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    Sec-Fetch-Mode: no-cors\r\n\
    Referer: http://localhost:8000/index.html\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Accept-Language: en-GB,en;q=0.9\r\n";

/// Path, fields, status, and the limit of instructions.
const REQUESTS: [(&str, &str, u16, u64); 5] = [
    ("/small.png", NO_FIELDS, 200, 6_085),
    ("/small.png", NOT_MODIFIED, 304, 6_400),
    ("/none.png", NO_FIELDS, 404, 6_110),
    ("/large.png", RANGE, 206, 8_140),
    ("/small.png", BROWSER, 200, 9_320),
];

#[test]
#[ignore = "needs valgrind"]
fn requests_take_no_more_instructions_than_measured() {
    let program = release_build();
    let folder = tempfile::tempdir().expect("create temporary directory");
    write_old(&folder.path().join("small.png"), 1024);
    write_old(&folder.path().join("large.png"), 100 * 1024);
    let mut exceeded = Vec::new();
    for (path, fields, status, limit) in REQUESTS {
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n");
        let measure = || {
            let few = instructions(&program, folder.path(), &request, status, WARM_UP);
            let all = instructions(
                &program,
                folder.path(),
                &request,
                status,
                WARM_UP + MEASURED,
            );
            let differences = all
                .iter()
                .zip(&few)
                .map(|(all, few)| all.saturating_sub(*few));
            differences.max().expect("a thread") / MEASURED as u64
        };
        let least = (0..RUNS).map(|_| measure()).min().expect("a run");
        println!(
            "{status} {path} {} bytes: {least} instructions",
            request.len()
        );
        if least > limit {
            exceeded.push((path, status, least, limit));
        }
    }
    assert!(exceeded.is_empty(), "{exceeded:?}");
}

/// Writes a file that was modified long ago: one that has just been modified is treated differently.
fn write_old(path: &Path, len: usize) {
    fs::write(path, vec![b'x'; len]).expect("write file");
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_577_836_800);
    let file = File::options().write(true).open(path).expect("open file");
    file.set_modified(time).expect("set time");
}

/// Returns the release build. It is not built here: that takes minutes.
fn release_build() -> PathBuf {
    let tested = Path::new(env!("CARGO_BIN_EXE_tws"));
    let target = tested.parent().and_then(Path::parent);
    let program = target.expect("the target directory").join("release/tws");
    let built = fs::metadata(&program).and_then(|file| file.modified());
    let built = built.expect("a release build; run `cargo build --release` first");
    let newest = newest(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(
        built >= newest,
        "old release build; run `cargo build --release`"
    );
    program
}

/// Returns when the newest file beneath a folder was modified.
fn newest(folder: &Path) -> SystemTime {
    let entries = fs::read_dir(folder).expect("read folder");
    let times = entries.map(|entry| {
        let entry = entry.expect("read folder");
        let metadata = entry.metadata().expect("read metadata");
        match metadata.is_dir() {
            true => newest(&entry.path()),
            false => metadata.modified().expect("a time"),
        }
    });
    times.max().unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Returns how many instructions each thread executed, in the order in which they began.
fn instructions(
    program: &Path,
    folder: &Path,
    request: &str,
    status: u16,
    count: usize,
) -> Vec<u64> {
    let state = tempfile::tempdir().expect("create temporary directory");
    let profile = state.path().join("profile");
    let mut command = Command::new("valgrind");
    command
        .args(["--quiet", "--tool=callgrind", "--separate-threads=yes"])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(program)
        .arg(folder)
        .args(["--port=0", "--workers=1", "--access-log=off"])
        // Callgrind writes its files at the end.
        .args(["--no-sandbox", "--state-dir"])
        .arg(state.path())
        .env_remove("RUST_LOG")
        // valgrind 3.19 warns that it does not know openat2: the server resolves paths itself.
        .stderr(Stdio::null())
        .stdout(Stdio::piped());
    let mut server = ChildProcess::start(&mut command);
    let address = announced_address(&mut BufReader::new(
        server.stdout.take().expect("stdio pipe"),
    ));
    let mut client = Client::connect(address);
    for _ in 0..count {
        client.send(request);
        let response = if status == 304 {
            client.head()
        } else {
            client.response()
        };
        assert_eq!(response.status, status);
    }
    drop(client);
    server.signal(Signal::TERM);
    server.wait_for_exit();
    let thread = |number: usize| {
        let text = fs::read_to_string(format!("{}-{number:02}", profile.display())).ok()?;
        let total = text
            .lines()
            .find_map(|line| line.strip_prefix("totals: "))?;
        total.trim().parse().ok()
    };
    (1..).map_while(thread).collect()
}
