//! The sandbox: what the process may still do once it listens, enforced by Landlock.
//!
//! The server does not depend on it: paths are resolved beneath the root anyway. It limits the
//! damage if a bug here or in a library lets an attacker run code. It applies to the thread that
//! enters it and to threads started later, so it is entered while there is only one.
//!
//! What is allowed:
//!
//! - To read beneath the roots. A root that is reached through a symbolic link, which a deployment
//!   may switch, is readable with its siblings: beneath the parent of the target of the *last* link
//!   on its path (`/srv/releases` for `/srv/current/public`, if `current` leads to
//!   `/srv/releases/42`), unless that parent is `/`. Links directly beneath `/` belong to the system
//!   and are not switched by deployments. A single file is readable with its folder, as editors
//!   replace files. If a site follows links anywhere (`symlinks = "follow"`), reading is not
//!   restricted at all.
//! - To read the file of `--config` and the file of passwords with their folders, because another
//!   file may have replaced them when they are reloaded (SIGHUP). In `/` and in the home folder only
//!   the files themselves are readable, and their replacements are not: use a folder of their own.
//! - To write and rename files where uploads go, and folders where --manage or --upload-parents allows
//!   it; to append to access logs and to other files in
//!   their folders, for reopening; to do in the folder of the user database what SQLite needs. Each
//!   of them should have a folder of its own, because the permission covers the whole folder.
//! - To remove files in the folders of Unix sockets, which it removes at its end.
//! - To write files in the folder of automatic certificates.
//! - To connect to PostgreSQL, if users are stored there, and to the certificate authority of automatic
//!   certificates, and to read `/etc` for resolving their names; else no TCP connection can be made. No TCP port can be bound: listeners are open already.
//! - To execute what is in the folder of this program, with the libraries it needs, so that an
//!   upgrade can start the next version; the program alone if it is in `/` or in the home folder.
//! - To read the siblings of a root, because build tools remove `site/dist` and create it again: `site`
//!   is readable, unless it is `/`, a home folder, or a folder that programs and users share (`/var`,
//!   `/var/lib`). Other folders beneath `/`, such as `/srv`, `/app` or `/data`, are for the data of
//!   services. In `/tmp` every user can make files, and nothing there is kept secret by its path. A root
//!   directly in a home or shared folder is opened by a process of its own if it was replaced
//!   ([`root_opener`](super::root_opener)).
//!
//! Metrics of the process are read from files in `/proc` that are opened before. A program executed
//! by an upgrade cannot open them and has fewer metrics.
//!
//! Limitations: a folder that is not a root and is *replaced* by another of the same name becomes unreadable,
//! and so does a target outside of these folders that a link is switched to; the log reports it and
//! the previous one is served until a restart. A folder for uploads that is replaced is readable and not
//! writable until a restart. A program executed by an upgrade inherits the sandbox: it reads
//! settings and passwords in the folders where they were. Landlock restricts neither UDP nor reading
//! a file's name, size and times.

use std::fmt;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, LandlockStatus, PathBeneath, PathFd,
    RestrictSelfError, RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, make_bitflags,
};
use tws::Error;
use tws::site::Site;

use super::program_file;

/// The requested version. Older kernels enforce the part that they support.
const VERSION: ABI = ABI::V7;

const READ: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir});
const EXECUTE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{ReadFile | ReadDir | Execute});
const APPEND: BitFlags<AccessFs> = make_bitflags!(AccessFs::{WriteFile});
const APPEND_OR_CREATE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{WriteFile | MakeReg});
const UPLOAD: BitFlags<AccessFs> =
    make_bitflags!(AccessFs::{ReadFile | ReadDir | WriteFile | MakeReg | RemoveFile});
