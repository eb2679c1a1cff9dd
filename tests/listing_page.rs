//! Tests of the page of a folder in a real browser: uploads, previews, links, times, the README, and how
//! it looks at the sizes and in the colours of desktops and phones.

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::TwsProcess;
use crate::support::browser::Browser;

/// The keys of WebDriver (W3C WebDriver §17.4.2).
const TAB: &str = "\u{E004}";
const ENTER: &str = "\u{E007}";
const ESCAPE: &str = "\u{E00C}";
const UP: &str = "\u{E013}";
const DOWN: &str = "\u{E015}";

fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let at = |name: &str| folder.path().join(name);
    let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("www/images/dawn.jpg");
    fs::create_dir(at("sub")).expect("create directory");
    fs::copy(image, at("dawn.jpg")).expect("copy file");
    fs::write(at("notes.txt"), "first line").expect("write file");
    fs::write(at("other.bin"), "bytes").expect("write file");
    let readme = "# Title\n\n**bold** <script>document.title = 'run'</script>\n\n\
                  | a | b |\n|---|---|\n| c | d |\n\n[link](sub/) `code`\n\n> quote\n";
    fs::write(at("README.md"), readme).expect("write file");
    folder
}

fn serve(folder: &TempDir, args: &[&str]) -> (TwsProcess, String) {
    let always = ["--access-log=off", "--listing=on", "."];
    let site = TwsProcess::start(folder.path(), &[args, &always[..]].concat());
    let url = format!("http://{}/", site.address);
    (site, url)
}

/// Chooses files as the button for files does. Each is as long as its number says.
fn choose(browser: &Browser, files: &[(&str, usize)]) {
    let files = serde_json::to_string(files).expect("JSON");
    browser.script(&format!(
        "const data = new DataTransfer(); \
         for (const [name, size] of {files}) data.items.add(new File([new Uint8Array(size)], name)); \
         const input = document.querySelector('#files'); \
         input.files = data.files; input.dispatchEvent(new Event('change'))"
    ));
}

/// Drops files and folders of the disk on the page.
fn drop_paths(browser: &Browser, paths: &[PathBuf]) {
    let place = browser.script(
        "const area = document.querySelector('.drop'); area.scrollIntoView({ block: 'center' }); \
         const place = area.getBoundingClientRect(); return [place.x + 9, place.y + 9]",
    );
    let data = json!({ "items": [], "files": paths, "dragOperationsMask": 1 });
    for kind in ["dragEnter", "dragOver", "drop"] {
        let event = json!({ "type": kind, "x": place[0], "y": place[1], "data": data });
        browser.devtools("Input.dispatchDragEvent", &event);
    }
}

/// Waits until the upload of a file is in a state.
fn wait_for_state(browser: &Browser, name: &str, state: &str) {
    let name = json!(name);
    browser.wait_for(&format!(
        "return [...document.querySelectorAll('.jobs li')].some((row) => \
         row.querySelector('b').textContent === {name} && row.querySelector('.{state}'))"
    ));
}

/// The upload of a file that is neither waiting nor being sent.
struct EndedUpload {
    state: String,
    text: String,
    buttons: String,
}

/// Waits until the upload of a file has ended, or asks.
fn ended(browser: &Browser, name: &str) -> EndedUpload {
    let name = json!(name);
    let row = browser.wait_for(&format!(
        "const row = [...document.querySelectorAll('.jobs li')].find((row) => \
         row.querySelector('b').textContent === {name}); \
         const text = row?.querySelector('span:not(.waiting, .sending)'); \
         return text && [text.className, text.textContent, \
         [...row.querySelectorAll('button')].map((it) => it.textContent).join()]"
    ));
    let [state, text, buttons] =
        [0, 1, 2].map(|at| row[at].as_str().unwrap_or_default().to_owned());
    EndedUpload {
        state,
        text,
        buttons,
    }
}

/// Clicks a button of the upload of a file.
fn press_button(browser: &Browser, name: &str, label: &str) {
    let found = browser.script(&format!(
        "const row = [...document.querySelectorAll('.jobs li')].find((row) => \
         row.querySelector('b').textContent === '{name}'); \
         const button = [...row.querySelectorAll('button')].find((button) => \
         button.textContent === '{label}'); button?.click(); return !!button"
    ));
    assert_eq!(found, json!(true), "{label} of {name}");
}

