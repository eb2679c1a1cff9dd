use super::*;

#[test]
fn formats_are_told_by_their_magic_numbers() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n";
    for (coding, start, expected) in [
        (Coding::Gzip, &b"\x1F\x8B\x08"[..], true),
        (Coding::Gzip, b"\x1F", false),
        (Coding::Gzip, b"", false),
        (Coding::Gzip, pointer, false),
        (Coding::Zstd, b"\x28\xB5\x2F\xFD", true),
        (Coding::Zstd, b"\x5F\x2A\x4D\x18", true),
        (Coding::Zstd, b"\x1F\x8B\x08\x00", false),
        (Coding::Zstd, b"", false),
        (Coding::Brotli, b"\x0B", true),
        (Coding::Brotli, b"", false),
        (Coding::Brotli, pointer, false),
    ] {
        assert_eq!(
            is_in_format(coding, start),
            expected,
            "{coding:?} {start:?}"
        );
    }
}

#[cfg(feature = "compress")]
#[test]
fn sidecars_are_written_where_they_are_smaller() -> Result<(), Error> {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let write = |name: &str, content: &[u8]| fs::write(at(name), content).expect("a file");
    fs::create_dir_all(at("a/b")).expect("a folder");
    write("a/b/text.html", &b"<p>text</p>\n".repeat(1000));
    write("tiny.txt", b"t");
    write("empty.txt", b"");
    write("photo.png", &[7; 5000]);
    write(".hidden.txt", &[7; 5000]);
    std::os::unix::fs::symlink("a/b/text.html", at("link.html")).expect("a link");
    let rules = Rules::new(&Site::default())?;
    let done = AtomicUsize::new(0);
    let sidecars = Sidecars::find(folder.path())?;
    let bytes = sidecars.bytes();
    let report = sidecars.write(4, |len| {
        done.fetch_add(len as usize, Ordering::Relaxed);
    });
    assert_eq!((report.written, report.not_smaller), (3, 6), "{report:?}");
    assert_eq!(report.errors, Vec::<String>::new());
    assert_eq!(done.into_inner() as u64, bytes);
    let source = fs::metadata(at("a/b/text.html")).and_then(|file| file.modified());
    for extension in ["br", "zst", "gz"] {
        let path = at(&format!("a/b/text.html.{extension}"));
        let sidecar = fs::metadata(&path).expect("a sidecar");
        assert!(sidecar.len() < 1000);
        assert_eq!(sidecar.modified().ok(), source.as_ref().ok().copied());
    }
    let names = fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(names, 6, "no temporary file is left");
    assert_eq!(invalid(folder.path(), &rules), Vec::<String>::new());
    let again = Sidecars::find(folder.path())?.write(1, |_| {});
    assert_eq!((again.written, again.up_to_date), (0, 3));
    write("a/b/text.html.gz", b"");
    write(
        "a/b/text.html.zst",
        b"version https://git-lfs.github.com/spec/v1\n",
    );
    write("a/b/other.gz", b"no sidecar");
    assert_eq!(invalid(folder.path(), &rules).len(), 2);
    // They are replaced, although a checkout may have given them the time of the original.
    for extension in ["gz", "zst"] {
        let damaged = OpenOptions::new()
            .write(true)
            .open(at(&format!("a/b/text.html.{extension}")))
            .expect("a sidecar");
        let modified = *source.as_ref().expect("a time");
        damaged.set_modified(modified).expect("set the time");
    }
    let repaired = Sidecars::find(folder.path())?.write(1, |_| {});
    assert_eq!((repaired.written, repaired.up_to_date), (2, 1));
    assert_eq!(invalid(folder.path(), &rules), Vec::<String>::new());
    Ok(())
}

/// What may be nowhere else is neither replaced nor removed.
#[cfg(feature = "compress")]
#[test]
fn files_that_only_have_the_name_of_a_sidecar_are_kept() -> Result<(), Error> {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    let write = |name: &str, content: &[u8]| fs::write(at(name), content).expect("a file");
    let encoded = |content: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(content).expect("compressed");
        encoder.finish().expect("compressed")
    };
    write("text.txt", &b"some text\n".repeat(1000));
    write("text.txt.gz", b"mine");
    fs::create_dir(at("text.txt.zst")).expect("a folder");
    // Older than its file, so not served, and a new one would be no smaller.
    write("tiny.txt", b"t");
    write("x.tar", &[0; 5000]);
    write("x.tar.gz", b"mine");
    let backup = encoded(b"backup");
    write("tiny.txt.gz", &backup);
    let file = OpenOptions::new().write(true).open(at("tiny.txt.gz"));
    let old = SystemTime::UNIX_EPOCH;
    file.and_then(|file| file.set_modified(old))
        .expect("a time");
    let report = Sidecars::find(folder.path())?.write(2, |_| {});
    assert_eq!((report.written, report.removed.len()), (1, 0), "{report:?}");
    assert_eq!(report.errors.len(), 2, "{report:?}");
    assert_eq!(fs::read(at("text.txt.gz")).ok(), Some(b"mine".to_vec()));
    assert!(at("text.txt.zst").is_dir());
    assert_eq!(fs::read(at("tiny.txt.gz")).ok(), Some(backup.clone()));
    // Newer, but it may be incomplete: it is not served yet.
    write("tiny.txt.gz", &backup);
    write("text.txt.br", b"no brotli");
    let report = Sidecars::find(folder.path())?.write(2, |_| {});
    assert_eq!((report.errors.len(), report.removed.len()), (4, 0));
    assert_eq!(fs::read(at("tiny.txt.gz")).ok(), Some(backup));
    // It is served.
    let served = SystemTime::now() - std::time::Duration::from_secs(10);
    for (name, time) in [("tiny.txt", old), ("tiny.txt.gz", served)] {
        let file = OpenOptions::new().write(true).open(at(name));
        file.and_then(|file| file.set_modified(time))
            .expect("a time");
    }
    let report = Sidecars::find(folder.path())?.write(2, |_| {});
    assert_eq!(report.removed, [at("tiny.txt.gz")]);
    assert!(!at("tiny.txt.gz").exists());
    Ok(())
}

#[test]
fn file_that_appears_or_changes_meanwhile_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let sidecar = folder.path().join("a.gz");
    assert_eq!(Existing::None.overwrite_policy(), OverwritePolicy::Keep);
    fs::write(&sidecar, "1").expect("a file");
    let existing = Existing::Wrong(fs::symlink_metadata(&sidecar).expect("a file"));
    assert_eq!(existing.overwrite_policy(), OverwritePolicy::Replace);
    existing.check_unchanged(&sidecar).expect("unchanged");
    let another = folder.path().join("b");
    fs::write(&another, "2").expect("a file");
    fs::rename(another, &sidecar).expect("renamed");
    existing.check_unchanged(&sidecar).expect_err("changed");
}
