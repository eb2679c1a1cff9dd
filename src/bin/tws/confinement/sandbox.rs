//! The sandbox: what the process may still do once it listens, as Landlock enforces it.
//!
//! Nothing that is served needs it: paths are resolved beneath the root anyway. It is for the day
//! on which a mistake here, or in a library, lets somebody run code of theirs. It holds for the
//! thread that enters it and for those started later, so it is entered before there are others.
//!
//! What stays allowed:
//!
//! - To read beneath the roots. One that is reached through a link, which a deploy may switch, is
//!   read with its siblings: beneath the folder in which lies what the *last* link on its path
//!   leads to (`/srv/releases` for `/srv/current/public`, if `current` leads to
//!   `/srv/releases/42`), unless that is `/`. Links directly beneath `/` are the system's, and no
//!   deploy's. A single file is read with its folder, as editors replace files. If a site follows
//!   links anywhere (`symlinks = "follow"`), reading is not restricted at all.
//! - To read the file of `--config` and that of the passwords with their folders, as another file may
//!   have been put in their place when they are read again (SIGHUP). In `/` and in the home folder
//!   they are read alone, and what replaces them there is not: give them a folder.
//! - To write and rename files where uploads go; to append to access logs, and to what else is in
//!   their folders, for when they are reopened; to do in the users' folder what SQLite does. Who
//!   gives each a folder of its own gives nothing away.
//! - To connect to PostgreSQL, and to read `/etc` for its name, if users are there. Else no TCP
//!   connection is made. No TCP port is bound: listeners are open by then, or inherited.
//! - To execute what lies in this program's folder, with what its libraries need, so that the next
//!   version can be started from it; the program alone if it lies in `/` or in the home folder.
//! - To read what lies beside a root in somebody's project: `~/site/dist` is removed and built anew,
//!   so `~/site` is read, but never the home folder itself.
//!
//! What metrics tell of the process lies in `/proc` and is opened before. A program that is executed
//! from inside cannot open it, and tells less.
//!
//! What it does not do: elsewhere, a folder that is no link and is *replaced* by another of its name
//! cannot be read any more, nor can one outside that a link is switched to; the log says so and the
//! old one is served on. A program that this one executes inherits the sandbox: it reads site files and
//! passwords in the folders where they were. Landlock does not know UDP, and
//! does not keep anybody from looking at a file's name, size and times.

use std::fmt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd,
    RestrictSelfError, RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, make_bitflags,
};
use tws::Error;

/// What is asked for. Older kernels enforce what they know of it.
const VERSION: ABI = ABI::V7;

const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});
const EXECUTE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir | Execute});
const APPEND: BitFlags<AccessFs> = make_bitflags!(AccessFs::{WriteFile});
const APPEND_ANEW: BitFlags<AccessFs> = make_bitflags!(AccessFs::{WriteFile | MakeReg});
const STORE: BitFlags<AccessFs> =
    make_bitflags!(AccessFs::{ReadFile | ReadDir | WriteFile | MakeReg | RemoveFile});
const DATABASE: BitFlags<AccessFs> =
    make_bitflags!(AccessFs::{ReadFile | ReadDir | WriteFile | MakeReg | RemoveFile | Truncate});

/// The libraries of a program, which needs them again when it is executed again.
const LIBRARIES: [&str; 5] = [
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/etc/ld.so.cache",
];

/// What the C library reads to resolve a name, as after `--bind`, and where SQLite finds chance.
const COMMON: [&str; 7] = [
    "/dev/null",
    "/dev/urandom",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/resolv.conf",
];

/// What shall stay allowed.
#[derive(Debug)]
pub(crate) struct Sandbox {
    rules: Vec<(PathBuf, BitFlags<AccessFs>)>,
    reading: Reading,
    connecting: Connecting,
    /// For people.
    read: Vec<PathBuf>,
    written: Vec<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Beneath,
    Everywhere,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connecting {
    Refused,
    Allowed,
}

/// Whether files may be made beneath a root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Uploads {
    Taken,
    Refused,
}