#[test]
#[ignore = "needs Chromium and chromedriver"]
fn chosen_files_are_uploaded_and_listed() {
    let folder = folder();
    let (_site, url) = serve(&folder, &["--upload"]);
    let browser = Browser::start();
    browser.open(&url);
    let names: Vec<String> = (0..7).map(|at| format!("new {at} ñ#.bin")).collect();
    let files: Vec<_> = names.iter().map(|name| (name.as_str(), 300_000)).collect();
    choose(&browser, &files);
    for name in &names {
        wait_for_state(&browser, name, "done");
        let len = fs::metadata(folder.path().join(name))
            .expect("a file")
            .len();
        assert_eq!(len, 300_000);
    }
    // The list is read again, and what was added to its rows is there for the new ones too.
    browser.wait_for("return document.querySelectorAll('#entries .more').length === 12");
    let shown = browser.script("return document.querySelector('.summary').textContent");
    assert!(shown.to_string().contains("7 of 7"), "{shown}");
}

#[test]
#[ignore = "needs Chromium and chromedriver"]
fn existing_name_is_a_choice_that_can_be_taken_back() {
    let folder = folder();
    let read = |name: &str| fs::read(folder.path().join(name)).map_or(0, |content| content.len());
    for (args, may_replace) in [
        (&["--upload"][..], false),
        (&["--upload", "--upload-overwrite"], true),
    ] {
        fs::write(folder.path().join("notes.txt"), "first line").expect("write file");
        let (_site, url) = serve(&folder, args);
        let browser = Browser::start();
        browser.open(&url);
        choose(&browser, &[("notes.txt", 7), ("other.bin", 8)]);
        wait_for_state(&browser, "notes.txt", "asking");
        wait_for_state(&browser, "other.bin", "asking");
        press_button(&browser, "notes.txt", "Skip");
        wait_for_state(&browser, "notes.txt", "skipped");
        assert_eq!(read("notes.txt"), 10);
        press_button(&browser, "notes.txt", "Choose again");
        wait_for_state(&browser, "notes.txt", "asking");
        let labels = browser.script(
            "return [...document.querySelectorAll('.jobs button')].map((it) => it.textContent)",
        );
        assert_eq!(
            labels.to_string().contains("Replace"),
            may_replace,
            "{labels}"
        );
        if may_replace {
            press_button(&browser, "notes.txt", "Replace");
            wait_for_state(&browser, "notes.txt", "done");
            assert_eq!(read("notes.txt"), 7);
            // The first copy is there from the first round.
            press_button(&browser, "other.bin", "Keep both");
            wait_for_state(&browser, "other.bin", "done");
            assert_eq!(read("other (2).bin"), 8);
        } else {
            browser.script("document.querySelector('.jobs input[type=checkbox]').click()");
            press_button(&browser, "notes.txt", "Keep both");
            wait_for_state(&browser, "notes.txt", "done");
            wait_for_state(&browser, "other.bin", "done");
            assert_eq!((read("notes (1).txt"), read("other (1).bin")), (7, 8));
        }
        assert_eq!(read("other.bin"), 5);
    }
}

#[test]
#[ignore = "needs Chromium and chromedriver"]
fn choice_for_all_ends_with_its_batch() {
    let folder = folder();
    let read = |name: &str| fs::read(folder.path().join(name)).expect("read file");
    let (_site, url) = serve(&folder, &["--upload", "--upload-overwrite"]);
    let browser = Browser::start();
    for (label, state) in [
        ("Replace", "done"),
        ("Skip", "skipped"),
        ("Keep both", "done"),
    ] {
        for name in ["a.bin", "b.bin", "c.bin", "d.bin"] {
            fs::write(folder.path().join(name), "old").expect("write file");
        }
        browser.open(&url);
        // Both batches ask at the same time, then one comes after the other has its answer.
        choose(&browser, &[("a.bin", 9), ("b.bin", 9)]);
        choose(&browser, &[("c.bin", 9)]);
        for name in ["a.bin", "b.bin", "c.bin"] {
            assert_eq!(ended(&browser, name).state, "asking");
        }
        browser.script("document.querySelector('.jobs input[type=checkbox]').click()");
        press_button(&browser, "a.bin", label);
        for name in ["a.bin", "b.bin"] {
            wait_for_state(&browser, name, state);
        }
        choose(&browser, &[("d.bin", 9)]);
        for name in ["c.bin", "d.bin"] {
            assert_eq!(
                ended(&browser, name).state,
                "asking",
                "{name} after {label}"
            );
            assert_eq!(read(name), b"old", "{name} after {label}");
        }
    }
}

