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
//! - To write and rename files where uploads go; to write to access logs, and to make files in
//!   their folders, for when they are reopened; to do in the users' folder what SQLite does.
//! - To connect to PostgreSQL, and to read `/etc` for its name, if users are there. Else no TCP
//!   connection is made. No TCP port is bound: listeners are open by then, or inherited.
//! - To execute this program, with what its libraries need. Where it lies in a folder called `bin`
//!   or `sbin`, that is all of the folder, so that the next version can be started from it.
//!
//! What it does not do: a folder that is no link and is *replaced* by another of its name cannot be
//! read any more, nor can one outside that a link is switched to; the log says so and the old one
//! is served on. A program that this one executes inherits the sandbox: it reads site files and
//! passwords where they were, but not what was renamed onto them. Landlock does not know UDP, and
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
            let folder = program.parent().filter(|folder| holds_programs(folder));
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
    }

    /// Allows to read what lies anywhere.
    pub(crate) fn read_everywhere(&mut self) {
        self.reading = Reading::Everywhere;
    }

    /// Allows to read one file.
    pub(crate) fn read(&mut self, file: &Path) {
        self.allow(file, READ);
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
            Some(folder) => {
                note(&mut self.written, folder);
                self.allow(folder, APPEND_ANEW);
            }
            // A FIFO is opened for reading, too.
            None => self.allow(file, APPEND | AccessFs::ReadFile),
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
                "the sandbox cannot be entered: {error}; --no-sandbox goes without"
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
        let rules = self.rules.iter().filter_map(|(path, access)| {
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
                    log::debug!("sandbox: {error}");
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
                return Confinement::Missing("this kernel has Landlock turned off");
            }
            LandlockStatus::Available { effective_abi, .. }
                if status.ruleset != RulesetStatus::NotEnforced =>
            {
                effective_abi
            }
            _ => return Confinement::Missing("this kernel has no Landlock"),
        };
        let reads = match self.reading {
            Reading::Beneath => format!("beneath {}", list(&self.read)),
            Reading::Everywhere => "everywhere, as links are followed".to_owned(),
        };
        let writes = match &self.written[..] {
            [] => "nowhere".to_owned(),
            folders => format!("beneath {}", list(folders)),
        };
        let lacks = match version {
            version if version < ABI::V3 => "; this kernel allows to truncate and to connect",
            version if version < ABI::V4 => "; this kernel allows to connect",
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
            Self::Missing(reason) => write!(f, "none, {reason}"),
            Self::Inherited => f.write_str("that of the process that started this one (Landlock)"),
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

fn holds_programs(folder: &Path) -> bool {
    folder
        .file_name()
        .is_some_and(|name| name == "bin" || name == "sbin")
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
