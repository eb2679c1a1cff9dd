//! Thread pools for work that may block.

pub(crate) mod body_writer;
pub(crate) mod disk;
pub(crate) mod pool;

use std::sync::Arc;

use crate::body::stream::SourceKind;
use crate::config::Config;
use crate::http::{Body, Response};
use crate::panics::drop_caught;
use crate::semaphore::{Semaphore, SemaphorePermit};
use disk::{DiskPoolStats, DiskPools};
use pool::{Begins, BlockingPool, PoolSize, PoolStats};

/// The thread pools of a server, which its workers share.
#[derive(Clone)]
pub(crate) struct Pools {
    /// For jobs that wait for no client.
    pub(crate) jobs: BlockingPool,
    /// For jobs that read from a client or write to one, at its pace. Each has reserved its thread, so
    /// that none waits for the client of another.
    pub(crate) streams: BlockingPool,
    pub(crate) permits: Arc<StreamPermits>,
    pub(crate) disks: DiskPools,
}

/// What bodies that are produced while they are sent, and those that are read while they are received,
/// need for themselves.
pub(crate) struct StreamPermits {
    /// The threads of [`Pools::streams`].
    threads: Semaphore,
    /// The response bodies for which no thread waits.
    parked: Semaphore,
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
                // A thread that has returned its permit may not be back yet.
                waiting: limits.max_streams,
                begins: Begins::Always,
            }),
            permits: Arc::new(StreamPermits {
                threads: Semaphore::new(limits.max_streams),
                parked: Semaphore::new(limits.max_parked_streams),
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

impl StreamPermits {
    /// Reserves a thread of [`Pools::streams`]; `None` if there is none left.
    pub(crate) fn reserve_thread(&self) -> Option<SemaphorePermit> {
        self.threads.try_acquire(1)
    }

    /// Reserves the thread for the body of a response, or its place among the bodies that wait, if it
    /// needs one: when the head is sent it is too late to reject the request. If there is none left, the
    /// response becomes a 503.
    pub(crate) fn reserve_for_body(&self, response: &mut Response) {
        let Body::Stream(stream) = response.body_mut() else {
            return;
        };
        if !stream.needs_permit() {
            return;
        }
        let permit = match stream.source.kind() {
            SourceKind::Produced => return,
            SourceKind::Written => self.reserve_thread(),
            SourceKind::Polled => self.parked.try_acquire(1),
        };
        match permit {
            Some(permit) => stream.set_permit(permit),
            None => {
                let rejected = std::mem::replace(response, too_many_streams());
                drop_caught(rejected, "streams: a body beyond the limit");
            }
        }
    }
}

/// The response to a request whose body needs a thread of its own, or a place among those that wait, when
/// there is none left.
pub(crate) fn too_many_streams() -> Response {
    Response::unavailable("too many streams in progress; try again")
}