#[test]
#[ignore = "needs Chromium and chromedriver"]
fn all_that_is_dropped_is_sent_or_has_a_row_with_the_reason() {
    let folder = folder();
    let (_site, url) = serve(&folder, &["--upload", "--upload-parents"]);
    let local = tempfile::tempdir().expect("create temporary directory");
    for name in ["tree/empty", "tree/closed"] {
        fs::create_dir_all(local.path().join(name)).expect("create directory");
    }
    let names = [
        "first.txt",
        "locked.txt",
        "tree/locked.txt",
        "tree/within.txt",
        "last.txt",
    ];
    for name in names {
        fs::write(local.path().join(name), name).expect("write file");
    }
    let browser = Browser::start();
    browser.open(&url);
    // A browser that runs as root can read all files.
    browser.script(
        "const deny = (resolve, reject) => reject(new DOMException('denied')); \
         const patch = (prototype, method, name, denied) => { \
         const original = prototype[method]; \
         if (original) prototype[method] = function (...args) { \
         return this.name === name ? denied(...args) : original.apply(this, args); }; }; \
         const { webkitGetAsEntry } = DataTransferItem.prototype; \
         const patched = new Set(); \
         DataTransferItem.prototype.webkitGetAsEntry = function () { \
         const entry = webkitGetAsEntry.call(this); \
         const prototype = Object.getPrototypeOf(entry); \
         if (!patched.has(prototype)) { \
         patch(prototype, 'file', 'locked.txt', deny); \
         patch(prototype, 'createReader', 'closed', () => ({ readEntries: deny })); } \
         patched.add(prototype); \
         return entry; };",
    );
    let paths = ["first.txt", "locked.txt", "tree", "last.txt"].map(|name| local.path().join(name));
    drop_paths(&browser, &paths);
    for (name, state) in [
        ("first.txt", "done"),
        ("locked.txt", "failed"),
        ("tree/closed", "failed"),
        ("tree/empty/", "failed"),
        ("tree/locked.txt", "failed"),
        ("tree/within.txt", "done"),
        ("last.txt", "done"),
    ] {
        assert_eq!(ended(&browser, name).state, state, "{name}");
        let is_stored = folder.path().join(name).exists();
        assert_eq!(is_stored, state == "done", "{name}");
    }
    let shown = browser.script("return document.querySelector('.summary').textContent");
    assert!(
        shown.to_string().contains("3 of 7 uploaded, 4 failed"),
        "{shown}"
    );
}

#[test]
#[ignore = "needs Chromium and chromedriver"]
fn failed_upload_says_why_and_is_retried_only_where_it_can_succeed() {
    let folder = folder();
    fs::create_dir(folder.path().join("gone")).expect("create directory");
    let (mut site, url) = serve(&folder, &["--upload", "--upload-max=1MiB"]);
    let browser = Browser::start();
    browser.open(&format!("{url}gone/"));
    fs::remove_dir(folder.path().join("gone")).expect("remove directory");
    for (name, len, is_retried, reason) in [
        ("large.bin", (1 << 20) + 1, false, "1 MiB"),
        (".hidden", 1, false, "not served"),
        // The server rejects it before it knows in which format the client reads errors.
        ("back\\slash", 1, false, "backslash in the path"),
        ("new.txt", 1, true, "folder"),
    ] {
        choose(&browser, &[(name, len)]);
        let upload = ended(&browser, name);
        let expected = if is_retried { "Retry,Remove" } else { "Remove" };
        assert_eq!(upload.buttons, expected, "{name}");
        assert!(upload.text.contains(reason), "{name}: {}", upload.text);
    }
    fs::create_dir(folder.path().join("gone")).expect("create directory");
    press_button(&browser, "new.txt", "Retry");
    wait_for_state(&browser, "new.txt", "done");

    site.signal(Signal::TERM);
    site.child.wait_for_exit();
    choose(&browser, &[("lost.txt", 1)]);
    assert_eq!(ended(&browser, "lost.txt").buttons, "Retry,Remove");
    // As if it had been deleted since it was selected.
    browser.script("Blob.prototype.arrayBuffer = () => Promise.reject(new DOMException('gone'))");
    choose(&browser, &[("deleted.txt", 1)]);
    assert_eq!(ended(&browser, "deleted.txt").buttons, "Remove");
}