const MANAGE: BitFlags<AccessFs> = make_bitflags!(AccessFs::{
    ReadFile | ReadDir | WriteFile | MakeReg | RemoveFile | MakeDir | RemoveDir | MakeSym | Refer
});
const DATABASE: BitFlags<AccessFs> =
    make_bitflags!(AccessFs::{ReadFile | ReadDir | WriteFile | MakeReg | RemoveFile | Truncate});

/// Where libraries are, which the program needs when it is executed by an upgrade.
const LIBRARIES: [&str; 5] = [
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/etc/ld.so.cache",
];

/// What the C library reads to resolve a name, as for `--bind`, and where SQLite gets random numbers.
const COMMON: [&str; 7] = [
    "/dev/null",
    "/dev/urandom",
    "/etc/gai.conf",
    "/etc/host.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/resolv.conf",
];

/// Folders that many programs or users share: those of the Filesystem Hierarchy Standard 3.0, but for
/// `/srv` and those of temporary files, those of package managers, and some below the first level.
const SHARED: [&str; 26] = [
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/gnu",
    "/home",
    "/lib",
    "/lib32",
    "/lib64",
    "/media",
    "/mnt",
    "/nix",
    "/opt",
    "/proc",
    "/root",
    "/run",
    "/sbin",
    "/snap",
    "/sys",
    "/usr",
    "/var",
    "/run/user",
    "/usr/local",
    "/var/lib",
    "/var/log",
    "/var/spool",
];

/// What the process may do after [`Sandbox::enter`].
#[derive(Debug)]
pub(crate) struct Sandbox {
    rules: Vec<PathRule>,
    read_scope: ReadScope,
    outgoing_tcp: OutgoingTcp,
    /// For the banner.
    readable: Vec<PathBuf>,
    /// For the banner.
    writable: Vec<PathBuf>,
    /// The folders of roots that may be replaced. For the banner.
    replaceable: Vec<PathBuf>,
    /// The roots that another process opens if they are replaced. For the banner.
    opened_by_other: Vec<PathBuf>,
    /// The roots that need a restart if they are replaced. For the banner.
    irreplaceable: Vec<PathBuf>,
}

/// The access that is allowed to a file, or beneath a folder.
#[derive(Debug)]
struct PathRule {
    path: PathBuf,
    access: BitFlags<AccessFs>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReadScope {
    ByRules,
    Everywhere,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum OutgoingTcp {
    Denied,
    Allowed,
}

/// How a root is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RootAccess {
    ReadOnly,
    /// Files are created and replaced.
    Uploads,
    /// Folders are created, and everything is renamed and deleted.
    Changes,
}

impl RootAccess {
    /// Returns what a site needs in its root.
    pub(crate) fn of(site: &Site) -> Self {
        match (&site.upload, &site.manage) {
            (_, Some(_)) => Self::Changes,
            (Some(upload), None) if upload.parents => Self::Changes,
            (Some(_), None) => Self::Uploads,
            (None, None) => Self::ReadOnly,
        }
    }
}

/// What is enforced.
#[derive(Debug)]
pub(crate) enum SandboxStatus {
    /// Turned off by the settings.
    Off,
    /// The kernel does not support it, for this reason.
    Unsupported(&'static str),
    /// Only that of the process that executed this one: the kernel allows no deeper nesting.
    Inherited,
    /// In force, with this description.
    Enforced(String),
}

impl Sandbox {
    /// A sandbox in which this program can be executed again, and nothing else.
    pub(crate) fn new() -> Self {
        let mut sandbox = Self::empty();
        for path in LIBRARIES {
            sandbox.allow(path, EXECUTE);
        }
        for path in COMMON {
            sandbox.allow(path, READ);
        }
        sandbox.allow("/dev/null", READ | AccessFs::WriteFile);
        if let Ok(program) = program_file::path().canonicalize() {
            sandbox.allow(own_folder(&program).unwrap_or(&program), EXECUTE);
        }
        sandbox
    }

