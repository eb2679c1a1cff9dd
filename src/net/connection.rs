//! One connection: does what the machine asks on a transport, until the kernel says `WouldBlock`
//! or the turn's byte budget is spent.
//!
//! mio is edge-triggered: readiness is remembered here until a call has proved it wrong. So a
//! connection parks only for what it knows to be not ready, or it yields and stays runnable.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::mailbox::Piece;
use super::transport::{More, Transport};
use crate::config::Timeouts;
use crate::h1::context::Context;
use crate::h1::machine::{CloseReason, Machine, Next, Timer};
use crate::h1::outbox::Segment;
use crate::h1::record::Record;
use crate::handler::Admission;
use crate::http::{Produce, Refusal, Request, Response};

/// Whom a connection turns to with a request, and with the record of it.
pub(crate) trait Host {
    /// The response, or `None` if it will come later, through [`Connection::on_reply`].
    fn answer(&mut self, request: &Request<'_>) -> Option<Response>;
    fn admit(&mut self, request: &Request<'_>) -> Admission;
    fn refuse(&mut self, request: &Request<'_>, refusal: Refusal) -> Response;
    /// Has a piece made; it comes through [`Connection::on_piece`].
    fn produce(&mut self, producer: Box<dyn Produce>);
    fn record(&mut self, record: Record);
}

/// Why a connection has stopped running for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Park {
    /// Until there is something to read.
    Readable,
    /// Until the peer takes something.
    Writable,
    /// Until the handler's reply comes.
    Handler,
    /// Until its next turn: it could go on.
    Yield,
    /// For good.
    Closed(CloseReason),
}

/// What the kernel may have for us. True until a call proves it wrong.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Readiness {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The end of the input has come, perhaps behind bytes that are not read yet. There will be
    /// no further event about it, so a short read does not mean that all is read.
    pub(crate) read_closed: bool,
}

#[derive(Debug)]
pub(crate) struct Connection<T> {
    transport: T,
    machine: Machine,
    readiness: Readiness,
    /// What is waited for, in which exchange, and since when.
    timer: Timer,
    timed_request: u32,
    since: Instant,
}

impl<T: Transport> Connection<T> {
    pub(crate) fn new(transport: T, peer: SocketAddr, now: Instant) -> Self {
        Self {
            transport,
            machine: Machine::new(peer),
            // Try first: the request is often there already.
            readiness: Readiness {
                readable: true,
                writable: true,
                read_closed: false,
            },
            timer: Timer::KeepAlive,
            timed_request: 0,
            since: now,
        }
    }

    /// An event about the transport.
    pub(crate) fn on_ready(&mut self, news: Readiness) {
        self.readiness.readable |= news.readable;
        self.readiness.writable |= news.writable;
        self.readiness.read_closed |= news.read_closed;
    }

    /// The reply that a handler's job has made.
    pub(crate) fn on_reply(&mut self, response: Response, cx: &mut Context) {
        self.machine.on_reply(response, cx);
    }

    /// The piece that was asked for.
    pub(crate) fn on_piece(&mut self, piece: Piece, cx: &mut Context) {
        self.machine.on_piece(piece, cx);
    }

    pub(crate) fn on_timeout(&mut self, cx: &mut Context) {
        self.machine.on_timeout(cx);
    }

    /// The server cannot wait any longer.
    pub(crate) fn cut(&mut self) {
        self.machine.on_lost(CloseReason::Drained);
    }

    /// True if all it has to do is to move bulk, which comes after everybody's requests.
    pub(crate) fn is_sending_bulk(&self) -> bool {
        self.machine.is_sending_bulk()
    }

    /// When the wait is over; `None` if it may last.
    pub(crate) fn deadline(&self, timeouts: &Timeouts) -> Option<Instant> {
        let patience = match self.timer {
            Timer::KeepAlive => timeouts.keep_alive,
            Timer::Header => timeouts.header,
            Timer::Body => timeouts.body,
            Timer::Send => timeouts.send,
            Timer::Linger => timeouts.linger,
            Timer::Handler => return None,
        };
        // A patience without end is one that a clock cannot count.
        self.since.checked_add(patience)
    }