#[test]
#[ignore = "needs Chromium and chromedriver"]
fn uploads_show_progress_and_can_be_cancelled_and_retried() {
    let folder = folder();
    let args = ["--upload", "--upload-max=16MiB", "--bandwidth=1MiB"];
    let (_site, url) = serve(&folder, &args);
    let browser = Browser::start();
    browser.open(&url);
    let names = ["a.bin", "b.bin", "c.bin", "d.bin"];
    choose(&browser, &names.map(|name| (name, 15 << 20)));
    // With a rate, the time that is left, and three at a time.
    browser.wait_for(
        "return /MiB of 15.0 MiB, .*\\/s, .* left/.test(document.querySelector('.jobs').innerText)",
    );
    let count = |state: &str| {
        browser.script(&format!(
            "return document.querySelectorAll('.jobs .{state}').length"
        ))
    };
    assert_eq!((count("sending"), count("waiting")), (json!(3), json!(1)));
    press_button(&browser, "a.bin", "Cancel");
    wait_for_state(&browser, "a.bin", "cancelled");
    wait_for_state(&browser, "d.bin", "sending");
    press_button(&browser, "a.bin", "Retry");
    wait_for_state(&browser, "a.bin", "waiting");
    browser.script(
        "[...document.querySelectorAll('.summary button')]\
         .find((it) => it.textContent === 'Cancel all').click()",
    );
    for name in names {
        wait_for_state(&browser, name, "cancelled");
        assert!(!folder.path().join(name).exists());
    }
    choose(&browser, &[("large.bin", 17 << 20)]);
    wait_for_state(&browser, "large.bin", "failed");
}

#[test]
#[ignore = "needs Chromium and chromedriver"]
fn previews_links_and_times_work_by_keyboard() {
    let folder = folder();
    let (_site, url) = serve(&folder, &[]);
    let browser = Browser::start();
    browser.devtools(
        "Emulation.setTimezoneOverride",
        &json!({ "timezoneId": "Asia/Tokyo" }),
    );
    browser.open(&url);
    let [shown, title] = ["textContent", "title"].map(|of| {
        let script = format!("return document.querySelector('#entries time').{of}");
        browser
            .script(&script)
            .as_str()
            .unwrap_or_default()
            .to_owned()
    });
    assert!(title.ends_with(" UTC"), "{title}");
    assert!(!title.starts_with(&shown), "{shown} {title}");

    browser.script("document.querySelector('#entries a[href=\"notes.txt\"]').focus()");
    browser.press(&[ENTER]);
    browser.wait_for(
        "return document.querySelector('dialog[open] pre')?.textContent === 'first line'",
    );
    browser.press(&[ESCAPE]);
    browser.wait_for("return !document.querySelector('dialog[open]')");
    let focused = "return document.activeElement.textContent";
    assert_eq!(browser.script(focused), json!("notes.txt"));
    // Its menu is next, and the first entry of the menu the preview.
    browser.press(&[TAB, ENTER]);
    browser.wait_for("return document.querySelector('menu:popover-open')");
    assert_eq!(browser.script(focused), json!("Preview"));
    browser.press(&[DOWN, ENTER]);
    browser.wait_for("return document.querySelector('.said').textContent === 'Link copied'");

    browser.click("#entries a[href=\"dawn.jpg\"]");
    browser.wait_for("return document.querySelector('dialog[open] img')?.naturalWidth > 0");
    browser.press(&[ESCAPE]);
    browser.click("#entries a[href=\"sub/\"]");
    browser.wait_for("return location.pathname === '/sub/'");
}

#[test]
#[ignore = "needs Chromium and chromedriver"]
fn readme_is_shown_without_its_html() {
    let folder = folder();
    let (_site, url) = serve(&folder, &[]);
    let browser = Browser::start();
    browser.open(&url);
    let name = folder.path().file_name().expect("a name").to_string_lossy();
    let heading = browser.script("return document.querySelector('h1').textContent");
    assert_eq!(heading, json!(name));
    // The script in it would have set another one.
    assert_eq!(browser.script("return document.title"), json!(name));
    let found = browser.script(
        "const readme = document.querySelector('.readme'); \
         return [readme.querySelector('h2').textContent, readme.querySelectorAll('td').length, \
         readme.innerText.includes('<script>')]",
    );
    assert_eq!(found, json!(["Title", 2, true]));
    let (_site, url) = serve(&folder, &["--readme", "off"]);
    browser.open(&url);
    assert_eq!(
        browser.script("return document.querySelector('.readme')"),
        Value::Null
    );
}