    /// A sandbox in which nothing can be opened.
    pub(crate) fn empty() -> Self {
        Self {
            rules: Vec::new(),
            read_scope: ReadScope::ByRules,
            outgoing_tcp: OutgoingTcp::Denied,
            readable: Vec::new(),
            writable: Vec::new(),
            replaceable: Vec::new(),
            opened_by_other: Vec::new(),
            irreplaceable: Vec::new(),
        }
    }

    /// Allows a folder or a file to be served.
    pub(crate) fn allow_root(&mut self, root: &Path, root_access: RootAccess) {
        let access = match root_access {
            RootAccess::Uploads => UPLOAD,
            RootAccess::Changes => MANAGE,
            RootAccess::ReadOnly => READ,
        };
        for path in served(root) {
            if root_access != RootAccess::ReadOnly {
                add_once(&mut self.writable, &path);
            }
            add_once(&mut self.readable, &path);
            self.allow(path, access);
        }
        if let Some(project) = project(root, &home()) {
            add_once(&mut self.replaceable, &project);
            self.allow(project, READ);
        } else if is_irreplaceable(root) {
            add_once(&mut self.irreplaceable, root);
        }
    }

    /// Has another process open those roots that `opens` returns true for, if they are replaced.
    pub(crate) fn open_replaced_with(&mut self, opens: impl Fn(&Path) -> bool) {
        let roots = std::mem::take(&mut self.irreplaceable);
        (self.opened_by_other, self.irreplaceable) =
            roots.into_iter().partition(|root| opens(root));
    }

    /// Allows all files to be read.
    pub(crate) fn allow_reading_everywhere(&mut self) {
        self.read_scope = ReadScope::Everywhere;
    }

    /// Allows one file to be read.
    pub(crate) fn allow_read(&mut self, file: &Path) {
        self.allow(file, READ);
    }

    /// Allows a file to be read again after it has changed: editors and deployments replace it by
    /// another file, or switch a link on its path. So its folder becomes readable, and that of the
    /// file it leads to, but neither `/` nor the home folder.
    pub(crate) fn allow_rereading(&mut self, file: &Path) {
        self.allow_read(file);
        let absolute = std::path::absolute(file);
        for file in absolute.into_iter().chain(file.canonicalize()) {
            if let Some(folder) = own_folder(&file) {
                add_once(&mut self.readable, folder);
                self.allow(folder, READ);
            }
        }
    }

    /// Allows a file to be appended to, and to be created again after its rotation.
    pub(crate) fn allow_append(&mut self, file: &Path) {
        let is_regular = file.metadata().is_ok_and(|metadata| metadata.is_file());
        let folder = file.canonicalize();
        let folder = folder
            .iter()
            .filter(|_| is_regular)
            .find_map(|file| file.parent());
        match folder {
            Some(folder) if folder != Path::new("/") => {
                add_once(&mut self.writable, folder);
                self.allow(folder, APPEND_OR_CREATE);
            }
            // A FIFO is opened for reading as well.
            _ => self.allow(file, APPEND | AccessFs::ReadFile),
        }
    }

    /// Allows the files in a folder to be removed, as the sockets of this process are when it ends.
    pub(crate) fn allow_removal(&mut self, folder: &Path) {
        if folder != Path::new("/") {
            self.allow(folder, AccessFs::RemoveFile.into());
        }
    }

    /// Allows an SQLite database, with the files that SQLite creates beside it.
    pub(crate) fn allow_database(&mut self, file: &Path) {
        let file = file.canonicalize().unwrap_or_else(|_| file.to_owned());
        if let Some(folder) = file.parent() {
            add_once(&mut self.writable, folder);
            self.allow(folder, DATABASE);
        }
    }

    /// Allows a folder of state, with folders in it.
    pub(crate) fn allow_state(&mut self, folder: &Path) {
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        add_once(&mut self.writable, &folder);
        self.allow(folder, DATABASE | AccessFs::MakeDir);
    }

