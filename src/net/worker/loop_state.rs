//! The slots of a worker's connections, and what runs and schedules a connection.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Instant, SystemTime};

use mio::Token;

use super::message::{BodyWaker, ExchangeEvent, WorkerHandle};
use super::pending_exchanges::PendingExchanges;
use super::previous_handlers::PreviousHandlers;
use super::services::WorkerServices;
use crate::access_log::LogSender;
use crate::config::{Config, Timeouts};
use crate::handler::Handler;
use crate::net::blocking::Pools;
use crate::net::connection::{Blocked, Connection, DriveScope, Quantum};
use crate::net::event_loop::handle::{LoopStats, Occupancy};
use crate::net::event_loop::timer_wheel::{Tick, TimerWheel};
use crate::net::transport::MAX_CALL_BYTES;
use crate::net::transport::any::AnyTransport;
use crate::proto::CloseReason;
use crate::proto::context::{Context, RecordMode};
use crate::proto::exchange::ExchangeId;

/// Bytes that one connection may move before the next one runs: two calls of `sendfile`, about 20 µs.
pub(super) const QUANTUM_BYTES: usize = 2 * MAX_CALL_BYTES;

/// Everything of a worker that a connection needs while it runs; apart from the slots, so that both
/// can be borrowed at once.
pub(super) struct LoopState {
    pub(super) handle: WorkerHandle,
    pub(super) timeouts: Timeouts,
    /// Connections and response bodies that can continue at once.
    pub(super) run_queue: VecDeque<Runnable>,
    pub(super) timers: TimerWheel,
    pub(super) cx: Context,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) previous_handlers: PreviousHandlers,
    pub(super) pools: Pools,
    pub(super) pending: PendingExchanges,
    pub(super) access_log: Option<LogSender>,
}

/// A connection and its place in the worker's queues.
pub(super) struct Slot {
    pub(super) connection: Connection<AnyTransport>,
    pub(super) token: Token,
    /// The earliest tick at which the timer wheel reports this connection.
    pub(super) scheduled: Option<Tick>,
    pub(super) queue: QueueState,
    /// As what the connection is counted.
    pub(super) counted: Occupancy,
}

impl Slot {
    /// Counts the connection as `occupancy` from now on.
    pub(super) fn count_as(&mut self, occupancy: Occupancy, stats: &LoopStats) {
        let before = std::mem::replace(&mut self.counted, occupancy);
        if before != occupancy {
            stats.count_occupancy(before, -1);
            stats.count_occupancy(occupancy, 1);
        }
    }
}

/// Upper bound on the size of an idle connection's slot (excluding its timer-wheel entry). Rarely
/// used fields, and those that exist only during a request, are boxed.
const MAX_SLOT_BYTES: usize = 232;

const _: () = assert!(size_of::<Slot>() <= MAX_SLOT_BYTES);

/// An entry of the run queue.
#[derive(Debug)]
pub(super) enum Runnable {
    /// A connection that moves a large body. There is one entry for each at most.
    Connection(Token),
    /// A response body that may have its next chunk. An event for thousands of clients must not delay the
    /// requests of others. There is one entry for each body at most.
    Body(Arc<BodyWaker>),
    /// A connection that was open when draining began, and may have to be closed.
    Draining(Token),
}

/// Whether a connection has an entry of its own in the run queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum QueueState {
    Queued,
    NotQueued,
}

/// Whether a connection stays open after it has run. `Break` means that it is to be closed.
pub(super) type Flow = ControlFlow<CloseReason>;

impl LoopState {
    pub(super) fn new(
        handle: WorkerHandle,
        config: &Config,
        handler: Arc<dyn Handler>,
        pools: Pools,
        access_log: Option<LogSender>,
    ) -> Self {
        let mut cx = Context::new(config, RecordMode::Off, Instant::now, SystemTime::now());
        cx.http2_stats = Arc::clone(&handle.stats.http2);
        Self {
            handle,
            timeouts: config.timeouts.clone(),
            run_queue: VecDeque::new(),
            timers: TimerWheel::new(Instant::now()),
            cx,
            handler,
            previous_handlers: PreviousHandlers::default(),
            pools,
            pending: PendingExchanges::default(),
            access_log,
        }
    }

    /// Returns whether exchanges are recorded. Observers may come and go.
    pub(super) fn record_mode(&self) -> RecordMode {
        let observers = self.handle.stats.observers.load(Ordering::Relaxed);
        if self.access_log.is_some() || observers > 0 {
            RecordMode::On
        } else {
            RecordMode::Off
        }
    }

    /// While the server drains, a further request is expected only for the grace period.
    pub(super) fn shorten_keep_alive(&mut self) {
        let grace = self.timeouts.idle_grace;
        for keep_alive in [
            &mut self.timeouts.keep_alive,
            &mut self.timeouts.keep_alive_h2,
        ] {
            *keep_alive = grace.min(*keep_alive);
        }
    }

    pub(super) fn on_exchange_event(
        &mut self,
        slot: &mut Slot,
        id: ExchangeId,
        event: ExchangeEvent,
    ) -> Flow {
        let connection = &mut slot.connection;
        let mut is_bulk = false;
        match event {
            ExchangeEvent::Response(mut response) => {
                self.pools.permits.reserve_for_body(&mut response);
                connection.on_response(id, response, &mut self.cx);
            }
            ExchangeEvent::BodyChunk(chunk) => connection.on_body_chunk(id, chunk, &mut self.cx),
            ExchangeEvent::RequestBodyRoom | ExchangeEvent::UpgradeWake => {}
            ExchangeEvent::Cancelled => connection.on_cancelled(id),
            ExchangeEvent::FileRead(resident) => {
                connection.on_file_read(id, resident, &mut self.cx);
                is_bulk = true;
            }
        }
        // Another exchange of the connection may be moving a large body.
        if is_bulk || slot.connection.is_multiplexed() {
            return self.resume(slot);
        }
        self.drive(slot, DriveScope::All)
    }