#[test]
#[ignore = "needs Chromium and chromedriver"]
fn focus_stays_at_the_uploads_when_its_button_is_gone() {
    let folder = folder();
    let (_site, url) = serve(&folder, &["--upload"]);
    let browser = Browser::start();
    browser.open(&url);
    let add = |name: &str| {
        choose(&browser, &[(name, 1)]);
        ended(&browser, name);
    };
    let press = |label: &str| {
        browser.script(&format!(
            "[...document.querySelectorAll('#upload button')].find((it) => \
             it.textContent === '{label}' && !it.closest('[hidden]')).focus()"
        ));
        browser.press(&[ENTER]);
    };
    let focused = || {
        browser.script(
            "const { activeElement: it } = document; \
             return [it.closest('.jobs li')?.querySelector('b').textContent, \
             it === document.body || (it.matches('button') ? it.textContent : '')]",
        )
    };
    add(".first");
    add(".second");
    press("Remove");
    assert_eq!(focused(), json!([".second", ""]));
    press("Remove");
    assert_eq!(focused(), json!([null, "Choose files"]));
    add("notes.txt");
    press("Keep both");
    wait_for_state(&browser, "notes.txt", "done");
    assert_eq!(focused(), json!(["notes.txt", ""]));
    press("Clear list");
    assert_eq!(focused(), json!([null, "Choose files"]));
}

/// Enter at a choice is for its file only, pressed again or held: the files after it wait for theirs.
#[test]
#[ignore = "needs Chromium and chromedriver"]
fn enter_pressed_again_or_held_replaces_no_other_file() {
    const NAMES: [&str; 3] = ["a.bin", "b.bin", "c.bin"];
    let folder = folder();
    let (_site, url) = serve(&folder, &["--upload", "--upload-overwrite", "--manage"]);
    let browser = Browser::start();
    let enter = |kind: &str, repeats: bool| {
        let event = json!({
            "type": kind, "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13,
            "text": "\r", "autoRepeat": repeats,
        });
        browser.devtools("Input.dispatchKeyEvent", &event);
    };
    let held = || {
        (0..12).for_each(|at| enter("keyDown", at > 0));
        enter("keyUp", false);
    };
    let pressed = || (0..4).for_each(|_| browser.press(&[ENTER]));
    let presses: [(&str, &dyn Fn()); 2] = [("held", &held), ("pressed", &pressed)];
    for (label, state) in [("Keep both", "done"), ("Skip", "skipped")] {
        for (how, press) in presses {
            let case = format!("{label} {how}");
            for name in NAMES {
                fs::write(folder.path().join(name), "old").expect("write file");
            }
            browser.open(&url);
            choose(&browser, &NAMES.map(|name| (name, 9)));
            for name in NAMES {
                assert_eq!(ended(&browser, name).state, "asking", "{case}");
            }
            browser.script(&format!(
                "[...document.querySelectorAll('.jobs li button')].find((it) => \
                 it.textContent === '{label}').focus()"
            ));
            press();
            if how == "held" {
                wait_for_state(&browser, "a.bin", state);
            }
            for name in &NAMES[1..] {
                assert_eq!(ended(&browser, name).state, "asking", "{case} {name}");
            }
            for name in NAMES {
                let content = fs::read(folder.path().join(name)).expect("read file");
                assert_eq!(content, b"old", "{case} {name}");
            }
        }
    }

    // The key that opens the question whether to delete does not answer it.
    browser.script("document.querySelector('.more[aria-label=\"Actions for notes.txt\"]').focus()");
    browser.press(&[ENTER, UP]);
    held();
    assert_eq!(
        browser.script("return document.querySelectorAll('dialog[open]').length"),
        json!(1)
    );
}

