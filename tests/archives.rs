//! Tests of folders as archives: formats, names, what is left out, limits, and what happens if a file
//! changes or the client disconnects.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Cursor, Read};
#[cfg(feature = "cli")]
use std::os::unix::fs::PermissionsExt;
use std::os::unix::fs::{FileExt, symlink};
use std::path::Path;

use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, mkdirat, mkfifoat, openat};
#[cfg(feature = "cli")]
use rustix::process::geteuid;
use tempfile::TempDir;
use tws::site::{Archive, Listing, Site};
use tws::{Router, StaticFiles};

#[cfg(feature = "cli")]
use crate::support::TwsProcess;
use crate::support::{HttpResponse, TestServer, eventually, pattern};

/// The entries of an archive: names with a slash at the end for folders, and contents.
type Entries = BTreeMap<String, Vec<u8>>;

fn serve(root: &Path, change: impl FnOnce(&mut Site)) -> TestServer {
    let mut site = Site::default();
    site.listing = Listing::On;
    change(&mut site);
    TestServer::start(StaticFiles::with_site(root, &site).expect("open site root"))
}

/// Returns a folder with a root in it that has files, links and names of all kinds.
fn tree() -> TempDir {
    let outside = tempfile::tempdir().expect("create temporary directory");
    let at = |name: &str| outside.path().join(name);
    fs::create_dir_all(at("share/sub/empty")).expect("create directory");
    fs::create_dir_all(at("share/.git")).expect("create directory");
    fs::write(at("secret"), "secret").expect("write file");
    fs::write(at("share/a b.txt"), "text").expect("write file");
    fs::write(at("share/sub/data.bin"), pattern(300_000)).expect("write file");
    fs::write(at("share/sub/none"), "").expect("write file");
    fs::write(at("share/.git/config"), "hidden").expect("write file");
    fs::write(at("share/.tws.toml"), "").expect("write file");
    let long = "long ".repeat(40);
    fs::write(at(&format!("share/{long}.txt")), "long").expect("write file");
    symlink("../secret", at("share/out")).expect("create symlink");
    symlink("a b.txt", at("share/link")).expect("create symlink");
    symlink("..", at("share/sub/loop")).expect("create symlink");
    mkfifoat(CWD, at("share/fifo"), Mode::RUSR).expect("create FIFO");
    outside
}

fn expected() -> Entries {
    let long = format!("share/{}.txt", "long ".repeat(40));
    let entries: [(&str, Vec<u8>); 8] = [
        ("share/", Vec::new()),
        ("share/a b.txt", b"text".to_vec()),
        ("share/link", b"text".to_vec()),
        (&long, b"long".to_vec()),
        ("share/sub/", Vec::new()),
        ("share/sub/data.bin", pattern(300_000)),
        ("share/sub/empty/", Vec::new()),
        ("share/sub/none", Vec::new()),
    ];
    entries
        .map(|(name, content)| (name.to_owned(), content))
        .into()
}

/// Sends a request and reads the response, which may be chunked.
fn request(server: &TestServer, method: &str, path: &str, fields: &str) -> HttpResponse {
    let mut client = server.client();
    client.send(format!(
        "{method} {path} HTTP/1.1\r\nHost: test\r\n{fields}\r\n"
    ));
    let mut response = client.head();
    if method != "HEAD" {
        response.content = match response.length() {
            Some(len) => client.read(len as usize),
            None => client.chunks(),
        };
    }
    response
}

fn get(server: &TestServer, path: &str) -> HttpResponse {
    request(server, "GET", path, "")
}

fn untar(archive: impl Read) -> Entries {
    let mut archive = tar::Archive::new(archive);
    let entries = archive.entries().expect("tar archive");
    let entry = |entry: std::io::Result<tar::Entry<'_, _>>| {
        let mut entry = entry.expect("tar entry");
        let name = String::from_utf8(entry.path_bytes().into_owned()).expect("UTF-8");
        let mut content = Vec::new();
        entry
            .read_to_end(&mut content)
            .expect("content of tar entry");
        (name, content)
    };
    entries.map(entry).collect()
}

