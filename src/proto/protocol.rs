//! The protocol of a connection, behind one set of methods for the driver.
//!
//! A machine of either protocol is asked for the [`next`](Protocol::next) action, lends what the
//! action is about, and is told the result. Answers that arrive later name their exchange; those for
//! an exchange that is over are dropped.
//!
//! The driver keeps the [`Wait`] of the connection as a whole. An HTTP/1.1 connection has no other, as
//! it has one exchange at a time. An HTTP/2 machine has time limits of its own, and the driver only
//! those of the transport.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::context::Context;
use super::exchange::{BodyMode, ExchangeId};
use super::file_read::{FileBytes, FileRead};
use super::h1;
use super::h2::machine::{Authorities, Machine as Http2Machine};
use super::peer_state::PeerState;
use super::segment::Segment;
use super::transfer::TransferProgress;
use super::wait::Wait;
use super::{Action, CloseReason, Ready, Timer};
use crate::body::file_range::Resident;
use crate::body::polled::PolledBody;
use crate::body::stream::BodySource;
use crate::config::{Timeouts, UNIX_PEER};
use crate::http::forwarded::ClientInfo;
use crate::http::upgrade::UpgradeWaker;
use crate::http::{Request, Response};

/// The protocol machine of a connection.
#[derive(Debug)]
pub(crate) enum Protocol {
    H1(h1::machine::Machine),
    /// Boxed, because an idle HTTP/1.1 connection must not pay for it.
    H2(Box<Http2Machine>),
}

/// Delegates to the variant.
macro_rules! delegate {
    ($protocol:expr, $machine:ident => $call:expr) => {
        match $protocol {
            Protocol::H1($machine) => $call,
            Protocol::H2($machine) => $call,
        }
    };
}

impl Protocol {
    /// A connection that begins with HTTP/1.1.
    pub(crate) fn http1(client: ClientInfo) -> Self {
        Self::H1(h1::machine::Machine::new(client))
    }

    /// A connection whose client has selected HTTP/2 in the TLS handshake, with the authorities that
    /// it may use the connection for, if they are known.
    pub(crate) fn http2(
        client: ClientInfo,
        authorities: Option<Arc<dyn Authorities>>,
        cx: &mut Context,
    ) -> Self {
        let machine = Http2Machine::new(client, cx);
        Self::H2(Box::new(match authorities {
            Some(authorities) => machine.with_authorities(authorities),
            None => machine,
        }))
    }

    /// Replaces the machine, for [`Action::Switch`].
    pub(crate) fn switch_to_http2(&mut self, cx: &mut Context) {
        let unused = ClientInfo::plain(UNIX_PEER);
        match std::mem::replace(self, Self::http1(unused)) {
            Self::H1(machine) => {
                let (client, inbox) = machine.into_input();
                let machine = Http2Machine::with_input(client, inbox, cx);
                *self = Self::H2(Box::new(machine));
            }
            Self::H2(machine) => *self = Self::H2(machine),
        }
    }

    /// Returns true if the connection has many exchanges at once.
    pub(crate) fn is_multiplexed(&self) -> bool {
        matches!(self, Self::H2(_))
    }

    /// What to do next.
    pub(crate) fn next(&mut self, ready: Ready, cx: &mut Context) -> Action {
        match self {
            Self::H1(machine) => machine.next(ready, cx),
            Self::H2(machine) => machine.next(ready, cx),
        }
    }

    /// The buffer for [`Action::Read`]: append to it, within its capacity.
    pub(crate) fn read_buf(&mut self, cx: &mut Context) -> &mut Vec<u8> {
        delegate!(self, machine => machine.read_buf(cx))
    }