/// Files that ask are neither dropped by "Clear list" nor by leaving the page without a warning.
#[test]
#[ignore = "needs Chromium and chromedriver"]
fn files_that_ask_are_kept_until_they_are_cancelled() {
    let folder = folder();
    let (_site, url) = serve(&folder, &["--upload"]);
    let browser = Browser::start();
    browser.open(&url);
    let labels = || {
        browser.script(
            "return [...document.querySelectorAll('.summary button:not([hidden])')]\
             .map((it) => it.textContent).join()",
        )
    };
    // True if the page asks before it is left.
    let warns = || {
        browser.script(
            "const event = new Event('beforeunload', { cancelable: true }); \
             return !window.dispatchEvent(event)",
        )
    };
    choose(&browser, &[("new.bin", 1), ("notes.txt", 7)]);
    wait_for_state(&browser, "new.bin", "done");
    assert_eq!(ended(&browser, "notes.txt").state, "asking");
    browser.script(
        "[...document.querySelectorAll('.summary button')].find((it) => \
         it.textContent === 'Clear list').click()",
    );
    assert_eq!(ended(&browser, "notes.txt").state, "asking");
    assert_eq!((labels(), warns()), (json!("Cancel all"), json!(true)));
    browser.click(".summary button:not([hidden])");
    assert_eq!(ended(&browser, "notes.txt").state, "cancelled");
    assert_eq!((labels(), warns()), (json!("Clear list"), json!(false)));
}

/// A server may answer 412 to a request without conditions too.
#[test]
#[ignore = "needs Chromium and chromedriver"]
fn choice_that_is_answered_with_a_conflict_is_not_sent_again() {
    let folder = folder();
    let (_site, url) = serve(&folder, &["--upload", "--upload-overwrite"]);
    let browser = Browser::start();
    browser.open(&url);
    browser.script(
        "const { setRequestHeader, send } = XMLHttpRequest.prototype; \
         Object.assign(XMLHttpRequest.prototype, { \
           setRequestHeader(name, value) { \
             if (name !== 'If-None-Match') setRequestHeader.call(this, name, value); }, \
           send(body) { setRequestHeader.call(this, 'If-None-Match', '*'); send.call(this, body); } })",
    );
    let names = ["notes.txt", "other.bin"];
    choose(&browser, &names.map(|name| (name, 7)));
    for name in names {
        assert_eq!(ended(&browser, name).state, "asking", "{name}");
    }
    browser.script("document.querySelector('.jobs input[type=checkbox]').click()");
    press_button(&browser, "notes.txt", "Replace");
    for name in names {
        wait_for_state(&browser, name, "failed");
    }
}

/// Words of tables are not broken, and what is too wide is scrolled within the README.
#[test]
#[ignore = "needs Chromium and chromedriver"]
fn wide_readme_is_scrolled_on_a_phone() {
    let row = |cell: &str| format!("|{}\n", format!(" {cell} |").repeat(60));
    let table = row("Caddy") + &row("---") + &row("keep-alive timeout");
    let lists: String = (0..200).map(|level| "  ".repeat(level) + "- x\n").collect();
    let browser = Browser::start();
    browser.emulate(390, 844, "light");
    for (case, readme) in [
        ("table", table),
        ("quotes", "> ".repeat(5000) + "text\n"),
        ("lists", lists),
        ("word", "x".repeat(5000)),
    ] {
        let folder = tempfile::tempdir().expect("create temporary directory");
        fs::write(folder.path().join("README.md"), readme).expect("write file");
        let (_site, url) = serve(&folder, &[]);
        browser.open(&url);
        let found = browser.script(
            "const root = document.documentElement; \
             const cell = document.querySelector('.readme th'); \
             const lines = cell && document.createRange(); \
             lines?.selectNodeContents(cell); \
             return [root.scrollWidth - root.clientWidth, lines?.getClientRects().length ?? 1]",
        );
        assert_eq!(found, json!([0, 1]), "{case}");
    }
}