fn unzip(archive: Vec<u8>) -> Entries {
    let mut archive = zip::ZipArchive::new(Cursor::new(archive)).expect("zip archive");
    let count = archive.len();
    let entry = |at| {
        let mut entry = archive.by_index(at).expect("zip entry");
        let mut content = Vec::new();
        // The reader compares the checksum.
        entry
            .read_to_end(&mut content)
            .expect("content of zip entry");
        let name = entry.name().expect("UTF-8").into_owned();
        (name, content)
    };
    (0..count).map(entry).collect()
}

#[test]
fn archive_in_each_format_has_the_files_that_are_served() {
    let outside = tree();
    let server = serve(&outside.path().join("share"), |_| {});
    let get = |query: &str, media_type: &str, extension: &str| {
        let response = get(&server, &format!("/?{query}"));
        assert_eq!(response.status, 200, "{}", response.text());
        assert_eq!(response.field("Content-Type"), Some(media_type));
        let disposition = response.field("Content-Disposition").expect("a file name");
        let name = format!("filename=\"share.{extension}\"");
        assert!(disposition.contains(&name), "{disposition}");
        response.content
    };
    let tar = get("download=tar", "application/x-tar", "tar");
    assert_eq!(untar(&tar[..]), expected());
    for query in ["zip", "download=zip"] {
        let zip = get(query, "application/zip", "zip");
        assert_eq!(unzip(zip), expected());
    }
    #[cfg(feature = "compress")]
    for query in ["download=tar_gz", "download=tar.gz"] {
        let gz = get(query, "application/gzip", "tar.gz");
        assert_eq!(untar(flate2::read::GzDecoder::new(&gz[..])), expected());
    }
    #[cfg(feature = "compress")]
    {
        let zst = get("download=tar.zst", "application/zstd", "tar.zst");
        let decoder = zstd::stream::read::Decoder::new(&zst[..]).expect("zstd");
        assert_eq!(untar(decoder), expected());
    }
}

#[test]
fn archive_has_only_files_that_can_be_requested() {
    let outside = tempfile::tempdir().expect("create temporary directory");
    let root = outside.path().join("share");
    for name in [
        "open.txt",
        "page/index.html",
        "moved/x.txt",
        "rewritten/y.txt",
        "logo",
        "only/z.txt",
    ] {
        let path = root.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("create directory");
        fs::write(path, name).expect("write file");
    }
    let rules = "listing = 'on'\n\
                 [[redirect]]\nfrom = '/moved/*'\nto = '/open.txt'\n\
                 [[redirect]]\nfrom = '/*/index.html'\nto = '/$1/'\n\
                 [[rewrite]]\nfrom = '/rewritten/*'\nto = '/open.txt'\n\
                 [[rewrite]]\nfrom = '/only/*'\nto = '/$1'\nmissing = true\n\
                 [[route]]\npath = '/logo'\nfile = 'open.txt'\n";
    let server = serve(&root, |site| *site = toml::from_str(rules).expect("a site"));
    let tar = get(&server, "/?download=tar");
    let names: Vec<String> = untar(&tar.content[..]).into_keys().collect();
    let files: Vec<&str> = names
        .iter()
        .filter(|name| !name.ends_with('/'))
        .map(String::as_str)
        .collect();
    assert_eq!(
        files,
        [
            "share/only/z.txt",
            "share/open.txt",
            "share/page/index.html"
        ]
    );
    let rewritten = get(&server, "/rewritten/?download=tar");
    assert_eq!(rewritten.content, b"open.txt");
}

