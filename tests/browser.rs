//! Tests of the test page, the sample pages and the admin page in a real browser.

use std::fs;
use std::path::Path;

use rustix::process::Signal;
use serde_json::json;

use crate::support::TwsProcess;
use crate::support::browser::Browser;

fn sample_site() -> TwsProcess {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    TwsProcess::start(project, &["--access-log", "off"])
}

/// The cells of the admin page's only transfer; null without a transfer.
const ROW: &str = "const row = document.querySelector('#transfers tr'); \
    return row && [...row.cells].map(cell => cell.innerText)";

#[test]
#[ignore = "needs Chromium and chromedriver"]
fn admin_page_shows_running_download() {
    const LEN: usize = 64 * 1024 * 1024;
    let hostile = "<img src=x onerror=\"document.title='hit'\">&lt; \u{202e}gpj";
    let folder = tempfile::tempdir().expect("create temporary directory");
    let file = fs::File::create(folder.path().join(hostile)).expect("create file");
    file.set_len(LEN as u64).expect("set file length");
    let args = ["--access-log=off", "--admin=127.0.0.1:0", "."];
    let mut site = TwsProcess::start(folder.path(), &args);
    let browser = Browser::start();
    let admin = site.admin.expect("admin address");
    browser.open(&format!("http://{admin}/"));
    browser.wait_for("return document.querySelector('#status').textContent === 'Serving'");
    browser.wait_for("return !document.querySelector('#nothing').hidden");

    let mut client = site.client();
    let name: String = hostile.bytes().map(|byte| format!("%{byte:02x}")).collect();
    client.send(format!("GET /{name} HTTP/1.1\r\nHost: test\r\n\r\n"));
    client.head();
    client.read(LEN / 4);
    let shown = browser.wait_for(&format!(
        "const row = (() => {{ {ROW} }})(); \
         return row && row[2].includes(' %') && row[5] === 'client' && row"
    ));
    let from = client.stream().local_addr().expect("local address");
    assert_eq!(shown[0], from.to_string());
    assert_eq!(shown[1], format!("↓ /{hostile}"), "as text");
    assert!(shown[2].to_string().contains("of 64.0 MiB"), "{shown}");
    assert!(shown[3].to_string().contains("B/s"), "{shown}");
    let facts = browser.script(
        "return [document.title, document.querySelectorAll('img').length, \
         document.querySelector('#transfers progress').position, \
         document.documentElement.scrollWidth <= innerWidth]",
    );
    assert_eq!((&facts[0], &facts[1]), (&json!("tws admin"), &json!(0)));
    let position = facts[2].as_f64().expect("JSON number");
    assert!((0.25..1.0).contains(&position), "{position}");
    assert_eq!(facts[3], true, "the page fits the window");
    browser.wait_for("return document.querySelectorAll('[data-plot=lag] polyline').length > 0");
    client.read(LEN - LEN / 4);
    browser.wait_for("return document.querySelectorAll('#transfers tr').length === 0");
    browser.wait_for("return !document.querySelector('#nothing').hidden");

    // The page shows that the connection is lost, and reconnects by itself.
    site.signal(Signal::TERM);
    site.child.wait_for_exit();
    let lost = "return document.querySelector('#status').dataset.state === 'lost'";
    browser.wait_for(lost);
    let again = format!("--admin={admin}");
    let _again = TwsProcess::start(folder.path(), &["--access-log=off", &again, "."]);
    browser.wait_for("return document.querySelector('#status').textContent === 'Serving'");
}

const CASES: &[&str] = &[
    "get-text",
    "get-image",
    "head",
    "not-modified",
    "bad-request",
    "not-found",
    "keep-alive",
    "range",
    "big-download",
    "post",
];

#[test]
#[ignore = "needs Chromium and chromedriver"]
fn test_page_each_button_passes() {
    let site = sample_site();
    let browser = Browser::start();
    browser.open(&format!("http://{}/", site.address));
    let on_page = browser
        .script("return [...document.querySelectorAll('section.case')].map(c => c.dataset.case)");
    assert_eq!(on_page, json!(CASES));
    for case in CASES {
        let section = format!("section.case[data-case={case}]");
        browser.click(&format!("{section} button.run"));
        browser.wait_for(&format!(
            "return ['pass', 'fail'].includes(document.querySelector('{section}').dataset.verdict)"
        ));
        let shown = browser.script(&format!(
            "const section = document.querySelector('{section}'); \
             return [section.dataset.verdict, section.querySelector('.verdict').textContent]"
        ));
        assert_eq!(shown[0], "pass", "{case}: {shown}");
    }
}

