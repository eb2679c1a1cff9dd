//! Thread pools for work that may block.

pub(crate) mod body_writer;
pub(crate) mod disk;
pub(crate) mod pool;

use crate::config::Config;
use disk::{DiskPoolStats, DiskPools};
use pool::{BlockingPool, PoolSize, PoolStats};

/// The thread pools of a server, which its workers share.
#[derive(Clone)]
pub(crate) struct Pools {
    /// For jobs that wait for no client.
    pub(crate) jobs: BlockingPool,
    /// For jobs that read from a client or write to one, at its pace.
    pub(crate) streams: BlockingPool,
    pub(crate) disks: DiskPools,
}

/// Reads the load of the pools.
#[derive(Clone, Debug)]
pub(crate) struct BlockingPoolStats {
    pub(crate) jobs: PoolStats,
    pub(crate) streams: PoolStats,
    pub(crate) disks: DiskPoolStats,
}

impl Pools {
    pub(crate) fn new(config: &Config) -> Self {
        let limits = &config.limits;
        let jobs = PoolSize::shared(config.helpers.get(), limits.max_waiting_jobs);
        Self {
            jobs: BlockingPool::new(jobs),
            streams: BlockingPool::new(PoolSize {
                threads: limits.max_streams,
                threads_per_client: limits.max_streams,
                waiting: 0,
            }),
            disks: DiskPools::new(jobs),
        }
    }

    pub(crate) fn stats(&self) -> BlockingPoolStats {
        BlockingPoolStats {
            jobs: self.jobs.stats(),
            streams: self.streams.stats(),
            disks: self.disks.stats(),
        }
    }
}