/// What is in force.
#[derive(Debug)]
pub(crate) enum Confinement {
    /// As it was asked for.
    Off,
    /// The kernel has none.
    Missing(&'static str),
    /// That of the process that executed this one; there is no room for one more.
    Inherited,
    InForce(String),
}

impl Sandbox {
    /// One in which this program can be executed again, and nothing else.
    pub(crate) fn new() -> Self {
        let mut sandbox = Self {
            rules: Vec::new(),
            reading: Reading::Beneath,
            connecting: Connecting::Refused,
            read: Vec::new(),
            written: Vec::new(),
        };
        for path in LIBRARIES {
            sandbox.allow(path, EXECUTE);
        }
        for path in COMMON {
            sandbox.allow(path, READ);
        }
        sandbox.allow("/dev/null", READ | AccessFs::WriteFile);
        if let Ok(program) = std::env::current_exe() {
            let home = std::env::var_os("HOME").map(PathBuf::from);
            let folder = program
                .parent()
                .filter(|folder| *folder != Path::new("/") && home.as_deref() != Some(folder));
            sandbox.allow(folder.unwrap_or(&program), EXECUTE);
        }
        sandbox
    }

    /// Allows to serve a folder or a file.
    pub(crate) fn serve(&mut self, root: &Path, uploads: Uploads) {
        let access = match uploads {
            Uploads::Taken => STORE,
            Uploads::Refused => READ,
        };
        let mut served = vec![deployments(root)];
        if !root.is_dir()
            && let Some(folder) = root.parent()
        {
            let folder = match folder.as_os_str().is_empty() {
                true => Path::new("."),
                false => folder,
            };
            served.push(deployments(folder));
            served.retain(|path| path != Path::new("/"));
        }
        for path in served {
            if uploads == Uploads::Taken {
                note(&mut self.written, &path);
            }
            note(&mut self.read, &path);
            self.allow(path, access);
        }
        let home = std::env::var_os("HOME").map(PathBuf::from);
        if let Some(project) = home.and_then(|home| project(root, &home)) {
            note(&mut self.read, &project);
            self.allow(project, READ);
        }
    }

    /// Allows to read what lies anywhere.
    pub(crate) fn read_everywhere(&mut self) {
        self.reading = Reading::Everywhere;
    }

    /// Allows to read one file.
    pub(crate) fn read(&mut self, file: &Path) {
        self.allow(file, READ);
    }

    /// Allows to read a file whenever it has changed: editors, and who deploys, put another one in its
    /// place, or switch a link on its way. So its folder is read, and that of what it leads to, but
    /// neither `/` nor the home folder.
    pub(crate) fn read_again(&mut self, file: &Path) {
        self.read(file);
        let home = std::env::var_os("HOME").map(PathBuf::from);
        let there = std::path::absolute(file);
        for file in there.into_iter().chain(file.canonicalize()) {
            let folder = file
                .parent()
                .filter(|folder| *folder != Path::new("/") && home.as_deref() != Some(*folder));
            if let Some(folder) = folder {
                note(&mut self.read, folder);
                self.allow(folder, READ);
            }
        }
    }

    /// Allows to append to a file, and to make it anew.
    pub(crate) fn append(&mut self, file: &Path) {
        let is_plain = file.metadata().is_ok_and(|metadata| metadata.is_file());
        let folder = file.canonicalize();
        let folder = folder
            .iter()
            .filter(|_| is_plain)
            .find_map(|it| it.parent());
        match folder {
            Some(folder) if folder != Path::new("/") => {
                note(&mut self.written, folder);
                self.allow(folder, APPEND_ANEW);
            }
            // A FIFO is opened for reading, too.
            _ => self.allow(file, APPEND | AccessFs::ReadFile),
        }
    }

    /// Allows to keep a database in a file, with others beside it.
    pub(crate) fn keep_database(&mut self, file: &Path) {
        let file = file.canonicalize().unwrap_or_else(|_| file.to_owned());
        if let Some(folder) = file.parent() {
            note(&mut self.written, folder);
            self.allow(folder, DATABASE);
        }
    }