/// Opens the sample pages and asserts that their images and style sheets load.
fn expect_sample_pages(browser: &Browser, origin: &str) {
    for path in [
        "/page_one",
        "/page_two",
        "/page_three",
        "/page_four",
        "/no-such-page",
    ] {
        browser.open(&format!("{origin}{path}"));
        let broken = browser.wait_for(
            "if (document.readyState !== 'complete') return null; \
             document.querySelectorAll('img').forEach(i => i.loading = 'eager'); \
             const images = [...document.images]; \
             if (!images.every(i => i.complete)) return null; \
             return [images.filter(i => i.naturalWidth === 0).map(i => i.src), \
                     [...document.styleSheets].length]",
        );
        assert_eq!(broken, json!([[], 1]), "{path}");
    }
}

/// Runs all tests of the test page, which is open, and asserts that they pass.
fn expect_all_to_pass(browser: &Browser) {
    browser.click("#run-all");
    browser.wait_for("return !document.querySelector('#run-all').disabled");
    let verdicts = browser.script(
        "return [...document.querySelectorAll('section.case')].map(c => c.dataset.verdict)",
    );
    assert_eq!(verdicts, json!(vec!["pass"; CASES.len()]));
}

/// Asserts that the browser received the page and all else by this protocol, and that the page says
/// so.
#[cfg(feature = "tls")]
fn expect_protocol(browser: &Browser, protocol: &str, shown: &str) {
    let used = browser.script(
        "const entries = ['navigation', 'resource'].flatMap(t => performance.getEntriesByType(t)); \
         return [...new Set(entries.map(entry => entry.nextHopProtocol))]",
    );
    assert_eq!(used, json!([protocol]));
    let versions = browser.script(
        "return [...new Set([...document.querySelectorAll('.exchange .part:first-of-type pre')] \
         .map(pre => pre.textContent.split('\\n')[0].split(' ')[2]))]",
    );
    assert_eq!(versions, json!([shown]));
}

#[test]
#[ignore = "needs Chromium and chromedriver"]
fn sample_pages_load_and_run_all_passes_twice() {
    let site = sample_site();
    let browser = Browser::start();
    let origin = format!("http://{}", site.address);
    expect_sample_pages(&browser, &origin);
    browser.open(&format!("{origin}/"));
    for _ in 0..2 {
        expect_all_to_pass(&browser);
    }
}

#[cfg(feature = "tls")]
#[test]
#[ignore = "needs Chromium and chromedriver"]
fn test_page_over_https_passes_after_http_redirect() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let args = ["--tls-self-signed", "--redirect-http=0", "--access-log=off"];
    let site = TwsProcess::start(project, &args);
    let (_, plain) = site
        .announcement
        .split_once("redirects here: ")
        .expect("redirecting URL in the announcement");
    let browser = Browser::start();
    browser.open(plain.lines().next().expect("URL after the announcement"));
    let address = browser.script("return location.origin");
    assert_eq!(address, json!(format!("https://{}", site.address)));
    expect_all_to_pass(&browser);
}

#[cfg(feature = "tls")]
#[test]
#[ignore = "needs Chromium and chromedriver"]
fn pages_work_over_http2_and_http1_with_tls() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let browser = Browser::start();
    for (http2, protocol, shown) in [
        ("--http2=tls", "h2", "HTTP/2"),
        ("--http2=off", "http/1.1", "HTTP/1.1"),
    ] {
        let args = ["--tls-self-signed", http2, "--access-log=off"];
        let site = TwsProcess::start(project, &args);
        let origin = format!("https://{}", site.address);
        expect_sample_pages(&browser, &origin);
        browser.open(&format!("{origin}/"));
        expect_all_to_pass(&browser);
        expect_protocol(&browser, protocol, shown);
    }
}