    /// Allows connections to other machines, and the resolution of their names.
    pub(crate) fn allow_connecting(&mut self) {
        self.outgoing_tcp = OutgoingTcp::Allowed;
        self.allow("/etc", READ);
        // The target of this link has a folder of its own and is replaced when the network changes.
        let resolver = Path::new("/etc/resolv.conf").canonicalize();
        if let Some(folder) = resolver.as_deref().ok().and_then(Path::parent) {
            self.allow(folder, READ);
        }
    }

    fn allow(&mut self, path: impl Into<PathBuf>, access: BitFlags<AccessFs>) {
        self.rules.push(PathRule {
            path: path.into(),
            access,
        });
    }

    /// Restricts this thread and the threads that it starts from now on, for good.
    pub(crate) fn enter(self) -> Result<SandboxStatus, Error> {
        match self.restrict() {
            Ok(status) => Ok(self.status(&status)),
            // Sandboxes can be nested sixteen deep (landlock_restrict_self(2)), as by upgrades.
            Err(RulesetError::RestrictSelf(RestrictSelfError::RestrictSelfCall {
                source, ..
            })) if source.kind() == std::io::ErrorKind::ArgumentListTooLong => {
                Ok(SandboxStatus::Inherited)
            }
            Err(error) => Err(Error::Setting(format!(
                "sandbox: cannot be entered: {error}; use --no-sandbox to run without it"
            ))),
        }
    }

