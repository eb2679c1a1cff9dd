use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::symlink;
use std::process::Command;
use std::thread;

use tempfile::TempDir;

use super::*;

/// `srv/releases/{1,2}/public/page`, `srv/current` to the first, `outside/secret`, `logs`, `state`.
fn machine() -> TempDir {
    let machine = tempfile::tempdir().expect("a folder");
    let at = |name: &str| machine.path().join(name);
    for release in ["1", "2"] {
        let public = at("srv/releases").join(release).join("public");
        fs::create_dir_all(&public).expect("a folder");
        fs::write(public.join("page"), release).expect("a file");
    }
    symlink("releases/1", at("srv/current")).expect("a link");
    for folder in ["outside", "logs", "state"] {
        fs::create_dir(at(folder)).expect("a folder");
    }
    fs::write(at("outside/secret"), "secret").expect("a file");
    fs::write(at("logs/access.log"), "a line\n").expect("a file");
    machine
}

/// Runs `attempts` in the sandbox, on a thread that ends with them. Returns false if the kernel has no
/// Landlock.
fn inside(sandbox: Sandbox, attempts: impl FnOnce() + Send) -> bool {
    thread::scope(|scope| {
        let confined = scope.spawn(|| {
            let status = sandbox.enter().expect("no error");
            // The file is readable without Landlock.
            if let Ok(text) = fs::read_to_string("/proc/thread-self/status") {
                assert!(text.contains("NoNewPrivs:\t1"), "{text}");
            }
            if let SandboxStatus::Unsupported(reason) = status {
                eprintln!("not tested: {reason}");
                return false;
            }
            assert!(matches!(status, SandboxStatus::Enforced(_)), "{status}");
            // Threads started later inherit the sandbox.
            thread::scope(|scope| scope.spawn(attempts).join()).expect("no panic");
            true
        });
        confined.join().expect("no panic")
    })
}

#[track_caller]
fn denied<T>(result: std::io::Result<T>) {
    let error = result.err().expect("an error");
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
}

#[test]
fn served_root_is_read_only_and_all_else_is_denied() {
    let machine = machine();
    let at = |name: &str| machine.path().join(name);
    let root = at("srv/releases/1/public");
    let mut sandbox = Sandbox::new();
    sandbox.allow_root(&root, RootAccess::ReadOnly);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    symlink(at("outside/secret"), root.join("link")).expect("a link");
    inside(sandbox, || {
        assert_eq!(fs::read(root.join("page")).expect("allowed"), b"1");
        assert_eq!(fs::read_dir(&root).expect("allowed").count(), 2);
        for path in ["/etc/passwd", "/etc/shadow", "/proc/self/environ"] {
            if Path::new(path).exists() {
                denied(File::open(path));
            }
        }
        denied(File::open(at("outside/secret")));
        denied(File::open(root.join("link")));
        denied(File::open(root.join("../../2/public/page")));
        denied(fs::read_dir("/"));
        // Nothing is writable.
        let append = |path: &Path| OpenOptions::new().append(true).open(path);
        denied(append(&root.join("page")));
        denied(append(&at("logs/access.log")));
        denied(File::create(root.join("new")));
        denied(fs::create_dir(root.join("new")));
        denied(symlink("/", root.join("new")));
        denied(fs::remove_file(root.join("page")));
        denied(fs::rename(root.join("page"), root.join("new")));
        denied(File::create(at("outside/new")));
        denied(File::create(std::env::temp_dir().join("tws-was-here")));
        for shell in ["/bin/sh", "/usr/bin/env"] {
            denied(Command::new(shell).arg("-c").arg("true").status());
        }
        append(Path::new("/dev/null")).expect("allowed");
        if lacks_net() {
            return eprintln!("this kernel does not restrict connections");
        }
        denied(TcpStream::connect(address));
        denied(TcpListener::bind("127.0.0.1:0"));
    });
}

fn lacks_net() -> bool {
    let hard = landlock::CompatLevel::HardRequirement;
    let ruleset = landlock::Compatible::set_compatibility(Ruleset::default(), hard);
    ruleset.handle_access(AccessNet::BindTcp).is_err()
}

#[test]
fn uploads_logs_and_databases_are_writable_in_their_folders() {
    let machine = machine();
    let at = |name: &str| machine.path().join(name);
    let root = at("srv/releases/1/public");
    let mut sandbox = Sandbox::new();
    sandbox.allow_root(&root, RootAccess::Uploads);
    sandbox.allow_append(&at("logs/access.log"));
    sandbox.allow_database(&at("state/users.db"));
    inside(sandbox, || {
        File::create(root.join("new")).expect("allowed");
        fs::rename(root.join("new"), root.join("page")).expect("allowed");
        denied(File::create(at("srv/releases/2/public/new")));
        denied(symlink("/", root.join("link")));
        // A rotated log is created again; logs are neither readable nor removable.
        let append = |name: &str| {
            let file = OpenOptions::new().append(true).create(true).open(at(name));
            file.and_then(|mut file| file.write_all(b"a line\n"))
        };
        append("logs/access.log").expect("allowed");
        append("logs/access.log.1").expect("allowed");
        denied(File::open(at("logs/access.log")));
        denied(fs::remove_file(at("logs/access.log")));
        for name in ["state/users.db", "state/users.db-wal"] {
            fs::write(at(name), "one").expect("allowed");
            fs::write(at(name), "two").expect("allowed");
            fs::remove_file(at(name)).expect("allowed");
        }
        // Files cannot be renamed from one folder to the other (EXDEV).
        fs::rename(root.join("page"), at("state/page")).expect_err("denied");
        denied(append("outside/access.log"));
    });
}