    /// Allows to connect to other machines, and to find out their addresses.
    pub(crate) fn connect(&mut self) {
        self.connecting = Connecting::Allowed;
        self.allow("/etc", READ);
        // It is replaced whenever the network changes, in a folder of its own.
        let resolver = Path::new("/etc/resolv.conf").canonicalize();
        if let Some(folder) = resolver.as_deref().ok().and_then(Path::parent) {
            self.allow(folder, READ);
        }
    }

    fn allow(&mut self, path: impl Into<PathBuf>, access: BitFlags<AccessFs>) {
        self.rules.push((path.into(), access));
    }

    /// Restricts this thread, and those that it starts from now on, for ever.
    pub(crate) fn enter(self) -> Result<Confinement, Error> {
        match self.restrict() {
            Ok(status) => Ok(self.confinement(&status)),
            // The sixteenth that is executed by the one before (landlock_restrict_self(2)).
            Err(RulesetError::RestrictSelf(RestrictSelfError::RestrictSelfCall {
                source, ..
            })) if source.kind() == std::io::ErrorKind::ArgumentListTooLong => {
                Ok(Confinement::Inherited)
            }
            Err(error) => Err(Error::Setting(format!(
                "sandbox: cannot be entered: {error}; use --no-sandbox to run without it"
            ))),
        }
    }

    /// Best effort: what the kernel does not know is left out, all of it if need be. But no new
    /// privileges are had then, either.
    fn restrict(&self) -> Result<RestrictionStatus, RulesetError> {
        let handled = match self.reading {
            Reading::Beneath => AccessFs::from_all(VERSION),
            Reading::Everywhere => AccessFs::from_all(VERSION) & !READ,
        };
        let net = match self.connecting {
            Connecting::Refused => AccessNet::BindTcp | AccessNet::ConnectTcp,
            Connecting::Allowed => AccessNet::BindTcp.into(),
        };
        // A pipe or a socket, as /dev/stdout may be, is nowhere, and nothing need be allowed there.
        let somewhere = |(path, _): &&(PathBuf, _)| path.canonicalize().is_ok();
        let rules = self.rules.iter().filter(somewhere);
        let rules = rules.filter_map(|(path, access)| {
            let on_files = AccessFs::from_file(VERSION);
            let kind = if path.is_dir() {
                *access
            } else {
                *access & on_files
            };
            let access = kind & handled;
            match PathFd::new(path) {
                _ if access.is_empty() => None,
                Ok(opened) => Some(Ok::<_, RulesetError>(PathBeneath::new(opened, access))),
                // Few machines have all that the C library would read.
                Err(error) => {
                    log::debug!("sandbox: path not allowed: {error}");
                    None
                }
            }
        });
        Ruleset::default()
            .handle_access(handled)?
            .handle_access(net)?
            .create()?
            .add_rules(rules)?
            .restrict_self()
    }

    fn confinement(&self, status: &RestrictionStatus) -> Confinement {
        let version = match status.landlock {
            LandlockStatus::NotEnabled => {
                return Confinement::Missing("Landlock is disabled in this kernel");
            }
            LandlockStatus::Available { effective_abi, .. }
                if status.ruleset != RulesetStatus::NotEnforced =>
            {
                effective_abi
            }
            _ => return Confinement::Missing("this kernel does not support Landlock"),
        };
        let reads = match self.reading {
            Reading::Beneath => format!("beneath {}", list(&self.read)),
            Reading::Everywhere => "everywhere because of --symlinks follow".to_owned(),
        };
        let writes = match &self.written[..] {
            [] => "nowhere".to_owned(),
            folders => format!("beneath {}", list(folders)),
        };
        let lacks = match version {
            version if version < ABI::V3 => {
                "; this kernel cannot restrict truncating files and connecting"
            }
            version if version < ABI::V4 => "; this kernel cannot restrict connecting",
            _ => "",
        };
        Confinement::InForce(format!("reads {reads}, writes {writes} (Landlock{lacks})"))
    }
}

impl fmt::Display for Confinement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sandbox: ")?;
        match self {
            Self::Off => f.write_str("off (--no-sandbox)"),
            Self::Missing(reason) => write!(f, "none: {reason}"),
            Self::Inherited => f.write_str("inherited from the parent process (Landlock)"),
            Self::InForce(text) => f.write_str(text),
        }
    }
}