    /// The timer wheel reports a connection: its deadline may have passed, or it may have bandwidth
    /// again.
    pub(super) fn on_tick(&mut self, slot: &mut Slot, tick: Tick) -> Flow {
        let throttled_until = slot.connection.throttled_until();
        if slot.scheduled == Some(tick) {
            slot.scheduled = None;
        } else if throttled_until.is_none() {
            return Flow::Continue(());
        }
        if let Some(time) = throttled_until {
            if time <= self.cx.now {
                return self.resume(slot);
            }
            // Beyond one revolution of the wheel, or reported for an earlier deadline.
            self.schedule_at(slot, time);
            return Flow::Continue(());
        }
        if slot.connection.send_heartbeats(&mut self.cx) {
            self.resume(slot)?;
        }
        if !slot.connection.is_expired(&self.timeouts, self.cx.now) {
            self.schedule(slot);
            return Flow::Continue(());
        }
        slot.connection.mark_ready();
        self.drive(slot, DriveScope::All)?;
        slot.connection.poll_acked(&self.cx);
        self.schedule(slot);
        if slot.connection.is_expired(&self.timeouts, self.cx.now) {
            slot.connection.on_timeout(&self.timeouts, &mut self.cx);
            return self.drive(slot, DriveScope::All);
        }
        Flow::Continue(())
    }

    /// Continues a connection: at once, or in the run queue if it is moving a large body. The other
    /// exchanges of a connection that has many are not delayed by the queue, and the large body keeps
    /// its place in it.
    pub(super) fn resume(&mut self, slot: &mut Slot) -> Flow {
        if slot.connection.is_sending_bulk() {
            self.enqueue(slot);
        }
        match slot.queue {
            QueueState::NotQueued => self.drive(slot, DriveScope::All),
            QueueState::Queued if slot.connection.is_multiplexed() => {
                self.drive(slot, DriveScope::Requests)
            }
            QueueState::Queued => Flow::Continue(()),
        }
    }

    pub(super) fn drive(&mut self, slot: &mut Slot, scope: DriveScope) -> Flow {
        let mut services = WorkerServices {
            token: slot.token,
            worker: &self.handle,
            handler: &*self.handler,
            previous_handlers: self.previous_handlers.take(slot.token),
            pools: &self.pools,
            pending: &mut self.pending,
            access_log: self.access_log.as_mut(),
        };
        let throttled_until = slot.connection.throttled_until();
        // Before running, so that a client that has its response is never counted as idle for the
        // request before.
        let stats = &self.handle.stats;
        if slot.counted == Occupancy::Idle {
            slot.count_as(Occupancy::Busy, stats);
        }
        let quantum = Quantum {
            bytes: QUANTUM_BYTES,
            scope,
        };
        let blocked = slot.connection.drive(&mut self.cx, &mut services, quantum);
        let previous = services.previous_handlers;
        let admitted = || slot.connection.admitted();
        self.previous_handlers
            .put_back(slot.token, previous, admitted);
        if let Blocked::Closed(reason) = blocked {
            return Flow::Break(reason);
        }
        let occupancy = slot.connection.occupancy();
        slot.count_as(occupancy, stats);
        if !self.pending.is_empty() {
            let is_idle = occupancy == Occupancy::Idle;
            let is_open = |id| !is_idle && slot.connection.is_open(id);
            self.pending.retain(slot.token, is_open);
        }
        match blocked {
            Blocked::Yield => {
                self.schedule(slot);
                self.enqueue(slot);
            }
            // The wheel has an entry for that time already.
            Blocked::Throttled(time) if throttled_until == Some(time) => {}
            Blocked::Throttled(time) => self.schedule_at(slot, time),
            Blocked::Readable | Blocked::Writable | Blocked::Handler => self.schedule(slot),
            Blocked::Closed(_) => {}
        }
        Flow::Continue(())
    }

    /// Makes the timer wheel report the connection no later than at its deadline, or when a heartbeat is
    /// due.
    pub(super) fn schedule(&mut self, slot: &mut Slot) {
        let deadline = slot.connection.deadline(&self.timeouts);
        let heartbeat = slot.connection.next_heartbeat();
        let Some(deadline) = deadline.into_iter().chain(heartbeat).min() else {
            return;
        };
        if let Some(tick) = self.timers.tick_before(slot.scheduled, deadline) {
            slot.scheduled = Some(tick);
            self.timers.schedule(tick, slot.token);
        }
    }

    /// Makes the timer wheel report a throttled connection at `time`, beside its deadline.
    fn schedule_at(&mut self, slot: &Slot, time: Instant) {
        let tick = self.timers.tick_of(time);
        self.timers.schedule(tick, slot.token);
    }

    fn enqueue(&mut self, slot: &mut Slot) {
        if slot.queue == QueueState::NotQueued {
            slot.queue = QueueState::Queued;
            self.run_queue.push_back(Runnable::Connection(slot.token));
        }
    }
}