#[test]
fn archive_of_a_subfolder_has_its_name() {
    let outside = tree();
    let server = serve(&outside.path().join("share"), |_| {});
    let tar = get(&server, "/sub/?download=tar");
    let names: Vec<String> = untar(&tar.content[..]).into_keys().collect();
    // The link leads to a folder that is not above this one in the archive.
    for name in ["sub/data.bin", "sub/empty/", "sub/loop/a b.txt"] {
        assert!(names.iter().any(|found| found == name), "{names:?}");
    }
    assert!(
        names.iter().all(|name| name.starts_with("sub/")),
        "{names:?}"
    );
    assert!(
        names.iter().all(|name| !name.contains("loop/sub/")),
        "{names:?}"
    );
    let head = request(&server, "HEAD", "/sub/?download=tar", "");
    assert_eq!((head.status, head.content.len()), (200, 0));
    assert!(head.field("Content-Disposition").is_some());
}

#[test]
fn archive_of_an_empty_folder_has_that_folder() {
    let outside = tree();
    let server = serve(&outside.path().join("share"), |_| {});
    let expected = Entries::from([("empty/".to_owned(), Vec::new())]);
    let content = |format: &str| {
        let path = format!("/sub/empty/?download={format}");
        get(&server, &path).content
    };
    assert_eq!(untar(&content("tar")[..]), expected);
    assert_eq!(unzip(content("zip")), expected);
}

/// A prefix may be a secret, and the archive is passed on.
#[test]
fn archive_name_lacks_the_prefix_of_the_site() {
    let outside = tree();
    let mut site = Site::default();
    site.listing = Listing::On;
    let root = outside.path().join("share");
    let files = StaticFiles::with_site(&root, &site).expect("open site root");
    let router = Router::new().nest("/secret", Router::new().fallback(files));
    let server = TestServer::start(router);
    for (path, name) in [("/secret/", "share"), ("/secret/sub/", "sub")] {
        let tar = get(&server, &format!("{path}?download=tar"));
        let disposition = tar.field("Content-Disposition").expect("a file name");
        let expected = format!("filename=\"{name}.tar\"");
        assert!(disposition.contains(&expected), "{disposition}");
        let names = untar(&tar.content[..]).into_keys();
        for entry in names {
            assert!(entry.starts_with(&format!("{name}/")), "{entry}");
        }
    }
}

#[test]
fn archive_of_hidden_or_missing_folder_is_404() {
    let outside = tree();
    let server = serve(&outside.path().join("share"), |_| {});
    for path in ["/.git/?zip", "/none/?zip", "/sub/none/?zip", "/%2e%2e/?zip"] {
        let status = get(&server, path).status;
        assert!(matches!(status, 400 | 404), "{path}: {status}");
    }
    // Without the slash at the end it is the path of a file.
    let redirect = get(&server, "/sub?zip");
    assert_eq!(redirect.field("Location"), Some("/sub/?zip"));
}

#[test]
fn archives_are_on_where_folders_are_listed() {
    let outside = tree();
    let root = outside.path().join("share");
    for (listing, archive, status) in [
        (Listing::On, Archive::Auto, 200),
        (Listing::On, Archive::Off, 403),
        (Listing::Off, Archive::Auto, 404),
        (Listing::Off, Archive::On, 200),
    ] {
        let server = serve(&root, |site| {
            site.listing = listing;
            site.archive = archive;
        });
        let response = get(&server, "/?zip");
        assert_eq!(response.status, status, "{listing:?} {archive:?}");
        let page = request(&server, "GET", "/", "Accept: text/html\r\n");
        let has_links = page.text().contains("?download=zip");
        assert_eq!(has_links, listing == Listing::On && status == 200);
    }
}

#[test]
fn unknown_format_is_400_and_too_much_is_403() {
    let outside = tree();
    let root = outside.path().join("share");
    let server = serve(&root, |_| {});
    assert_eq!(get(&server, "/?download=rar").status, 400);
    let limited = |max: &str| {
        serve(&root, |site| {
            site.archive_max = Some(max.parse().expect("a size"));
        })
    };
    let request =
        |server: &TestServer| request(server, "GET", "/?zip", "Accept: application/json\r\n");
    let refused = request(&limited("200 KiB"));
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert_eq!(refused.field("Content-Type"), Some("application/json"));
    assert_eq!(request(&limited("300 KiB")).status, 200);
}