    /// Runs until it must park, moving about `quantum` bytes at most.
    pub(crate) fn drive(&mut self, cx: &mut Context, host: &mut impl Host, quantum: usize) -> Park {
        cx.look_at_clock();
        let mut left = quantum;
        let park = loop {
            if left == 0 {
                break Park::Yield;
            }
            match self.machine.next(cx) {
                Next::Read(room) => {
                    if !self.readiness.readable {
                        if self.machine.leaves_when_quiet(cx) {
                            continue;
                        }
                        break Park::Readable;
                    }
                    match receive(&mut self.transport, &mut self.readiness, room) {
                        Ok(Some(0)) => self.machine.on_end_of_input(),
                        Ok(Some(count)) => left = left.saturating_sub(count),
                        Ok(None) => {}
                        Err(error) => self.on_broken(&error),
                    }
                }
                Next::Write(segment) => {
                    if !self.readiness.writable {
                        break Park::Writable;
                    }
                    match write(&mut self.transport, segment, left) {
                        Ok(0) => self.machine.on_lost(CloseReason::ContentCutShort),
                        Ok(count) => {
                            cx.look_at_clock();
                            self.machine.on_sent(count);
                            left = left.saturating_sub(count);
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            self.readiness.writable = false;
                        }
                        Err(error) => self.on_broken(&error),
                    }
                }
                Next::Handle(request) => {
                    if let Some(response) = host.answer(&request) {
                        self.machine.on_reply(response, cx);
                    }
                }
                Next::Admit(request) => {
                    let admission = match host.admit(&request) {
                        Admission::AtMost(bytes) => Ok(bytes),
                        Admission::Refuse(response) => Err(response),
                    };
                    self.machine.on_admission(admission, cx);
                }
                Next::Refuse(request, refusal) => {
                    let response = host.refuse(&request, refusal);
                    self.machine.on_reply(response, cx);
                }
                Next::Produce(producer) => host.produce(producer),
                Next::Wait => break Park::Handler,
                Next::Log(record) => host.record(record),
                Next::ShutdownWrite => {
                    if let Err(error) = self.transport.shutdown_write() {
                        self.on_broken(&error);
                    }
                }
                Next::Close(reason) => break Park::Closed(reason),
            }
        };
        self.machine.rest(cx);
        self.restart_timer(left < quantum, cx.now);
        park
    }

    /// A wait begins anew when it is for something else, or for another request; waits for
    /// content and for the peer to take content also when bytes have moved.
    fn restart_timer(&mut self, moved: bool, now: Instant) {
        let timer = self.machine.timer();
        let requests = self.machine.requests();
        let progress = moved && matches!(timer, Timer::Body | Timer::Send);
        if progress || timer != self.timer || requests != self.timed_request {
            self.timer = timer;
            self.timed_request = requests;
            self.since = now;
        }
    }

    fn on_broken(&mut self, error: &io::Error) {
        log::debug!("connection broken: {error}");
        self.machine.on_lost(CloseReason::Broken);
    }
}

/// Reads once; `None` if there is nothing to read.
fn receive(
    transport: &mut impl Transport,
    readiness: &mut Readiness,
    room: &mut Vec<u8>,
) -> io::Result<Option<usize>> {
    match transport.recv(room) {
        Ok(count) => {
            // A read that leaves room has taken everything, and spares the call that would say so.
            if room.len() < room.capacity() && !readiness.read_closed {
                readiness.readable = false;
            }
            Ok(Some(count))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            readiness.readable = false;
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn write(transport: &mut impl Transport, segment: Segment<'_>, most: usize) -> io::Result<usize> {
    match segment {
        Segment::Bytes(bytes) => transport.send(&bytes[..bytes.len().min(most)], More::No),
        Segment::Pair(first, second) => {
            transport.send_pair(first, &second[..second.len().min(most)])
        }
        Segment::BytesBeforeFile(bytes) => transport.send(bytes, More::Follows),
        Segment::File(file, offset, len) => send_file(transport, file, offset, len, most),
    }
}

fn send_file(
    transport: &mut impl Transport,
    file: &Arc<File>,
    offset: u64,
    len: u64,
    most: usize,
) -> io::Result<usize> {
    let chunk = usize::try_from(len).unwrap_or(usize::MAX).min(most);
    transport.send_file(file, offset, chunk)
}