#[test]
#[ignore = "needs Chromium and chromedriver"]
fn test_page_and_listing_form_upload_files() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in ["index.html", "style.css", "test-page.js"] {
        fs::copy(project.join("www").join(name), folder.path().join(name)).expect("copy file");
    }
    let browser = Browser::start();
    let upload = |site: &TwsProcess, name: &str| {
        browser.open(&format!("http://{}/", site.address));
        browser.script(&format!(
            "const data = new DataTransfer(); \
             data.items.add(new File(['x'.repeat(300000)], '{name}')); \
             document.querySelector('#upload-files').files = data.files"
        ));
        browser.click("#upload .send");
        browser.wait_for(
            "return !document.querySelector('#upload .send').disabled && \
             document.querySelector('#upload .uploaded').textContent",
        )
    };
    let off = TwsProcess::start(folder.path(), &["--access-log", "off", "."]);
    let shown = upload(&off, "a.txt");
    assert!(shown.to_string().contains("-- --upload"), "{shown}");

    let site = TwsProcess::start(folder.path(), &["--access-log", "off", "--upload", "."]);
    let shown = upload(&site, "a ñ#.txt");
    assert!(shown.to_string().contains("201"), "{shown}");
    let link = browser.script("return document.querySelector('#upload .uploaded a').href");
    let expected = format!("http://{}/a%20%C3%B1%23.txt", site.address);
    assert_eq!(link, json!(expected));
    let stored = fs::read(folder.path().join("a ñ#.txt")).expect("read file");
    assert_eq!(stored, vec![b'x'; 300_000]);
    let shown = upload(&site, "a ñ#.txt");
    assert!(shown.to_string().contains("--upload-overwrite"), "{shown}");

    // The form of a listing, which uses no script.
    let browser = Browser::without_scripts();
    fs::create_dir(folder.path().join("folder")).expect("create directory");
    let listed = ["--access-log", "off", "--upload", "--listing", "on", "."];
    let site = TwsProcess::start(folder.path(), &listed);
    browser.open(&format!("http://{}/folder/?sort=size", site.address));
    browser.script(
        "const data = new DataTransfer(); \
         for (const name of ['b.txt', 'c.txt']) data.items.add(new File([name], name)); \
         document.querySelector('form input').files = data.files",
    );
    browser.click("form button");
    browser.wait_for("return document.querySelectorAll('#entries a').length === 2");
    let stored = fs::read(folder.path().join("folder/c.txt")).expect("read file");
    assert_eq!(stored, b"c.txt");
}

/// The key exchange that browsers prefer.
#[cfg(feature = "tls")]
#[test]
#[ignore = "needs Chromium and chromedriver"]
fn browser_negotiates_hybrid_key_exchange() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    fs::write(folder.path().join("a.html"), "<p>hello").expect("write file");
    let site = crate::tls_sessions::SecureSite::start(folder.path());
    let browser = Browser::start();
    browser.open(&format!("https://{}/a.html", site.process.address));
    browser.wait_for("return document.body.innerText.includes('hello')");
    assert!(site.handshakes("full", "X25519MLKEM768") > 0.0);
    assert_eq!(site.handshakes("retried", "X25519MLKEM768"), 0.0);
    assert_eq!(site.handshakes("full", "X25519"), 0.0);
}

/// Under this policy a browser sends `Origin: null` with a form of the server's own page, but also
/// with one of another origin.
#[test]
#[ignore = "needs Chromium and chromedriver"]
fn form_without_referrer_is_stored_from_own_page_only() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let args = ["--access-log=off", "--upload", "--listing=on"];
    let policy = ["-H", "Referrer-Policy: no-referrer", "."];
    let site = TwsProcess::start(folder.path(), &[&args[..], &policy].concat());
    let url = format!("http://{}/", site.address);
    let other = tempfile::tempdir().expect("create temporary directory");
    let page = format!(
        "<!DOCTYPE html><form method=post enctype=multipart/form-data action='{url}'>\
         <input type=file name=file><button>Upload</button></form>"
    );
    fs::write(other.path().join("index.html"), page).expect("write file");
    let others = TwsProcess::start(other.path(), &[&args[..1], &policy].concat());
    let browser = Browser::without_scripts();
    let upload = |page: &str, name: &str| {
        browser.open(page);
        browser.script(&format!(
            "const data = new DataTransfer(); data.items.add(new File(['x'], '{name}')); \
             document.querySelector('form input').files = data.files"
        ));
        browser.click("form button");
    };
    upload(&format!("http://{}/", others.address), "foreign.txt");
    browser.wait_for(&format!(
        "return location.href === '{url}' && document.body.innerText.includes('403')"
    ));
    upload(&url, "own.txt");
    browser.wait_for("return document.querySelectorAll('#entries a').length === 1");
    assert!(folder.path().join("own.txt").exists());
    assert!(!folder.path().join("foreign.txt").exists());
}