const MORE_THAN_FITS_BUFFERS: u64 = 64 << 20;

/// An archive with a large file, of which the client has read the beginning only.
fn begun(name: &str) -> (TempDir, TestServer, crate::support::Client) {
    let folder = tempfile::tempdir().expect("create temporary directory");
    create_large_file(&folder.path().join(name));
    let (server, client) = begun_archive(folder.path());
    (folder, server, client)
}

fn create_large_file(path: &Path) {
    let file = File::create(path).expect("create file");
    file.set_len(MORE_THAN_FITS_BUFFERS).expect("set length");
}

fn begun_archive(root: &Path) -> (TestServer, crate::support::Client) {
    let server = serve(root, |_| {});
    let mut client = server.client();
    client.send("GET /?download=tar HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.head().status, 200);
    client.chunk();
    (server, client)
}

/// The large file is the first one in the archive. When it is sent, the entries of `top` are known, and
/// those of `top/later` are not read yet.
#[test]
fn archive_breaks_off_if_an_entry_is_gone_before_its_turn() {
    type Change = fn(&Path);
    let changes: [(&str, bool, Change); 7] = [
        ("nothing", true, |_| {}),
        ("new entries", true, |root| {
            fs::write(root.join("later/0"), "new").expect("write file");
            fs::create_dir(root.join("later/new")).expect("create directory");
        }),
        ("file of a known folder", false, |root| {
            fs::remove_file(root.join("z.txt")).expect("remove file");
        }),
        ("file of a later folder", false, |root| {
            fs::remove_file(root.join("later/y.txt")).expect("remove file");
        }),
        ("renamed file", false, |root| {
            let to = root.join("first/y.txt");
            fs::rename(root.join("later/y.txt"), to).expect("rename file");
        }),
        ("folder", false, |root| {
            fs::remove_dir_all(root.join("later")).expect("remove directory");
        }),
        ("file that is a folder now", false, |root| {
            fs::remove_file(root.join("later/y.txt")).expect("remove file");
            fs::create_dir(root.join("later/y.txt")).expect("create directory");
        }),
    ];
    for (what, is_complete, change) in changes {
        let folder = tempfile::tempdir().expect("create temporary directory");
        let root = folder.path();
        for name in ["first", "later"] {
            fs::create_dir(root.join(name)).expect("create directory");
        }
        create_large_file(&root.join("first/large"));
        for name in ["later/x.txt", "later/y.txt", "z.txt"] {
            fs::write(root.join(name), name).expect("write file");
        }
        let (_server, mut client) = begun_archive(root);
        change(root);
        client.end_input();
        let rest = client.rest_or_reset();
        assert_eq!(rest.ends_with(b"\r\n0\r\n\r\n"), is_complete, "{what}");
    }
}

/// Creates folders whose path is longer than the kernel resolves, with a file in each.
fn create_deep_folders(root: &Path) {
    let open = |folder: &OwnedFd, name: &str| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(folder, name, flags, Mode::empty()).expect("open directory")
    };
    let mut folder = OwnedFd::from(File::open(root).expect("open directory"));
    let name = "d".repeat(250);
    for _ in 0..18 {
        mkdirat(&folder, &name, Mode::RWXU).expect("create directory");
        folder = open(&folder, &name);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        openat(&folder, "file.txt", flags, Mode::RUSR).expect("create file");
    }
}

#[test]
fn archive_lists_what_the_server_cannot_read() {
    let folder = tempfile::tempdir().expect("create temporary directory");
    let root = folder.path().join("share");
    fs::create_dir(&root).expect("create directory");
    create_deep_folders(&root);
    fs::write(root.join("Missing-files.txt"), "own").expect("write file");
    let server = serve(&root, |_| {});
    let entries = untar(&get(&server, "/?download=tar").content[..]);
    assert_eq!(entries["share/Missing-files.txt"], b"own");
    let list = &entries["share/MISSING-FILES (2).txt"];
    let list = String::from_utf8_lossy(list);
    let longest = entries.keys().map(String::len).max().expect("an entry");
    let deep = list.lines().filter(|line| line.starts_with("ddd"));
    let names: Vec<_> = deep
        .map(|line| line.rsplit_once(": ").expect("a reason").0)
        .collect();
    assert!((4000..4200).contains(&longest), "{longest}");
    // The path of the first folder whose path is too long, or that of its file.
    assert_eq!(names.len(), 1, "{list}");
    assert!(names[0].len() > 4095, "{list}");
    let files = entries.keys().filter(|name| name.ends_with("/file.txt"));
    assert_eq!(files.count(), 16);
    assert_eq!(unzip(get(&server, "/?zip").content).len(), entries.len());
}

