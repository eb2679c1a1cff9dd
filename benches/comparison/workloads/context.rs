//! What all workloads share: the plan, the environment, the files, the servers to compare.

use std::cell::OnceCell;
use std::path::Path;

use crate::Result;
use crate::arguments::Plan;
use crate::client;
use crate::environment::Environment;
use crate::servers::{self, Profile, RunningServer, ServerKind, ServerSetup, Transport};
use crate::slow_disk::SlowDisk;
use crate::test_files::TestFiles;
use crate::wrk::WrkScripts;

/// The resources of one run of the bench.
#[derive(Debug)]
pub(crate) struct BenchContext<'a> {
    pub(super) plan: Plan,
    pub(super) environment: &'a Environment,
    pub(super) scripts: WrkScripts,
    // Its image is in the directory of `files`, so it must be dropped first.
    slow_disk: OnceCell<Result<SlowDisk>>,
    pub(super) files: TestFiles,
}

/// The rules that others are compared with.
pub(super) const FEW_RULES: Profile = Profile::Rules(10);

/// tws and the servers that a workload compares it with.
#[derive(Debug)]
pub(super) struct Lineup {
    pub(super) tws: ServerSetup,
    pub(super) others: Vec<ServerSetup>,
}

impl<'a> BenchContext<'a> {
    pub(crate) fn new(plan: Plan, environment: &'a Environment) -> Result<Self> {
        let files = TestFiles::create()?;
        let scripts = WrkScripts::write(&files.scratch)?;
        Ok(Self {
            plan,
            environment,
            files,
            scripts,
            slow_disk: OnceCell::new(),
        })
    }

    /// Starts a server for the files beneath `root`.
    pub(super) fn start(&self, setup: ServerSetup, root: &Path) -> Result<RunningServer> {
        let scratch = &self.files.scratch;
        servers::start(setup, root, scratch, "/1K.png", self.environment.cores)
    }

    /// Returns tws and all installed servers with the same profile, for HTTP/1.1.
    pub(super) fn lineup(&self, profile: Profile) -> Lineup {
        self.lineup_over(Transport::Http1, profile)
    }

    /// Returns tws and all installed servers with the same profile.
    pub(super) fn lineup_over(&self, transport: Transport, profile: Profile) -> Lineup {
        let with = |server| ServerSetup {
            server,
            profile,
            transport,
        };
        let installed = self.environment.others.iter();
        let others = installed.map(|(server, _)| with(*server));
        Lineup {
            tws: with(ServerKind::Tws),
            others: others.chain([with(ServerKind::TwsAgain)]).collect(),
        }
    }

    /// Returns tws with this profile, itself, and tws with the least rules.
    pub(super) fn lineup_of_tws(&self, profile: Profile) -> Lineup {
        let with = |server, profile| ServerSetup {
            server,
            profile,
            transport: Transport::Http1,
        };
        let mut others = vec![with(ServerKind::TwsAgain, profile)];
        if profile != FEW_RULES {
            others.push(with(ServerKind::Tws, FEW_RULES));
        }
        Lineup {
            tws: with(ServerKind::Tws, profile),
            others,
        }
    }

    /// Returns the bare loop, which sends the [saved](Self::save_response) response.
    pub(super) fn bare_loop(&self, profile: Profile) -> ServerSetup {
        ServerSetup {
            server: ServerKind::BareLoop,
            profile,
            transport: Transport::Http1,
        }
    }

    /// Saves the response of tws to a request for the bare loop.
    pub(super) fn save_response(
        &self,
        tws: &RunningServer,
        path: &str,
        fields: &[String],
    ) -> Result<()> {
        let file = self.files.scratch.join(servers::RESPONSE_FILE);
        client::save_response(tws.address, path, fields, &file)
    }

    /// Returns the throttled disk, which is created when it is first needed.
    pub(super) fn slow_disk(&self) -> Result<&SlowDisk> {
        let disk = self
            .slow_disk
            .get_or_init(|| SlowDisk::create(&self.files.scratch));
        disk.as_ref().map_err(Clone::clone)
    }
}