/// Where a root is now and where the next deploy will have it; see above.
fn deployments(root: &Path) -> PathBuf {
    let slash = Path::new("/");
    // Without a last slash, with which a link looks like what it leads to.
    let plain: Option<PathBuf> = std::path::absolute(root)
        .ok()
        .map(|path| path.components().collect());
    let plain = plain.unwrap_or_else(|| root.to_owned());
    let of_deploys = |path: &&Path| path.parent() != Some(slash) && path.is_symlink();
    let link = plain.ancestors().find(of_deploys);
    let releases = link
        .and_then(|link| link.canonicalize().ok())
        .and_then(|release| Some(release.parent()?.to_owned()))
        .filter(|folder| folder != slash);
    releases.unwrap_or_else(|| plain.canonicalize().unwrap_or(plain))
}

/// The folder in which a root is made anew now and then, if that is somebody's and not all they have.
fn project(root: &Path, home: &Path) -> Option<PathBuf> {
    let (root, home) = (root.canonicalize().ok()?, home.canonicalize().ok()?);
    let folder = root.parent()?;
    let is_theirs = home != Path::new("/") && folder != home && folder.starts_with(&home);
    is_theirs.then(|| folder.to_owned())
}

fn note(noted: &mut Vec<PathBuf>, path: &Path) {
    if !noted.iter().any(|known| known == path) {
        noted.push(path.to_owned());
    }
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    paths.join(", ")
}

#[cfg(test)]
mod tests {
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

    /// Tries things in the sandbox, on a thread that nobody uses afterwards. False if the kernel has
    /// none.
    fn inside(sandbox: Sandbox, tries: impl FnOnce() + Send) -> bool {
        thread::scope(|scope| {
            let tried = scope.spawn(|| {
                let confinement = sandbox.enter().expect("no error");
                let status = fs::read_to_string("/proc/thread-self/status");
                // Without Landlock it can be read.
                if let Ok(status) = status {
                    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
                }
                if let Confinement::Missing(reason) = confinement {
                    eprintln!("nothing to escape from: {reason}");
                    return false;
                }
                assert!(
                    matches!(confinement, Confinement::InForce(_)),
                    "{confinement}"
                );
                // Threads that are started later are in it.
                thread::scope(|scope| scope.spawn(tries).join()).expect("no panic");
                true
            });
            tried.join().expect("no panic")
        })
    }