    /// Enforces what the kernel supports, possibly nothing. `PR_SET_NO_NEW_PRIVS` is set in any case.
    fn restrict(&self) -> Result<RestrictionStatus, RulesetError> {
        let handled = match self.read_scope {
            ReadScope::ByRules => AccessFs::from_all(VERSION),
            ReadScope::Everywhere => AccessFs::from_all(VERSION) & !READ,
        };
        let net = match self.outgoing_tcp {
            OutgoingTcp::Denied => AccessNet::BindTcp | AccessNet::ConnectTcp,
            OutgoingTcp::Allowed => AccessNet::BindTcp.into(),
        };
        // A pipe or a socket, as /dev/stdout may be, has no path and needs no permission.
        let has_path = |rule: &&PathRule| rule.path.canonicalize().is_ok();
        let rules = self.rules.iter().filter(has_path).filter_map(|rule| {
            let applicable = if rule.path.is_dir() {
                handled
            } else {
                handled & AccessFs::from_file(VERSION)
            };
            let access = rule.access & applicable;
            match PathFd::new(&rule.path) {
                _ if access.is_empty() => None,
                Ok(opened) => Some(Ok::<_, RulesetError>(PathBeneath::new(opened, access))),
                // Few machines have all the files that the C library looks for.
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

    fn status(&self, status: &RestrictionStatus) -> SandboxStatus {
        let version = match status.landlock {
            LandlockStatus::NotEnabled => {
                return SandboxStatus::Unsupported("Landlock is disabled in this kernel");
            }
            LandlockStatus::Available { effective_abi, .. }
                if status.ruleset != RulesetStatus::NotEnforced =>
            {
                effective_abi
            }
            _ => return SandboxStatus::Unsupported("this kernel does not support Landlock"),
        };
        let reads = match self.read_scope {
            ReadScope::ByRules => format!("beneath {}", list(&self.readable)),
            ReadScope::Everywhere => "everywhere because of --symlinks follow".to_owned(),
        };
        let writes = match &self.writable[..] {
            [] => "nowhere".to_owned(),
            folders => format!("beneath {}", list(folders)),
        };
        let limitation = match version {
            version if version < ABI::V3 => {
                "; this kernel cannot restrict truncating files and connecting"
            }
            version if version < ABI::V4 => "; this kernel cannot restrict connecting",
            _ => "",
        };
        let mut text = format!("reads {reads}, writes {writes} (Landlock{limitation})");
        if self.read_scope == ReadScope::ByRules {
            if !self.replaceable.is_empty() {
                text += &format!("; reads a replaced root in {}", list(&self.replaceable));
            }
            if !self.opened_by_other.is_empty() {
                text += &format!(
                    "; another process reads {} if it is replaced",
                    list(&self.opened_by_other)
                );
            }
            if !self.irreplaceable.is_empty() {
                text += &format!(
                    "; {} must not be replaced without a restart (--no-sandbox allows it)",
                    list(&self.irreplaceable)
                );
            }
        }
        SandboxStatus::Enforced(text)
    }
}

impl SandboxStatus {
    /// Whether any sandbox restricts this process.
    pub(crate) fn is_enforced(&self) -> bool {
        matches!(self, Self::Inherited | Self::Enforced(_))
    }
}

impl fmt::Display for SandboxStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sandbox: ")?;
        match self {
            Self::Off => f.write_str("off (--no-sandbox)"),
            Self::Unsupported(reason) => write!(f, "none: {reason}"),
            Self::Inherited => f.write_str("inherited from the parent process (Landlock)"),
            Self::Enforced(text) => f.write_str(text),
        }
    }
}

/// Returns true for a root that is a folder and that is readable alone. Another folder in its place is not.
pub(crate) fn is_irreplaceable(root: &Path) -> bool {
    let is_alone = root
        .canonicalize()
        .is_ok_and(|real| real.parent().is_some() && served(root) == [real]);
    is_alone && project(root, &home()).is_none()
}

/// Returns the folders and the file that are readable for a root.
fn served(root: &Path) -> Vec<PathBuf> {
    let mut served = vec![deployments(root)];
    if !root.is_dir()
        && let Some(folder) = root.parent()
    {
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        served.push(deployments(folder));
        served.retain(|path| path != Path::new("/"));
    }
    served
}

/// Returns the folder in which a root is now and will be after the next deployment; see the module's
/// documentation.
fn deployments(root: &Path) -> PathBuf {
    let slash = Path::new("/");
    // A trailing slash would make a link look like its target.
    let path: Option<PathBuf> = std::path::absolute(root)
        .ok()
        .map(|path| path.components().collect());
    let path = path.unwrap_or_else(|| root.to_owned());
    let is_switchable = |path: &&Path| path.parent() != Some(slash) && path.is_symlink();
    let link = path.ancestors().find(is_switchable);
    let releases = link
        .and_then(|link| link.canonicalize().ok())
        .and_then(|release| Some(release.parent()?.to_owned()))
        .filter(|folder| folder != slash);
    releases.unwrap_or_else(|| path.canonicalize().unwrap_or(path))
}

/// Returns the parent of a root, which a build tool may remove and create again, if the parent belongs to
/// one project; see the module's documentation.
fn project(root: &Path, home: &Path) -> Option<PathBuf> {
    let root = root.canonicalize().ok()?;
    let folder = root.parent()?;
    let is_home = home.canonicalize().is_ok_and(|home| folder == home);
    (!is_home && !is_shared(folder)).then(|| folder.to_owned())
}

/// True for a folder whose entries belong to different programs or users.
fn is_shared(folder: &Path) -> bool {
    let Some(above) = folder.parent() else {
        return true;
    };
    let is_home = above == Path::new("/home");
    is_home || SHARED.iter().any(|shared| folder == Path::new(shared))
}

/// Returns the home folder; `/` if it is unknown.
fn home() -> PathBuf {
    home_folder().unwrap_or_else(|| PathBuf::from("/"))
}

fn home_folder() -> Option<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from)
}

/// Returns the folder of a file, unless it is `/` or the home folder.
fn own_folder(file: &Path) -> Option<&Path> {
    let home = home_folder();
    let folder = file.parent()?;
    (folder != Path::new("/") && home.as_deref() != Some(folder)).then_some(folder)
}

fn add_once(paths: &mut Vec<PathBuf>, path: &Path) {
    if !paths.iter().any(|known| known == path) {
        paths.push(path.to_owned());
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
mod tests;