    /// The next bytes to send, for [`Action::Write`].
    pub(crate) fn segment(&self) -> Segment<'_> {
        delegate!(self, machine => machine.segment())
    }

    /// The request of an exchange that the last [`Action`] named.
    pub(crate) fn request<'a>(&'a self, id: ExchangeId, cx: &'a Context) -> Request<'a> {
        delegate!(self, machine => machine.request(id, cx))
    }

    /// The handler's decision about a request body.
    pub(crate) fn on_admission(
        &mut self,
        id: ExchangeId,
        admission: Result<BodyMode, Response>,
        cx: &mut Context,
    ) {
        delegate!(self, machine => machine.on_admission(id, admission, cx));
    }

    /// The response to a request that was dispatched or rejected.
    pub(crate) fn on_response(&mut self, id: ExchangeId, response: Response, cx: &mut Context) {
        delegate!(self, machine => machine.on_response(id, response, cx));
    }

    /// The chunk that [`Action::PullBody`] asked for, or the end of the body.
    pub(crate) fn on_body_chunk(
        &mut self,
        id: ExchangeId,
        chunk: io::Result<Option<(Bytes, BodySource)>>,
        cx: &mut Context,
    ) {
        delegate!(self, machine => machine.on_body_chunk(id, chunk, cx));
    }

    /// The body that [`Action::PullBody`] named has no chunk yet. It is to be kept until
    /// [`on_body_ready`](Self::on_body_ready).
    pub(crate) fn on_body_parked(&mut self, id: ExchangeId, body: Box<PolledBody>, cx: &Context) {
        match self {
            Self::H1(machine) => machine.on_body_parked(body, cx),
            Self::H2(machine) => machine.on_body_parked(id, body, cx),
        }
    }

    /// A parked body may have its next chunk.
    pub(crate) fn on_body_ready(&mut self, id: ExchangeId) {
        delegate!(self, machine => machine.on_body_ready(id));
    }

    /// When the first heartbeat of a parked body is due.
    pub(crate) fn next_heartbeat(&self) -> Option<Instant> {
        delegate!(self, machine => machine.next_heartbeat())
    }

    /// Queues the heartbeats of parked bodies that are due.
    pub(crate) fn send_heartbeats(&mut self, cx: &mut Context) {
        delegate!(self, machine => machine.send_heartbeats(cx));
    }

    /// The answer to a [`Action::Dispatch`], [`Action::PullBody`] or [`Action::ProbeFile`] does not come,
    /// because the exchange is cancelled.
    pub(crate) fn on_cancelled(&mut self, id: ExchangeId) {
        match self {
            // The exchange has ended.
            Self::H1(_) => {}
            Self::H2(machine) => machine.on_cancelled(id),
        }
    }

    /// The beginning of the file range that [`Action::ProbeFile`] named is in memory, or cannot be
    /// read.
    pub(crate) fn on_probed(
        &mut self,
        id: ExchangeId,
        resident: io::Result<Resident>,
        cx: &mut Context,
    ) {
        delegate!(self, machine => machine.on_probed(id, resident, cx));
    }

    /// What to read, for [`Action::ReadFile`]; `None` if the last action was another one.
    pub(crate) fn file_read(&mut self) -> Option<FileRead<'_>> {
        match self {
            Self::H1(_) => None,
            Self::H2(machine) => machine.file_read(),
        }
    }

    /// The result of the read of [`file_read`](Self::file_read).
    pub(crate) fn on_file_bytes(&mut self, id: ExchangeId, bytes: FileBytes, cx: &mut Context) {
        if let Self::H2(machine) = self {
            machine.on_file_bytes(id, bytes, cx);
        }
    }

    /// The waker of the connection, which [`Action::Upgrade`] asked for.
    pub(crate) fn on_upgraded(&mut self, waker: UpgradeWaker, cx: &Context) {
        if let Self::H1(machine) = self {
            machine.on_upgraded(waker, cx);
        }
    }

    /// The answer to [`Action::AskPeerState`]; `None` if it is not known.
    pub(crate) fn on_peer_state(&mut self, state: Option<PeerState>, cx: &Context) {
        if let Self::H2(machine) = self {
            machine.on_peer_state(state, cx);
        }
    }

    /// The first `count` bytes of the [`segment`](Self::segment) are sent.
    pub(crate) fn on_written(&mut self, count: usize) {
        delegate!(self, machine => machine.on_written(count));
    }

    /// The peer will send no more.
    pub(crate) fn on_eof(&mut self) {
        delegate!(self, machine => machine.on_eof());
    }

    /// Nothing is sent for a while: the peer takes no more, or the connection is throttled.
    pub(crate) fn on_pause(&mut self) {
        delegate!(self, machine => machine.on_pause());
    }

    /// Returns when a time limit passes; `None` if there is none. `wait` is that of the connection as a
    /// whole.
    pub(crate) fn deadline(&self, wait: &Wait, timeouts: &Timeouts) -> Option<Instant> {
        match self {
            Self::H1(machine) => match wait.timer() {
                Timer::Upgraded => machine.upgraded_deadline(),
                _ => wait.deadline(timeouts),
            },
            Self::H2(machine) => {
                let of_transport = transport_deadline(wait, timeouts);
                let both = of_transport.into_iter().chain(machine.deadline(timeouts));
                both.min()
            }
        }
    }

    /// A time limit has passed.
    pub(crate) fn on_timeout(&mut self, wait: &Wait, timeouts: &Timeouts, cx: &mut Context) {
        match self {
            Self::H1(machine) => machine.on_timeout(cx),
            Self::H2(machine) => {
                let of_transport = transport_deadline(wait, timeouts);
                if of_transport.is_some_and(|deadline| deadline <= cx.now) {
                    machine.on_lost(CloseReason::TimedOut);
                } else {
                    machine.on_timeout(timeouts, cx);
                }
            }
        }
    }

    /// Excludes a time that was spent waiting for bandwidth from the time limits.
    pub(crate) fn exclude_wait(&mut self, time: Duration) {
        match self {
            Self::H1(_) => {}
            Self::H2(machine) => machine.exclude_wait(time),
        }
    }

    /// Closes the idle connection to make room for others.
    pub(crate) fn evict(&mut self) {
        match self {
            Self::H1(machine) => machine.on_lost(CloseReason::Evicted),
            Self::H2(machine) => machine.evict(),
        }
    }

    /// Ends the connection. Requests without a response are recorded as such.
    pub(crate) fn on_lost(&mut self, reason: CloseReason) {
        delegate!(self, machine => machine.on_lost(reason));
    }

    /// Closes the connection, and returns true, if the server shuts down and no exchange is in
    /// progress. Only to be called when there is nothing to read.
    pub(crate) fn close_if_draining(&mut self, cx: &Context) -> bool {
        delegate!(self, machine => machine.close_if_draining(cx))
    }

    /// What the connection as a whole waits for.
    pub(crate) fn timer(&self) -> Timer {
        delegate!(self, machine => machine.timer())
    }

    /// The exchange that [`timer`](Self::timer) is about; 0 before the first.
    pub(crate) fn waiting_exchange(&self) -> ExchangeId {
        match self {
            Self::H1(machine) => machine.exchange_id(),
            Self::H2(machine) => match machine.timer() {
                Timer::KeepAlive => machine.last_exchange(),
                // The peer owes something to the connection as a whole, not to one stream.
                _ => ExchangeId(0),
            },
        }
    }

    /// True if answers for an exchange are of use.
    pub(crate) fn is_open(&self, id: ExchangeId) -> bool {
        match self {
            Self::H1(machine) => machine.exchange_id() == id,
            Self::H2(machine) => machine.is_open(id),
        }
    }

    /// The exchanges whose request body a handler has admitted and that is being received, if the
    /// handler is called when the body is complete.
    pub(crate) fn admitted(&self) -> Vec<ExchangeId> {
        match self {
            Self::H1(machine) => {
                let admitted = machine.is_admitted().then(|| machine.exchange_id());
                admitted.into_iter().collect()
            }
            Self::H2(machine) => machine.admitted(),
        }
    }

    /// True if nothing remains but to close the socket.
    pub(crate) fn is_closed(&self) -> bool {
        delegate!(self, machine => machine.is_closed())
    }

    /// True while a large body is being sent, which other connections' requests may overtake.
    pub(crate) fn is_sending_bulk(&self) -> bool {
        delegate!(self, machine => machine.is_sending_bulk())
    }

    /// The progress of the bodies that are being transferred, if they are large or streamed, and
    /// their exchanges are recorded.
    pub(crate) fn transfers(&self) -> impl Iterator<Item = (ExchangeId, TransferProgress<'_>)> {
        let (h1, h2) = match self {
            Self::H1(machine) => (Some(machine), None),
            Self::H2(machine) => (None, Some(machine)),
        };
        let of_h1 = h1.and_then(|machine| Some((machine.exchange_id(), machine.transfer()?)));
        let of_h2 = h2.into_iter().flat_map(|machine| machine.transfers());
        of_h1.into_iter().chain(of_h2)
    }

    /// The number of streams that are open, on an HTTP/2 connection.
    pub(crate) fn open_streams(&self) -> Option<usize> {
        match self {
            Self::H1(_) => None,
            Self::H2(machine) => Some(machine.open_streams()),
        }
    }

    /// Returns the buffers that hold nothing.
    pub(crate) fn release_buffers(&mut self, cx: &mut Context) {
        delegate!(self, machine => machine.release_buffers(cx));
    }
}

/// Returns when the peer of an HTTP/2 connection has taken too little of its output, or is taken for
/// gone. All other time limits are the machine's.
fn transport_deadline(wait: &Wait, timeouts: &Timeouts) -> Option<Instant> {
    match wait.timer() {
        Timer::Send | Timer::HalfClosed => wait.deadline(timeouts),
        _ => None,
    }
}