#[test]
fn archive_breaks_off_if_a_file_changes() {
    for shrinks in [false, true] {
        let (folder, _server, mut client) = begun("large");
        let file = File::options()
            .write(true)
            .open(folder.path().join("large"));
        let file = file.expect("open file");
        if shrinks {
            file.set_len(1 << 20).expect("set length");
        } else {
            file.write_at(b"x", 0).expect("write file");
        }
        let rest = client.rest_or_reset();
        assert!(!rest.ends_with(b"\r\n0\r\n\r\n"), "the end looks complete");
    }
}

#[test]
fn archive_with_a_file_that_does_not_change_is_complete() {
    let (_folder, _server, mut client) = begun("large");
    let mut len = 0;
    loop {
        let chunk = client.chunk();
        if chunk.is_empty() {
            break;
        }
        len += chunk.len();
    }
    assert!(len as u64 + (1 << 20) > MORE_THAN_FITS_BUFFERS, "{len}");
}

#[test]
fn client_has_a_share_of_the_archives_until_it_disconnects() {
    const SHARE: usize = 8;
    let (_folder, server, first) = begun("large");
    let others: Vec<_> = (1..SHARE)
        .map(|_| {
            let mut client = server.client();
            client.send("GET /?download=tar HTTP/1.1\r\nHost: test\r\n\r\n");
            assert_eq!(client.head().status, 200);
            client
        })
        .collect();
    assert_eq!(get(&server, "/?download=tar").status, 503);
    drop(first);
    drop(others);
    let head = || request(&server, "HEAD", "/?download=tar", "");
    eventually!(|| head().status == 200);
}

/// The real program as a user without permission for some entries.
#[cfg(feature = "cli")]
#[test]
fn archive_lists_entries_without_permission() {
    let outside = tempfile::tempdir().expect("create temporary directory");
    let root = outside.path().join("share");
    for name in ["open", "closed", "unsearchable"] {
        fs::create_dir_all(root.join(name)).expect("create directory");
        fs::write(root.join(name).join("x.txt"), name).expect("write file");
    }
    fs::write(root.join("secret"), "secret").expect("write file");
    for (name, mode) in [
        ("..", 0o755),
        ("closed", 0o700),
        ("unsearchable", 0o744),
        ("secret", 0o600),
    ] {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(root.join(name), mode).expect("set permissions");
    }
    if !geteuid().is_root() {
        return eprintln!("only root can change to another user");
    }
    let args = [
        "--user=4000000001",
        "--group=4000000001",
        "--listing=on",
        "--access-log=off",
        ".",
    ];
    let site = TwsProcess::start(&root, &args);
    let mut client = site.client();
    client.send("GET /?download=tar HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(client.head().status, 200);
    let entries = untar(&client.chunks()[..]);
    let names: Vec<_> = entries.keys().map(String::as_str).collect();
    let expected = [
        "share/",
        "share/MISSING-FILES.txt",
        "share/open/",
        "share/open/x.txt",
        "share/unsearchable/",
    ];
    assert_eq!(names, expected);
    let list = String::from_utf8_lossy(&entries["share/MISSING-FILES.txt"]);
    let missing: Vec<_> = list
        .lines()
        .filter_map(|line| line.split_once(": "))
        .collect();
    let names: Vec<_> = missing.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["closed/", "unsearchable/x.txt", "secret"]);
}