    #[track_caller]
    fn denied<T>(result: std::io::Result<T>) {
        let error = result.err().expect("it is denied");
        assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error}");
    }

    #[test]
    fn there_is_no_way_out() {
        let machine = machine();
        let at = |name: &str| machine.path().join(name);
        let root = at("srv/releases/1/public");
        let mut sandbox = Sandbox::new();
        sandbox.serve(&root, Uploads::Refused);
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
            // Neither the root nor anything else is written to.
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
    fn uploads_logs_and_users_are_written_where_they_belong() {
        let machine = machine();
        let at = |name: &str| machine.path().join(name);
        let root = at("srv/releases/1/public");
        let mut sandbox = Sandbox::new();
        sandbox.serve(&root, Uploads::Taken);
        sandbox.append(&at("logs/access.log"));
        sandbox.keep_database(&at("state/users.db"));
        inside(sandbox, || {
            File::create(root.join("new")).expect("allowed");
            fs::rename(root.join("new"), root.join("page")).expect("allowed");
            denied(File::create(at("srv/releases/2/public/new")));
            denied(symlink("/", root.join("link")));
            // A log that was rotated is made anew, and none is read or removed.
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
            // Nothing goes from one to the other but by copying (EXDEV).
            fs::rename(root.join("page"), at("state/page")).expect_err("denied");
            denied(append("outside/access.log"));
        });
    }

    #[test]
    fn a_deploy_switches_to_a_sibling_and_to_nothing_else() {
        let machine = machine();
        let at = |name: &str| machine.path().join(name);
        for root in ["srv/current", "srv/current/", "srv/current/public"] {
            let mut sandbox = Sandbox::new();
            sandbox.serve(&at(root), Uploads::Refused);
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
        assert_eq!(deployments(&at("srv/etc")), etc, "and not all there is");
    }

    #[test]
    fn a_project_is_read_and_a_home_is_not() {
        let home = tempfile::tempdir().expect("a folder");
        let home = home.path().canonicalize().expect("a folder");
        fs::create_dir_all(home.join("site/dist")).expect("folders");
        let of = |root: &str| project(&home.join(root), &home);
        assert_eq!(of("site/dist"), Some(home.join("site")));
        assert_eq!(of("site"), None);
        assert_eq!(of(""), None);
        assert_eq!(project(Path::new("/usr/share"), &home), None);
        assert_eq!(project(Path::new("/usr/share"), Path::new("/")), None);
    }

    #[test]
    fn a_single_file_may_be_replaced() {
        let machine = machine();
        let at = |name: &str| machine.path().join(name);
        let mut sandbox = Sandbox::new();
        sandbox.serve(&at("srv/releases/1/public/page"), Uploads::Refused);
        let page = at("srv/releases/1/public/page");
        fs::write(at("outside/new"), "new").expect("a file");
        fs::rename(at("outside/new"), &page).expect("a file");
        inside(sandbox, || {
            assert_eq!(fs::read(&page).expect("allowed"), b"new");
            denied(File::open(at("srv/releases/2/public/page")));
        });
    }

    #[test]
    fn links_that_are_followed_may_lead_anywhere_but_not_to_be_written() {
        let machine = machine();
        let at = |name: &str| machine.path().join(name);
        let mut sandbox = Sandbox::new();
        sandbox.serve(&at("srv/current"), Uploads::Refused);
        sandbox.read_everywhere();
        inside(sandbox, || {
            assert_eq!(fs::read(at("outside/secret")).expect("allowed"), b"secret");
            denied(File::create(at("outside/new")));
            denied(Command::new("/bin/sh").status());
        });
    }

    #[test]
    fn a_database_elsewhere_can_be_reached() {
        let machine = machine();
        let mut sandbox = Sandbox::new();
        sandbox.connect();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        inside(sandbox, || {
            TcpStream::connect(address).expect("allowed");
            fs::read("/etc/passwd").expect("allowed");
            denied(File::open(machine.path().join("outside/secret")));
        });
    }

    /// As an upgrade of a running server does.
    #[test]
    fn this_program_can_be_executed_again_and_again() {
        let machine = machine();
        let program = std::env::current_exe().expect("a program");
        fn generation(left: u32, root: &Path, program: &Path) {
            let mut sandbox = Sandbox::new();
            sandbox.serve(root, Uploads::Refused);
            // Each is within the one before, and sixteen is as deep as they go.
            let confinement = sandbox.enter().expect("no error");
            let status = Command::new(program).arg("--list").output();
            assert!(status.expect("allowed").status.success(), "{confinement}");
            if left > 0 {
                return thread::scope(|scope| {
                    let next = scope.spawn(|| generation(left - 1, root, program));
                    next.join().expect("no panic");
                });
            }
            if !matches!(confinement, Confinement::Missing(_)) {
                assert!(
                    matches!(confinement, Confinement::Inherited),
                    "{confinement}"
                );
                denied(File::open("/etc/passwd"));
            }
        }
        thread::scope(|scope| {
            let first = scope.spawn(|| generation(17, machine.path(), &program));
            first.join().expect("no panic");
        });
    }

    #[test]
    fn what_is_in_force_is_said() {
        let mut sandbox = Sandbox::new();
        assert_eq!(Confinement::Off.to_string(), "sandbox: off (--no-sandbox)");
        sandbox.serve(Path::new("/"), Uploads::Taken);
        assert_eq!(list(&sandbox.read), "/");
        assert_eq!(list(&sandbox.written), "/");
    }
}