#[test]
fn linked_root_allows_its_siblings_alone() {
    let machine = machine();
    let at = |name: &str| machine.path().join(name);
    for root in ["srv/current", "srv/current/", "srv/current/public"] {
        let mut sandbox = Sandbox::new();
        sandbox.allow_root(&at(root), RootAccess::ReadOnly);
        inside(sandbox, || {
            assert_eq!(
                fs::read(at("srv/releases/2/public/page")).expect("allowed"),
                b"2"
            );
            assert_eq!(
                fs::read(at("srv/current/public/page")).expect("allowed"),
                b"1"
            );
            denied(File::open(at("outside/secret")));
        });
    }
    assert_eq!(deployments(Path::new("/")), Path::new("/"));
    symlink("/etc", at("srv/etc")).expect("a link");
    let etc = Path::new("/etc").canonicalize().expect("a folder");
    assert_eq!(
        deployments(&at("srv/etc")),
        etc,
        "not its parent, which is /"
    );
}

#[test]
fn project_folder_is_allowed_but_not_home() {
    let home = tempfile::tempdir().expect("a folder");
    let home = home.path().canonicalize().expect("a folder");
    fs::create_dir_all(home.join("site/dist")).expect("folders");
    let of = |root: &str| project(&home.join(root), &home);
    assert_eq!(of("site/dist"), Some(home.join("site")));
    assert_eq!(of("site"), None);
    // A project elsewhere.
    let other = tempfile::tempdir().expect("a folder");
    let other = other.path().canonicalize().expect("a folder");
    fs::create_dir_all(other.join("site/dist")).expect("folders");
    let project_elsewhere = project(&other.join("site/dist"), &home);
    assert_eq!(project_elsewhere, Some(other.join("site")));
    if Path::new("/var/lib/dpkg").is_dir() {
        assert_eq!(project(Path::new("/var/lib/dpkg"), &home), None);
    }
    for shared in [
        "/",
        "/var",
        "/usr",
        "/opt",
        "/home",
        "/home/ana",
        "/var/lib",
    ] {
        assert!(is_shared(Path::new(shared)), "{shared}");
    }
    for own in [
        "/srv",
        "/app",
        "/data",
        "/var/www",
        "/opt/site",
        "/home/ana/site",
        "/tmp",
        "/dev/shm",
    ] {
        assert!(!is_shared(Path::new(own)), "{own}");
    }
    assert_eq!(project(Path::new("/usr/share"), &home), None);
    assert_eq!(project(Path::new("/usr/share"), Path::new("/")), None);
}

#[test]
fn replaced_single_file_is_readable() {
    let machine = machine();
    let at = |name: &str| machine.path().join(name);
    let mut sandbox = Sandbox::new();
    sandbox.allow_root(&at("srv/releases/1/public/page"), RootAccess::ReadOnly);
    let page = at("srv/releases/1/public/page");
    fs::write(at("outside/new"), "new").expect("a file");
    fs::rename(at("outside/new"), &page).expect("a file");
    inside(sandbox, || {
        assert_eq!(fs::read(&page).expect("allowed"), b"new");
        denied(File::open(at("srv/releases/2/public/page")));
    });
}

#[test]
fn followed_links_allow_reading_everywhere_but_no_writing() {
    let machine = machine();
    let at = |name: &str| machine.path().join(name);
    let mut sandbox = Sandbox::new();
    sandbox.allow_root(&at("srv/current"), RootAccess::ReadOnly);
    sandbox.allow_reading_everywhere();
    inside(sandbox, || {
        assert_eq!(fs::read(at("outside/secret")).expect("allowed"), b"secret");
        denied(File::create(at("outside/new")));
        denied(Command::new("/bin/sh").status());
    });
}

#[test]
fn database_server_is_reachable() {
    let machine = machine();
    let mut sandbox = Sandbox::new();
    sandbox.allow_connecting();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    inside(sandbox, || {
        TcpStream::connect(address).expect("allowed");
        fs::read("/etc/passwd").expect("allowed");
        denied(File::open(machine.path().join("outside/secret")));
    });
}

/// As repeated upgrades do.
#[test]
fn program_can_be_executed_at_every_nesting_depth() {
    let machine = machine();
    let program = std::env::current_exe().expect("a program");
    fn generation(left: u32, root: &Path, program: &Path) {
        let mut sandbox = Sandbox::new();
        sandbox.allow_root(root, RootAccess::ReadOnly);
        // Each sandbox is nested in the previous one; the kernel limits the depth to sixteen.
        let status = sandbox.enter().expect("no error");
        let output = Command::new(program).arg("--list").output();
        assert!(output.expect("allowed").status.success(), "{status}");
        if left > 0 {
            return thread::scope(|scope| {
                let next = scope.spawn(|| generation(left - 1, root, program));
                next.join().expect("no panic");
            });
        }
        if !matches!(status, SandboxStatus::Unsupported(_)) {
            assert!(matches!(status, SandboxStatus::Inherited), "{status}");
            denied(File::open("/etc/passwd"));
        }
    }
    thread::scope(|scope| {
        let first = scope.spawn(|| generation(17, machine.path(), &program));
        first.join().expect("no panic");
    });
}

#[test]
fn status_names_allowed_paths() {
    let mut sandbox = Sandbox::new();
    assert_eq!(
        SandboxStatus::Off.to_string(),
        "sandbox: off (--no-sandbox)"
    );
    sandbox.allow_root(Path::new("/"), RootAccess::Uploads);
    assert_eq!(list(&sandbox.readable), "/");
    assert_eq!(list(&sandbox.writable), "/");
}