/// Returns the text with the lowest contrast to its background (WCAG 2.2 §1.4.3) as `[ratio, text]`.
const LOWEST_CONTRAST: &str = "
const channels = (color) => color.match(/[\\d.]+/g).map(Number);
const luminance = ([r, g, b]) => [r, g, b]
  .map((c) => c / 255)
  .map((c) => (c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
  .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
const background = (element) => {
  for (; element; element = element.parentElement) {
    const style = getComputedStyle(element);
    const [r, g, b, a = 1] = channels(style.backgroundColor);
    if (a === 1) return [r, g, b];
    const gradient = /rgb\\([^)]*\\)/.exec(style.backgroundImage);
    if (gradient && element.tagName === 'HEADER') return channels(gradient[0]);
  }
  return [255, 255, 255];
};
const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
let lowest = [21, ''];
for (let node; (node = texts.nextNode()); ) {
  const element = node.parentElement;
  if (!node.textContent.trim() || !element.checkVisibility({ visibilityProperty: true })) continue;
  if (element.closest('script, style, noscript')) continue;
  const [one, other] = [channels(getComputedStyle(element).color), background(element)].map(luminance);
  const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
  if (ratio < lowest[0]) lowest = [ratio, node.textContent];
}
return lowest;";

/// Returns the targets of a pointer that are smaller than 24 by 24 CSS pixels (WCAG 2.2 §2.5.8), except those
/// in a line of text and those that a label enlarges.
const SMALL_TARGETS: &str = "
return [...document.querySelectorAll('a, button, input, label')]
  .filter((it) => it.checkVisibility() && getComputedStyle(it).display !== 'inline' && !it.matches('label input'))
  .map((it) => [it.ariaLabel || it.textContent, it.getBoundingClientRect()])
  .filter(([, { width, height }]) => width < 24 || height < 24)
  .map(([name, { width, height }]) => `${name} ${width} ${height}`);";

#[test]
#[ignore = "needs Chromium and chromedriver"]
fn pages_are_readable_and_fit_desktops_and_phones() {
    let folder = folder();
    let long = format!("{}.txt", "long-name-without-a-space".repeat(8));
    fs::write(folder.path().join(long), "").expect("write file");
    let (site, url) = serve(&folder, &["--upload", "--admin=127.0.0.1:0"]);
    let admin = format!("http://{}/", site.admin.expect("an admin address"));
    let browser = Browser::start();
    for (width, height) in [(1280, 800), (390, 844)] {
        for scheme in ["light", "dark"] {
            for page in [url.clone(), format!("{url}none"), admin.clone()] {
                browser.emulate(width, height, scheme);
                browser.open(&page);
                let case = format!("{page} {width} {scheme}");
                if page == url {
                    choose(&browser, &[("notes.txt", 1), ("new.txt", 1)]);
                    wait_for_state(&browser, "notes.txt", "asking");
                    wait_for_state(&browser, "new.txt", "done");
                    fs::remove_file(folder.path().join("new.txt")).expect("remove file");
                }
                let lowest = browser.script(LOWEST_CONTRAST);
                assert!(lowest[0].as_f64() >= Some(4.5), "{case}: {lowest}");
                let overflow = browser
                    .script("return document.documentElement.scrollWidth - document.documentElement.clientWidth");
                assert_eq!(overflow, json!(0), "{case}");
                if page == url {
                    assert_eq!(browser.script(SMALL_TARGETS), json!([]), "{case}");
                }
            }
        }
    }
}

#[test]
#[ignore = "needs Chromium and chromedriver"]
fn folders_are_created_and_entries_renamed_and_deleted() {
    let folder = folder();
    let args = ["--upload", "--upload-parents", "--manage"];
    let (_site, url) = serve(&folder, &args);
    let browser = Browser::start();
    browser.open(&url);
    let listed = |name: &str| {
        let script = format!(
            "return [...document.querySelectorAll('#entries a')].some((a) => a.textContent === '{name}')"
        );
        browser.script(&script) == json!(true)
    };
    let wait_until_listed = |name: &str| {
        browser.wait_for(&format!(
            "return [...document.querySelectorAll('#entries a')].some((a) => a.textContent === '{name}')"
        ));
    };
    let menu = |name: &str, action: &str| {
        browser.script(&format!(
            "document.querySelector('.more[aria-label=\"Actions for {name}\"]').click(); \
             [...document.querySelectorAll('menu button')] \
             .find((it) => it.textContent === '{action}').click()"
        ));
    };
    browser.click("#new-folder");
    browser.press(&["n", "e", "w", ENTER]);
    wait_until_listed("new/");
    assert!(folder.path().join("new").is_dir());

    menu("notes.txt", "Rename");
    // The name without its extension is selected.
    browser.press(&["x", "#", "1", ENTER]);
    wait_until_listed("x#1.txt");
    assert!(!listed("notes.txt"));
    assert!(folder.path().join("x#1.txt").exists());
    menu("x#1.txt", "Rename");
    browser.press(&["o", ESCAPE]);

    menu("other.bin", "Delete");
    browser.press(&[ENTER]);
    browser.wait_for("return document.querySelector('.said').textContent === 'Deleted other.bin'");
    assert!(!listed("other.bin") && listed("x#1.txt"));
    assert!(!folder.path().join("other.bin").exists());

    // As a folder that is dropped.
    choose(&browser, &[("some/where/deep.txt", 3)]);
    let stored = folder.path().join("some/where/deep.txt");
    wait_for_state(&browser, "some/where/deep.txt", "done");
    assert!(stored.exists());
    wait_until_listed("some/");
}

#[test]
#[ignore = "needs Chromium and chromedriver"]
fn focus_follows_the_entry_that_is_changed() {
    let folder = folder();
    let (_site, url) = serve(&folder, &["--upload", "--manage"]);
    let browser = Browser::start();
    browser.open(&url);
    let message = |text: &str| {
        browser.wait_for(&format!(
            "return document.querySelector('.said').textContent === '{text}'"
        ));
    };
    let expect_focus = |name: &str| {
        let focused = browser.script(
            "const { activeElement: it } = document; \
             return it.closest('#entries tr')?.querySelector('a').textContent ?? it.id",
        );
        assert_eq!(focused, json!(name));
    };
    let focus_menu = |name: &str| {
        browser.script(&format!(
            "document.querySelector('.more[aria-label=\"Actions for {name}\"]').focus()"
        ));
    };
    let (rename, delete) = ([ENTER, UP, UP, ENTER], [ENTER, UP, ENTER]);

    browser.script("document.querySelector('#new-folder').focus()");
    browser.press(&[ENTER]);
    browser.press(&["n", "e", "w", ENTER]);
    message("Created new");
    expect_focus("new/");

    focus_menu("notes.txt");
    browser.press(&rename);
    browser.press(&["x", ENTER]);
    message("Renamed to x.txt");
    expect_focus("x.txt");

    focus_menu("other.bin");
    browser.press(&delete);
    browser.press(&[ENTER]);
    message("Deleted other.bin");
    expect_focus("README.md");
    browser.press(&delete);
    browser.press(&[ENTER]);
    message("Deleted README.md");
    // The last one has none after it.
    focus_menu("x.txt");
    browser.press(&delete);
    browser.press(&[ENTER]);
    message("Deleted x.txt");
    expect_focus("dawn.jpg");

    // It stays where it is when the list is read again for another reason.
    browser.click("#entries a[href=\"dawn.jpg\"]");
    choose(&browser, &[("a.txt", 1)]);
    browser.wait_for("return document.querySelector('#entries a[href=\"a.txt\"]')");
    browser.press(&[ESCAPE]);
    browser.wait_for("return document.querySelector('#preview').childElementCount === 0");
    expect_focus("dawn.jpg");
    focus_menu("sub/");
    choose(&browser, &[("b.txt", 1)]);
    browser.wait_for("return document.querySelector('#entries a[href=\"b.txt\"]')");
    expect_focus("sub/");
    // The menu has the focus while the list is read again, then the entry of the menu or what is shown.
    browser.press(&[ENTER]);
    choose(&browser, &[("c.txt", 1)]);
    browser.wait_for("return document.querySelector('#entries a[href=\"c.txt\"]')");
    browser.press(&[ESCAPE]);
    browser.wait_for("return document.activeElement.matches('.more')");
    expect_focus("sub/");
    focus_menu("a.txt");
    browser.press(&[ENTER]);
    choose(&browser, &[("d.txt", 1)]);
    browser.wait_for("return document.querySelector('#entries a[href=\"d.txt\"]')");
    browser.press(&[ENTER]);
    browser.wait_for("return document.querySelector('#preview').open");
    browser.press(&[ESCAPE]);
    browser.wait_for("return document.querySelector('#preview').childElementCount === 0");
    expect_focus("a.txt");

    for name in [
        "sub/", "new/", "a.txt", "b.txt", "c.txt", "d.txt", "dawn.jpg",
    ] {
        focus_menu(name);
        browser.press(&delete);
        browser.press(&[ENTER]);
        message(&format!("Deleted {name}"));
    }
    expect_focus("new-folder");
}
